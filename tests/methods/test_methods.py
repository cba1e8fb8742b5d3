"""Every method against a slow replica, a network small enough to do by hand, and calculus."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pytest
import replicas
import torch
import torch.nn.functional as F
from helpers import close
from nets import ClassToken, Transformer
from replicas import CLOSED, Bent, Pooled, for_each, inputs, seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, LayerError, ModelError, TargetError
from chronocam.maps.fuse import fuse
from chronocam.maps.noise import Noise
from chronocam.methods import METHODS, Method
from chronocam.types import Capture

PIXEL = ["saliency", "inputxgradient", "smoothgrad", "guidedbackprop", "guidedgradcam"]
NOISY = ["smoothgrad", "smoothgradcam++"]
CLIPS = ["temporalmask"]  # what a CNN of images cannot be explained by; test_temporalmask has the replica
# And what no CNN can; test_rollout and test_attention have them.
TRANSFORMERS = ["rollout", "legrad", "attentionrelevance", "gradeclip", "gradientxattention"]
TAILS = ["ablationcam", "reciprocam", "kpcacam"]  # test_tails has the replicas
LEARNED = ["extremalperturbation"]  # test_extremalperturbation has its slopes and what it finds
PATHS = ["integratedgradients", "expectedgradients", "blurig"]  # test_paths has them
MASKS = ["rise", "occlusion", "lime", "kernelshap"]  # test_masks has them
THROUGH = ["scorecam", "sscam", "iscam", "groupcam"]  # test_scorecam has them
FULL = ["fullgrad"]  # test_fullgrad has it
BOXES = ["odam", "drise"]  # test_odam and test_drise have them
STAGES = ["visualbackprop"]  # of several layers at once; test_visualbackprop has it
NAMES = {
    "CAM": "cam",
    "GradCAM": "gradcam",
    "HiResCAM": "hirescam",
    "ODAM": "odam",
    "GradCAMElementWise": "gradcamelementwise",
    "GradCAMPlusPlus": "gradcam++",
    "SmoothGradCAMPlusPlus": "smoothgradcam++",
    "XGradCAM": "xgradcam",
    "LayerCAM": "layercam",
    "EigenCAM": "eigencam",
    "EigenGradCAM": "eigengradcam",
    "ShapleyCAM": "shapleycam",
    "FinerCAM": "finercam",
    "Saliency": "saliency",
    "InputXGradient": "inputxgradient",
    "SmoothGrad": "smoothgrad",
    "GuidedBackprop": "guidedbackprop",
    "GuidedGradCAM": "guidedgradcam",
    "TemporalMask": "temporalmask",
    "ExtremalPerturbation": "extremalperturbation",
    "AttentionRollout": "rollout",
    "LeGrad": "legrad",
    "AttentionRelevance": "attentionrelevance",
    "GradECLIP": "gradeclip",
    "GradientXAttention": "gradientxattention",
    "VisualBackProp": "visualbackprop",
    "RISE": "rise",
    "DRISE": "drise",
    "Occlusion": "occlusion",
    "LIME": "lime",
    "KernelSHAP": "kernelshap",
    "ScoreCAM": "scorecam",
    "SSCAM": "sscam",
    "ISCAM": "iscam",
    "GroupCAM": "groupcam",
    "AblationCAM": "ablationcam",
    "ReciproCAM": "reciprocam",
    "KPCACAM": "kpcacam",
    "IntegratedGradients": "integratedgradients",
    "ExpectedGradients": "expectedgradients",
    "BlurIG": "blurig",
    "FullGrad": "fullgrad",
}
GRIDS = [(3, (5,)), (7, (4,)), (3, (3, 4)), (13, (3, 4)), (4, (2, 3, 2)), (14, (2, 3, 2))]
ARRAYS: list[Callable[[np.ndarray], Any]] = [np.asarray, torch.from_numpy]


@dataclass
class HandMade:
    """A View of captures that were made by hand; `again` serves the prepared looks one by one."""

    captures: tuple[Capture, ...]
    targets: int = 3
    looks: list[tuple[Capture, ...]] = field(default_factory=list)

    def upsample(self, maps: Any) -> Any:
        for axis in range(2, maps.ndim):
            maps = (
                np.repeat(maps, 2, axis) if isinstance(maps, np.ndarray) else maps.repeat_interleave(2, axis)
            )
        return maps

    def again(self, change: Callable[[Any], Any]) -> tuple[Capture, ...]:
        return self.looks.pop(0)


def made(name: str, **options: Any) -> Method:
    return METHODS[name](nn.Identity(), **options)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_every_method_is_public_and_tested() -> None:
    assert {name: getattr(cc, name).name for name in NAMES} == NAMES
    assert set(METHODS) == set(NAMES.values()), "a new method needs a replica here"
    assert set(METHODS) == {
        *CLOSED,
        *PIXEL,
        *NOISY,
        *BOXES,
        *CLIPS,
        *TRANSFORMERS,
        *STAGES,
        *FULL,
        *TAILS,
        *PATHS,
        *MASKS,
        *LEARNED,
        *THROUGH,
    }


# The pure functions: captures in, maps out.


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
@pytest.mark.parametrize(("channel", "grid"), GRIDS, ids=str)
@pytest.mark.parametrize("name", CLOSED)
def test_map_of_a_capture(name: str, channel: int, grid: tuple[int, ...], array: Callable[..., Any]) -> None:
    a, g, h = drawn(0, 2, channel, *grid), drawn(1, 2, 3, channel, *grid), drawn(2, 2, 3, channel, *grid)
    if name == "cam":
        g = np.broadcast_to(drawn(1, 2, 3, channel, *[1] * len(grid)), g.shape).copy()
    derivatives = (g, h) if name == "shapleycam" else (g,)
    found = made(name).maps(HandMade((Capture(array(a), array(g), array(h)),)))
    assert type(found) is type(array(a))
    close(found, for_each(CLOSED[name], a, *derivatives), 1e-10)


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
@pytest.mark.parametrize(("channel", "grid"), GRIDS, ids=str)
def test_smoothgradcam_plusplus_of_captures(
    channel: int, grid: tuple[int, ...], array: Callable[..., Any]
) -> None:
    a = drawn(0, 2, channel, *grid)
    looks = [drawn(seed, 2, 3, channel, *grid) for seed in range(1, 5)]
    view = HandMade(
        (Capture(array(a), array(looks[0])),), looks=[(Capture(array(-a), array(g)),) for g in looks]
    )
    found = made("smoothgradcam++", samples=4).maps(view)
    d1, d2, d3 = (sum(g**p for g in looks) / 4 for p in (1, 2, 3))
    close(found, for_each(replicas.plusplus, a, d1, d2, d3), 1e-10)


def reduced(table: np.ndarray, how: str) -> np.ndarray:
    """Reduce the channels of `(batch, target, channel, *grid)`, one position after the other."""
    out = np.zeros((*table.shape[:2], *table.shape[3:]))
    for at in np.ndindex(*out.shape):
        values = [table[(*at[:2], k, *at[2:])] for k in range(table.shape[2])]
        out[at] = {
            "max": max(map(abs, values)),
            "sum": sum(values),
            "norm": sum(v * v for v in values) ** 0.5,
        }[how]
    return out


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("reduce", ["max", "sum", "norm"])
@pytest.mark.parametrize("name", PIXEL)
def test_pixel_map_of_a_capture(
    name: str, reduce: str, grid: tuple[int, ...], array: Callable[..., Any]
) -> None:
    a, g = drawn(0, 2, 4, *grid), drawn(1, 2, 3, 4, *grid)
    fine = drawn(2, 2, 3, 2, *(2 * n for n in grid))
    looks = [drawn(seed, *g.shape) for seed in range(3, 8)]
    view = HandMade((Capture(array(a), array(g)),), looks=[(Capture(array(a), array(v)),) for v in looks])
    options: dict[str, Any] = {}
    if name == "guidedgradcam":
        view = replace(view, captures=(*view.captures, Capture(array(fine[:, 0]), array(fine))))
        coarse = np.maximum(for_each(replicas.gradcam, a, g), 0)
        expected = fine * np.kron(coarse, np.ones([2] * len(grid)))[:, :, None]
    elif name == "smoothgrad":
        options, expected = {"samples": 5}, sum(looks) / 5
    else:
        expected = g * a[:, None] if name == "inputxgradient" else g
    close(made(name, reduce=reduce, **options).maps(view), reduced(expected, reduce), 1e-10)


def test_defaults_of_the_channel_reductions() -> None:
    assert {name: made(name).reduce for name in PIXEL} == {
        n: "sum" if n == "inputxgradient" else "max" for n in PIXEL
    }


# A network to be done by hand: A = ReLU((x, 6 − 2x)) of x = 0, 1, 2, 3; S₀ = 4·mean(A₁) − 4·mean(A₂), S₁ =
# 4·mean(A₂). Hence, for S₀, G = (1, −1) everywhere.

ROOT5 = 5**0.5
BY_HAND = {
    "gradcam": [-6, -3, 0, 3],  # x − (6 − 2x)
    "cam": [-24, -12, 0, 12],  # 4x − 4(6 − 2x)
    "hirescam": [-6, -3, 0, 3],
    "odam": [-6, -3, 0, 3],
    "gradcamelementwise": [0, 1, 2, 3],  # ReLU(x) + ReLU(2x − 6)
    "layercam": [0, 1, 2, 3],
    "xgradcam": [-6, -3, 0, 3],
    "gradcam++": [0, 0.5, 1, 1.5],  # α₁ = 1/(2 + 6·1), w₁ = 4·α₁ = ½; w₂ = 0
    "smoothgradcam++": [0, 0.5, 1, 1.5],
    "shapleycam": [-6, -3, 0, 3],
    "finercam": [-12, -7, -2, 3],  # S₀ − S₁ has G = (1, −2)
    "eigencam": [1.5 * ROOT5, 0.5 * ROOT5, -0.5 * ROOT5, -1.5 * ROOT5],  # (x − 1.5)(1, −2), along 1.5 − x
    "eigengradcam": [-1.5 * ROOT5, -0.5 * ROOT5, 0.5 * ROOT5, 1.5 * ROOT5],  # (x − 1.5)(1, 2)
    "saliency": [2, 3, 3, 1],  # ReLU passes nothing at 0: A₁ at x = 0, A₂ at x = 3
    "smoothgrad": [2, 3, 3, 1],
    "inputxgradient": [0, 3, 6, 3],
    "guidedbackprop": [0, 1, 1, 1],  # −1 into A₂ is stopped
    "guidedgradcam": [0, 0, 0, 3],
}


def small_network(rank: int) -> nn.Sequential:
    conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    pool: Any = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1]
    net = nn.Sequential(conv(1, 2, 1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[0].weight.view(2).copy_(torch.tensor([1.0, -2.0]))
        net[0].bias.copy_(torch.tensor([0.0, 6.0]))
        net[4].weight.copy_(torch.tensor([[4.0, -4.0], [0.0, 4.0]]))
    return net.eval()


@pytest.mark.parametrize("grid", [(4,), (2, 2), (1, 2, 2), (4, 1, 1)], ids=str)
@pytest.mark.parametrize("name", BY_HAND)
def test_map_done_by_hand(name: str, grid: tuple[int, ...]) -> None:
    x = torch.arange(4.0).reshape(1, 1, *grid)
    options: dict[str, Any] = {"noise": 0.0} if name in NOISY else {}
    layer = None if name in PIXEL and name != "guidedgradcam" else 1
    signed = {} if name in PIXEL else {"signed": True}
    explanation = METHODS[name](small_network(len(grid)), layer, **options, **signed).explain(x, 0)
    expected = np.reshape(BY_HAND[name], (1, 1, *grid))
    np.testing.assert_allclose(explanation.maps, expected, rtol=2e-6, atol=2e-6)
    if name not in PIXEL:
        plain = METHODS[name](small_network(len(grid)), layer, **options).explain(x, 0)
        np.testing.assert_allclose(plain.maps, np.maximum(expected, 0), rtol=2e-6, atol=2e-6)


def test_finercam_by_hand_with_another_alpha() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    maps = cc.FinerCAM(small_network(2), 1, alpha=0.5, signed=True).explain(x, 0).maps
    np.testing.assert_allclose(maps[0, 0], [[-9, -5], [-1, 3]])  # S₀ − S₁/2 has G = (1, −1.5)


def test_smoothgradcam_plusplus_by_hand() -> None:
    """One channel A = (1, 1), looks G = (1, 3) and (3, −5): D¹ = (2, −1), D² = (5, 17), D³ = (14, −49)."""
    looks = [(Capture(np.ones((1, 1, 2)), np.array([[[g]]])),) for g in ([1.0, 3.0], [3.0, -5.0])]
    found = made("smoothgradcam++", samples=2).maps(HandMade(looks[0], targets=1, looks=looks))
    np.testing.assert_allclose(found, np.full((1, 1, 2), 2 * 5 / (2 * 5 + 2 * 14)), rtol=1e-12)


# End to end: `Method(model).explain` against plain autograd on the same network, in float64.

CLASSES = [1, 3]


def network(name: str, rank: int) -> nn.Module:
    return seeded(lambda: Pooled(rank) if name == "cam" else Bent(rank))


def two(logits: Tensor) -> Tensor:
    return logits[:, CLASSES]


def finer(logits: Tensor) -> Tensor:
    return torch.stack([replicas.finer_score(logits, [c] * len(logits), 1.0, 3) for c in CLASSES], dim=1)


def raw_replica(name: str, net: nn.Module, x: Tensor) -> np.ndarray:
    a = net.features(x).detach()
    readout = finer if name == "finercam" else two

    def score(activations: Tensor) -> Tensor:
        return readout(net.rest(activations))

    derivatives = [replicas.gradients(score, a)]
    if name == "shapleycam":
        derivatives.append(replicas.hessian_products(score, a))
    return for_each(CLOSED[name], a.numpy(), *derivatives)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", CLOSED)
def test_explain_equals_autograd(name: str, rank: int) -> None:
    net, x = network(name, rank), inputs(rank)
    raw = raw_replica(name, net, x)
    targets = [cc.targets.Class(c) for c in CLASSES]
    assert name == "gradcamelementwise" or (raw < 0).any()
    signed = METHODS[name](net, "features.2", signed=True).explain(x, targets)
    close(signed.maps, raw, 1e-5)
    plain = METHODS[name](net, "features.2").explain(x, targets)
    close(plain.maps, np.maximum(raw, 0), 1e-5)
    assert plain.maps.dtype == np.float32


def looked_at(net: nn.Module, method: Method, x: Tensor, targets: Any) -> tuple[Any, list[Tensor]]:
    """Return the explanation, and the perturbed inputs that the model was called with."""
    seen: list[Tensor] = []
    handle = net.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    explanation = method.explain(x, targets)
    handle.remove()
    return explanation, [v for v in seen if v.shape == x.shape and not torch.equal(v, x)]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_smoothgradcam_plusplus_equals_autograd(rank: int) -> None:
    net, x = network("smoothgradcam++", rank), inputs(rank)
    method = cc.SmoothGradCAMPlusPlus(net, "features.2", signed=True, samples=5)
    explanation, looks = looked_at(net, method, x, [cc.targets.Class(c) for c in CLASSES])
    assert len(looks) == 5
    gradients = [replicas.gradients(lambda a: two(net.rest(a)), net.features(v)) for v in looks]
    moments = [sum(g**p for g in gradients) / 5 for p in (1, 2, 3)]
    close(explanation.maps, for_each(replicas.plusplus, net.features(x).detach().numpy(), *moments), 1e-5)


def pixel_replica(name: str, net: Bent, x: Tensor) -> np.ndarray:
    if not name.startswith("guided"):
        gradients = replicas.gradients(lambda v: two(net(v)), x)
        return gradients * x.numpy()[:, None] if name == "inputxgradient" else gradients
    chain = [*net.features, *net.head, net.classify]
    guided = np.stack([replicas.guided_gradient(chain, lambda y, c=c: y[:, c], x) for c in CLASSES], axis=1)
    if name == "guidedbackprop":
        return guided
    coarse = torch.from_numpy(np.maximum(raw_replica("gradcam", net, x), 0))
    linear = ("linear", "bilinear", "trilinear")[x.ndim - 3]
    return guided * F.interpolate(coarse, x.shape[2:], mode=linear, align_corners=False).numpy()[:, :, None]


@pytest.mark.parametrize("reduce", ["max", "sum", "norm"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", [name for name in PIXEL if name != "smoothgrad"])
def test_pixel_map_equals_autograd(name: str, rank: int, reduce: str) -> None:
    net, x = network(name, rank), inputs(rank)
    layer = "features.2" if name == "guidedgradcam" else None
    found = METHODS[name](net, layer, reduce=reduce).explain(x, [cc.targets.Class(c) for c in CLASSES])
    close(found.maps, reduced(pixel_replica(name, net, x), reduce), 1e-5)
    assert found.maps.shape == (2, 2, *x.shape[2:])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_smoothgrad_equals_autograd(rank: int) -> None:
    net, x = network("smoothgrad", rank), inputs(rank)
    explanation, looks = looked_at(
        net, cc.SmoothGrad(net, samples=4), x, [cc.targets.Class(c) for c in CLASSES]
    )
    assert len(looks) == 4
    mean = sum(replicas.gradients(lambda v: two(net(v)), look) for look in looks) / 4
    close(explanation.maps, reduced(mean, "max"), 1e-5)


def test_gradients_equal_finite_differences() -> None:
    net, x = network("saliency", 2), inputs(2, batch=1)
    slopes = replicas.finite_differences(lambda v: net(v)[0, 1], x)
    close(cc.Saliency(net, reduce="sum").explain(x, 1).maps[0, 0], slopes[0].sum(0), 1e-5)
    close(cc.Saliency(net).explain(x, 1).maps[0, 0], np.abs(slopes[0]).max(0), 1e-5)
    a = net.features(x).detach()
    slopes = replicas.finite_differences(lambda v: net.rest(v)[0, 1], a)
    raw = for_each(replicas.hirescam, a.numpy(), slopes[:, None])
    close(cc.HiResCAM(net, "features.2", signed=True).explain(x, 1).maps, raw, 1e-5)


@pytest.mark.parametrize("name", ["gradcam", "layercam", "gradcamelementwise"])
def test_signs_are_kept_for_regression_unless_told_otherwise(name: str) -> None:
    net, x = network(name, 2), inputs(2)
    raw = raw_replica(name, net, x)[:, [0]]
    target, positive = cc.targets.Regression(CLASSES[0]), np.maximum(raw, 0)
    for signed, expected in [(None, raw), (True, raw), (False, positive)]:
        close(METHODS[name](net, "features.2", signed=signed).explain(x, target).maps, expected, 1e-5)


def test_all_methods_of_one_pass_equal_each_alone() -> None:
    """Plain, guided and twice differentiated gradients come out of the same graph, and do not mix."""
    net, x = network("gradcam", 2), inputs(2)
    targets = [cc.targets.Class(c) for c in CLASSES]
    others = ("cam", "drise", *CLIPS, *TRANSFORMERS, *PATHS, *MASKS, *LEARNED, *FULL)
    names = [name for name in METHODS if name not in others]
    together = cc.explain(net, x, targets, methods=names, layers=["features.2"])
    assert set(together) == set(names)
    for name in names:
        layer = None if name in PIXEL and name != "guidedgradcam" else "features.2"
        close(together[name].maps, METHODS[name](net, layer).explain(x, targets).maps, 1e-6)


# What the methods promise about each other.


def test_cam_is_the_linear_weights_times_the_activations() -> None:
    net, x = network("cam", 2), inputs(2)
    a = net.features(x).detach()
    expected = sum(net.fc.weight[3, k].item() * a[:, k] for k in range(a.shape[1]))
    close(cc.CAM(net, "features.2", signed=True).explain(x, 3).maps[:, 0], expected, 1e-5)
    z = a[0, 0].numel()
    close(cc.GradCAM(net, "features.2", signed=True).explain(x, 3).maps[:, 0], expected / z, 1e-5)


@pytest.mark.parametrize(("net", "layer"), [("bent", "features.2"), ("pooled", "features.0")])
def test_cam_refuses_another_head(net: str, layer: str) -> None:
    model = network("cam" if net == "pooled" else "gradcam", 2)
    with pytest.raises(LayerError, match=r"gradient varies over the grid.*or use `gradcam`"):
        cc.CAM(model, layer).explain(inputs(2), 0)


@pytest.mark.parametrize(("share", "refused"), [(1e-3, True), (1e-6, False)])
def test_cam_tolerates_rounding_only(share: float, refused: bool) -> None:
    g = np.ones((2, 2, 3, 4, 4))
    g[1, 1, 2, 3, 0] += share
    capture = Capture(np.ones((2, 3, 4, 4)), g)
    if refused:
        with pytest.raises(LayerError):
            made("cam").combine(capture)
    else:
        assert made("cam").combine(capture).max() == pytest.approx(3 * 16)


def test_shapleycam_counts_the_curvature() -> None:
    """Against the derivative of the gradient along the activations, by central differences."""
    net, x = network("shapleycam", 2), inputs(2)
    a, step = net.features(x).detach(), 1e-5

    def slope(at: Tensor) -> np.ndarray:
        return replicas.gradients(lambda v: net.rest(v)[:, [1]], at)

    h = (slope(a * (1 + step)) - slope(a * (1 - step))) / (2 * step)
    expected = for_each(replicas.shapleycam, a.numpy(), slope(a), h)
    found = cc.ShapleyCAM(net, "features.2", signed=True).explain(x, 1).maps
    close(found, expected, 1e-5)
    plain = cc.GradCAM(net, "features.2", signed=True).explain(x, 1).maps
    assert np.abs(found - plain).max() > 0.05 * np.abs(plain).max()


def test_shapleycam_equals_gradcam_for_a_piecewise_linear_head() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        head = [nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 3)]
        net = nn.Sequential(nn.Conv2d(2, 4, 1), *head).double().eval()
    found = [method(net, 0, signed=True).explain(inputs(2), 1).maps for method in (cc.ShapleyCAM, cc.GradCAM)]
    close(*found, 1e-6)


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
@pytest.mark.parametrize(("channel", "positions"), [(4, 9), (9, 9), (12, 9)])
def test_eigencam_is_never_inverted(channel: int, positions: int, array: Callable[..., Any]) -> None:
    """The raw eigenvector of either Gram matrix comes out inverted for some of these; the map never does."""
    a = np.random.default_rng(0).exponential(size=(40, channel, positions))
    found = np.asarray(made("eigencam").maps(HandMade((Capture(array(a)),), targets=1)))[:, 0]
    close(found, [replicas.principal(one) for one in a], 1e-9)
    total = a.sum(axis=1)
    assert all(np.corrcoef(one, along)[0, 1] > 0 for one, along in zip(found, total, strict=True))
    x = a - a.mean(axis=2, keepdims=True)
    gram = x.transpose(0, 2, 1) @ x if positions < channel else x @ x.transpose(0, 2, 1)
    vectors = np.linalg.eigh(gram)[1][..., -1]
    raw = vectors if positions < channel else np.einsum("bkp,bk->bp", x, vectors)
    inverted = sum(
        (one @ along) < 0 for one, along in zip(raw, total - total.mean(1, keepdims=True), strict=True)
    )
    assert 0 < inverted < 40


@pytest.mark.parametrize(("channel", "positions"), [(4, 9), (12, 9)])
def test_eigencam_decomposes_the_smaller_matrix(
    channel: int, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from array_api_compat.numpy import linalg

    shapes: list[tuple[int, ...]] = []
    eigh = linalg.eigh
    monkeypatch.setattr(linalg, "eigh", lambda x: shapes.append(x.shape) or eigh(x))
    made("eigencam").maps(HandMade((Capture(drawn(0, 2, channel, positions)),)))
    assert shapes == [(2, 1, min(channel, positions), min(channel, positions))]


def test_eigencam_by_hand() -> None:
    """Channels (0, 0, 3) and (0, 0, 4): centred (−1, −1, 2)·(1, 4/3), of norm 5/3 per unit."""
    a = np.array([[[0.0, 0.0, 3.0], [0.0, 0.0, 4.0]]])
    found = made("eigencam").maps(HandMade((Capture(a),), targets=2))
    np.testing.assert_allclose(found, [[[-5 / 3, -5 / 3, 10 / 3]] * 2], rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 2.0])
@pytest.mark.parametrize("channel", [3, 9])
def test_eigencam_of_constant_activations_is_zero(constant: float, channel: int) -> None:
    found = made("eigencam").maps(HandMade((Capture(np.full((1, channel, 5), constant)),), targets=1))
    assert np.abs(found).max() < 1e-7


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
@pytest.mark.parametrize("name", CLOSED)
def test_a_sample_that_is_not_finite_leaves_the_others_alone(
    name: str, array: Callable[..., Any], bad: float
) -> None:
    a, g = drawn(0, 3, 4, 5), np.broadcast_to(drawn(1, 3, 2, 4, 1), (3, 2, 4, 5)).copy()
    clean = np.asarray(made(name).maps(HandMade((Capture(array(a), array(g), array(g)),), targets=2)))
    a[1, 2, 3], g[1] = bad, bad
    with np.errstate(invalid="ignore"):
        found = np.asarray(made(name).maps(HandMade((Capture(array(a), array(g), array(g)),), targets=2)))
    assert not np.isfinite(found[1]).all()
    close(found[[0, 2]], clean[[0, 2]], 1e-12)


@pytest.mark.parametrize("name", ["gradcam", "layercam", "eigencam", "cam"])
def test_a_map_that_is_not_finite_does_not_pass_for_zero(name: str) -> None:
    net, x = network(name, 2), inputs(2)
    x[1, 0, 2, 3] = torch.nan
    explanation = METHODS[name](net, "features.2").explain(x, 1)
    assert np.isfinite(explanation.maps[0]).all()
    assert np.isnan(explanation.maps[1]).any()
    (finding,) = explanation.diagnostics
    assert finding.startswith("sample 1, class 1: the score or the map is not finite")


def test_xgradcam_where_the_activations_cancel() -> None:
    """Σ A = 0, 5e-8 and −5e-8: the denominator is 1e-7 with the sum's sign."""
    for total, below in [(0.0, 1e-7), (5e-8, 1e-7), (-5e-8, -1e-7), (-2e-7, -2e-7)]:
        capture = Capture(np.array([[[1.0, total - 1.0]]]), np.array([[[[2.0, 1.0]]]]))
        weight = (2.0 + total - 1.0) / below
        np.testing.assert_allclose(made("xgradcam").weights(capture), [[[weight]]], rtol=1e-6)


def test_gradcam_plusplus_where_the_denominator_vanishes_or_underflows() -> None:
    capture = Capture(
        np.array([[[-1.0, -1.0]]]), np.array([[[[1.0, 0.5]]]])
    )  # 2 − 2·1 = 0 at the first position
    np.testing.assert_allclose(made("gradcam++").weights(capture), [[[0.5 / (2 - 2 * 0.5)]]])
    tiny = Capture(np.ones((1, 1, 2), np.float32), np.full((1, 1, 1, 2), 1e-20, np.float32))
    np.testing.assert_allclose(
        made("gradcam++").weights(tiny), [[[1e-20]]], rtol=1e-6
    )  # α = ½, G² underflows


@pytest.mark.parametrize("alpha", [1.0, 0.4])
@pytest.mark.parametrize("comparisons", [1, 2, 4])
def test_finercam_differentiates_through_the_probabilities(alpha: float, comparisons: int) -> None:
    net, x, chosen = network("finercam", 2), inputs(2, batch=3), [4, 0, 2]
    a = net.features(x).detach()

    def score(activations: Tensor) -> Tensor:
        return replicas.finer_score(net.rest(activations), chosen, alpha, comparisons)[:, None]

    method = cc.FinerCAM(net, "features.2", alpha=alpha, comparisons=comparisons, signed=True)
    found = method.explain(x, chosen)
    close(found.scores, score(a).detach(), 1e-6)
    close(found.maps, for_each(replicas.gradcam, a.numpy(), replicas.gradients(score, a)), 1e-5)


@pytest.mark.parametrize("raised", [[1], [0, 1, 2, 3, 4]], ids=["one", "all"])
def test_finercam_where_exponentials_underflow_or_overflow(raised: list[int]) -> None:
    """A class 300 above the others makes them too improbable for float32; their shares of each other stay."""
    net = seeded(lambda: Bent(2))
    with torch.no_grad():
        net.classify.bias[raised] += 300
    x = inputs(2)
    expected = raw_replica("finercam", net, x)[:, [0]]
    maps = cc.FinerCAM(net.float(), "features.2", signed=True).explain(x.float(), 1).maps
    close(maps, expected, 1e-4)


@pytest.mark.parametrize("squeezed", [False, True])
def test_finercam_compares_the_two_classes_of_one_logit(squeezed: bool) -> None:
    net = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    )
    if squeezed:
        net.append(nn.Flatten(0))
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    plain = cc.GradCAM(net, "0", signed=True).explain(x, [0, 1])
    finer = cc.FinerCAM(net, "0", alpha=0.5, signed=True).explain(x, [0, 1])
    close(finer.maps, 1.5 * plain.maps, 1e-5)  # y_c − α y_d, where y_d = −y_c
    close(finer.scores, 1.5 * plain.scores, 1e-5)
    assert cc.FinerCAM(net, "0", labels=["ham", "spam"]).explain(x).targets[0][0].name in ("ham", "spam")
    with pytest.raises(TargetError, match="Finer-CAM compares classes, and"):
        cc.FinerCAM(net, "0").explain(x)  # one output, and nothing says that it is the logit of classes


@pytest.mark.parametrize(
    "target", [cc.targets.Contrast(0, 1), cc.targets.Regression(1, direction=-1)], ids=str
)
def test_finercam_refuses_what_is_no_class(target: Any) -> None:
    with pytest.raises(TargetError, match="Finer-CAM compares classes"):
        cc.FinerCAM(network("finercam", 2), "features.2").explain(inputs(2), target)


# Noise.


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_reproducible_by_its_seed(name: str) -> None:
    net, x = network(name, 2), inputs(2)

    def maps(seed: int) -> np.ndarray:
        return METHODS[name](net, "features.2", samples=3, seed=seed).explain(x, 1).maps

    state = torch.random.get_rng_state()
    first = maps(5)
    assert np.array_equal(first, maps(5))
    assert not np.allclose(first, maps(6), rtol=1e-3, atol=0)
    assert torch.equal(state, torch.random.get_rng_state())
    method = METHODS[name](net, "features.2", samples=3, seed=5)
    assert np.array_equal(method.explain(x, 1).maps, method.explain(x, 1).maps)


@pytest.mark.parametrize("name", NOISY)
def test_noise_does_not_depend_on_the_batch(name: str) -> None:
    net, x = network(name, 2), inputs(2, batch=5)

    def maps(of: Tensor, batch_size: int | None) -> np.ndarray:
        return METHODS[name](net, "features.2", samples=3, batch_size=batch_size).explain(of, 1).maps

    whole = maps(x, None)
    for found, expected in [(maps(x, 1), whole), (maps(x, 2), whole), (maps(x[3:4], None), whole[3:4])]:
        close(found, expected, 1e-6)


@pytest.mark.parametrize("reduce", ["max", "sum", "norm"])
def test_smoothgrad_without_noise_is_saliency(reduce: str) -> None:
    net, x = network("smoothgrad", 2), inputs(2)
    smooth = cc.SmoothGrad(net, noise=0.0, samples=3, reduce=reduce).explain(x, 1).maps
    close(smooth, cc.Saliency(net, reduce=reduce).explain(x, 1).maps, 1e-6)


def test_smoothgradcam_plusplus_without_noise_is_gradcam_plusplus() -> None:
    net, x = network("smoothgradcam++", 2), inputs(2)
    smooth = cc.SmoothGradCAMPlusPlus(net, "features.2", noise=0.0, signed=True).explain(x, 1).maps
    close(smooth, cc.GradCAMPlusPlus(net, "features.2", signed=True).explain(x, 1).maps, 1e-6)


@pytest.mark.parametrize("name", NOISY)
def test_noisy_looks_explain_the_class_predicted_without_noise(name: str) -> None:
    net, x = network(name, 2), inputs(2, batch=6)
    options: dict[str, Any] = {"noise": 1.0, "samples": 6}
    predicted = net(x).argmax(1)
    explanation, looks = looked_at(net, METHODS[name](net, "features.2", **options), x, None)
    assert any((net(v).argmax(1) != predicted).any() for v in looks), "the noise must change predictions here"
    assert [row[0].index for row in explanation.targets] == predicted.tolist()
    named = METHODS[name](net, "features.2", **options).explain(x, predicted)
    assert np.array_equal(explanation.maps, named.maps)


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
def test_noise_is_gaussian_with_a_share_of_each_sample_s_range(array: Callable[..., Any]) -> None:
    x = np.random.default_rng(0).uniform(size=(2, 3, 200, 200)) * np.array([1.0, 40.0])[:, None, None, None]
    looks: list[np.ndarray] = []

    @dataclass
    class Recorder(HandMade):
        def again(self, change: Callable[[Any], Any]) -> tuple[Capture, ...]:
            looks.append(np.asarray(change(array(x))))
            return self.captures

    view = Recorder((Capture(array(x)),))
    assert len(list(Noise(3, 0.2, seed=4).look(view))) == 3
    span = np.ptp(x, axis=(1, 2, 3))
    for look in looks:
        unit = (look - x) / (0.2 * span[:, None, None, None])
        for sample in unit:
            assert abs(sample.mean()) < 0.01
            assert abs(sample.std() - 1) < 0.01
            assert abs((np.abs(sample) < 1).mean() - 0.6827) < 0.01
            assert abs((np.abs(sample) < 2).mean() - 0.9545) < 0.01
    assert abs(np.corrcoef((looks[0] - x)[0].ravel(), (looks[1] - x)[0].ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize(("option", "value"), [("samples", 0), ("noise", -0.1), ("noise", float("nan"))])
def test_impossible_noise_is_refused(name: str, option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{option} is {value}; expected"):
        made(name, **{option: value})


def test_finercam_needs_something_to_compare_with() -> None:
    with pytest.raises(InputError, match="comparisons is 0; expected at least one"):
        made("finercam", comparisons=0)


# Every argument of every method changes the result.

OTHERS: dict[str, Sequence[Any]] = {
    "signed": [True],
    "reduce": ["max", "sum", "norm"],
    "samples": [3],
    "noise": [0.4],
    "seed": [7],
    "alpha": [0.3],
    "comparisons": [1],
    "pool": ["frame"],
    "perturbation": ["reverse"],
    "relative": [False],
    "steps": [3],
    "lr": [0.02],
    "lambda1": [0.5],
    "lambda2": [0.5],
    "readout": ["class"],
    "layers": [1],
    "gradeclip layers": [2],  # it takes the last alone
    "overlap": ["mean"],
    "spot": [True],
    "gamma": [0.01],
    "baseline": [0.3],
    "sigma": [0.7],
    "regions": ["superpixels"],
    "cells": [2],
    "until": [1.0],
    "budget": [40],
    "window": [2],
    "stride": [2],
    "width": [0.05],
    "groups": [2],
    "rescale": [False],
    "channels": [2],
    "smooth": [1.5],
}
SAME = {
    "signed": ["gradcamelementwise", "groupcam"],  # their ReLU is inside the sum: nothing is negative
    "seed": ["occlusion"],  # nothing is drawn but with noise as its baseline
    "pool": [
        "hirescam",
        "odam",
        "gradcamelementwise",
        "layercam",
    ],  # elementwise: there are no weights to pool
    "until": ["scorecam", "iscam"],  # of so few channels all are scored; of sscam in another order
}


class Stack(Transformer):
    """A transformer of two layers for pictures of two channels."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.block = nn.Sequential(self.block, nn.TransformerEncoderLayer(4, 2, 8, batch_first=True))


class ClassStack(Stack, ClassToken):
    """The same with a class token, which alone counts."""


OWN = [
    (name, f.name)
    for name, cls in METHODS.items()
    for f in fields(cls)
    # σ of the learned one is also the size of its cells; D-RISE, for boxes alone, has the options of RISE.
    if f not in fields(Method) and name not in (*LEARNED, "drise")
]


@pytest.mark.parametrize(("name", "option"), OWN)
def test_every_argument_changes_the_result(name: str, option: str) -> None:
    assert option in OTHERS, f"say in OTHERS to what `{option}` is changed"
    rank = 3 if option == "pool" or name in CLIPS else 2
    stack = ClassStack if name == "gradeclip" else Stack
    net, x = seeded(stack) if name in TRANSFORMERS else network(name, rank), inputs(rank)
    layer = None if name in (*CLIPS, *TRANSFORMERS, *PATHS, *MASKS, *FULL) else "features.2"
    quick: dict[str, Any] = {"steps": 20} if name in CLIPS else {}
    if name == "expectedgradients":
        quick["baseline"] = inputs(rank) / 2

    def maps(**options: Any) -> np.ndarray:
        return METHODS[name](net, layer, **{**quick, **options}).explain(x, 1).maps

    default = maps()
    values = OTHERS.get(f"{name} {option}", OTHERS[option])
    others = [maps(**{option: v}) for v in values if v != getattr(METHODS[name](net), option)]
    differ = [
        np.abs(one - other).max() > 1e-3 * np.abs(one).max() > 0
        for i, one in enumerate([default, *others])
        for other in others[i:]
    ]
    assert differ
    assert not any(differ) if name in SAME.get(option, ()) else all(differ)


# Guided backpropagation, however a ReLU is written.


class Spelled(nn.Module):
    """A convolution and a ReLU, given as a function, twice."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.second(self.relu(self.first(x)))).flatten(2).mean(2))


@pytest.mark.parametrize(
    "relu",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        F.relu,
        F.relu6,
        lambda x: F.relu(x, inplace=True),
        lambda x: F.relu(input=x),
        torch.relu,
        torch.relu_,
        Tensor.relu,
        Tensor.relu_,
    ],
    ids=[
        "module",
        "in-place module",
        "6 module",
        "F",
        "F6",
        "in-place F",
        "keyword",
        "torch",
        "torch_",
        "x.",
        "x_",
    ],
)
def test_guided_backprop_knows_every_relu(relu: Callable[[Tensor], Tensor]) -> None:
    net, x = seeded(lambda: Spelled(relu)), inputs(2)
    chain = [net.first, nn.ReLU(), net.second, nn.ReLU()]
    guided = replicas.guided_gradient(chain, lambda a: net.fc(a.flatten(2).mean(2))[:, 1], x)
    close(cc.GuidedBackprop(net, reduce="sum").explain(x, 1).maps[:, 0], guided.sum(1), 1e-5)
    plain = replicas.gradients(lambda v: net(v)[:, [1]], x).sum(2)
    close(cc.Saliency(net, reduce="sum").explain(x, 1).maps, plain, 1e-5)


def test_guided_backprop_stops_at_the_ceiling_of_relu6() -> None:
    net = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.ReLU6(), nn.Flatten(), nn.Linear(3, 1, bias=False))
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    x = torch.tensor([[[-1.0, 2.0, 7.0]]])
    assert cc.GuidedBackprop(net).explain(x, cc.targets.Regression()).maps.tolist() == [[[0, 1, 0]]]


def test_layers_are_fused_after_the_relu() -> None:
    """Negative evidence of one layer neither sets the scale nor takes a place in the fused map."""
    net, x = network("gradcam", 2), inputs(2)
    layers = ["features.0", "features.2"]
    each = [cc.GradCAM(net, layer, signed=True).explain(x, 1).maps for layer in layers]
    assert all((one < 0).any() for one in each)
    close(cc.GradCAM(net, layers).explain(x, 1).maps, fuse([np.maximum(one, 0) for one in each]), 1e-5)
    close(cc.GradCAM(net, layers, signed=True).explain(x, 1).maps, fuse(each), 1e-5)


class Returning(nn.Module):
    """Features, and of them whatever `form` makes."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.features, self.form = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU()), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.features(x))


@pytest.mark.parametrize(
    "form",
    [
        lambda f: {"a": f.mean((2, 3)), "b": f.amax((2, 3))},
        lambda f: F.interpolate(f[:, :2], scale_factor=2),
        lambda f: f.flatten(2).transpose(1, 2)[:, :9].sigmoid(),
    ],
    ids=["two heads", "dense", "rows of boxes"],
)
def test_a_map_that_no_target_changes_needs_none(form: Callable[[Tensor], Any]) -> None:
    net, x = seeded(lambda: Returning(form)), torch.rand(3, 3, 16, 16, dtype=torch.float64)
    activations = net.features(x).detach()
    found = cc.EigenCAM(net, batch_size=2).explain(x)
    assert (found.layer, str(found.targets[0][0])) == ("features", "all outputs")
    for one, a in zip(found.maps[:, 0], activations.flatten(2), strict=True):
        centred = a - a.mean(1, keepdim=True)
        component = centred.T @ torch.linalg.svd(centred)[0][:, 0]
        expected = (component * torch.sign(component @ centred.sum(0))).relu().reshape(8, 8)
        np.testing.assert_allclose(one, expected, atol=1e-5)
    with pytest.raises((ModelError, TargetError)):
        cc.explain(net, x, methods=("gradcam", "eigencam"))
