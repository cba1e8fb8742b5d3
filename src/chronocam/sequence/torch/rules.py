"""How relevance goes through each of PyTorch's operations, by the operation's name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from chronocam.sequence.torch.cells import GRUCell, LSTMCell, fused, single
from chronocam.sequence.torch.ledger import Ledger, ratio

Rule = Callable[..., Any]


def on_path(x: Any) -> bool:
    """Say whether `x` depends on the features."""
    return isinstance(x, Tensor) and x.requires_grad


def linear(ledger: Ledger, func: Rule, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Share by the linear rule."""
    z = func(ledger.signal(input), weight)
    return ledger.share(z if bias is None else z + ledger.bias(bias))


def convolution(
    ledger: Ledger,
    func: Rule,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Share by the linear rule, at every position."""
    z = func(ledger.signal(input), weight, None, *args, **kwargs)
    if bias is not None:
        z = z + ledger.bias(bias).reshape(-1, *[1] * (weight.ndim - 2))
    return ledger.share(z)


def activation(ledger: Ledger, func: Rule, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Pass relevance unchanged through a function with f(0) = 0."""
    value = func(input.detach().clone(), *args, **kwargs)
    y = input * ratio(value, input, 1.0 if func.__name__.startswith("tanh") else 0.0)
    return input.copy_(y) if _in_place(func) or kwargs.get("inplace") else y


def gate(ledger: Ledger, func: Rule, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Give nothing to a gate: what it weighs takes all."""
    return func(input.detach().clone(), *args, **kwargs)


def addition(
    sign: float, reverse: bool, ledger: Ledger, func: Rule, input: Any, other: Any, **kwargs: Any
) -> Any:
    """Enter a constant that is added to a signal, or subtracted from one, among the biases."""
    if on_path(input) and on_path(other):
        return func(input, other, **kwargs)
    first, second = (other, input) if reverse else (input, other)
    alpha = kwargs.get("alpha", 1) * sign
    result = _signal(ledger, first) + alpha * _signal(ledger, second)
    return input.copy_(result) if _in_place(func) else result


def _signal(ledger: Ledger, x: Any) -> Tensor:
    return x if on_path(x) else ledger.bias(x)


def _in_place(func: Rule) -> bool:
    return func.__name__.endswith("_") and not func.__name__.endswith("__")


def joined(ledger: Ledger, func: Rule, tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Enter constants that are put beside a signal among the biases."""
    return func([ledger.signal(x) for x in tensors], *args, **kwargs)


def batch_norm(ledger: Ledger, func: Rule, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Scale, exactly; what BatchNorm adds is a bias."""
    shift = func(torch.zeros_like(input), *args, **kwargs).detach()
    return func(input, *args, **kwargs) - shift + ledger.bias(shift)


def layer_norm(
    ledger: Ledger,
    func: Rule,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Hold the standard deviation constant; the mean is subtracted exactly."""
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(dim=axes, keepdim=True)
    y = centred / (centred.detach().pow(2).mean(dim=axes, keepdim=True) + eps).sqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + ledger.bias(bias)


def _cell(run: Callable[..., Any], cell: Any) -> Rule:
    return lambda ledger, func, *args: run(ledger, cell, args)


RULES: dict[str, Rule] = {
    "lstm": _cell(fused, LSTMCell),
    "gru": _cell(fused, GRUCell),
    "lstm_cell": _cell(single, LSTMCell),
    "gru_cell": _cell(single, GRUCell),
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "linear": linear,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(
        ("relu", "relu_", "tanh", "tanh_", "leaky_relu", "elu", "celu", "selu", "gelu"), activation
    ),
    **dict.fromkeys(("silu", "mish", "relu6", "hardtanh", "hardswish", "softsign", "tanhshrink"), activation),
    **dict.fromkeys(("sigmoid", "sigmoid_", "hardsigmoid", "softmax", "log_softmax"), gate),
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), partial(addition, 1.0, False)),
    **dict.fromkeys(("sub", "sub_", "subtract", "__sub__", "__isub__"), partial(addition, -1.0, False)),
    **dict.fromkeys(("rsub", "__rsub__"), partial(addition, -1.0, True)),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), joined),
}
"""How relevance goes through an operation; every other one is left to differentiation, exact where it is linear."""


class Relevance(TorchFunctionMode):
    """Runs a model so that differentiating it gives relevance; its values are those of the model.

    Parameters and whatever else does not depend on the features are constants. `suspects` is None, or
    collects the operations through which relevance does not add up: those without a rule that are not linear.
    """

    def __init__(self, ledger: Ledger, suspects: list[str] | None = None) -> None:
        super().__init__()
        self.ledger, self.suspects = ledger, suspects

    def __torch_function__(
        self, func: Rule, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = pytree.tree_map(_constant, (args, kwargs or {}))
        name = getattr(func, "__name__", "")
        if not torch.is_grad_enabled() or not any(map(on_path, pytree.tree_leaves((args, kwargs)))):
            return func(*args, **kwargs)
        if name in RULES:
            return RULES[name](self.ledger, func, *args, **kwargs)
        if self.suspects is None:
            return func(*args, **kwargs)
        doubled, kwargs_doubled = pytree.tree_map(_doubled, (args, kwargs))
        expected = func(*doubled, **kwargs_doubled)
        result = func(*args, **kwargs)
        if not _is_double(expected, result) and name not in self.suspects:
            self.suspects.append(name)
        return result


def _doubled(x: Any) -> Any:
    return 2 * x.detach() if on_path(x) else x


def _is_double(expected: Any, result: Any) -> bool:
    """Say whether what an operation makes of twice its signals is twice what it makes of them."""
    pairs = zip(pytree.tree_leaves(expected), pytree.tree_leaves(result), strict=True)
    return all(torch.allclose(x, 2 * y.detach(), rtol=1e-3) for x, y in pairs if on_path(y))


def _constant(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) and x.requires_grad and x.is_leaf else x


class FinalGate(TorchFunctionMode):
    """Remembers what every softmax and sigmoid was given, so that the logits before the last one can be read."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: tuple[Tensor, Tensor, str] | None = None

    def __torch_function__(
        self, func: Rule, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in ("softmax", "log_softmax", "sigmoid"):
            self._seen = result, args[0] if args else kwargs["input"], name
        return result

    def before(self, output: Tensor) -> tuple[Tensor, str | None]:
        """Return the logits from which `output` was made and by what; itself where it is no gate's."""
        if self._seen is None or self._seen[0] is not output:
            return output, None
        return self._seen[1], self._seen[2]
