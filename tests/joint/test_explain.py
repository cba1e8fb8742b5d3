"""The joint: one forward for all methods and layers, data sets, findings, and what an Explanation can do."""

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import chronocam as cc
from chronocam.errors import InputError, LayerError, MediaError, TargetError
from chronocam.explanation import concatenate
from chronocam.methods import METHODS
from chronocam.types import Finding, TargetInfo, note

X = torch.randn(7, 3, 16, 16, generator=torch.Generator().manual_seed(11))
Y = torch.tensor([0, 1, 2, 3, 4, 0, 1])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU()
        self.conv2, self.fc = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.relu(self.conv1(x))).tanh().mean((2, 3)))


def seeded(make: Callable[[], nn.Module] = Net) -> Any:
    torch.manual_seed(0)
    return make().eval()


def batches_seen(net: nn.Module) -> list[int]:
    seen: list[int] = []
    net.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


def same(a: cc.Explanation, b: cc.Explanation, tolerance: float = 1e-5) -> None:
    assert a.maps.shape == b.maps.shape
    scale = max(float(np.abs(b.maps).max()), 1e-12)
    np.testing.assert_allclose(a.maps, b.maps, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(a.scores, b.scores, rtol=1e-5, atol=1e-6)
    assert (a.targets, a.method, a.layer, a.input_size) == (b.targets, b.method, b.layer, b.input_size)


def one_line(error: pytest.ExceptionInfo[Exception], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# One forward for everything

ELSEWHERE = ["temporalmask", "rollout"]  # for clips, for transformers
AT_LAYER = [
    name for name, method in METHODS.items() if method.default_layer is None and name not in ELSEWHERE
]
AT_INPUT = [
    name for name, method in METHODS.items() if method.default_layer is not None and name not in ELSEWHERE
]
LOOK_AGAIN = ["smoothgrad", "smoothgradcam++"]


def once(names: list[str]) -> list[str]:
    """Leave out methods that look at changed inputs, and the one that needs another head."""
    return [name for name in names if name not in (*LOOK_AGAIN, "cam") and type_is_gradient(name)]


def type_is_gradient(name: str) -> bool:
    """Whether a method works from one recorded pass."""
    seen = batches_seen(net := seeded())
    METHODS[name](net, None if name in AT_INPUT else "conv2").explain(X[:1], 1)
    return seen == [1]


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


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.fc = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, 5)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.patches(x).flatten(2).mT).mean(1))


OTHER_NETS: dict[str, Callable[[], nn.Module]] = {
    "cam": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)),
    "temporalmask": lambda: nn.Sequential(
        nn.Conv3d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)
    ),
    "rollout": Attending,
}


@pytest.mark.parametrize("name", METHODS)
def test_each_method_equals_its_class(name: str) -> None:
    net = seeded(OTHER_NETS.get(name, Net))
    clips = name == "temporalmask"
    x, options = (X[:6].reshape(2, 3, 3, 16, 16), {"steps": 5}) if clips else (X[:2], {})
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
def test_fused_layers(signed: bool) -> None:
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
    for wrong in (0, -1):
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


# The default layer


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv2(self.conv1(x).relu())).relu()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.block1, self.block2 = Block(), Block()
        self.drop, self.keep = nn.Dropout2d(0.5), nn.Identity()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(16, 5)
        self.aside = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.keep(self.drop(self.block2(self.block1(self.stem(x)))))
        self.never_used = self.aside(x).shape
        return self.fc(self.pool(x).flatten(1))


def test_the_default_layer_is_the_last_that_counts_after_the_residual_add() -> None:
    assert cc.GradCAM(seeded(Residual)).explain(X).layer == "block2"
    for name in AT_LAYER:
        if name != "cam":
            assert METHODS[name](seeded(Residual)).explain(X[:1], 1).layer == "block2"
    for name in AT_INPUT:
        assert METHODS[name](seeded(Residual)).explain(X[:1], 1).layer == "input"


def test_the_default_layer_is_looked_for_once_and_with_two_samples() -> None:
    net = seeded()
    seen = batches_seen(net)
    method = cc.GradCAM(net)
    method.explain(X)
    assert seen == [2] * (len(seen) - 1) + [7]
    assert len(seen) > 1
    seen.clear()
    method.explain(X)
    cc.explain(net, X, methods=["gradcam", "layercam", "hirescam"])
    assert seen.count(7) == 2
    assert seen[0] == 7


def test_the_default_layer_of_a_dense_network_is_not_its_output() -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    assert cc.GradCAM(net).explain(X, cc.targets.Region((0, 0, 2, 2), 1)).layer == "1"


def test_without_any_grid_a_layer_must_be_named() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 9), nn.ReLU(), nn.Linear(9, 5)))
    with pytest.raises(LayerError) as error:
        cc.GradCAM(net).explain(X)
    one_line(error, "no layer of the model has a grid", "conv_layer=", "layout=")
    assert cc.Saliency(net).explain(X).maps.shape == (7, 1, 16, 16)


def test_resnet() -> None:
    resnet = seeded(pytest.importorskip("torchvision").models.resnet18)
    assert cc.GradCAM(resnet).explain(torch.randn(1, 3, 64, 64)).layer == "layer4"


# Data sets

NUMPY = X.numpy()
DATASETS: dict[str, Callable[[], Any]] = {
    "DataLoader": lambda: DataLoader(TensorDataset(X), batch_size=3),
    "DataLoader of tensors": lambda: DataLoader(X, batch_size=3),  # type: ignore[arg-type]
    "generator": lambda: (X[i : i + 3] for i in (0, 3, 6)),
    "list of batches": lambda: [X[:3], X[3:6], X[6:]],
    "list of arrays": lambda: [NUMPY[:3], NUMPY[3:6], NUMPY[6:]],
    "one-tuples": lambda: ((X[i : i + 3],) for i in (0, 3, 6)),
    "large batches": lambda: [X[:5], X[5:]],
}


@pytest.mark.parametrize("kind", DATASETS)
@pytest.mark.parametrize("targets", [None, 1, "per sample", "weights", "several"])
def test_data_sets_equal_one_array(kind: str, targets: Any) -> None:
    forms = {
        "per sample": Y.numpy(),
        "weights": np.eye(5)[Y],
        "several": [cc.targets.Class(1), cc.targets.Predicted()],
    }
    given = forms.get(targets, targets) if isinstance(targets, str) else targets
    net = seeded()
    method = cc.GradCAM(net, batch_size=3)
    expected = method.explain(X, given)
    same(method.explain(DATASETS[kind](), given), expected)
    parts = list(method.explain_batches(DATASETS[kind](), given))
    assert [len(part) for part in parts] == ([3, 2, 2] if kind == "large batches" else [3, 3, 1])
    same(concatenate(parts), expected)
    same(cc.explain(net, DATASETS[kind](), given, batch_size=3)["gradcam"], expected)


PAIRS: dict[str, Callable[[], Any]] = {
    "DataLoader": lambda: DataLoader(TensorDataset(X, Y), batch_size=3),
    "generator": lambda: ((X[i : i + 3], Y[i : i + 3].tolist()) for i in (0, 3, 6)),
    "one-hot": lambda: [(X[:5], np.eye(5)[Y[:5]]), (X[5:], np.eye(5)[Y[5:]])],
}


@pytest.mark.parametrize("kind", PAIRS)
def test_data_sets_that_carry_their_targets(kind: str) -> None:
    net = seeded()
    expected = cc.GradCAM(net).explain(X, Y)
    for batch_size in (2, 32):
        same(cc.GradCAM(net, batch_size=batch_size).explain(PAIRS[kind](), None), expected)
    other = cc.GradCAM(net).explain(X, (Y + 1) % 5)
    same(cc.GradCAM(net).explain(PAIRS[kind](), (Y + 1) % 5), other)  # targets given go before those carried
    same(cc.GradCAM(net).explain(PAIRS[kind](), 2), cc.GradCAM(net).explain(X, 2))


def test_several_inputs_in_a_data_set() -> None:
    class Two(Net):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return super().forward(x) * scale

    net, scale = seeded(Two), torch.linspace(1, 2, 7)[:, None]
    expected = cc.GradCAM(net).explain((X, scale), Y)
    pairs = [((X[:4], scale[:4]), Y[:4]), ((X[4:], scale[4:]), Y[4:])]
    same(cc.GradCAM(net, batch_size=2).explain(pairs), expected)
    named = [{"x": X[:4], "scale": scale[:4]}, {"x": X[4:], "scale": scale[4:]}]
    same(cc.GradCAM(net).explain(named, Y), expected)


@pytest.mark.parametrize("wrong", [Y[:6], Y[:2].tolist(), np.eye(5)[Y[:6]], np.zeros((2, 3), int)])
def test_too_few_targets_for_a_data_set(wrong: Any) -> None:
    with pytest.raises(TargetError) as error:
        cc.GradCAM(seeded()).explain(DATASETS["generator"](), wrong)
    one_line(error, "rows")


@pytest.mark.parametrize("wrong", [torch.zeros(8, dtype=torch.long), np.zeros((9, 5)), [0] * 8])
def test_too_many_targets_for_a_data_set(wrong: Any) -> None:
    with pytest.raises(TargetError) as error:
        cc.GradCAM(seeded()).explain(DATASETS["generator"](), wrong)
    one_line(error, "7 samples", f"{len(wrong)}")


def test_wrong_targets_in_a_pair() -> None:
    with pytest.raises(TargetError) as error:
        cc.GradCAM(seeded()).explain([(X[:3], Y[:2])])
    one_line(error, "length 2", "expected 3")


def test_a_data_set_is_consumed_one_batch_at_a_time_and_let_go() -> None:
    drawn: list[weakref.ref[Tensor]] = []

    def source() -> Iterator[Tensor]:
        for _ in range(6):
            batch = torch.randn(2, 3, 16, 16)
            drawn.append(weakref.ref(batch))
            yield batch
            del batch

    results = cc.GradCAM(seeded(), "conv2").explain_batches(source())
    assert not drawn
    for count in range(1, 7):
        explanation = next(results)
        assert len(explanation) == 2
        assert len(drawn) == count
        gc.collect()
        assert sum(ref() is not None for ref in drawn) <= 1
    assert next(results, None) is None


def test_batches_of_different_grids_are_explained_batch_by_batch() -> None:
    dataset = [X[:2], X[2:4, :, :, :12], X[4:6, :, :8]]
    method = cc.GradCAM(seeded(), "conv2")
    parts = list(method.explain_batches(dataset))
    assert [part.maps.shape for part in parts] == [(2, 1, 4, 4), (2, 1, 4, 3), (2, 1, 2, 4)]
    assert [part.input_size for part in parts] == [(16, 16), (16, 12), (8, 16)]
    for part, batch in zip(parts, dataset, strict=True):
        same(part, method.explain(batch))
    with pytest.raises(InputError) as error:
        method.explain(dataset)
    one_line(error, "(16, 16)", "(16, 12)", "explain_batches")


# What is refused


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (X[0], ["(3, 16, 16)", "batch", "inputs[None]"]),
        (X[0].numpy(), ["(3, 16, 16)", "inputs[None]"]),
        (X[0, 0, 0], ["(16,)", "(batch, …)"]),
        (torch.tensor(3.0), ["()", "(batch, …)"]),
        (X[:0], ["(0, 3, 16, 16)", "at least one sample"]),
        (X[:, :, :0], ["(7, 3, 0, 16)", "at least one sample"]),
        ([], ["no batch"]),
        ((), ["tuple holds no array"]),
        ({}, ["dict holds no array"]),
        ([()], ["holds no array"]),
        ("cat.jpg", ["a str"]),
        (3, ["a int"]),
        (None, ["a NoneType"]),
    ],
)
def test_inputs_that_are_refused(inputs: Any, words: list[str]) -> None:
    for explain in (cc.GradCAM(seeded(), "conv2").explain, lambda given: cc.explain(seeded(), given)):
        with pytest.raises(InputError) as error:
            explain(inputs)
        one_line(error, *words)


def test_unbatched_signals_and_clips_are_refused() -> None:
    for conv, shape in ((nn.Conv1d, (2, 30)), (nn.Conv3d, (2, 4, 8, 8))):
        net = seeded(lambda conv=conv: nn.Sequential(conv(2, 3, 3), nn.Flatten(), nn.LazyLinear(4)))
        net(torch.zeros(1, *shape))
        with pytest.raises(InputError) as error:
            cc.GradCAM(net, "0").explain(torch.zeros(shape), 1)
        one_line(error, str(shape), "inputs[None]")
        assert len(cc.GradCAM(net, "0").explain(torch.zeros(2, *shape), 1)) == 2


def test_unequal_inputs_are_not_cut_but_given_whole() -> None:
    class Shared(Net):
        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            assert table.shape == (3, 5)
            return super().forward(x) + table.sum(0)

    net = seeded(Shared)
    for batch_size in (2, None):
        found = cc.GradCAM(net, "conv2", batch_size=batch_size).explain((X, torch.ones(3, 5)), 1)
        np.testing.assert_allclose(found.scores[:, 0], (Net.forward(net, X)[:, 1] + 3).detach(), rtol=1e-5)


# Findings


def test_findings() -> None:
    net = seeded()
    assert cc.GradCAM(net, "conv2", signed=True).explain(X, 1).diagnostics == ()

    net.fc.weight.data[1] = 0
    found = cc.GradCAM(net, "conv2").explain(X[:2], 1)
    assert not found.maps.any()
    assert found.diagnostics == tuple(
        f"sample {i}, class 1: the map is zero everywhere: activations or gradients vanish at `conv2`"
        for i in range(2)
    )
    two = cc.GradCAM(net, "conv2", batch_size=2, signed=True).explain(
        X[:5], [cc.targets.Class(0), cc.targets.Class(1)]
    )
    assert [finding.split(":")[0] for finding in two.diagnostics] == [
        f"sample {i}, class 1" for i in range(5)
    ]

    positive = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    positive.append(nn.Linear(4, 2))
    positive[4].weight.data = -torch.ones(2, 4)
    found = cc.GradCAM(positive, "1").explain(X[:1], 1)
    assert not found.maps.any()
    (finding,) = found.diagnostics
    assert finding.startswith(
        "sample 0, class 1: all weighted sums are negative: evidence at `1` lowers this score"
    )
    assert "signed=True" in finding
    assert cc.GradCAM(positive, "1", signed=True).explain(X[:1], 1).diagnostics == ()


@pytest.mark.parametrize("what", ["weights", "inputs"])
def test_findings_on_values_that_are_not_finite(what: str) -> None:
    net, x = seeded(), X[:3].clone()
    if what == "weights":
        net.fc.weight.data[1, 0] = float("nan")
        bad = [0, 1, 2]
    else:
        x[1, 0, 0, 0] = float("inf")
        bad = [1]
    for name in ("gradcam", "layercam", "saliency"):
        found = METHODS[name](net).explain(x, 1)
        flagged = [finding for finding in found.diagnostics if "not finite" in finding]
        assert [f"sample {i}, class 1" for i in bad] == [finding.split(":")[0] for finding in flagged], name
        clean = METHODS[name](net).explain(x, 1)
        good = [i for i in range(3) if i not in bad]
        np.testing.assert_array_equal(found.maps[good], clean.maps[good])
        assert np.isfinite(found.maps[good]).all()


def test_findings_of_all_batches_are_kept_once() -> None:
    class Twice(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.relu(self.conv2(self.relu(self.conv1(x)))).mean((2, 3)))

    assert cc.GradCAM(seeded(Twice)).explain(X).layer == "relu"  # its last call is the last to finish
    found = cc.GradCAM(seeded(Twice), "relu", batch_size=2, signed=True).explain(X, 1)
    assert found.diagnostics == (
        "layer `relu` is called 2 times; its last call is explained (`relu#0` is the first)",
    )


# What an Explanation can do


def explanation(maps: Any, **changes: Any) -> cc.Explanation:
    maps = np.asarray(maps, dtype=np.float32)
    batch, target = maps.shape[:2]
    names = tuple(tuple(TargetInfo(f"class {k}", k) for k in range(target)) for _ in range(batch))
    scores = np.arange(batch * target, dtype=np.float32).reshape(batch, target)
    size = tuple(4 * n for n in maps.shape[2:])
    return replace(cc.Explanation(maps, scores, names, "gradcam", "layer4", size), **changes)


def blob(batch: int = 1, target: int = 1, at: tuple[int, int] = (1, 2)) -> np.ndarray:
    """Maps of 4 × 6 cells that are zero but for one."""
    maps = np.zeros((batch, target, 4, 6), np.float32)
    maps[:, :, at[0], at[1]] = 2.0
    return maps


RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("grid", "dims"),
    [((5,), ("width",)), ((3, 4), ("height", "width")), ((2, 3, 4), ("time", "height", "width"))],
)
def test_dims_length_and_words(grid: tuple[int, ...], dims: tuple[str, ...]) -> None:
    e = explanation(RNG.random((2, 3, *grid)))
    assert e.dims == ("batch", "target", *dims)
    assert len(e) == 2
    assert "gradcam at layer4" in repr(e)
    assert "2 samples, 3 targets" in repr(e)
    assert " × ".join(map(str, grid)) in repr(e)


def test_an_explanation_is_frozen() -> None:
    e = explanation(blob())
    for field in fields(e):
        with pytest.raises(FrozenInstanceError):
            setattr(e, field.name, None)


def test_upsample() -> None:
    e = explanation(RNG.normal(size=(2, 2, 3, 5)))
    assert e.upsample().shape == (2, 2, 12, 20)
    np.testing.assert_array_equal(e.upsample(mode="nearest"), e.maps.repeat(4, axis=2).repeat(4, axis=3))
    np.testing.assert_array_equal(e.upsample(), e.upsample(mode="cubic"))
    np.testing.assert_array_equal(e.upsample(size=(3, 5), mode="linear"), e.maps)
    assert np.abs(e.upsample(mode="linear") - e.upsample(mode="cubic")).max() > 0.01
    assert e.upsample((7, 9)).shape == (2, 2, 7, 9)
    torch_linear = torch.nn.functional.interpolate(torch.from_numpy(e.maps), (12, 20), mode="bilinear")
    np.testing.assert_allclose(e.upsample(mode="linear"), torch_linear, atol=1e-5)
    low, high = e.maps.min((2, 3), keepdims=True), e.maps.max((2, 3), keepdims=True)
    assert (e.upsample() >= low).all()
    assert (e.upsample() <= high).all()
    clip = explanation(RNG.random((1, 1, 2, 3, 4)))
    np.testing.assert_array_equal(clip.upsample(), clip.upsample(mode="linear"))
    for wrong in ((4,), (4, 5, 6)):
        with pytest.raises(InputError) as error:
            e.upsample(wrong)
        one_line(error, str(wrong))


def test_upsample_obeys_the_centres_of_the_cells() -> None:
    e = explanation(blob(at=(1, 2)), centers=((0.0, 4.0, 8.0, 12.0), tuple(4.0 * i for i in range(6))))
    peak = e.upsample(mode="linear")[0, 0]
    assert np.unravel_index(peak.argmax(), peak.shape) == (4, 8)
    doubled = e.upsample((32, 48), mode="linear")[0, 0]
    np.testing.assert_allclose(doubled[8], doubled[9], rtol=1e-5)  # the cell's centre lies between them
    np.testing.assert_allclose(doubled[:, 16], doubled[:, 17], rtol=1e-5)
    assert doubled[8:10, 16:18].min() == doubled.max() > 1.5
    assert e.upsample(mode="linear").argmax() != replace(e, centers=None).upsample(mode="linear").argmax()


def test_normalize() -> None:
    maps = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    e = explanation(maps)
    low, high = maps.min((1, 2, 3), keepdims=True), maps.max((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(e.normalize(), (maps - low) / (high - low), atol=1e-6)
    np.testing.assert_array_equal(e.normalize("sample"), e.normalize())
    np.testing.assert_allclose(
        e.normalize("batch"), (maps - maps.min()) / (maps.max() - maps.min()), atol=1e-6
    )
    np.testing.assert_allclose(e.normalize((-1.0, 3.0)), ((maps + 1) / 4).clip(0, 1), atol=1e-6)
    assert not explanation(np.zeros((1, 1, 2, 2))).normalize().any()
    clip = RNG.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    low, high = clip.min((1, 3, 4), keepdims=True), clip.max((1, 3, 4), keepdims=True)
    np.testing.assert_allclose(explanation(clip).normalize("frame"), (clip - low) / (high - low), atol=1e-6)
    for scope, words in (("frame", "(batch, target, time, height, width)"), ((1.0, 1.0), "low < high")):
        with pytest.raises(InputError) as error:
            e.normalize(scope)
        one_line(error, words)
    np.testing.assert_array_equal(e.maps, maps)


def test_boxes() -> None:
    maps = np.concatenate([blob(target=2, at=(1, 2)), np.zeros((1, 2, 4, 6), np.float32)])
    maps[0, 1, 3, 5] = 1.9
    e = explanation(maps, input_size=(16, 24))
    found = e.boxes(threshold=0.9)
    assert found[1] == [[], []]
    ((box,), (largest,)) = found[0]
    mask = e.upsample()[0, 0] >= 0.9 * 2
    rows, columns = np.nonzero(mask)
    assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert 8 <= box[0] < box[2] <= 12
    assert 4 <= box[1] < box[3] <= 8
    every = e.boxes(threshold=0.5, largest=False)[0][1]
    assert len(every) == 2
    assert largest in e.boxes(threshold=0.9, largest=False)[0][1]
    whole = e.boxes(threshold=0.15)[0][0][0]
    assert whole[0] < box[0]
    assert whole[3] > box[3]
    for wrong in (0, 1.5):
        with pytest.raises(InputError, match="threshold"):
            e.boxes(threshold=float(wrong))


def test_as_an_array() -> None:
    one, two = explanation(RNG.random((2, 1, 3, 4))), explanation(RNG.random((2, 2, 3, 4)))
    np.testing.assert_array_equal(np.asarray(one), one.upsample()[:, 0])
    np.testing.assert_array_equal(np.asarray(two), two.upsample())
    assert np.asarray(one).shape == (2, 12, 16)
    assert np.asarray(one).dtype == np.float32
    assert np.asarray(one, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.array(one, copy=True), one.upsample()[:, 0])
    assert float(np.max(one)) == one.upsample().max()


# Saving and loading


FULL = explanation(
    RNG.normal(size=(2, 2, 2, 3, 4)),
    targets=(
        (TargetInfo("tabby, „Katze“ 猫", 281), TargetInfo("−output 3", None)),
        (TargetInfo("a\nb", 0), TargetInfo("", None)),
    ),
    method="gradcam++",
    layer="layer3+layer4",
    input_size=(16, 12, 16),
    centers=((0.0, 8.0), (1.5, 5.5, 9.5), (0.1, 4.1, 8.1, 12.1)),
    frame_spans=((0, 7), (8, 15)),
    findings=(Finding("zero map", 0, "cat", "sample 0: something"), note("äöü")),
)


@pytest.mark.parametrize("e", [FULL, explanation(blob()), explanation(RNG.normal(size=(1, 3, 5)))])
def test_npz_keeps_everything(e: cc.Explanation, tmp_path: Path) -> None:
    path = e.save(tmp_path / "new" / "folder" / "map.npz")
    assert [p.name for p in path.parent.iterdir()] == ["map.npz"]
    back = cc.load(path)
    for field in fields(cc.Explanation):
        before, after = getattr(e, field.name), getattr(back, field.name)
        assert type(after) is type(before), field.name
        if isinstance(before, np.ndarray):
            assert after.dtype == before.dtype
            np.testing.assert_array_equal(after, before)
        else:
            assert after == before, field.name
    np.testing.assert_array_equal(back.upsample(), e.upsample())
    assert cc.load(str(path)).dims == e.dims
    assert hash(back.targets) == hash(e.targets)


def test_npz_of_real_explanations(tmp_path: Path) -> None:
    targets = [cc.targets.Class(np.int64(2)), cc.targets.Regression(np.int32(1)), lambda out: out[:, 0]]
    e = cc.GradCAM(seeded(), ["conv1", "conv2"]).explain(X, targets)
    back = cc.load(e.save(tmp_path / "a.npz"))
    same(back, e, 0)
    nan = replace(e, maps=np.full_like(e.maps, np.nan), scores=np.full_like(e.scores, np.inf))
    back = cc.load(nan.save(tmp_path / "a.npz"))  # over the first
    assert np.isnan(back.maps).all()
    assert np.isinf(back.scores).all()


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def test_files_that_are_no_explanation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = explanation(blob()).save(tmp_path / "good.npz")
    with np.load(good) as file:
        parts = dict(file)
    header = json.loads(str(parts["header"]))
    objects = np.empty(1, dtype=object)
    objects[0] = Bomb()

    def written(name: str, **changes: Any) -> Path:
        np.savez(tmp_path / name, **(parts | changes))
        return tmp_path / name

    bad = [
        written("pickle.npz", maps=objects),
        written("pickled header.npz", header=objects),
        written("no json.npz", header=np.asarray("{")),
        written(
            "other format.npz", header=np.asarray(json.dumps(header | {"format": "chronocam explanation 99"}))
        ),
        written("unknown field.npz", header=np.asarray(json.dumps(header | {"surprise": 1}))),
        written(
            "no targets.npz",
            header=np.asarray(json.dumps({k: v for k, v in header.items() if k != "targets"})),
        ),
        written("list.npz", header=np.asarray("[1]")),
    ]
    (tmp_path / "text.npz").write_text("not a zip")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:-200])
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    bad += [tmp_path / name for name in ("text.npz", "empty.npz", "cut.npz", "other.npz", "array.npy")]
    for path in bad:
        with pytest.raises(MediaError) as error:
            cc.load(path)
        one_line(error, path.name, "Explanation.save")
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(MediaError) as error:
        cc.load(tmp_path / "missing.npz")
    one_line(error, "no file", "missing.npz")


def test_places_and_suffixes_that_cannot_be_written(tmp_path: Path) -> None:
    e = explanation(blob())
    for name in ("map.bmp", "map", "map.npy"):
        with pytest.raises(MediaError) as error:
            e.save(tmp_path / name)
        one_line(error, f"`{name}`", ".npz", ".png")
    (tmp_path / "file").write_text("")
    for suffix in (".npz", ".png"):
        with pytest.raises(MediaError) as error:
            e.save(tmp_path / "file" / f"map{suffix}")
        one_line(error, "cannot write", "another place")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# Pictures

GREY = np.full((1, 16, 24, 3), 128, np.uint8)


def test_an_overlay_colours_only_where_the_map_is() -> None:
    e = explanation(blob(at=(1, 2)), input_size=(16, 24))
    ((picture,),) = e.overlay(GREY)
    assert picture.shape == (16, 24, 3)
    assert picture.dtype == np.uint8
    changed = (picture != 128).any(2)
    strength = e.upsample()[0, 0] / 2
    assert changed[4:8, 8:12].all()
    assert not changed[strength < 1e-6].any()
    assert changed.sum() < changed.size / 2
    moved = explanation(blob(at=(3, 5)), input_size=(16, 24)).overlay(GREY)[0][0]
    assert (moved[12:, 20:] != 128).any(2).all()
    assert (moved[4:8, 8:12] == 128).all()
    from matplotlib import colormaps

    row, column = np.unravel_index(strength.argmax(), strength.shape)
    opacity = 0.7 * strength[row, column]
    expected = (1 - opacity) * 128 + opacity * 255 * np.array(colormaps["inferno"](strength[row, column])[:3])
    np.testing.assert_allclose(picture[row, column], expected, atol=1)


def test_overlay_options_change_the_pixels() -> None:
    maps = np.concatenate([blob(), blob() / 4])
    e, pictures = explanation(maps, input_size=(16, 24)), GREY.repeat(2, axis=0)
    base = np.stack([row[0] for row in e.overlay(pictures)])
    np.testing.assert_array_equal(base[0], base[1])  # each sample has its own scale
    np.testing.assert_array_equal(e.overlay(pictures, alpha=0.0)[0][0], GREY[0])
    for options in ({"cmap": "jet"}, {"alpha": 0.2}, {"scope": "batch"}, {"scope": (0.0, 4.0)}):
        other = np.stack([row[0] for row in e.overlay(pictures, **options)])
        assert np.abs(other.astype(int) - base).max() > 20, options
    batch = e.overlay(pictures, scope="batch")
    assert np.abs(batch[1][0].astype(int) - 128).max() < np.abs(batch[0][0].astype(int) - 128).max()
    with pytest.raises(InputError, match="no colour map `jett`"):
        e.overlay(pictures, cmap="jett")


def test_targets_of_a_sample_share_one_scale() -> None:
    maps = blob(target=2)
    maps[0, 1] /= 4
    strong, weak = explanation(maps, input_size=(16, 24)).overlay(GREY)[0]
    assert np.abs(strong.astype(int) - 128).max() > np.abs(weak.astype(int) - 128).max() > 5


def test_signed_maps_are_drawn_in_two_colours() -> None:
    maps = blob(at=(1, 1))
    maps[0, 0, 3, 4] = -2
    ((picture,),) = explanation(maps, input_size=(16, 24)).overlay(GREY)
    up, down = picture[5:7, 5:7].mean((0, 1)), picture[13:15, 17:19].mean((0, 1))
    assert up[0] > up[2] + 20  # red
    assert down[2] > down[0] + 20  # blue


def test_pictures_in_many_forms() -> None:
    e = explanation(blob(batch=2), input_size=(16, 24))
    pictures = RNG.integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    expected = np.stack([row[0] for row in e.overlay(pictures)])
    floats = torch.from_numpy(pictures / 255).float()
    for given in (
        list(pictures),
        [Image.fromarray(p) for p in pictures],
        np.moveaxis(pictures, -1, 1),
        torch.from_numpy(pictures),
        floats,
        floats.permute(0, 3, 1, 2),
    ):
        found = np.stack([row[0] for row in e.overlay(given)])
        assert np.abs(found.astype(int) - expected).max() <= 1
    large = e.overlay([Image.fromarray(p).resize((48, 40)) for p in pictures])
    assert large[0][0].shape == (40, 48, 3)
    assert (
        (large[0][0] != np.asarray(Image.fromarray(pictures[0]).resize((48, 40)))).any(2)[12:18, 18:22].all()
    )


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (GREY.repeat(3, axis=0), ["3 images for 2 samples"]),
        (Image.fromarray(GREY[0]), ["batch"]),
        (np.zeros((2, 16, 24, 5)), ["(16, 24, 5)", "(height, width, 3)"]),
        ("cat.jpg", ["a str", "batch"]),
    ],
)
def test_pictures_that_do_not_fit(inputs: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        explanation(blob(batch=2)).overlay(inputs)
    one_line(error, *words)


def test_maps_of_other_ranks_are_not_drawn_as_images() -> None:
    for grid in ((5,),):
        e = explanation(RNG.random((1, 1, *grid)))
        for draw in (lambda e=e: e.overlay(GREY), lambda e=e: e.plot(), lambda e=e: e.plot(GREY)):
            with pytest.raises(InputError) as error:
                draw()
            one_line(error, "dims", "upsample()")


def test_plot_shows_every_sample_and_target() -> None:
    maps = RNG.random((2, 3, 4, 6))
    e = explanation(maps, input_size=(16, 24))
    pictures = RNG.integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    figure = e.plot(pictures)
    shown = [axis.images[0].get_array() for axis in figure.axes]
    expected = [picture for row in e.overlay(pictures) for picture in row]
    assert len(shown) == 6
    for one, other in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [f"class {k}\n{3 * i + k:.3g}" for i in range(2) for k in range(3)]
    assert "gradcam at layer4" in figure.get_suptitle()
    bare = [axis.images[0].get_array() for axis in e.plot().axes]
    for one, other in zip(bare, e.upsample().reshape(6, 16, 24), strict=True):
        np.testing.assert_allclose(one, other)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".PNG"])
def test_saved_pictures_depend_on_the_map(suffix: str, tmp_path: Path) -> None:
    pixels = []
    for at in ((0, 0), (3, 5)):
        e = explanation(blob(at=at), input_size=(16, 24))
        path = e.save(tmp_path / f"{at[0]}{suffix}", GREY)
        pixels.append(np.asarray(Image.open(path).convert("RGB")).astype(int))
    difference = np.abs(pixels[0] - pixels[1]).sum(2)
    height, width = difference.shape
    assert difference[: height // 2, : width // 2].max() > 60
    assert difference[height // 2 :, width // 2 :].max() > 60
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"0{suffix}", f"3{suffix}"]


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_saved_vector_graphics(suffix: str, tmp_path: Path) -> None:
    path = explanation(blob()).save(tmp_path / f"map{suffix}", GREY)
    assert path.read_bytes()[:5] in (b"%PDF-", b"<?xml")


def test_names_with_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    e = explanation(blob(), targets=((TargetInfo("$\\frac{", 0),),))
    assert e.save(tmp_path / "map.png").exists()
    assert "$\\frac{" in e.plot().axes[0].get_title()


def test_to_xarray() -> None:
    pytest.importorskip("xarray")
    e = explanation(RNG.random((2, 1, 2, 3, 4)), centers=((0.0, 8.0), (0.0, 4.0, 8.0), (0.0, 4.0, 8.0, 12.0)))
    array = e.to_xarray()
    assert array.dims == e.dims
    np.testing.assert_array_equal(array.values, e.maps)
    assert array.coords["time"].values.tolist() == [0.0, 8.0]
    assert array.coords["width"].values.tolist() == [0.0, 4.0, 8.0, 12.0]
    assert (array.attrs["method"], array.attrs["layer"], array.attrs["input_size"]) == (
        "gradcam",
        "layer4",
        (8, 12, 16),
    )
    assert float(array.sel(time=8.0, height=4.0, width=0.0)[0, 0]) == e.maps[0, 0, 1, 1, 0]


def test_findings_say_what_they_are_about() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2)).eval()
    x = torch.rand(3, 3, 6, 6)
    net(x)
    flat = nn.Sequential(net[0], nn.Threshold(1e9, 0.0), *net[1:])
    found = cc.GradCAM(flat, "1").explain(x, [cc.targets.Class(0), cc.targets.Class(1)])
    assert [(f.kind, f.sample, f.target) for f in found.findings] == [
        ("zero map", sample, f"class {k}") for sample in range(3) for k in range(2)
    ]
    assert found.diagnostics == tuple(f.text for f in found.findings)
    assert str(found.findings[0]) == found.diagnostics[0]


def test_files_with_diagnostics_in_words_alone_still_load(tmp_path: Path) -> None:
    path = explanation(blob(), findings=(Finding("zero map", 0, "cat", "all zero"),)).save(tmp_path / "x.npz")
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    header["diagnostics"] = [finding[-1] for finding in header.pop("findings")]
    np.savez_compressed(path, **{**arrays, "header": np.asarray(json.dumps(header))})
    assert cc.load(path).findings == (note("all zero"),)


def test_what_few_need_is_named() -> None:
    with pytest.raises(TypeError):
        cc.Explanation(blob(), np.ones((1, 1)), ((TargetInfo("a"),),), "gradcam", "conv", (8, 8), None)


# Joining


def test_concatenate() -> None:
    a, b = (
        explanation(blob(), findings=(note("x"), note("y"))),
        explanation(blob(batch=2) * 3, findings=(note("y"), note("z"))),
    )
    joined = concatenate([a, b])
    np.testing.assert_array_equal(joined.maps, np.concatenate([a.maps, b.maps]))
    np.testing.assert_array_equal(joined.scores, np.concatenate([a.scores, b.scores]))
    assert joined.targets == a.targets + b.targets
    assert joined.diagnostics == ("x", "y", "z")
    for other in (
        explanation(np.zeros((1, 1, 4, 5))),
        explanation(blob(target=2)),
        replace(a, input_size=(8, 8)),
    ):
        with pytest.raises(InputError) as error:
            concatenate([a, other])
        one_line(error, "explain_batches")


def test_the_default_layer_of_a_model_with_an_input_without_batch_axis() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            assert scale.shape == (3, 1, 1)
            return self.fc(self.conv(x * scale).relu().mean((2, 3)))

    x, scale = torch.randn(4, 3, 16, 16), torch.rand(3, 1, 1)
    assert cc.GradCAM(seeded(Scaled)).explain((x, scale), 1).layer == "conv"
