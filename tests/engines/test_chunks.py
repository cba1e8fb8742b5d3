"""Long clips in chunks of frames: the same maps, less memory, and the model left as found."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explained import AT_LAYER
from helpers import Deliberate, noise, one_line
from replicas import seeded
from torch import Tensor, nn
from torch.nn import functional as F

import chronocam as cc
from chronocam.engines.torch.tensors import TARGETS_PER_PASS
from chronocam.errors import ChronocamError, LayerError, ModelError
from chronocam.models import CNNLSTM

CLASSES = 20
ALL = [cc.targets.Class(k) for k in range(CLASSES)]
BATCH, FRAMES = 2, 7


CLIPS = noise(BATCH, FRAMES, 3, 10, 8)


class Backbone(nn.Module):
    """Three convolutions, two branches, one overwriting ReLU for all, and a layer that is never called."""

    def __init__(self, normed: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.conv2, self.side = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4) if normed else nn.Identity()
        self.relu, self.unused = nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)
        self.fails_at = -1
        self.looks: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.looks.append(len(x))
        if len(self.looks) - 1 == self.fails_at:
            raise Deliberate
        x = self.relu(self.conv1(x))
        return self.relu(self.norm(self.conv2(x)) + self.side(x).tanh())


def network(**options: Any) -> Any:
    return seeded(lambda: CNNLSTM(Backbone(**options), 6, CLASSES, attention=True))


def run(methods: Any, layers: Any, chunk: int | None, net: Any = None, **options: Any) -> dict[str, Any]:
    """Maps in full precision, by name."""
    kept: dict[tuple[str, str], np.ndarray] = {}

    def exactly(make: Any) -> Any:
        def made(model: Any, layer: Any = None, **given: Any) -> Any:
            method = make(model, layer, **given)
            inner = method.maps

            def maps(view: Any) -> Any:
                found = inner(view)
                kept[method.name, str(layer)] = view.unfolded(found).detach().numpy().copy()
                return found

            method.maps = maps
            return method

        return made

    net = net or network()
    targets = options.pop("targets", ALL)
    makers = [exactly(cc.methods.METHODS[name]) for name in methods]
    cc.explain(net, CLIPS, targets, methods=makers, layers=layers, chunk_frames=chunk, **options)
    return kept


def equal(found: dict[Any, np.ndarray], expected: dict[Any, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key in expected:
        assert np.abs(expected[key]).max() > 0, key
        np.testing.assert_allclose(
            found[key], expected[key], rtol=0, atol=1e-10 * np.abs(expected[key]).max()
        )


LAYERS = [
    "backbone.conv1",
    "backbone.conv2",
    "backbone.side",
    "backbone.relu#0",
    "backbone.relu#1",
    "backbone",
]


@pytest.fixture(scope="module")
def whole() -> dict[Any, np.ndarray]:
    return run(["gradcam", "layercam", "eigencam"], LAYERS, None)


@pytest.mark.parametrize("chunk", [1, 3, FRAMES, BATCH * FRAMES, 1000])
def test_chunks_of_any_size_equal_the_whole(chunk: int, whole: dict[Any, np.ndarray]) -> None:
    assert CLASSES > TARGETS_PER_PASS  # so that targets take more than one backward pass
    net = network()
    found = run(["gradcam", "layercam", "eigencam"], LAYERS, chunk, net)
    equal(found, whole)
    assert max(net.backbone.looks) <= max(chunk, 8)  # two frames of four clips tell how they are folded


def test_a_single_layer_equals_itself_among_others(whole: dict[Any, np.ndarray]) -> None:
    for layer in ("backbone.relu#0", "backbone.side", "backbone"):
        equal(run(["gradcam"], [layer], 3), {("gradcam", layer): whole["gradcam", layer]})


@pytest.mark.parametrize(
    "name",
    [name for name in AT_LAYER if name != "cam"],
)
def test_every_method_is_exact_or_refused_in_one_line(name: str) -> None:
    layers, few = ["backbone.conv2"], {"targets": ALL[:3]}
    if name in ("guidedgradcam", "shapleycam", "groupcam"):
        with pytest.raises(LayerError, match="chunk_frames=") as error:
            run([name], layers, 3, **few)
        one_line(error)
    else:
        equal(run([name], layers, 3, **few), run([name], layers, None, **few))


def test_cam_of_chunks_is_exact() -> None:
    class Average(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.fc = Backbone(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.backbone(x.flatten(0, 1)).mean((2, 3)).unflatten(0, x.shape[:2]).mean(1))

    few = {"targets": ALL[:3]}
    net = seeded(Average)
    equal(
        run(["cam", "gradcam"], ["backbone"], 4, net, **few),
        run(["cam", "gradcam"], ["backbone"], None, net, **few),
    )


def test_guided_backprop_at_a_layer_is_exact_and_at_the_input_refused() -> None:
    net = network()
    whole, parts = (
        cc.GuidedBackprop(net, "backbone.conv1", chunk_frames=chunk, reduce="sum", layout="folded").explain(
            CLIPS, ALL
        )
        for chunk in (None, 3)
    )
    plain = cc.Saliency(net, "backbone.conv1", reduce="sum", layout="folded").explain(CLIPS, ALL)
    assert np.abs(whole.maps - plain.maps).max() > 1e-3 * np.abs(plain.maps).max()  # the guidance matters
    np.testing.assert_allclose(parts.maps, whole.maps, rtol=0, atol=1e-6 * np.abs(whole.maps).max())
    for name in ("saliency", "guidedbackprop", "smoothgrad", "inputxgradient", "guidedgradcam"):
        with pytest.raises(LayerError, match="chunk_frames= keeps no gradient at the input") as error:
            cc.methods.METHODS[name](net, chunk_frames=3).explain(CLIPS, 0)
        one_line(error)


def test_noise_is_the_same_in_chunks() -> None:
    name, few = "smoothgradcam++", {"targets": ALL[:2], "samples": 3}
    equal(run([name], ["backbone.conv2"], 3, **few), run([name], ["backbone.conv2"], None, **few))


def test_attention_scores_and_the_default_layer_are_the_same() -> None:
    whole, parts = (cc.GradCAM(network(), chunk_frames=c).explain(CLIPS, ALL) for c in (None, 3))
    assert parts.layer == whole.layer
    assert parts.frame_spans == whole.frame_spans
    for found, expected in (
        (parts.maps, whole.maps),
        (parts.scores, whole.scores),
        (parts.attention.weights, whole.attention.weights),
        (parts.attention.contributions, whole.attention.contributions),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_batches_and_detached_attention_in_chunks() -> None:
    for options in (
        {"batch_size": 1},
        {"detach_attention": True},
        {"pool": "clip"},
        {"align": "receptive_field"},
    ):
        whole, parts = (
            cc.GradCAM(network(), "backbone.conv2", chunk_frames=c, **options).explain(CLIPS, ALL)
            for c in (None, 3)
        )
        np.testing.assert_allclose(parts.maps, whole.maps, rtol=0, atol=1e-6 * np.abs(whole.maps).max())
        assert parts.centers == whole.centers


def test_a_model_that_ends_in_softmax_in_chunks() -> None:
    class Ending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = CNNLSTM(Backbone(), 6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).softmax(1)

    net = seeded(Ending)
    few = {"targets": ALL[:5]}
    layers = ["net.backbone.conv2"]
    equal(run(["gradcam"], layers, 3, net, **few), run(["gradcam"], layers, None, seeded(Ending), **few))


class Tokens(nn.Module):
    """A backbone whose head calls the backbone's own ReLU once more."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.middle, self.fc = Backbone(), nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.backbone(x.flatten(0, 1)).mean((2, 3)).unflatten(0, x.shape[:2])
        return self.fc(self.backbone.relu(self.middle(h)).mean(1))


def test_a_relu_that_is_called_outside_the_backbone_too() -> None:
    net = seeded(Tokens)
    for call in ("#0", "#1"):
        layers = [f"backbone.relu{call}"]
        equal(run(["gradcam"], layers, 3, net), run(["gradcam"], layers, None, net))
    with pytest.raises(LayerError) as error:
        cc.GradCAM(net, "backbone.relu", chunk_frames=3, layout="folded").explain(CLIPS, 0)
    one_line(error)


class Flat(nn.Module):
    """No module holds the 2D network: its layers get all frames one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.fc = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.conv1(x.flatten(0, 1)))).relu().mean((2, 3)).unflatten(0, x.shape[:2])
        return self.fc(h.tanh().mean(1))


def test_layers_that_no_module_holds_together() -> None:
    net = seeded(Flat)
    for layer in ("conv1", "conv2"):
        equal(run(["gradcam"], [layer], 3, net), run(["gradcam"], [layer], None, net))
    with pytest.raises(LayerError) as error:
        run(["gradcam"], ["conv1", "conv2"], 3, net)
    one_line(error, "chunk_frames=")
    assert "more than once" not in str(error.value)  # neither does


class Stemmed(nn.Module):
    """A 3D convolution before the folded 2D network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.backbone = nn.Conv3d(3, 3, 3, padding=1), Backbone()
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).transpose(1, 2)
        return self.fc(self.backbone(h.flatten(0, 1)).mean((2, 3)).unflatten(0, h.shape[:2]).tanh().mean(1))


def test_a_3d_stem_before_the_frames() -> None:
    net, clips = seeded(Stemmed), CLIPS.transpose(1, 2)
    whole, parts = (cc.GradCAM(net, "backbone.conv2", chunk_frames=c).explain(clips, ALL) for c in (None, 3))
    np.testing.assert_allclose(parts.maps, whole.maps, rtol=0, atol=1e-6 * np.abs(whole.maps).max())
    with pytest.raises(LayerError) as error:
        cc.explain(net, clips, 0, layers=["stem", "backbone.conv2"], chunk_frames=3)
    one_line(error, "chunk_frames=")


def snapshot(net: nn.Module) -> list[Any]:
    return [
        (path, sorted(vars(m)), m.training, list(m._forward_hooks), list(m._forward_pre_hooks))
        for path, m in net.named_modules()
    ]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("fails_at", [-1, 0, 1, 4, 7])
def test_forward_is_left_as_found_also_after_an_exception(fails_at: int, own: bool) -> None:
    net = network()
    if own:  # the user has put a forward of their own on one module
        plain = net.backbone.forward
        net.backbone.forward = lambda x: plain(x) * 2
    forward = net.backbone.__dict__.get("forward")
    before = snapshot(net)
    net.backbone.fails_at = fails_at
    net.backbone.looks.clear()
    try:
        cc.GradCAM(net, "backbone.conv2", chunk_frames=3).explain(CLIPS, 0)
    except Deliberate:
        assert fails_at >= 0
    else:
        assert fails_at < 0
    # It is asked once how clips are folded, and once whether places move; then five chunks go there and back.
    assert len(net.backbone.looks) == (fails_at + 1 if fails_at >= 0 else 2 + 2 * 5)
    assert snapshot(net) == before
    assert net.backbone.__dict__.get("forward") is forward
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("part", ["backbone.relu", "backbone.conv2", "backbone"])
def test_training_mode_is_refused(part: str) -> None:
    net = network()
    net.get_submodule(part).train()
    with pytest.raises(ModelError, match=r"training mode.*call model.eval\(\) first") as error:
        cc.GradCAM(net, "backbone.conv2", chunk_frames=3).explain(CLIPS, 0)
    one_line(error)
    assert net.get_submodule(part).training
    normed = network(normed=True)
    normed.backbone.norm.train()
    with pytest.raises(ModelError, match="BatchNorm in training mode") as error:
        cc.GradCAM(normed, "backbone.conv2", chunk_frames=3).explain(CLIPS, 0)
    one_line(error)


def test_batchnorm_in_eval_mode_in_chunks() -> None:
    net = network(normed=True)
    net.backbone.norm.running_mean += 0.3
    layers = ["backbone.conv1", "backbone.norm"]
    equal(run(["gradcam"], layers, 3, net), run(["gradcam"], layers, None, net))


def three_d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    )


class Stepped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(
            torch.stack([self.backbone(x[:, t]).relu().mean((2, 3)) for t in range(x.shape[1])]).mean(0)
        )


def test_what_is_not_folded_is_refused_in_one_line() -> None:
    for net, clips, layer in (
        (seeded(three_d), CLIPS.transpose(1, 2), "0"),
        (seeded(Stepped), CLIPS, "backbone"),
    ):
        with pytest.raises(LayerError, match="chunk_frames= has nothing to cut") as error:
            cc.GradCAM(net, layer, chunk_frames=3).explain(clips, 0)
        one_line(error)
        assert "forward" not in vars(net.get_submodule(layer))


def test_a_chunk_of_no_frames_is_refused() -> None:
    for chunk in (0, -1):
        with pytest.raises(ChronocamError, match=f"chunk_frames is {chunk}"):
            cc.GradCAM(network(), chunk_frames=chunk)


# Memory


class Saved:
    """Counts the bytes that the autograd graph keeps, at most at any time."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def keep(self, tensor: Tensor) -> Any:
        size = tensor.numel() * tensor.element_size()
        self.now += size
        self.peak = max(self.peak, self.now)
        return Held(self, tensor, size)


class Held:
    def __init__(self, count: Saved, tensor: Tensor, size: int) -> None:
        self.count, self.size = count, size
        self.tensor = tensor.detach()  # an output with its graph would hold itself

    def __del__(self) -> None:
        self.count.now -= self.size


def graph_bytes(frames: int, chunk: int | None) -> int:
    net, count = network(), Saved()
    clips = noise(1, frames, 3, 16, 16)
    method = cc.GradCAM(net, "backbone.conv1", chunk_frames=chunk)
    with torch.autograd.graph.saved_tensors_hooks(count.keep, lambda held: held.tensor):
        method.explain(clips, 0)
    return count.peak


def test_the_graph_does_not_grow_with_the_frames() -> None:
    short, long = graph_bytes(8, 4), graph_bytes(40, 4)
    per_frame = (graph_bytes(40, None) - graph_bytes(8, None)) / 32
    # What grows is the LSTM over the features, a few numbers per frame.
    assert (long - short) / 32 < 0.2 * per_frame
    assert long < 0.4 * graph_bytes(40, None)


PEAK = """
from pathlib import Path
import torch
from torch import nn
import chronocam as cc
from chronocam.models import CNNLSTM
torch.manual_seed(0)
wide = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
net = CNNLSTM(nn.Sequential(*wide, nn.Conv2d(32, 2, 3, stride=4)), 4, 3).eval()
cc.GradCAM(net, "backbone.4", chunk_frames=8).explain(torch.zeros(1, 16, 1, 64, 64), 0)
cc.GradCAM(net, "backbone.4").explain(torch.zeros(1, 16, 1, 64, 64), 0)
clip = torch.zeros(1, 200, 1, 64, 64)

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

for chunk in (8, None):
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = status("VmRSS")
    cc.GradCAM(net, "backbone.4", chunk_frames=chunk).explain(clip, 0)
    print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
def test_peak_memory_grows_by_the_input_and_the_kept_activations_alone() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    in_chunks, whole = map(int, done.stdout.split())  # kilobytes
    clip = 200 * 64 * 64 * 4 / 1024
    wide = 32 * clip  # one layer of the backbone for all frames
    assert whole > wide
    assert in_chunks < 4 * clip + 20_000 < wide / 3  # copies of the clip, and what one chunk needs


class Packed(nn.Module):
    """Reads as many frames of every clip as its length says."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn, self.rnn = nn.Conv2d(3, 4, 3, 2, 1), nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        features = self.cnn(x.flatten(0, 1)).relu().mean((2, 3)).unflatten(0, x.shape[:2])
        packed = nn.utils.rnn.pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][0][-1])


def test_inputs_beside_clips_may_speak_of_all_frames() -> None:
    net, inputs = seeded(Packed), (CLIPS, torch.tensor([FRAMES, 4]))
    whole, chunks = (cc.GradCAM(net, chunk_frames=chunk).explain(inputs, 1) for chunk in (None, 2))
    assert whole.layer == chunks.layer == "cnn"
    assert whole.maps.any()
    np.testing.assert_allclose(chunks.maps, whole.maps, rtol=1e-4, atol=1e-9)
