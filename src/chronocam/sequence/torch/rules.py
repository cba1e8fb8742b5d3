"""How relevance goes through each of PyTorch's operations, by the operation's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from chronocam.errors import ModelError
from chronocam.sequence.cells import Cell, Function, State, Weights, gru, inputs, lstm, simple
from chronocam.sequence.ledger import Ledger, ratio
from chronocam.sequence.rules import RULES as OWN_RULES
from chronocam.sequence.rules import Rule, own_rule

CellOf: TypeAlias = Callable[[Sequence[Tensor]], Cell]
Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]


def on_path(x: object) -> TypeGuard[Tensor]:
    """Say whether `x` depends on the features."""
    return isinstance(x, Tensor) and x.requires_grad


def signal(ledger: Ledger, x: Tensor | float) -> Tensor:
    """Return a layer's input: on the path from the features as it is, else as an entry of the biases."""
    return x if on_path(x) else ledger.bias(x)


def linear(ledger: Ledger, func: Rule, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Share by the linear rule."""
    z = func(signal(ledger, input), weight)
    return ledger.share(z if bias is None else z + ledger.bias(bias))


def convolution(
    ledger: Ledger,
    func: Rule,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *args: object,
    **kwargs: object,
) -> Tensor:
    """Share by the linear rule, at every position."""
    z = func(signal(ledger, input), weight, None, *args, **kwargs)
    if bias is not None:
        z = z + ledger.bias(bias).reshape(-1, *[1] * (weight.ndim - 2))
    return ledger.share(z)


def activation(ledger: Ledger, func: Rule, input: Tensor, *args: object, **kwargs: object) -> Tensor:
    """Pass relevance unchanged through a function with f(0) = 0."""
    # A copy: the function may write into its input, which the ratio still needs.
    value = func(input.detach().clone(), *args, **kwargs)
    y = input * ratio(value, input, 1.0 if func.__name__.startswith("tanh") else 0.0)
    return input.copy_(y) if _in_place(func) or kwargs.get("inplace") else y


def gate(ledger: Ledger, func: Rule, input: Tensor, *args: object, **kwargs: object) -> Tensor:
    """Hold a gate constant: it gets no relevance, what it is multiplied with gets all of it."""
    return func(input.detach().clone(), *args, **kwargs)


def addition(
    sign: float, reverse: bool, ledger: Ledger, func: Rule, input: Any, other: Any, **kwargs: Any
) -> Any:
    """Book a constant that is added to a signal, or subtracted from one, under `bias`."""
    if on_path(input) and on_path(other):
        return func(input, other, **kwargs)
    first, second = (other, input) if reverse else (input, other)
    alpha = kwargs.get("alpha", 1) * sign
    result = signal(ledger, first) + alpha * signal(ledger, second)
    return input.copy_(result) if _in_place(func) else result


def _in_place(func: Rule) -> bool:
    return func.__name__.endswith("_") and not func.__name__.endswith("__")


def joined(ledger: Ledger, func: Rule, tensors: Sequence[Tensor], *args: object, **kwargs: object) -> Tensor:
    """Book constants that are put beside a signal under `bias`."""
    return func([signal(ledger, x) for x in tensors], *args, **kwargs)


def batch_norm(ledger: Ledger, func: Rule, input: Tensor, *args: object, **kwargs: object) -> Tensor:
    """Scale, exactly; what BatchNorm adds is a bias."""
    shift = func(torch.zeros_like(input), *args, **kwargs).detach()
    return func(input, *args, **kwargs) - shift + ledger.bias(shift)


def layer_norm(
    ledger: Ledger,
    func: Rule,
    input: Tensor,
    normalized_shape: Sequence[int],
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


def lstm_cell(weights: Sequence[Tensor]) -> Cell:
    """Return an LSTM's cell from W, U, any biases and any projection: rows in the order i, f, g, o."""
    w, u, *biases = weights
    projection = biases.pop().detach().T if len(biases) % 2 else None
    each = (w, u, biases[0] + biases[1] if biases else None)
    gates, signals = (Weights(*(_rows(x, 4, which) for x in each)) for which in ([0, 1, 3], [2]))
    return Cell(lstm, gates, signals, torch.sigmoid, torch.tanh, projection=projection)


def gru_cell(weights: Sequence[Tensor]) -> Cell:
    """Return a GRU's cell from W, U and, where there are biases, both: rows in the order r, z, n."""
    w, u, *biases = weights
    own, state = biases or (None, None)
    gates = Weights(*(_rows(x, 3, [0, 1]) for x in (w, u, biases[0] + biases[1] if biases else None)))
    signals = Weights(*(_rows(x, 3, [2]) for x in (w, u, own)))
    return Cell(gru, gates, signals, torch.sigmoid, torch.tanh, _rows(state, 3, [2]))


def rnn_cell(bend: Function, weights: Sequence[Tensor]) -> Cell:
    """Return the cell of a plain RNN from W, U and, where there are biases, both. bend: tanh or ReLU."""
    w, u, *biases = weights
    each = (w, u, biases[0] + biases[1] if biases else None)
    return Cell(simple, None, Weights(*(_rows(x, 1, [0]) for x in each)), torch.sigmoid, bend)


def _rows(weight: Tensor | None, parts: int, which: Sequence[int]) -> Tensor | None:
    """Return some of the parts that lie one below the other, as the matrix that rows are multiplied by."""
    if weight is None:
        return None
    chunks = weight.detach().chunk(parts)
    rows = torch.cat([chunks[k] for k in which]) if len(which) > 1 else chunks[which[0]]
    return rows.T if rows.ndim > 1 else rows


def fused(cell_of: CellOf, ledger: Ledger, func: Rule, *args: Any) -> tuple[Tensor, ...]:
    """Return what `torch.lstm`, `torch.gru` and their kin do for these arguments, padded or packed."""
    packed = isinstance(args[1], Tensor) and not args[1].is_floating_point()
    if packed:
        x, sizes, hx, weights, _, layers, dropout, training, bidirectional = args
        if int(sizes.max()) > 1:
            raise ModelError("the model packs several sequences out of one sample; LRP follows one at a time")
        x, batch_first = x[:, None], False
    else:
        x, hx, weights, _, layers, dropout, training, bidirectional, batch_first = args
    states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
    if training and dropout and layers > 1:
        raise ModelError("the recurrent layer drops units at random in training mode; call model.eval()")
    each = len(weights) // (layers * (2 if bidirectional else 1))
    cells = [cell_of(weights[low : low + each]) for low in range(0, len(weights), each)]
    x = x.transpose(0, 1) if batch_first else x
    outputs, ends = _stacked(ledger, cells, x, states, layers)
    outputs = outputs[:, 0] if packed else outputs.transpose(0, 1) if batch_first else outputs
    return (outputs, *ends)


def _stacked(
    ledger: Ledger, cells: Sequence[Cell], x: Tensor, states: State, layers: int
) -> tuple[Tensor, State]:
    """Run layers over `x` `(time, batch, feature)` from states `(layer·direction, batch, hidden)`.

    Returns the outputs `(time, batch, direction·hidden)` and the last states.
    """
    directions = len(cells) // layers
    ends: list[State] = []
    for layer in range(layers):
        outputs = []
        for backwards in range(directions):
            k = layer * directions + backwards
            start = tuple(_state(ledger, s[k]) for s in states)
            found, end = _stepped(ledger, cells[k], x.flip(0) if backwards else x, start)
            outputs.append(found.flip(0) if backwards else found)
            ends.append(end)
        x = torch.cat(outputs, dim=-1) if directions > 1 else outputs[0]
    return x, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _stepped(ledger: Ledger, cell: Cell, x: Tensor, state: State) -> tuple[Tensor, State]:
    gates, signals = inputs(ledger, cell, signal(ledger, x))
    outputs = []
    for at in zip(gates.unbind(0), signals.unbind(0), strict=True):
        state = cell.step(ledger, cell, *at, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


def single(
    cell_of: CellOf, ledger: Ledger, func: Rule, x: Tensor, hx: Tensor | State, *weights: Tensor | None
) -> Tensor | State:
    """Return what `torch.lstm_cell` and its kin do: one step of `x` `(batch, feature)`."""
    states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
    cell = cell_of([w for w in weights if w is not None])
    start = tuple(_state(ledger, s) for s in states)
    end = cell.step(ledger, cell, *inputs(ledger, cell, signal(ledger, x)), start)
    return end if len(end) > 1 else end[0]


def _state(ledger: Ledger, h: Tensor) -> Tensor:
    """Return an initial state: on the path from the features as it is, else as its own entry."""
    return h if h.requires_grad else ledger.state(h)


RULES: dict[str, Rule] = {
    "lstm": partial(fused, lstm_cell),
    "gru": partial(fused, gru_cell),
    "rnn_tanh": partial(fused, partial(rnn_cell, torch.tanh)),
    "rnn_relu": partial(fused, partial(rnn_cell, torch.relu)),
    "lstm_cell": partial(single, lstm_cell),
    "gru_cell": partial(single, gru_cell),
    "rnn_tanh_cell": partial(single, partial(rnn_cell, torch.tanh)),
    "rnn_relu_cell": partial(single, partial(rnn_cell, torch.relu)),
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
"""How relevance goes through an operation; others are differentiated: exact where they are linear."""


class RelevanceMode(TorchFunctionMode):
    """Runs a model so that differentiating it gives relevance; its values are those of the model.

    Parameters and whatever else does not depend on the features are constants. `suspects` is None, or
    collects the operations through which relevance does not add up: those without a rule that are not linear.
    """

    def __init__(self, ledger: Ledger, suspects: list[str] | None = None) -> None:
        super().__init__()
        self.ledger = ledger
        self.suspects = suspects
        self.paused: bool = False

    def __torch_function__(
        self, func: Rule, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        args, kwargs = pytree.tree_map(_constant, (args, kwargs))
        name = getattr(func, "__name__", "")
        if not torch.is_grad_enabled() or not any(map(on_path, pytree.tree_leaves((args, kwargs)))):
            return func(*args, **kwargs)
        if name in OWN_RULES:
            return OWN_RULES[name](self.ledger, func, func, *args, **kwargs)
        if name in RULES:
            return RULES[name](self.ledger, func, *args, **kwargs)
        if self.suspects is None:
            return func(*args, **kwargs)
        # Only what is homogeneous of degree one adds up: twice the signals must give twice the result.
        doubled, kwargs_doubled = pytree.tree_map(_doubled, (args, kwargs))
        expected = func(*doubled, **kwargs_doubled)
        result = func(*args, **kwargs)
        if not _is_double(expected, result) and name not in self.suspects:
            self.suspects.append(name)
        return result

    @contextmanager
    def pausing(self, paused: bool) -> Iterator[None]:
        """Leave operations as they are for a while, or look at them again."""
        before = self.paused
        self.paused = paused
        try:
            yield
        finally:
            self.paused = before


def own_rules(modules: Sequence[nn.Module]) -> Iterator[tuple[nn.Module, Rule]]:
    """Yield the modules for which the user registered a rule, with that rule."""
    for module in modules:
        rule = own_rule(module)
        if rule is not None:
            yield module, rule


def ruled(relevance: RelevanceMode, module: nn.Module, rule: Rule, forward: Rule) -> Rule:
    """Return what a module runs in the place of its `forward`, so that its rule holds.

    What a rule computes is differentiated as it stands; within the module's own call the rules of operations
    hold.
    """

    def call(*args: object, **kwargs: object) -> Any:
        with relevance.pausing(False):
            return forward(*args, **kwargs)

    def run(*args: object, **kwargs: object) -> Any:
        if relevance.paused or not any(map(on_path, pytree.tree_leaves((args, kwargs)))):
            return forward(*args, **kwargs)
        with relevance.pausing(True):
            return rule(relevance.ledger, module, call, *args, **kwargs)

    return run


def _doubled(x: object) -> object:
    return 2 * x.detach() if on_path(x) else x


def _is_double(expected: object, result: object) -> bool:
    """Say whether what an operation makes of twice its signals is twice what it makes of them."""
    pairs = zip(pytree.tree_leaves(expected), pytree.tree_leaves(result), strict=True)
    return all(torch.allclose(x, 2 * y.detach(), rtol=1e-3) for x, y in pairs if on_path(y))


def _constant(x: object) -> object:
    # Leaves that require gradients are parameters: their gradients are not wanted.
    return x.detach() if isinstance(x, Tensor) and x.requires_grad and x.is_leaf else x


class FinalGate(TorchFunctionMode):
    """Remembers what the last softmax or sigmoid was given: the logits before it."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: tuple[Tensor, Tensor, str] | None = None

    def __torch_function__(
        self, func: Rule, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in ("softmax", "log_softmax", "sigmoid"):
            self._seen = result, args[0] if args else kwargs["input"], name
        return result

    def before(self, output: Tensor) -> tuple[Tensor, str | None]:
        """Return the logits that a gate turned into `output` and its name; `output` if no gate did."""
        if self._seen is None or self._seen[0] is not output:
            return output, None
        return self._seen[1], self._seen[2]
