"""A network of pictures on clips: the mean of its logits, one map per frame."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import chronocam as cc
from chronocam.errors import InputError, ModelError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6, 4)
        self.labels = ("a", "b", "c", "d")

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


CLIPS = torch.randn(2, 5, 3, 16, 12, generator=torch.Generator().manual_seed(1))


def test_the_score_is_the_mean_over_frames_and_each_frame_has_its_own_map():
    net = Net().eval()
    clip = cc.GradCAM(cc.models.PerFrame(net), signed=True).explain(CLIPS, "c")
    assert clip.layer == "model.conv"
    assert clip.frame_spans == tuple((t, t) for t in range(5))
    frames = cc.GradCAM(net, signed=True).explain(CLIPS.flatten(0, 1), "c")
    scores = frames.scores.reshape(2, 5).mean(1)
    np.testing.assert_allclose(clip.scores[:, 0], scores, rtol=1e-5)
    # Each frame is one fifth of the score.
    np.testing.assert_allclose(clip.maps[:, 0], frames.maps.reshape(2, 5, 8, 6) / 5, rtol=1e-4, atol=1e-8)


def test_outputs_with_logits_are_read_and_others_refused():
    class Wrapped(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.net, self.wrap = Net(), wrap

        def forward(self, x):
            return self.wrap(self.net(x))

    expected = cc.models.PerFrame(Net())(CLIPS)
    found = cc.models.PerFrame(Wrapped(lambda y: SimpleNamespace(logits=y)))(CLIPS)
    torch.testing.assert_close(found, expected)
    for wrap in (lambda y: (y, y), lambda y: y[:, 0]):
        with pytest.raises(ModelError, match=r"expected logits \(n, classes\)"):
            cc.models.PerFrame(Wrapped(wrap))(CLIPS)


def test_pictures_are_refused():
    with pytest.raises(InputError, match=r"expected \(batch, time, channel, height, width\)"):
        cc.models.PerFrame(Net())(CLIPS[0])


@pytest.mark.slow
@pytest.mark.parametrize("video", ["nasa_13013.mp4", "tfjs_pose_squats.mp4"])
@pytest.mark.parametrize("network", ["mobilenet_v2", "squeezenet1_0"])
def test_real_clips_under_real_networks(data, network, video, tmp_path):
    loaded = cc.models.load(f"{data}/imagenet/{network}.safetensors@torchvision:{network}")
    preprocess = cc.media.ClipPreprocess(loaded.preprocess, 4, "time channel")
    clip = preprocess.read(data / "videos" / video)
    x = preprocess(clip)[None]
    explanation = cc.GradCAM(cc.models.PerFrame(loaded.model)).explain(x, cc.targets.Predicted(2))
    with torch.no_grad():
        logits = loaded.model(torch.from_numpy(x[0])).mean(0)
    np.testing.assert_allclose(explanation.scores[0], logits.topk(2).values, rtol=1e-4)
    assert {finding.kind for finding in explanation.findings} <= {"wide field"}
    np.testing.assert_allclose(explanation.frame_importance().sum(-1), 1, rtol=1e-5)
    explanation.save(tmp_path / "clip.mp4", [clip])
    shown = cc.media.read_clip(tmp_path / "clip.mp4", frames=4)
    assert len(np.unique(shown.indices)) == 4
