"""A faster copy of a model gives its maps, and follows it; what cannot be had of it is refused."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import run_together
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines.torch import fast
from chronocam.engines.torch.numbers import Numbers
from chronocam.engines.torch.state import State
from chronocam.methods._base import METHODS


class Net(nn.Module):
    """Two convolutions with norms, the second used in one of several ways."""

    def __init__(self, way: str = "alone") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.after = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.linear, self.way = nn.Linear(6, 4), way
        for norm in (self.norm, self.after):
            for values in (norm.running_mean, norm.bias.data):
                values.normal_()
            for values in (norm.running_var, norm.weight.data):
                values.uniform_(0.5, 2)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        first = self.norm(self.conv(x)).relu()
        a = self.second(first)
        b = self.after(a)
        if self.way == "two users":
            b = b + a
        elif self.way == "called twice":
            b = b + self.second(b)
        elif self.way == "norm called twice":
            b = b + self.after(b)
        elif self.way == "weight read":
            b = b + self.second.weight.mean()
        elif self.way == "not traceable" and x.sum() > 0:
            b = b + a
        return self.linear(b.relu().mean((2, 3)))


X = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(1))


def folded(net: nn.Module) -> dict[str, str]:
    return fast._copy_of(State([*net.modules()]), None).folded


@pytest.mark.parametrize(
    "name", ["gradcam", "layercam", "ablationcam", "reciprocam", "saliency", "gradcam++"]
)
def test_maps_are_those_of_the_model(name: str) -> None:
    net, method = Net(), METHODS[name]
    layer = None if name == "saliency" else "after"
    plain, quick = (method(net, layer, fast=way).explain(X, 2) for way in (False, True))
    assert folded(net) == {"conv": "norm", "second": "after"}
    assert np.abs(plain.maps).max() > 0
    np.testing.assert_allclose(quick.maps, plain.maps, rtol=1e-3, atol=1e-5 * np.abs(plain.maps).max())
    np.testing.assert_allclose(quick.scores, plain.scores, rtol=1e-4)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        *(
            (way, {"conv": "norm"})
            for way in ("two users", "called twice", "norm called twice", "weight read")
        ),
        ("not traceable", {}),
    ],
)
def test_what_is_not_proven_stays_unfolded(way: str, expected: dict[str, str]) -> None:
    net = Net(way)
    assert folded(net) == expected
    plain, quick = (cc.GradCAM(net, "after", fast=on).explain(X, 1).maps for on in (False, True))
    np.testing.assert_allclose(quick, plain, rtol=1e-3, atol=1e-6)


CHANGES: dict[str, Callable[[Net], object]] = {
    "weights": lambda net: nn.init.normal_(net.second.weight),
    "weights, through data": lambda net: net.second.weight.data.mul_(-2),
    "weights, through an array": lambda net: net.second.weight.data.numpy().__imul__(-2),
    "filters that change places": lambda net: net.second.weight.data.copy_(net.second.weight.data.flip(0)),
    "all signs": lambda net: net.linear.weight.data.neg_(),
    "statistics": lambda net: net.after.running_mean.add_(3),
    "a layer": lambda net: setattr(net, "linear", nn.Linear(6, 4)),
    "mode": lambda net: net.after.train(),
    "a setting": lambda net: (
        setattr(net.second, "dilation", (2, 2)) or setattr(net.second, "padding", (2, 2))
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copy_follows_the_model(change: str) -> None:
    net = Net()
    quick = cc.GradCAM(net, "after", fast=True)
    before = quick.explain(X, 1).scores
    CHANGES[change](net)
    after = quick.explain(X, 1).scores
    np.testing.assert_allclose(after, cc.GradCAM(net, "after").explain(X, 1).scores, rtol=1e-4, atol=1e-5)
    assert not np.allclose(after, before, rtol=1e-3)


def test_what_a_module_holds_beside_its_settings_need_not_be_comparable() -> None:
    net = Net()
    net.kept = (torch.zeros(2), torch.zeros(2))
    quick = cc.GradCAM(net, "after", fast=True)
    before = quick.explain(X, 1).maps
    net.kept = (torch.ones(2), torch.zeros(2))
    np.testing.assert_array_equal(quick.explain(X, 1).maps, before)


def test_copy_is_made_once_and_dropped_with_the_model() -> None:
    net = Net()
    made = fast._copy_of(State([*net.modules()]), None)
    cc.explain(net, X, 1, fast=True)
    assert fast._copy_of(State([*net.modules()]), None) is made
    kept, left = weakref.ref(made.model), weakref.ref(net)
    del net, made
    gc.collect()
    assert left() is None
    assert kept() is None


class NormAct(nn.BatchNorm2d):
    """A norm with an activation of its own behind it, as those of timm."""

    before = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = 2 * x if self.before else x
        shares = self.running_mean, self.running_var, self.weight, self.bias
        return self.act(self.drop(F.batch_norm(x, *shares, self.training, self.momentum, self.eps)))


class Doubled(NormAct):
    """It does something before it normalises, so that it cannot be taken into the convolution."""

    before = True


@pytest.mark.parametrize("kind", [NormAct, Doubled])
def test_a_norm_that_also_activates_is_folded_as_far_as_its_graph_proves(kind: type[NormAct]) -> None:
    net = Net()
    norm = kind(6)
    norm.load_state_dict(net.after.state_dict())
    net.after = norm.eval()
    assert folded(net) == {"conv": "norm"} | ({"second": "after"} if kind is NormAct else {})
    for layer in ("after", "after.act"):
        plain, quick = (
            cc.GradCAM(net, layer, fast=on, signed=True).explain(X, 1).maps for on in (False, True)
        )
        assert np.abs(plain).max() > 0
        np.testing.assert_allclose(quick, plain, rtol=1e-3, atol=1e-5 * np.abs(plain).max())


def test_folded_convolution_is_refused_by_path_and_object() -> None:
    net = Net()
    for layer in ("second", net.second):
        with pytest.raises(cc.errors.LayerError, match="name `after`, or leave fast out"):
            cc.GradCAM(net, layer, fast=True)
    np.testing.assert_allclose(
        cc.GradCAM(net, net.after, fast=True).explain(X, 1).maps,
        cc.GradCAM(net, net.after).explain(X, 1).maps,
        rtol=1e-3,
        atol=1e-6,
    )


def test_bf16_is_rounded_and_said() -> None:
    net = Net()
    exact, rounded = (cc.GradCAM(net, "after", fast=True, precision=p).explain(X, 1) for p in (None, "bf16"))
    assert "another one may be predicted" in rounded.diagnostics[0]
    assert not exact.diagnostics
    assert 0 < np.abs(rounded.scores - exact.scores).max() < 0.05 * np.abs(exact.scores).max()


def test_misuse_is_refused() -> None:
    net = Net()
    with pytest.raises(cc.errors.InputError, match='expected "bf16", with fast=True'):
        cc.GradCAM(net, precision="bf16")
    with pytest.raises(cc.errors.InputError, match="expected"):
        cc.GradCAM(net, fast=True, precision="fp8")
    with pytest.raises(cc.errors.ModelError, match="fast=True is for PyTorch models"):
        cc.GradCAM(cc.blackbox(lambda x: x), fast=True)
    with pytest.raises(cc.errors.InputError, match="operator="):
        cc.GradCAM(net, fast=True, operator=lambda model, inputs, targets: model(inputs)[:, 0])
    net.conv.register_forward_hook(lambda *_: None)
    with pytest.raises(cc.errors.ModelError, match="hooks of its own"):
        cc.GradCAM(net, fast=True)


def test_one_number_written_without_a_trace_is_seen() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    x, fast = torch.rand(1, 3, 16, 16), cc.GradCAM(net.eval(), fast=True)
    fast.explain(x, 1)
    for at in range(8):
        net[4].weight.data[1, at] += 1.0
        expected = cc.GradCAM(net).explain(x, 1).maps
        np.testing.assert_allclose(fast.explain(x, 1).maps, expected, atol=1e-5 * np.abs(expected).max())


def test_nothing_that_other_threads_run_is_changed_while_a_copy_is_made() -> None:
    calls, seen = (nn.Module.__call__, nn.Module.__getattr__), []

    class Watching(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((nn.Module.__call__, nn.Module.__getattr__))
            return super().forward(x)

    net = Watching(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert folded(net) == {"0": "1"}
    assert set(seen) == {calls}


def test_threads_that_copy_a_model_at_once_go_on_with_one_copy() -> None:
    net, made = Net(), []
    run_together(*[lambda: made.append(fast._copy_of(State([*net.modules()]), None))] * 4)
    assert all(one is made[0] for one in made)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(700, 11), (64, 64, 3, 3), (4099,), ()])
def test_any_number_that_is_written_is_noticed(shape: tuple[int, ...], kind: torch.dtype) -> None:
    tensor = torch.randn(shape).to(kind)
    turned = tensor.transpose(0, -1) if tensor.ndim else tensor
    scattered = torch.stack([tensor, tensor], -1)[..., 0]
    for looked_at in ([tensor], [turned], [scattered]):
        draw, before = np.random.default_rng(0), [Numbers(looked_at)]
        flat = looked_at[0].data.view(-1) if looked_at[0] is not turned else tensor.data.view(-1)
        for _ in range(4):
            assert before[-1].are_in(looked_at)
            flat[int(draw.integers(len(flat)))] += 1
            before.append(Numbers(looked_at))
            flat[:] = flat.flip(0) if len(flat) > 1 else flat + 1
            assert not any(one.are_in(looked_at) for one in before)
            before.append(Numbers(looked_at))


@pytest.mark.parametrize("change", [lambda x: x.clone(), lambda x: x.T, lambda x: x.view(torch.int32)])
def test_other_memory_and_another_order_are_noticed(change: Callable[[Tensor], Tensor]) -> None:
    tensor = torch.zeros(60, 60)
    numbers = Numbers([tensor])
    tensor.data = change(tensor.data)
    assert not numbers.are_in([tensor])
