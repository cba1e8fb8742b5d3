"""How relevance goes through Keras' layers and operations, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import keras
from keras import ops

from chronocam.engines.keras.layers import Wrap, attribute, is_float
from chronocam.errors import ModelError
from chronocam.maps.arrays import held
from chronocam.sequence.cells import (
    Cell,
    Function,
    State,
    Weights,
    gru,
    gru_reset_before,
    inputs,
    lstm,
    simple,
)
from chronocam.sequence.ledger import Ledger, ratio
from chronocam.sequence.rules import Rule, own_rule
from chronocam.types import Array

_BENT = ("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hard_silu")
FROM_ZERO = (*_BENT, "linear", "tanh", "hard_tanh", "tanh_shrink", "softsign")
"""Activations with f(0) = 0."""

_GATES = ("sigmoid", "hard_sigmoid", "softmax", "log_softmax", "sparsemax")


def activated(function: Function, x: Array) -> Array:
    """Pass relevance unchanged through an activation with f(0) = 0, and give none to a gate."""
    name = getattr(function, "__name__", "")
    if name in _GATES:
        return held(function(held(x)))
    if name in FROM_ZERO:
        return x * ratio(function(held(x)), x, 1.0 if name in ("linear", "tanh") else 0.0)
    return function(x)


def linear(ledger: Ledger, node: keras.Operation, call: Rule, *args: object, **kwargs: object) -> Array:
    """Share by the linear rule, at every position; then the layer's own activation."""
    with attribute(node, "activation", keras.activations.linear):
        z = ledger.share(shifted(ledger, node, call, *args, **kwargs))
    return activated(node.activation, z)


def shifted(ledger: Ledger, node: keras.Operation, call: Rule, *args: object, **kwargs: object) -> Array:
    """Book under `bias` what an affine node makes of zero."""
    # An affine node is its value at zero, which is constant, plus what is linear in its inputs.
    zeros = keras.tree.map_structure(lambda x: ops.zeros_like(x) if is_float(x) else x, (args, kwargs))
    shift = held(call(*zeros[0], **zeros[1]))
    return call(*args, **kwargs) - shift + ledger.bias(shift, shift)


def activation(ledger: Ledger, node: keras.Operation, call: Rule, x: Array, **kwargs: object) -> Array:
    """Apply the layer's activation by its own name."""
    return activated(node.activation, x)


def from_zero(
    ledger: Ledger, node: keras.Operation, call: Rule, x: Array, *args: object, **kwargs: object
) -> Array:
    """Pass relevance unchanged."""
    return x * ratio(call(held(x), *args, **kwargs), x, 1.0 if type(node).__name__ == "Tanh" else 0.0)


def gate(ledger: Ledger, node: keras.Operation, call: Rule, *args: object, **kwargs: object) -> Array:
    """Hold a gate constant: it gets no relevance, what it is multiplied with gets all of it."""
    return held(call(*keras.tree.map_structure(held, args), **kwargs))


def layer_norm(ledger: Ledger, node: keras.Operation, call: Rule, x: Array, **kwargs: object) -> Array:
    """Hold the standard deviation constant; the mean is subtracted exactly."""
    axes = [node.axis] if isinstance(node.axis, int) else list(node.axis)
    centred = x - ops.mean(x, axis=axes, keepdims=True)
    y = centred / ops.sqrt(ops.mean(ops.square(held(centred)), axis=axes, keepdims=True) + node.epsilon)
    scaled = y if node.gamma is None else y * _along(node.gamma, x, axes)
    return scaled if node.beta is None else scaled + ledger.bias(_along(node.beta, x, axes), x)


def _along(parameter: Array, x: Array, axes: list[int]) -> Array:
    places = {axis % len(x.shape) for axis in axes}
    return ops.reshape(parameter, [n if axis in places else 1 for axis, n in enumerate(x.shape)])


def attention(ledger: Ledger, node: keras.Operation, call: Rule, *args: object, **kwargs: object) -> Any:
    """Hold the weights of dot-product and additive attention constant."""
    # The weights are made of the scores alone: held there, they are constants.
    scores = node._calculate_scores
    node.__dict__["_calculate_scores"] = lambda *inputs, **options: held(scores(*inputs, **options))
    try:
        return call(*args, **kwargs)
    finally:
        del node.__dict__["_calculate_scores"]


def recurrent(
    ledger: Ledger,
    layer: keras.layers.RNN,
    call: Rule,
    sequences: Array,
    initial_state: Array | Sequence[Array] = None,
    mask: Array = None,
    training: bool = False,
) -> Any:
    """Run an RNN layer over `sequences` `(batch, time, feature)` by the rule of its cell."""
    states = _initial(ledger, layer, sequences, initial_state)
    x = ops.transpose(sequences, (1, 0, 2))
    visible = None if mask is None else ops.expand_dims(ops.transpose(mask), -1)
    if layer.go_backwards:
        x, visible = ops.flip(x, axis=0), None if visible is None else ops.flip(visible, axis=0)
    ends: list[Array] = []
    # Stacked cells are run one after the other, each over all steps: none looks back at one above it.
    cells: list[keras.layers.Layer] = getattr(layer.cell, "cells", [layer.cell])
    for cell in cells:
        own = states[len(ends) : len(ends) + len(keras.tree.flatten(cell.state_size))]
        x, end = _stepped(ledger, cell_of(cell), x, tuple(own), visible)
        ends += end
    if visible is not None and layer.zero_output_for_mask:
        x = ops.where(visible, x, ops.zeros_like(x))
    outputs = ops.transpose(x, (1, 0, 2)) if layer.return_sequences else x[-1]
    return (outputs, *ends) if layer.return_state else outputs


def _stepped(ledger: Ledger, cell: Cell, x: Array, states: State, visible: Array) -> tuple[Array, State]:
    """Run a cell over `x` `(time, batch, feature)`.

    visible: `(time, batch, 1)`, false at steps that are masked: they keep the states and repeat the output.
    """

    def step(carry: State, at: State) -> State:
        following = cell.step(ledger, cell, at[0], at[1], carry[1:])
        following = (following[0], *following)
        if visible is None:
            return following
        return tuple(ops.where(at[2], new, old) for new, old in zip(following, carry, strict=True))

    # Rows are the first axis where constants are booked: the steps go there only afterwards.
    parts = [ops.swapaxes(part, 0, 1) for part in inputs(ledger, cell, ops.swapaxes(x, 0, 1))]
    start = (ops.zeros_like(states[0]), *states)
    outputs, end = _looped(step, start, tuple(parts) if visible is None else (*parts, visible))
    return outputs, end[1:]


def _looped(step: Callable[[State, State], State], start: State, inputs: State) -> tuple[Array, State]:
    """Return what `step` first carries after every step, and all of it after the last.

    As a loop of the backend: unrolled, 53 steps take XLA minutes to compile.
    """
    if keras.backend.backend() == "tensorflow":  # its `ops.scan` takes no tuples
        carried = import_module("tensorflow").scan(step, inputs, start)
        return carried[0], tuple(each[-1] for each in carried)

    def body(carry: State, at: State) -> tuple[State, Array]:
        following = step(carry, at)
        return following, following[0]

    end, outputs = ops.scan(body, start, inputs)
    return outputs, end


def _initial(
    ledger: Ledger, layer: keras.layers.RNN, sequences: Array, start: Array | Sequence[Array]
) -> list[Array]:
    """Return the states before the first step: given by other layers, remembered, or zero."""
    if start is not None:
        return list(keras.tree.flatten(start))
    if layer.stateful and layer.states is not None:
        return [ledger.state(ops.convert_to_tensor(state)) for state in keras.tree.flatten(layer.states)]
    zeros = layer.get_initial_state(batch_size=sequences.shape[0])
    return [ops.cast(x, sequences.dtype) for x in keras.tree.flatten(zeros)]


def cell_of(cell: keras.layers.Layer) -> Cell:
    """Return the weights of a cell, apart for gates and signal.

    Raises ModelError for a cell without a rule.
    """
    make = next((make for kind, make in _CELLS.items() if isinstance(cell, kind)), None)
    if make is None:
        known = ", ".join(kind.__name__ for kind in _CELLS)
        raise ModelError(
            f"LRP has no rule for a {type(cell).__name__} (known are {known}): use IntegratedGradients, or "
            "cc.sequence.register_rule for its layer"
        )
    name = getattr(cell.activation, "__name__", "tanh")
    if name not in FROM_ZERO:
        raise ModelError(
            f"LRP has no rule for a {type(cell).__name__} with the activation {name}: use IntegratedGradients"
        )
    return make(cell)


def _lstm(cell: keras.layers.Layer) -> Cell:
    each = (cell.kernel, cell.recurrent_kernel, cell.bias)
    gates, signals = (Weights(*(_columns(x, 4, which) for x in each)) for which in ([0, 1, 3], [2]))
    return Cell(lstm, gates, signals, cell.recurrent_activation, cell.activation)


def _gru(cell: keras.layers.Layer) -> Cell:
    bias, state = cell.bias, None
    if bias is not None and cell.reset_after:
        bias, state = ops.convert_to_tensor(bias)[0], ops.convert_to_tensor(bias)[1]
    kernels = (cell.kernel, cell.recurrent_kernel)
    # Keras has z before r.
    gates = Weights(*(_columns(x, 3, [1, 0]) for x in (*kernels, bias if state is None else bias + state)))
    signals = Weights(*(_columns(x, 3, [2]) for x in (*kernels, bias)))
    step = gru if cell.reset_after else gru_reset_before
    return Cell(step, gates, signals, cell.recurrent_activation, cell.activation, _columns(state, 3, [2]))


def _simple(cell: keras.layers.Layer) -> Cell:
    weights = Weights(*(_columns(x, 1, [0]) for x in (cell.kernel, cell.recurrent_kernel, cell.bias)))
    return Cell(simple, None, weights, cell.activation, cell.activation)


_CELLS: Mapping[type, Callable[[keras.layers.Layer], Cell]] = {
    keras.layers.LSTMCell: _lstm,
    keras.layers.GRUCell: _gru,
    keras.layers.SimpleRNNCell: _simple,
}


def _columns(weight: Array, parts: int, which: Sequence[int]) -> Array | None:
    """Return some of the parts that lie side by side in the columns of a weight, as a constant."""
    if weight is None:
        return None
    weight = held(ops.convert_to_tensor(weight))
    units = weight.shape[-1] // parts
    columns = [weight[..., k * units : (k + 1) * units] for k in which]
    return columns[0] if len(columns) == 1 else ops.concatenate(columns, axis=-1)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D"), linear),
    **dict.fromkeys(("DepthwiseConv2D", "Conv1DTranspose", "Conv2DTranspose"), linear),
    **dict.fromkeys(("BatchNormalization", "Normalization", "Rescaling"), shifted),
    # constants may be among what they join
    **dict.fromkeys(("Add", "Subtract", "Concatenate", "Stack"), shifted),
    "LayerNormalization": layer_norm,
    "Activation": activation,
    **dict.fromkeys(
        ("ReLU", "LeakyReLU", "ELU", "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu"), from_zero
    ),
    **dict.fromkeys(
        ("Gelu", "Silu", "Mish", "Tanh", "Softsign", "HardSilu", "HardTanh", "TanhShrink"), from_zero
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid"), gate),
    **dict.fromkeys(("Attention", "AdditiveAttention"), attention),
}
"""How relevance goes through a node; others are differentiated, which is exact where they are linear."""


def rule_of(node: keras.Operation) -> Rule | None:
    """Return the rule for a layer or an operation of a functional model; None for one that has none."""
    registered = own_rule(node)
    if registered is not None:
        return registered
    return recurrent if isinstance(node, keras.layers.RNN) else RULES.get(type(node).__name__)


def ruled(ledger: Ledger, path: str, node: keras.Operation) -> Wrap | None:
    """Return what runs a node by its rule."""
    rule = rule_of(node)
    return None if rule is None else lambda node, call: partial(rule, ledger, node, call)


def suspecting(suspects: list[str], path: str) -> Wrap:
    """Return what names a node without a rule that does not make twice as much of twice its signals."""

    def wrap(node: keras.Operation, call: Rule) -> Rule:
        def run(*args: object, **kwargs: object) -> Any:
            doubled = keras.tree.map_structure(lambda x: 2 * x if is_float(x) else x, (args, kwargs))
            result, expected = call(*args, **kwargs), call(*doubled[0], **doubled[1])
            pairs = zip(keras.tree.flatten(result), keras.tree.flatten(expected), strict=True)
            if not all(_is_double(y, x) for y, x in pairs if is_float(y)) and path not in suspects:
                suspects.append(path)
            return result

        return run

    return wrap


def _is_double(once: Array, twice: Array) -> bool:
    difference = ops.max(ops.abs(twice - 2 * once))
    return bool(difference <= 1e-3 * ops.max(ops.abs(twice)))
