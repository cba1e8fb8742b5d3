"""The numbers of other libraries on the same maps, and where theirs are not what is asked for."""

import numpy as np
import pytest
import torch
from evaluation.test_measures import X, answered, case_of
from torch import nn

import chronocam as cc
from chronocam.evaluation import ROAD
from chronocam.evaluation.measures import measure_named
from chronocam.evaluation.peers import peer
from chronocam.maps.impute import imputed

MASK = np.eye(*X.shape[1:], dtype=bool)


def network():
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    )
    net[4].weight.data *= 20
    return net.eval()


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_pixels_are_imputed_as_by_grad_cam(share):
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    x = np.random.default_rng(1).normal(size=(3, 9, 13)).astype(np.float32)
    stays = np.random.default_rng(0).random((9, 13)) > share
    theirs = road.NoisyLinearImputer(noise=0.0)(
        torch.from_numpy(x), torch.from_numpy(stays.astype(np.float32))
    )
    np.testing.assert_allclose(imputed(x, stays, 1e-7), theirs.numpy(), atol=1e-4)


def test_a_percentile_removes_more_than_was_asked_where_a_map_is_mostly_zero():
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    flat = np.zeros((6, 6), np.float32)
    flat[:2, :3] = np.arange(1, 7).reshape(2, 3)  # 30 of 36 cells are zero, as after a ReLU
    seen = []

    class Recording(nn.Module):
        def forward(self, x):
            seen.append(x.numpy().copy())
            return x.sum(dim=(2, 3))

    metric = road.ROADMostRelevantFirst(percentile=50)
    metric(torch.from_numpy(X[None]), flat[None], [lambda scores: scores[0]], Recording().eval())
    theirs = (np.abs(seen[-1][0] - X).max(axis=0) > 1e-6).sum()
    own = []
    answered(ROAD(shares=(0.5,)), case_of(X), flat, lambda x: own.append(x) or (0.0, 0.5))
    assert (np.abs(own[1] - X).max(axis=0) > 1e-6).sum() == 18
    assert theirs == 36  # all of it: the percentile is 0, and every cell is at least that


def test_drop_and_increase_are_torchcams_on_its_own_map():
    methods = pytest.importorskip("torchcam.methods")
    metrics = pytest.importorskip("torchcam.metrics")
    net, x = network(), torch.from_numpy(6 * X[None])
    with methods.LayerCAM(net, "1") as extractor:
        metric = metrics.ClassificationMetric(extractor, lambda logits: logits.softmax(1))
        metric.update(x, class_idx=1)
        theirs = metric.summary()
        maps = extractor(1, net(x))[0]
    values = maps.detach().numpy()[0]

    def probability(changed):
        with torch.no_grad():
            return 0.0, float(net(torch.from_numpy(changed[None])).softmax(1)[0, 1])

    case = case_of(6 * X, probability=probability(6 * X)[1])
    assert answered(measure_named("drop"), case, values, probability) == pytest.approx(
        theirs["avg_drop"], abs=1e-4
    )
    assert answered(measure_named("increase"), case, values, probability) == theirs["conf_increase"]


def test_sensitivity_is_captums_of_the_same_noises():
    captum = pytest.importorskip("captum.metrics")
    net = network()
    x = torch.from_numpy(X[None])
    case, measure = case_of(X), measure_named("max_sensitivity")
    noises = iter([measure._noisy(case, k).make() for k in range(10)])

    def gradients(inputs):
        inputs = inputs.detach().requires_grad_()
        with torch.enable_grad():
            (grad,) = torch.autograd.grad(torch.tanh(net(inputs)[:, 1]).sum(), inputs)
        return grad.sum(dim=1, keepdim=True)

    def first(inputs):
        return inputs[0] if isinstance(inputs, tuple) else inputs

    theirs = captum.sensitivity_max(
        lambda inputs: (gradients(first(inputs)),),
        x,
        lambda inputs: (torch.from_numpy(np.stack([next(noises) for _ in first(inputs)])),),
        n_perturb_samples=10,
    )

    def maps(changed, ask):
        return gradients(torch.from_numpy(changed[None])).numpy()[0, 0]

    own = answered(measure, case, maps(X, None), maps=maps)
    assert own == pytest.approx(float(theirs[0]), rel=1e-4)


class Folding(nn.Module):
    """A classifier of clips `(batch, time, channel, height, width)` whose layer sees single frames."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.fc = nn.Linear(5, 4)

    def forward(self, x):
        features = self.conv(x.flatten(0, 1)).relu().mean((2, 3)).unflatten(0, x.shape[:2])
        return 20 * self.fc(self.lstm(features)[0][:, -1])


def test_maps_of_clips_are_over_frames_and_places():
    attr = pytest.importorskip("captum.attr")
    net, clips = Folding().eval(), np.random.default_rng(0).normal(size=(2, 7, 3, 6, 8)).astype(np.float32)
    x = torch.from_numpy(clips)
    theirs = attr.Saliency(net).attribute(x, target=1).sum(dim=2)
    np.testing.assert_allclose(peer("captum:Saliency", net, None)(clips, 1), theirs.numpy(), rtol=1e-5)
    of_frames = attr.LayerGradCam(net, net.conv).attribute(x, target=1)
    np.testing.assert_allclose(
        peer("captum:LayerGradCam", net, "conv")(clips, 1),
        of_frames.detach().numpy().reshape(2, 7, 6, 8),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("name", "target", "says"),
    [
        ("captum:Saliency", cc.targets.Norm(), "`captum:Saliency` explains one output by its index"),
        ("captum:Occlusion", 1, "`captum:Occlusion` failed"),  # it needs windows
    ],
)
def test_what_another_library_cannot_do_is_one_line(name, target, says):
    pytest.importorskip("captum.attr")
    result = cc.evaluate(network(), 6 * X[None], target, methods=[name], measures=["energy"], truth=[MASK])
    ((sample, why),) = result.failures
    assert sample == "sample 0"
    assert why.startswith(says)
