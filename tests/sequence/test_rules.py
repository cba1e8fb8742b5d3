"""Rules of LRP that users add: a layer without a rule is explained, and the ledger closes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, ModelError
from chronocam.sequence.rules import RULES

T, IN, H, CLASSES = 5, 4, 3, 3


class Squared(nn.Module):
    """x² + c, through which relevance does not add up."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return x**2 + self.shift


class SquaredMore(Squared):
    """A layer that inherits the rule."""


class Net(nn.Module):
    def __init__(self, bent: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.bent, self.head = nn.LSTM(IN, H, batch_first=True), bent, nn.Linear(H, CLASSES)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bent(self.lstm(x)[0][:, -1]))


def squared(ledger: cc.sequence.Ledger, layer: Any, call: Any, x: Tensor) -> Tensor:
    product = x * ledger.held(x)
    return ledger.share(product + ledger.bias(layer.shift, product))


@pytest.fixture(autouse=True)
def no_rules_are_left() -> Iterator[None]:
    assert not RULES
    yield
    assert not RULES


def features() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, T, IN))


def total(explanation: cc.sequence.SequenceExplanation) -> np.ndarray:
    return np.sum(list(explanation.ledger.values()), axis=0)


@pytest.mark.parametrize("name", [Squared, "Squared"], ids=["by class", "by name"])
@pytest.mark.parametrize("made", [Squared, SquaredMore])
@pytest.mark.parametrize("epsilon", [0, 0.1])
def test_a_layer_with_a_registered_rule_is_explained(name: Any, made: Any, epsilon: float) -> None:
    model, x = Net(made()), features()
    with pytest.raises(ModelError, match="no rule for `pow`"):
        cc.sequence.LRP(model, epsilon=epsilon).explain(x, 0)
    with cc.sequence.register_rule(name, squared):
        found = cc.sequence.LRP(model, epsilon=epsilon).explain(x, 0)
    np.testing.assert_allclose(found.scores[:, 0], model(torch.from_numpy(x))[:, 0].detach(), rtol=1e-12)
    np.testing.assert_allclose(total(found), found.scores, rtol=0, atol=1e-10)
    assert found.relevance.any()
    assert "forward" not in model.bent.__dict__
    with pytest.raises(ModelError, match="no rule for `pow`"):
        cc.sequence.LRP(model, epsilon=epsilon).explain(x, 0)


def test_the_shares_are_those_of_the_rule() -> None:
    """By hand, without a recurrent layer: z_i = x_i² + 0.3, y = Σ w_i z_i + b; R_i = w_i z_i · x_i² / z_i."""

    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bent, self.head = Squared(), nn.Linear(IN, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.bent(x).sum(1))

    torch.manual_seed(0)
    model, x = Direct().double(), features()
    with cc.sequence.register_rule(Squared, squared):
        found = cc.sequence.LRP(model, epsilon=0).explain(x, 1)
    weight, bias = (p.detach().numpy() for p in model.head.parameters())
    np.testing.assert_allclose(found.relevance[:, 0], x**2 * weight[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.ledger["bias"], 0.3 * T * weight[1].sum() + bias[1], rtol=1e-6)


def test_an_operation_can_have_a_rule_too() -> None:
    def power(ledger: Any, operation: Any, call: Any, x: Tensor, exponent: int) -> Tensor:
        return x * ledger.held(x ** (exponent - 1))

    model, x = Net(Squared()), features()
    with cc.sequence.register_rule("pow", power):
        found = cc.sequence.LRP(model).explain(x, 0)
    np.testing.assert_allclose(total(found), found.scores, rtol=0, atol=1e-10)


def test_within_the_layers_own_call_the_rules_of_operations_hold() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(H, H)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    model, x = Net(Inner()), features()
    expected = cc.sequence.LRP(model).explain(x, 0)
    with cc.sequence.register_rule(Inner, lambda ledger, layer, call, x: call(x)):
        found = cc.sequence.LRP(model).explain(x, 0)
    np.testing.assert_array_equal(found.relevance, expected.relevance)
    with (
        cc.sequence.register_rule(Inner, lambda ledger, layer, call, x: layer.fc(x)),  # as it stands
        pytest.raises(ModelError, match="does not add up"),
    ):
        cc.sequence.LRP(model).explain(x, 0)


def test_a_rule_with_other_values_is_refused() -> None:
    with (
        cc.sequence.register_rule(Squared, lambda ledger, layer, call, x: x),
        pytest.raises(ModelError, match="step by step"),
    ):
        cc.sequence.LRP(Net(Squared())).explain(features(), 0)


def test_gradients_do_not_follow_rules() -> None:
    model, x = Net(Squared()), features()
    expected = cc.sequence.Gradient(model).explain(x, 0)
    with cc.sequence.register_rule(Squared, squared):
        found = cc.sequence.Gradient(model).explain(x, 0)
    np.testing.assert_array_equal(found.relevance, expected.relevance)


def test_rules_come_and_go() -> None:
    first = cc.sequence.register_rule("Mine", squared)
    second = cc.sequence.register_rule("Mine", print)
    assert RULES["Mine"] is print
    second.remove()
    assert RULES["Mine"] is squared
    second.remove()
    first.remove()
    with pytest.raises(InputError, match="a rule is 3"):
        cc.sequence.register_rule("Mine", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        RULES["Mine"] = squared  # type: ignore[index]
