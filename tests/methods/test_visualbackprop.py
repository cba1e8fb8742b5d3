"""VisualBackProp against loops in NumPy, on chains, branches and clips."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers import noise
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, LayerError
from chronocam.maps.spread import spread
from chronocam.models import CNNLSTM
from chronocam.models.per_frame import PerFrame
from chronocam.types import Window

AGNOSTIC = "class-agnostic: the same for every target"


def seeded(*layers: nn.Module) -> nn.Sequential:
    net = nn.Sequential(*layers).double().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return net


def exact(method: Any, x: Any, targets: Any = 0) -> np.ndarray:
    """The maps in the model's own precision."""
    kept: list[Tensor] = []
    inner = method.maps

    def maps(view: Any) -> Any:
        kept.append(inner(view))
        return kept[-1]

    method.maps = maps
    assert method.explain(x, targets).maps.dtype == np.float32
    return kept[0].numpy()


def close(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def convolved(x: np.ndarray, layer: Any) -> np.ndarray:
    """A 2D convolution and a ReLU, one output after the other; x `(channel, height, width)`."""
    w, b, k, s, p = (
        layer.weight.detach().numpy(),
        layer.bias.detach().numpy(),
        layer.kernel_size[0],
        *sp(layer),
    )
    x = np.pad(x, ((0, 0), (p, p), (p, p)))
    out = np.zeros((len(w), (x.shape[1] - k) // s + 1, (x.shape[2] - k) // s + 1))
    for o, i, j in np.ndindex(*out.shape):
        out[o, i, j] = max(0.0, b[o] + (w[o] * x[:, i * s : i * s + k, j * s : j * s + k]).sum())
    return out


def sp(layer: Any) -> tuple[int, int]:
    return layer.stride[0], layer.padding[0]


def deconvolved(mask: np.ndarray, size: Sequence[int], kernel: int, stride: int, padding: int) -> np.ndarray:
    """A transposed convolution with weights 1: every cell added to all that it saw."""
    out = np.zeros(tuple(size))
    for i, j in np.ndindex(*mask.shape):
        for a, b in np.ndindex(kernel, kernel):
            y, x = i * stride + a - padding, j * stride + b - padding
            if 0 <= y < size[0] and 0 <= x < size[1]:
                out[y, x] += mask[i, j]
    return out


CHAIN = [nn.Conv2d(2, 9, 3, 2, padding=1), nn.Conv2d(9, 11, 3), nn.Conv2d(11, 12, 2, 2)]


def test_a_chain_is_the_papers_formula() -> None:
    one, two, three = CHAIN
    net = seeded(
        one,
        nn.ReLU(),
        two,
        nn.ReLU(),
        three,
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 3),
    )
    x = noise(2, 2, 13, 16)
    expected = []
    for picture in x.numpy():
        maps = [picture]
        for layer in CHAIN:
            maps.append(convolved(maps[-1], layer))
        mask = maps[3].mean(0)
        mask = deconvolved(mask, maps[2].shape[1:], 2, 2, 0) * maps[2].mean(0)
        mask = deconvolved(mask, maps[1].shape[1:], 3, 1, 0) * maps[1].mean(0)
        expected.append(deconvolved(mask, (13, 16), 3, 2, 1)[None])
    close(exact(cc.VisualBackProp(net), x), np.stack(expected))
    # From an earlier layer the deeper ones do not count.
    early = [deconvolved(convolved(picture, one).mean(0), (13, 16), 3, 2, 1)[None] for picture in x.numpy()]
    close(exact(cc.VisualBackProp(net, "1"), x), np.stack(early))


def test_layers_that_keep_the_grid_are_one_stage_and_a_pool_spreads_by_its_own_window() -> None:
    same, other, deep = (
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(3, 3, 5, padding=2),
        nn.Conv2d(3, 4, 3, padding=1),
    )
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    net = seeded(same, nn.ReLU(), other, nn.ReLU(), nn.MaxPool2d(3, 2, 1), deep, nn.ReLU(), *head)
    x = noise(1, 2, 8, 10)
    wide = convolved(convolved(x[0].numpy(), same), other)
    narrow = net[:7](x)[0].detach().numpy()
    expected = deconvolved(narrow.mean(0), (8, 10), 3, 2, 1) * wide.mean(0)
    close(exact(cc.VisualBackProp(net), x), expected[None, None])


class Branched(nn.Module):
    """A block that halves the grid on two ways, and a layer beside the way to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.beside = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1)
        self.down, self.skip = nn.Conv2d(4, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 1, 2)
        self.more, self.relu, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.stem(x))
        self.seen = self.beside(x)
        out = self.relu(self.more(torch.relu(self.down(first))) + self.skip(first))
        return self.fc(out.mean((2, 3)))


def test_branches_meet_at_the_wider_window_and_ways_to_nowhere_are_left_out() -> None:
    net = seeded(Branched())
    x = noise(1, 2, 8, 8)
    first = convolved(x[0].numpy(), net[0].stem)
    features = torch.relu(net[0].stem(x))
    last = (
        torch.relu(net[0].more(torch.relu(net[0].down(features))) + net[0].skip(features))[0].detach().numpy()
    )
    expected = deconvolved(last.mean(0), (8, 8), 3, 2, 1) * first.mean(0)
    # The ReLU of the stem is no module: its convolution is the stage, and negative activations count as zero.
    close(exact(cc.VisualBackProp(net, "0.relu"), x), expected[None, None])


def pictures() -> nn.Sequential:
    return seeded(
        nn.Conv2d(3, 4, 3, 2),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


@pytest.mark.parametrize("options", [{}, {"attention": True}, {"per_step": True}])
def test_frames_seen_one_by_one_have_a_map_each(options: dict[str, bool]) -> None:
    cnn, clips = pictures(), noise(2, 3, 3, 15, 15)
    target = cc.targets.MajorityVote() if options.get("per_step") else 0
    alone = exact(cc.VisualBackProp(cnn), clips.flatten(0, 1)).reshape(2, 3, 15, 15)
    net = CNNLSTM(cnn, 4, 3, **options).double().eval()
    explanation = cc.VisualBackProp(net).explain(clips, target)
    np.testing.assert_allclose(explanation.maps[:, 0], alone, rtol=1e-5, atol=1e-6 * alone.max())
    assert explanation.frame_spans == ((0, 0), (1, 1), (2, 2))
    if not options.get("per_step"):
        close(exact(cc.VisualBackProp(PerFrame(cnn)), clips)[:, 0], alone)
        close(exact(cc.VisualBackProp(net, chunk_frames=2), clips)[:, 0], alone)


def test_a_network_over_time_spreads_in_time_too() -> None:
    deep = nn.Conv3d(3, 4, (3, 1, 1), (2, 1, 1), padding=(1, 0, 0))
    net = seeded(deep, nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3))
    clips = noise(1, 3, 5, 2, 2)
    slices = net[:2](clips)[0].detach().numpy().mean(0)
    expected = np.zeros((5, 2, 2))
    for i, one in enumerate(slices):
        for t in range(2 * i - 1, 2 * i + 2):
            if 0 <= t < 5:
                expected[t] += one
    close(exact(cc.VisualBackProp(net), clips), expected[None, None])


def test_targets_do_not_matter_and_it_is_said() -> None:
    net = nn.Sequential(pictures(), nn.Linear(5, 4).double())
    x = noise(2, 3, 15, 15)
    explanation = cc.VisualBackProp(net).explain(x, [cc.targets.Class(k) for k in range(4)])
    assert AGNOSTIC in explanation.diagnostics
    assert explanation.maps.shape == (2, 4, 15, 15)
    assert explanation.maps.any()
    for k in range(1, 4):
        np.testing.assert_array_equal(explanation.maps[:, k], explanation.maps[:, 0])
    assert len(np.unique(explanation.scores[0])) == 4
    np.testing.assert_allclose(explanation.upsample(), explanation.maps, rtol=1e-5, atol=1e-5)


def test_what_a_network_does_not_tell_is_resampled_and_said() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(2)

    net = seeded(
        nn.Conv2d(2, 3, 2, 2), Odd(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    x = noise(1, 2, 8, 8)
    explanation = cc.VisualBackProp(net).explain(x, 0)
    assert any("`2`" in note and "resampled linearly" in note for note in explanation.diagnostics)
    mean = net[:3](x).detach().mean(1, keepdim=True)
    expected = torch.nn.functional.interpolate(mean, size=(8, 8), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(explanation.maps, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_the_model_is_left_as_found_and_runs_under_no_grad() -> None:
    net = pictures().train()
    net[0].weight.requires_grad_(False)
    with torch.no_grad():
        cc.VisualBackProp(net).explain(noise(1, 3, 15, 15), 0)
    assert net.training
    assert not net[0].weight.requires_grad
    assert net[2].weight.grad is None
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"conv_layer": "input"}, LayerError, "give the deepest"),
        ({"conv_layer": ["0", "2"]}, LayerError, "give the deepest"),
        ({"align": "receptive_field"}, InputError, "leave align out"),
        ({"conv_layer": "5"}, LayerError, "no grid"),
        ({"overlap": "max"}, InputError, "choose sum or mean"),
        ({"conv_layer": "0#1"}, LayerError, "called 1 times"),
    ],
)
def test_what_it_does_not_do_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as told:
        cc.VisualBackProp(pictures(), **options).explain(noise(1, 3, 15, 15), 0)
    assert "\n" not in str(told.value)


def test_averaged_windows_leave_no_grid_of_their_own() -> None:
    net = seeded(
        nn.Conv2d(2, 5, 7, 4, padding=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    )
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(2.0)
    x = noise(1, 2, 16, 16)
    assert set(exact(cc.VisualBackProp(net), x).ravel()) == {2.0, 4.0, 8.0}
    assert set(exact(cc.VisualBackProp(net, overlap="mean"), x).ravel()) == {2.0}
    maps = np.array([[[1.0, 10.0, 100.0]]])
    assert spread(maps, (8,), [Window(2, 0, 2)], mean=True).tolist() == [[[1, 1, 5.5, 10, 55, 100, 100, 0]]]


@pytest.mark.parametrize("array", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_spreading_adds_where_windows_overlap(array: Any) -> None:
    maps = array(np.array([[[1.0, 10.0, 100.0]]]))
    assert np.asarray(spread(maps, (7,), [Window(2, 0, 2)])).tolist() == [[[1, 1, 11, 10, 110, 100, 100]]]
    assert np.asarray(spread(maps, (6,), [Window(2, -1, 0)])).tolist() == [[[1, 10, 10, 100, 100, 0]]]
    # Axes without a window stay as they are, or are resampled.
    both = array(np.arange(6.0).reshape(1, 1, 2, 3))
    assert np.asarray(spread(both, (2, 3), [Window(1, 0, 0)])).tolist() == both.tolist()
    assert np.asarray(spread(both, (4, 3), [Window(1, 0, 0)]))[0, 0, :, 0].tolist() == [0, 0.75, 2.25, 3]


def test_in_inference_mode_the_map_is_the_same() -> None:
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU()
    torch.manual_seed(0)
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    x = torch.rand(1, 3, 12, 12)
    expected = cc.VisualBackProp(net).explain(x).maps
    with torch.inference_mode():
        np.testing.assert_array_equal(cc.VisualBackProp(net).explain(x).maps, expected)


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_spectral_norms_in_training_mode_are_run_and_left_as_found(norm: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        norm(nn.Conv2d(3, 6, 3, 2, 1)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    before = {name: value.clone() for name, value in net.train().state_dict().items()}
    found = cc.VisualBackProp(net).explain(torch.rand(2, 3, 16, 16), 0)
    assert found.maps.any()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
