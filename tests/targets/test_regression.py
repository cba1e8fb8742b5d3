"""Targets of regression in closed form, which columns keep signs, and when a gradient is next to nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import TargetError
from chronocam.joint.passes.diagnose import first_order
from chronocam.targets import (
    Class,
    Counter,
    Deviation,
    NegativeLoss,
    Norm,
    Predicted,
    Region,
    Regression,
    Towards,
    parse,
)
from chronocam.types import Capture, Outputs, Scored, Target

Y = np.array([[1.0, -2.0, 2.0], [4.0, 0.0, -3.0]])
NAMES = ["tx", "ty", "tz"]


def scored(target: Target, y: Any = Y, rows: slice | None = None, labels: list[str] | None = None) -> Scored:
    return target(Outputs(y, lambda: y, rows or slice(0, len(y)), labels))


def values(target: Target, y: Any = Y, **options: Any) -> list[float]:
    return [float(value) for value in scored(target, y, **options).values[:, 0]]


def name(target: Target, **options: Any) -> list[str]:
    return [str(row[0]) for row in scored(target, **options).infos]


def refused(target: Target, *words: str, y: Any = Y) -> None:
    with pytest.raises(TargetError) as error:
        scored(target, y)
    assert all(word in str(error.value) for word in words), str(error.value)


# The scores


@pytest.mark.parametrize("as_array", [np.asarray, torch.tensor])
def test_towards_and_away_from_a_value(as_array: Any) -> None:
    y = as_array(Y)
    assert values(Towards(1.5, 0), y) == [-0.5, -2.5]
    assert values(Deviation(1.5, 0), y) == [0.5, 2.5]
    assert values(Towards(1), y[:, 0]) == [0, -3]
    assert values(Towards([1.0, 5.0], 0), y) == [0, -1]
    assert values(Deviation(as_array([1.0, 5.0]), 0), y) == [0, 1]
    assert values(Deviation(np.float32(2), "tz"), y, labels=NAMES) == [0, 5]
    assert values(Counter(Towards(1.5, 0)), y) == values(Deviation(1.5, 0), y)


def test_each_sample_of_the_call_has_its_own_value() -> None:
    given = np.array([9.0, 9.0, 2.0, 3.0])
    assert values(Towards(given, 0), rows=slice(2, 4)) == [-1, -1]
    assert name(Towards(given, 0), rows=slice(2, 4)) == ["output 0 towards 2", "output 0 towards 3"]
    assert name(Deviation(0.25, 2), labels=NAMES) == ["tz away from 0.25"] * 2


def test_the_gradient_points_at_the_value_from_either_side() -> None:
    y = torch.tensor([[1.0], [3.0], [2.0]], requires_grad=True)
    scored(Towards(2.0), y).values.sum().backward()
    assert y.grad is not None
    assert y.grad[:, 0].tolist() == [1, -1, 0]


def test_norm_of_some_outputs() -> None:
    assert values(Norm()) == [3, 5]
    assert values(Norm([0, 1])) == pytest.approx([5**0.5, 4])
    assert values(Norm(["tz", 0]), labels=NAMES) == pytest.approx([5**0.5, 5])
    assert name(Norm(["tx", 2]), labels=NAMES) == ["norm of tx, tz"] * 2
    assert name(Norm()) == ["norm of the outputs"] * 2
    assert values(Norm([1]), torch.tensor(Y)) == [2, 0]


def test_norm_has_a_gradient_where_all_is_zero() -> None:
    y = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    scored(Norm(), y).values.sum().backward()
    assert y.grad is not None
    torch.testing.assert_close(y.grad, torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


def test_a_region_of_one_pixel() -> None:
    dense = np.arange(24.0).reshape(1, 2, 3, 4)
    for where in [(3, 1), np.array([3, 1]), torch.tensor([3, 1])]:
        assert values(Region(where, 1), dense) == [dense[0, 1, 1, 3]]
    assert values(Region((3, 1), 1), dense) == values(Region((3, 1, 4, 2), 1), dense)
    mask = np.zeros((3, 4), bool)
    mask[1, 3] = True
    assert values(Region(mask, 1), dense) == values(Region((3, 1), 1), dense)
    assert str(scored(Region((3, 1), 1), dense, labels=["a", "b"]).infos[0][0]) == "pixel (3, 1) of b"
    for pixel in [(4, 0), (0, 3), (-1, 0)]:
        refused(Region(pixel, 0), f"pixel {pixel}", "4 × 3", y=dense)


@pytest.mark.parametrize("kind", [Towards, Deviation])
def test_values_that_do_not_fit(kind: Any) -> None:
    refused(kind(1.0), "3 outputs", f"{kind.__name__}(…, index=0)")
    refused(kind(1.0, 7), "no class 7")
    refused(kind([1.0], 0), "the value has 1 rows", "at least 2")
    refused(kind([[1.0], [2.0]], 0), "shape (2, 1)", "one per sample")
    refused(kind(float("nan"), 0), "finite")


def test_norms_that_do_not_fit() -> None:
    refused(Norm([]), "indices is []", "Norm([0, 1, 2])")
    refused(Norm("tx"), "indices is 'tx'")
    refused(Norm([5]), "no class 5")


# Signs


class Small(nn.Module):
    """Two convolutions, the mean over the grid, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU()
        )
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("target", [Towards(0.3, 0), Deviation([0.3, -9.0], 1), Norm([0, 2]), Norm()])
def test_signs_are_kept(target: Any) -> None:
    net = Small()
    found = cc.GradCAM(net, "body").explain(X, target).maps
    np.testing.assert_array_equal(found, cc.GradCAM(net, "body", signed=True).explain(X, target).maps)
    assert (found < 0).any()


def test_the_map_towards_a_value_is_that_of_the_output_with_its_sign() -> None:
    net = Small()
    y = net(X).detach()[:, 0]
    plain = cc.GradCAM(net, "body").explain(X, Regression(0)).maps
    target = torch.stack([y[0] + 1, y[1] - 1])
    found = cc.GradCAM(net, "body").explain(X, [Towards(target, 0), Deviation(target, 0)]).maps
    np.testing.assert_allclose(found[:, :1], plain * np.array([1, -1]).reshape(2, 1, 1, 1), atol=1e-7)
    np.testing.assert_allclose(found[:, 1:], -found[:, :1], atol=1e-7)


@pytest.mark.parametrize("layers", ["body", ["body.1", "body"]])
@pytest.mark.parametrize(
    ("targets", "signs"),
    [
        ([Regression(0), 1], [True, False]),
        ([1, Regression(0), lambda out: out[:, 2], Norm()], [False, True, False, True]),
        ([Predicted(2), Regression(1, -1)], [False, False, True]),
        ([0, Class(1)], [False, False]),
        ([Regression(0), Towards(2.0, 1)], [True, True]),
    ],
)
def test_each_target_of_a_list_has_its_own_signs(layers: Any, targets: list[Any], signs: list[bool]) -> None:
    net = Small()
    both = cc.GradCAM(net, layers, signed=True).explain(X, targets).maps
    none = cc.GradCAM(net, layers, signed=False).explain(X, targets).maps
    found = cc.GradCAM(net, layers, batch_size=1).explain(X, targets).maps
    assert (both < 0).any(axis=(0, 2, 3)).all()
    for k, sign in enumerate(signs):
        np.testing.assert_allclose(found[:, k], (both if sign else none)[:, k], atol=1e-6)
    assert parse(targets, 2).signed == any(signs)


# Gradients next to nothing


def findings(explanation: Any) -> list[str]:
    return [note for note in explanation.diagnostics if "next to nothing" in note]


def squared(predicted: Tensor, y: Tensor) -> Tensor:
    return 3 + ((predicted - y) ** 2).sum()


def test_the_minimum_of_a_loss_is_told() -> None:
    """A loss of 3 + r²: its gradient is 2 r, so that Σ|G·A| falls with the distance r from the minimum."""
    net = Small()
    best = net(X).detach()
    at = {r: cc.GradCAM(net, "body").explain(X, NegativeLoss(squared, best + r)) for r in (1.0, 0.1, 1e-6)}
    assert findings(at[1.0]) == findings(at[0.1]) == []
    assert [note.split(":")[0] for note in findings(at[1e-6])] == [
        f"sample {i}, negative loss" for i in range(2)
    ]
    assert "`body` moves the score of -3 by at most" in findings(at[1e-6])[0]
    for target in (0, Regression(1), Norm(), Towards(0.5, 0)):
        for method in (cc.GradCAM, cc.HiResCAM, cc.Saliency, cc.GuidedGradCAM):
            assert findings(method(net).explain(X, target)) == []


def test_what_is_compared_with_the_score() -> None:
    """The finding comes where Σ|G·A| falls below 1e-4 of the score, and not just above."""
    net = Small()
    body = net.body(X).detach()
    weights = net.head.weight.detach()[0] / body[0, 0].numel()
    moved = (weights[:, None, None] * body).abs().sum((1, 2, 3)).tolist()

    def with_offset(share: float) -> Any:
        return lambda out: out[:, 0] - out[:, 0].detach() + torch.tensor(moved) / share

    assert len(findings(cc.GradCAM(net, "body").explain(X, with_offset(0.99e-4)))) == 2
    assert findings(cc.GradCAM(net, "body").explain(X, with_offset(1.01e-4))) == []
    (note, _) = findings(cc.GradCAM(net, "body").explain(X, with_offset(0.5e-4)))
    assert f"{moved[0]:.1g} to first order" in note


def test_first_order_by_hand() -> None:
    a = np.array([[[1.0, -2.0]], [[0.0, 3.0]]])  # (row, channel, width)
    g = np.array(
        [[[[1.0, 1.0]], [[2.0, 0.0]]], [[[5.0, 1.0]], [[0.0, -2.0]]]]
    )  # (row, target, channel, width)
    one = Capture(a, g)
    assert np.asarray(first_order([one], 2)).tolist() == [[3, 2], [3, 6]]
    assert np.asarray(first_order([one], 1)).tolist() == [[6, 8]]  # two time slices of one clip
    assert np.asarray(
        first_order([one, Capture(a, g * np.array([0, 2])[None, :, None, None])], 2)
    ).tolist() == [
        [3, 4],
        [3, 12],
    ]
    assert first_order([], 2) is None


def test_methods_without_gradients_say_nothing_of_them() -> None:
    net = Small()
    target = NegativeLoss(squared, net(X).detach() + 1e-6)
    for name_ in ("eigencam", "guidedbackprop"):
        assert findings(cc.explain(net, X, target, methods=[name_])[name_]) == []
    found = cc.explain(net, X, target, methods=["gradcam", "saliency"])
    assert len(findings(found["gradcam"])) == len(findings(found["saliency"])) == 2


def test_a_network_with_one_output_in_three_lines() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    found = cc.GradCAM(net).explain(X, Regression())
    bias = net[4].bias.detach().numpy()
    np.testing.assert_allclose(found.maps.sum((2, 3)) + bias, net(X).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("batch_size", [1, None])
def test_what_is_compared_with_has_one_row_per_sample(rows: int, batch_size: int | None) -> None:
    net, x, y = Small(), X[:1].repeat(3, 1, 1, 1), torch.zeros(rows)
    for target in (Towards(y, 0), Deviation(y, 0), NegativeLoss(squared, y)):
        with pytest.raises(TargetError, match=f"has {rows} rows; expected 3, one per sample"):
            cc.GradCAM(net, "body", batch_size=batch_size).explain(x, target)


@pytest.mark.parametrize("y", [[0.5, 2.0], np.array([0.5, 2.0]), np.array([0.5, 2.0], np.float32)])
def test_a_loss_of_a_framework_gets_its_arrays(y: Any) -> None:
    outputs = torch.tensor([1.0, 4.0])
    assert values(NegativeLoss(nn.HuberLoss(delta=10), y), outputs) == [-0.125, -2.0]


def test_a_loss_against_one_number_is_refused() -> None:
    refused(
        NegativeLoss(nn.MSELoss(), 1.0), "y is 1.0; expected one row per sample", y=torch.tensor([1.0, 4.0])
    )


@pytest.mark.parametrize("outputs", [torch.ones(2, 1), (torch.ones(2, 1), torch.ones(2, 1))])
def test_a_loss_that_takes_the_outputs_otherwise_asks_for_a_function(outputs: Any) -> None:
    found = Outputs(outputs, lambda: torch.ones(2, 1), slice(0, 2), None)
    with pytest.raises(TargetError, match=r"the loss GaussianNLLLoss fails on the outputs.*give a function"):
        NegativeLoss(nn.GaussianNLLLoss(), torch.ones(2))(found)
