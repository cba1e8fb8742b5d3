"""One forward pass for all methods, layers and targets; every argument changes the result."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from explained import AT_INPUT, AT_LAYER, OTHER_NETS, Net, X, batches_seen, once, same, seeded
from helpers import one_line
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import chronocam as cc
from chronocam.errors import InputError, LayerError
from chronocam.maps.arrays import library
from chronocam.methods import METHODS


def test_methods_layers_and_targets_from_one_forward() -> None:
    at_layer, at_input = once(AT_LAYER), once(AT_INPUT)
    assert len(at_layer) >= 10
    net = seeded()
    seen = batches_seen(net)
    targets = [cc.targets.Class(1), cc.targets.Predicted(2)]
    found = cc.explain(net, X, targets, methods=[*at_layer, *at_input], layers=["conv1", "conv2"])
    assert seen == [7]
    names = [f"{name}@{layer}" for layer in ("conv1", "conv2") for name in at_layer]
    assert list(found) == [*names, *at_input]
    for name, explanation in found.items():
        method, _, layer = name.partition("@")
        assert explanation.method == method
        assert explanation.maps.shape[:2] == (7, 3)
        same(explanation, METHODS[method](net, layer or None).explain(X, targets))
    assert found["gradcam@conv1"].maps.shape[2:] == (8, 8)
    assert found["gradcam@conv2"].maps.shape[2:] == (4, 4)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "drise"])  # which is for boxes
def test_each_method_equals_its_class(name: str) -> None:
    net = seeded(OTHER_NETS.get(name, Net))
    clips = name == "temporalmask"
    x, options = (X[:6].reshape(2, 3, 3, 16, 16), {"steps": 5}) if clips else (X[:2], dict[str, Any]())
    if name == "expectedgradients":
        options["baseline"] = X[2:4]
    alone = METHODS[name](net, **options).explain(x, 1)
    found = cc.explain(net, x, 1, methods=[name], **options)
    assert list(found) == [name]
    same(found[name], alone)
    same(cc.explain(net, x, 1, methods=[METHODS[name]], **options)[name], alone)
    assert alone.maps.any()


def test_the_names_of_the_results() -> None:
    net = seeded()
    assert list(cc.explain(net, X)) == ["gradcam"]
    assert list(cc.explain(net, X, layers=["conv1"])) == ["gradcam"]
    assert cc.explain(net, X, layers=["conv1"])["gradcam"].layer == "conv1"
    assert list(cc.explain(net, X, layers=[net.conv1, 2])) == ["gradcam@conv1", "gradcam@conv2"]
    both = cc.explain(net, X, methods=["gradcam", "layercam"], layers=["conv2", "conv1"])
    assert list(both) == ["gradcam@conv2", "layercam@conv2", "gradcam@conv1", "layercam@conv1"]
    for options in ({"methods": []}, {"layers": []}):
        with pytest.raises(InputError, match="nothing to explain"):
            cc.explain(net, X, **options)
    with pytest.raises(InputError) as error:
        cc.explain(net, X, methods=["gradcm"])
    one_line(error, "`gradcm`", "did you mean `gradcam`")
    with pytest.raises(LayerError, match="`conv3`"):
        cc.explain(net, X, layers=["conv1", "conv3"])


def test_methods_with_options_of_their_own() -> None:
    net = seeded()

    def shy(model: nn.Module, layer: Any = None, **options: Any) -> cc.methods.Method:
        return cc.GradCAM(model, layer, signed=False, **options)

    def bold(model: nn.Module, layer: Any = None, **options: Any) -> cc.methods.Method:
        return cc.HiResCAM(model, layer, signed=True, **options)

    found = cc.explain(net, X, 1, methods=[shy, bold], batch_size=2)
    same(found["gradcam"], cc.GradCAM(net).explain(X, 1))
    same(found["hirescam"], cc.HiResCAM(net, signed=True).explain(X, 1))
    assert (found["hirescam"].maps < 0).any()


def test_finercam_and_gradcam_share_a_pass_but_not_a_target() -> None:
    net = seeded()
    seen = batches_seen(net)
    found = cc.explain(
        net, X, [cc.targets.Class(1), cc.targets.Class(2)], methods=["finercam", "gradcam"], layers=["conv2"]
    )
    assert seen == [7]
    same(found["finercam"], cc.FinerCAM(net, "conv2").explain(X, [cc.targets.Class(1), cc.targets.Class(2)]))
    same(found["gradcam"], cc.GradCAM(net, "conv2").explain(X, [cc.targets.Class(1), cc.targets.Class(2)]))
    assert np.abs(found["finercam"].scores - found["gradcam"].scores).max() > 1e-3


# Every argument changes the result


def test_every_constructor_argument_changes_the_result() -> None:
    net = seeded()
    base = cc.GradCAM(net).explain(X, 1)
    assert base.layer == "conv2"
    changed = {
        "conv_layer": cc.GradCAM(net, "relu").explain(X, 1),
        "fused": cc.GradCAM(net, ["conv1", "conv2"]).explain(X, 1),
        "output_layer": cc.GradCAM(net, "conv1", output_layer="relu").explain(
            X, lambda out: out[:, 1].sum((1, 2))
        ),
        "operator": cc.GradCAM(net, operator=lambda model, x, y: -model(x)[:, 1]).explain(X, 1),
        "task": cc.GradCAM(net, operator="regression").explain(X, 1),
        "layout": cc.GradCAM(net, layout=lambda a: a.flip(-1)).explain(X, 1),
        "signed": cc.GradCAM(net, signed=True).explain(X, 1),
    }
    for name, other in changed.items():
        different = other.maps.shape != base.maps.shape or np.abs(other.maps - base.maps).max() > 1e-4
        assert different, name
    np.testing.assert_allclose(changed["layout"].maps, base.maps[..., ::-1], atol=1e-7)
    np.testing.assert_array_equal(changed["task"].maps, changed["signed"].maps)
    np.testing.assert_allclose(changed["operator"].maps, (-changed["signed"].maps).clip(0), atol=1e-7)


@pytest.mark.parametrize("signed", [True, False])
def test_fused_layers_are_the_largest_of_their_scaled_maps(signed: bool) -> None:
    net = seeded()
    fused = cc.GradCAM(net, ["conv1", "conv2"], signed=signed).explain(X, 1)
    assert fused.layer == "conv1+conv2"
    assert fused.maps.shape == (7, 1, 8, 8)
    shallow, deep = (cc.GradCAM(net, layer, signed=signed).explain(X, 1).maps for layer in ("conv1", "conv2"))
    shallow = np.tanh(2 * shallow / np.abs(shallow).max((2, 3), keepdims=True))
    fine = torch.nn.functional.interpolate(torch.from_numpy(deep), (8, 8), mode="bilinear").numpy()
    fine = fine / np.abs(fine).max((2, 3), keepdims=True)
    expected = np.where(np.abs(fine) > np.abs(shallow), fine, shallow)
    np.testing.assert_allclose(fused.maps, expected, atol=1e-5)
    assert (fused.maps < 0).any() == signed


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("how", ["product", "mean"])
def test_fused_layers_are_the_product_or_the_mean_of_their_maps(how: str, signed: bool) -> None:
    net = seeded()
    fused = cc.GradCAM(net, ["conv1", "conv2"], signed=signed, fuse=how).explain(X, 1)
    shallow, deep = (cc.GradCAM(net, layer, signed=signed).explain(X, 1).maps for layer in ("conv1", "conv2"))
    fine = torch.nn.functional.interpolate(torch.from_numpy(deep), (8, 8), mode="bilinear").numpy()
    a, b = (m / np.abs(m).max((2, 3), keepdims=True) for m in (shallow, fine))
    expected = np.abs(a) * b * (a * b > 0) if how == "product" else (a + b) / 2
    np.testing.assert_allclose(fused.maps, expected, atol=1e-5)
    assert (fused.maps < 0).any() == signed
    (one,) = cc.explain(net, X, 1, layers=[["conv1", "conv2"]], signed=signed, fuse=how).values()
    same(one, fused)


def test_an_unknown_way_to_fuse_is_refused_before_the_model_runs() -> None:
    with pytest.raises(InputError) as error:
        cc.GradCAM(seeded(), ["conv1", "conv2"], fuse="avg")
    one_line(error, "no way to fuse maps `avg`", "max, product, mean")


@pytest.mark.parametrize(
    ("batch_size", "seen_sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (32, [7]), (None, [7])]
)
def test_batch_size_bounds_what_the_model_sees_and_changes_no_value(
    batch_size: int | None, seen_sizes: list[int]
) -> None:
    net = seeded()
    whole = cc.GradCAM(net, "conv2").explain(X)
    seen = batches_seen(net)
    found = cc.GradCAM(net, "conv2", batch_size=batch_size).explain(X)
    assert seen == seen_sizes
    same(found, whole)
    seen.clear()
    same(cc.GradCAM(net, batch_size=batch_size).explain(X), whole)  # also while the layer is looked for
    assert max(seen) <= (batch_size or 7)
    seen.clear()
    same(cc.explain(net, X, layers=["conv2"], batch_size=batch_size)["gradcam"], whole)
    assert seen == seen_sizes


def test_batch_size_is_32_unless_told_otherwise() -> None:
    net = seeded()
    seen = batches_seen(net)
    cc.GradCAM(net, "conv2").explain(torch.randn(70, 3, 8, 8))
    assert seen == [32, 32, 6]
    for wrong in (0, -1, 1.5, "2", b"2", True, float("nan"), []):
        with pytest.raises(InputError) as error:
            cc.GradCAM(net, batch_size=wrong)
        one_line(error, f"batch_size is {wrong}", "None")


def test_inputs_of_numpy_and_other_precisions() -> None:
    net = seeded()
    expected = cc.GradCAM(net).explain(X, 1)
    reversed_view = X.numpy()[::-1][::-1]
    for given in (
        X.numpy(),
        X.numpy().astype(np.float64),
        X.double(),
        reversed_view,
        X.requires_grad_(False),
    ):
        same(cc.GradCAM(net).explain(given, 1), expected)
    with pytest.raises(InputError) as error:
        cc.GradCAM(net).explain(np.array([["a", "b"]]), 1)
    one_line(error, "dtype <U1", "numbers")


class Waits(TorchDispatchMode):
    """Counts the numbers that are asked of tensors one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "equal", "nonzero")
        return func(*args, **(kwargs or {}))


def test_what_is_made_on_a_device_is_read_from_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    net[4].bias.data = torch.tensor([-5.0, 5.0, -5.0, 5.0])  # no probabilities, as two numbers say
    bound, x = cc.GradCAM(net.eval(), "1"), torch.randn(3, 3, 12, 12)
    expected = bound.explain(x, [0, 3, 1])
    reads: list[str] = []

    def watch(name: str) -> None:
        read = getattr(Tensor, name)

        def watched(x: Tensor, *args: Any, **options: Any) -> Any:
            reads.append(name)
            return read(x, *args, **options)

        monkeypatch.setattr(Tensor, name, watched)

    for name in ("numpy", "tolist", "cpu"):
        watch(name)
    # As if the memory of the tensors were a device's.
    monkeypatch.setattr(type(library(x)), "on_host", lambda *_: False)
    with Waits() as waits:
        found = bound.explain(x, [0, 3, 1])
    # Whether outputs may be probabilities and are what the mean of the layer makes them, the logits, all that
    # is made of the pass, and of its inputs the largest value and small copies.
    assert len(reads) + waits.count <= 6
    np.testing.assert_array_equal(found.maps, expected.maps)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.findings == expected.findings


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


def python_calls(run: Callable[[], object]) -> int:
    """Return how many functions written in Python are called."""
    calls: list[str] = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, arg: calls.append(event))
    try:
        run()
    finally:
        sys.setprofile(before)
    return calls.count("call")


def calls_beyond_the_forward_pass(blocks: int) -> int:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(Block() for _ in range(blocks)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    x, bound = torch.rand(1, 4, 6, 6), cc.GradCAM(net.eval(), str(blocks - 1))
    for _ in range(2):
        bound.explain(x, 0)
    with torch.no_grad():
        forward = python_calls(lambda: net(x))
    return python_calls(lambda: bound.explain(x, 0)) - forward


def test_the_next_call_takes_as_many_steps_for_many_modules_as_for_few() -> None:
    few, many = map(calls_beyond_the_forward_pass, (2, 40))
    assert many <= few + 2
    assert few <= 470  # of them some 20 where a hook of any model was seen to change what it sees
