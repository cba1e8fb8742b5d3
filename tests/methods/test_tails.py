"""Methods that take evidence away behind a layer, against the whole network run once for each change."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nets import Transformer
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines.torch.ablated import Ablated
from chronocam.engines.torch.one_cell import OneCell
from chronocam.errors import LayerError
from chronocam.maps.arrays import to_numpy


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 1, 1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).tanh()
        return self.fc((a + self.b(a)).relu().mean((2, 3)))


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3, 1, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        f = self.stem(x).relu()
        return self.fc(torch.cat([self.a(f), self.b(f)], 1).sigmoid().amax((2, 3)))


class Folded(nn.Module):
    """A 2D network under an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn, self.rnn = nn.Conv2d(3, 6, 3, 4, 1), nn.LSTM(6, 5, batch_first=True)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        f = self.cnn(x.flatten(0, 1)).relu().mean((2, 3)).view(*x.shape[:2], -1)
        return self.fc(self.rnn(f)[0][:, -1])


class Depthwise(nn.Module):
    """An inverted residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 12, 1)
        self.each, self.narrow = nn.Conv2d(12, 12, 3, 1, 1, groups=12), nn.Conv2d(12, 4, 1)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        wide = nn.functional.hardswish(self.wide(x))
        return self.fc((x + self.narrow(nn.functional.relu6(self.each(wide)))).mean((2, 3)))


class Bottleneck(nn.Module):
    """What the layer returned is normalised, written over in place and read twice, by groups and strides."""

    def __init__(self, rank: int = 2) -> None:
        super().__init__()
        conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        norm: Any = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
        self.stem, self.norm, self.act = conv(3, 6, 3, 2, 1), norm(6), nn.ReLU(inplace=True)
        self.narrow, self.each, self.skip = conv(6, 4, 1), conv(4, 6, 3, 2, 2, 2, groups=2), conv(6, 6, 1, 2)
        self.fc = nn.Linear(6, 4)
        for name in ("running_mean", "bias"):
            nn.init.normal_(getattr(self.norm, name))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        inner = self.each(nn.functional.silu(self.narrow(self.act(x))))
        return self.fc((inner + self.skip(x)).tanh().flatten(2).mean(2))


class Dense(nn.Module):
    """Each layer sees what all before it returned."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.grow = nn.ModuleList(nn.Conv2d(4 + 3 * i, 3, 3, 1, 1) for i in range(3))
        self.norm, self.fc = nn.BatchNorm2d(13), nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.stem(x)]
        for layer in self.grow:
            seen.append(layer(torch.cat(seen, 1).relu()))
        return self.fc(self.norm(torch.cat(seen, 1)).relu().mean((2, 3)))


class InPlace(nn.Module):
    """Writes into what the layer returned, reads it again, and pools it in several ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.next, self.fc = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, 5, 1), nn.Linear(15, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        pooled = x.mean((2, 3))
        after = self.next(x).sum((2, 3))
        x.mul_(0.5).relu_()
        return self.fc(torch.cat([pooled, after, x.mean((-1, -2)) + x.amax((2, 3))], 1))


class Mapped(nn.Module):
    """Goes on with each sample by itself, in a way that takes tensors by their memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.next, self.fc = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, 5, 1), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.vmap(lambda one: self.next(one).tanh().mean((1, 2)))(self.conv(x)))


class ChannelsMoved(nn.Module):
    """A block of ConvNeXt, which norms and mixes with its channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.each = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 6, 3, 1, 1, groups=6)
        self.norm, self.mix, self.fc = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        mixed = nn.functional.gelu(self.mix(self.norm(self.each(x).permute(0, 2, 3, 1))))
        return self.fc((x + mixed.permute(0, 3, 1, 2)).mean((2, 3)))


class FixedBatch(nn.Module):
    """Takes two samples and no others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.next, self.fc = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, 5, 1), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.next(self.conv(x).tanh()).relu().view(2, 5, -1).mean(2))


class Tokens(nn.Module):
    """Patches and a class token, which alone is read."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.first = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, norm_first=True) for _ in range(2))
        )
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.first.expand(len(x), 1, 8), self.patches(x).flatten(2).mT], 1)
        return self.fc(self.blocks(tokens)[:, 0])


def plain(rank: int) -> nn.Sequential:
    conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    pool: Any = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1]
    features = [conv(3, 6, 3, 2, 1), nn.ELU(), conv(6, 5, 3, 1, 1), nn.Tanh()]
    return nn.Sequential(*features, pool(1), nn.Flatten(), nn.Linear(5, 4))


Net = tuple[Callable[[], nn.Module], str, tuple[int, ...]]
TOKENS: Net = (Tokens, "blocks.0", (3, 16, 12))
NETS: dict[str, Net] = {
    "signal": (lambda: plain(1), "1", (3, 24)),
    "picture": (lambda: plain(2), "1", (3, 16, 12)),
    "clip": (lambda: plain(3), "1", (3, 6, 12, 8)),
    "residual": (Residual, "a", (3, 16, 12)),
    "branched": (Branched, "b", (3, 16, 12)),
    "pooled": (lambda: plain(2), "3", (3, 16, 12)),
    "mapped": (Mapped, "conv", (3, 16, 12)),
    "in place": (InPlace, "conv", (3, 16, 12)),
    "depthwise": (Depthwise, "wide", (3, 16, 12)),
    "bottleneck": (Bottleneck, "stem", (3, 16, 12)),
    "dense": (Dense, "grow.1", (3, 16, 12)),
    "fixed batch": (FixedBatch, "conv", (3, 16, 12)),
    "channels moved": (ChannelsMoved, "each", (3, 16, 12)),
    "frames under an LSTM": (Folded, "cnn", (5, 3, 16, 12)),
}


def seeded(kind: str) -> tuple[Any, str, Tensor]:
    make, layer, shape = NETS.get(kind, TOKENS)
    torch.manual_seed(0)
    return make().double().eval(), layer, torch.randn(2, *shape, dtype=torch.float64)


def scores(net: nn.Module, layer: str, x: Tensor, change: Callable[[Tensor], Tensor]) -> np.ndarray:
    """The logits of the whole network where a layer returns something else."""
    handle = net.get_submodule(layer).register_forward_hook(lambda _, args, output: change(output.clone()))
    try:
        with torch.no_grad():
            return to_numpy(net(x))
    finally:
        handle.remove()


def returned(net: nn.Module, layer: str, x: Tensor) -> np.ndarray:
    seen: list[np.ndarray] = []

    def keep(a: Tensor) -> Tensor:
        seen.append(to_numpy(a).copy())  # the network may write into it
        return a

    scores(net, layer, x, keep)
    return seen[0]


def zeroed(channel: int, axis: int = 1) -> Callable[[Tensor], Tensor]:
    def change(a: Tensor) -> Tensor:
        a.select(axis, channel).zero_()
        return a

    return change


def as_grid(a: np.ndarray, samples: int, net: nn.Module) -> np.ndarray:
    """Put frames, which were folded into the batch, on an axis of their own, and patches on 4 × 3 cells."""
    if isinstance(net, Tokens):
        return np.moveaxis(a[:, 1:], 1, 2).reshape(samples, -1, 4, 3)
    return np.moveaxis(a.reshape(samples, -1, *a.shape[1:]), 2, 1) if isinstance(net, Folded) else a


@pytest.mark.parametrize("kind", [*NETS, "tokens"])
def test_ablation_is_the_whole_network_without_each_channel(kind: str) -> None:
    net, layer, x = seeded(kind)
    classes = [2, 0]
    whole, a = to_numpy(net(x)), as_grid(returned(net, layer, x), len(x), net)
    expected = np.zeros((len(x), 2, *a.shape[2:]))
    for k in range(a.shape[1]):
        without = scores(net, layer, x, zeroed(k, axis=2 if kind == "tokens" else 1))
        fall = (whole - without) / np.abs(whole)
        expected += fall[:, classes][(...,) + (None,) * (a.ndim - 2)] * a[:, None, k]
    targets = [cc.targets.Class(c) for c in classes]
    found = cc.AblationCAM(net, layer, signed=True).explain(x, targets)
    peak = np.abs(expected).max()
    np.testing.assert_allclose(found.maps, expected, rtol=0, atol=1e-6 * peak)
    positive = cc.AblationCAM(net, layer, batch_size=4).explain(x, targets)
    np.testing.assert_allclose(positive.maps, np.maximum(found.maps, 0), rtol=0, atol=1e-6 * peak)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_what_is_linear_in_the_channels_is_computed_once(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy of the layer's output is made before a convolution, or before pooling and a linear layer."""
    net, x = plain(rank).eval(), torch.randn(2, 3, *(16, 12, 8)[:rank])
    expected = {layer: cc.AblationCAM(net, layer, signed=True).explain(x, 1).maps for layer in ("1", "3")}

    def copied(ablated: Ablated) -> Tensor:
        raise AssertionError("copies are made")

    monkeypatch.setattr(Ablated, "copies", copied)
    for layer, maps in expected.items():
        found = cc.AblationCAM(net, layer, signed=True).explain(x, 1)
        np.testing.assert_array_equal(found.maps, maps)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_cells_of_a_layer_are_no_copies_until_places_are_mixed(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = Bottleneck(rank).eval(), torch.randn(2, 3, *(16, 12, 8)[:rank])
    expected = cc.ReciproCAM(net, "stem", signed=True).explain(x, 1).maps

    def copied(cells: OneCell) -> Tensor:
        raise AssertionError("copies are made")

    monkeypatch.setattr(OneCell, "copies", copied)
    found = cc.ReciproCAM(net, "stem", signed=True).explain(x, 1)
    np.testing.assert_array_equal(found.maps, expected)


def test_what_precedes_the_layer_runs_once_for_all_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    net, layer, x = seeded("residual")
    cc.AblationCAM(net, layer).explain(x, 1)  # whatever is found out once
    runs: list[int] = []
    run = nn.Conv2d.forward

    def counted(conv: nn.Conv2d, x: Tensor) -> Tensor:
        runs.extend([len(x)] * (conv.stride == (2, 2)))  # of the first convolution alone
        return run(conv, x)

    monkeypatch.setattr(nn.Conv2d, "forward", counted)
    found = cc.explain(net, x, 1, methods=("gradcam", "ablationcam", "reciprocam"), layers=["b"])
    assert runs == [len(x)]
    for name, method in {"ablationcam": cc.AblationCAM, "reciprocam": cc.ReciproCAM}.items():
        np.testing.assert_array_equal(found[name].maps, method(net, "b").explain(x, 1).maps)


def test_a_negative_score_does_not_turn_the_map_over() -> None:
    net: Any = plain(2).eval()
    with torch.no_grad():
        for at in (0, 2, 6):
            net[at].weight.abs_()
            net[at].bias.zero_()
        net[6].bias.fill_(-50.0)
    found = cc.AblationCAM(net, "1").explain(torch.rand(1, 3, 16, 12), 1)
    assert found.scores[0, 0] < 0 < found.maps.max()


@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("kind", NETS)
def test_recipro_is_the_whole_network_with_one_cell(kind: str, spot: bool) -> None:
    net, layer, x = seeded(kind)
    grid = as_grid(returned(net, layer, x), len(x), net).shape[2:]
    nothing = scores(net, layer, x, lambda a: 0 * a)
    expected = np.zeros((len(x), 1, *grid))
    for cell in np.ndindex(*grid):
        mask = np.ones(grid)
        for axis, (n, i) in enumerate(zip(grid, cell, strict=True)):
            row = [1.0 if at == i else 0.5 if spot and abs(at - i) == 1 else 0.0 for at in range(n)]
            mask = mask * np.reshape(row, [-1 if j == axis else 1 for j in range(len(grid))])
        frames = isinstance(net, Folded)
        laid = np.concatenate([mask] * len(x)) if frames else np.stack([mask] * len(x))
        keep = torch.from_numpy(laid)[:, None]
        alone = scores(net, layer, x, lambda a, keep=keep: a * keep)
        expected[(slice(None), 0, *cell)] = (alone - nothing)[:, 3]
    found = cc.ReciproCAM(net, layer, spot=spot, signed=True).explain(x, 3)
    np.testing.assert_allclose(found.maps, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("method", [cc.AblationCAM, cc.ReciproCAM])
def test_what_a_dead_layer_does_not_move_is_zero(method: Any) -> None:
    net, x = plain(2).eval(), torch.randn(2, 3, 16, 12)
    net[1] = nn.ReLU()
    nn.init.constant_(net[0].weight, 0)
    nn.init.constant_(net[0].bias, -1)
    found = method(net, "1", signed=True).explain(x, 1)
    assert not found.maps.any()
    assert all("the map is zero everywhere" in finding.text for finding in found.findings)


def test_a_network_that_draws_is_told_to_be_evaluated() -> None:
    net = nn.Sequential(*plain(2)[:-1], nn.Dropout(0.5), nn.Linear(5, 4)).train()
    with pytest.raises(LayerError, match=r"its output differs\); call model.eval\(\) first"):
        cc.AblationCAM(net, "1").explain(torch.randn(2, 3, 16, 12), 1)


def test_recipro_before_pooling_and_a_linear_layer_is_cam() -> None:
    net, _, x = seeded("picture")
    found = cc.ReciproCAM(net, "3", signed=True).explain(x, 1).maps
    cam = cc.CAM(net, "3", signed=True).explain(x, 1).maps
    scale = (found * cam).sum() / (cam * cam).sum()
    np.testing.assert_allclose(found, scale * cam, rtol=0, atol=1e-6 * np.abs(found).max())


def test_tokens_are_scored_one_by_one_beside_the_class_token() -> None:
    torch.manual_seed(0)
    net = Transformer().eval()
    x = torch.rand(1, 3, 16, 16)
    layer = cc.GradCAM(net).explain(x, 1).layer
    found = cc.ReciproCAM(net, layer, signed=True).explain(x, 1).maps[0, 0]
    tokens = returned(net, layer, x).shape[1]
    prefix = tokens - found.size
    keep = torch.zeros(tokens, 1)
    keep[:prefix] = 1
    nothing = scores(net, layer, x, lambda a: a * keep)
    for cell in range(found.size):
        one = keep.clone()
        one[prefix + cell] = 1
        alone = scores(net, layer, x, lambda a, one=one: a * one)
        np.testing.assert_allclose(found.ravel()[cell], (alone - nothing)[0, 1], atol=1e-5)


@pytest.mark.parametrize("kind", ["signal", "picture", "clip"])
def test_kpca_is_the_first_component_of_the_centred_kernel(kind: str) -> None:
    net, layer, x = seeded(kind)
    found = cc.KPCACAM(net, layer, signed=True).explain(x)
    for sample, a in enumerate(returned(net, layer, x)):
        cells = a.reshape(len(a), -1).T
        cells = cells - cells.mean(0)
        n = len(cells)
        kernel = np.array([[np.tanh(p @ q / len(a) + 1) for q in cells] for p in cells])
        centring = np.eye(n) - np.ones((n, n)) / n
        values, vectors = np.linalg.eig(centring @ kernel @ centring)
        first = np.argmax(values.real)
        component = np.sqrt(values.real[first]) * vectors[:, first].real
        component *= np.sign(component @ cells.sum(1))
        np.testing.assert_allclose(found.maps[sample, 0].ravel(), component, atol=1e-6)


def test_a_grid_too_fine_for_a_kernel_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), nn.Linear(96 * 96, 2)).eval()
    with pytest.raises(LayerError, match=r"9216 cells.*deeper"):
        cc.KPCACAM(net, "0").explain(torch.rand(1, 3, 96, 96), 1)


def test_a_peer_does_not_set_channels_to_zero_where_some_values_are_negative() -> None:
    """Grad-cam puts min − 1e7 there: its map is far from that of the formula, which ours equals."""
    grad_cam = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net, layer, x = seeded("picture")
    net, x = net.float(), x[:1].float()
    found = cc.AblationCAM(net, layer, signed=True).explain(x, 2)
    a, whole = returned(net, layer, x), to_numpy(net(x))
    falls = [(whole - scores(net, layer, x, zeroed(k)))[0, 2] / abs(whole[0, 2]) for k in range(a.shape[1])]
    expected = np.einsum("k,khw->hw", falls, a[0])
    np.testing.assert_allclose(found.maps[0, 0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    theirs = grad_cam.AblationCAM(model=net, target_layers=[net.get_submodule(layer)])
    theirs(x, [ClassifierOutputTarget(2)])
    weights = theirs.get_cam_weights(x, net.get_submodule(layer), [ClassifierOutputTarget(2)], a, None)
    assert np.abs(np.ravel(weights)).max() > 10 * np.abs(falls).max()
