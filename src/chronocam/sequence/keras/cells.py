"""Recurrent layers of Keras step by step, with gates held constant and relevance shared by the linear rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from chronocam.errors import ModelError
from chronocam.sequence.keras.ledger import FROM_ZERO, Ledger, held, ratio
from chronocam.types import Array

Steps = Callable[[Ledger, Any, Array, Sequence[Array]], tuple[Array, list[Array]]]
"""From a cell, the features at a step and its states to its output and the next states."""


def lstm(ledger: Ledger, cell: Any, x: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
    """C = f⊙c + i⊙g, h = o⊙tanh(c), g = tanh(W x + U h + b); columns of the weights in the order i, f, g, o."""
    h, c = states
    gates = ops.split(_plain(cell, held(x), held(h)), 4, axis=-1)
    i, f, o = (cell.recurrent_activation(gates[k]) for k in (0, 1, 3))
    z = _signal(ledger, cell, x, h, 4, 2)
    g = ledger.passed(z, cell.activation(held(z)))
    c = ledger.share(f * c + i * g)
    h = c * ratio(o * cell.activation(held(c)), c, o)
    return h, [h, c]


def gru(ledger: Ledger, cell: Any, x: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
    """H = (1 − z)⊙n + z⊙h; columns of the weights in the order z, r, n.

    n = tanh(W x + b + r⊙(U h + b′)), or tanh(W x + b + U (r⊙h)) where the cell resets before the product.
    """
    (h,) = states
    from_x, from_h = _gru_parts(cell, held(x), held(h))
    z, r = (cell.recurrent_activation(from_x[k] + from_h[k]) for k in (0, 1))
    inward, state = cell.bias, None
    if inward is not None and cell.reset_after:
        inward, state = _constant(inward)[0], _constant(inward)[1]
    y = _product(ledger, x, cell.kernel, inward, 3, 2)
    if cell.reset_after:
        y = y + r * _product(ledger, h, cell.recurrent_kernel, state, 3, 2)
    else:
        y = y + _product(ledger, r * h, cell.recurrent_kernel, None, 3, 2)
    n = ledger.passed(y, cell.activation(held(y)))
    h = ledger.share((1 - z) * n + z * h)
    return h, [h]


def simple(ledger: Ledger, cell: Any, x: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
    """H = tanh(W x + U h + b)."""
    z = _signal(ledger, cell, x, states[0], 1, 0)
    h = ledger.passed(z, cell.activation(held(z)))
    return h, [h]


def stacked(ledger: Ledger, cell: Any, x: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
    """Give each cell what the one before it returns."""
    following: list[Array] = []
    for own, part in zip(cell.cells, _by_cell(cell, states), strict=True):
        x, after = steps_of(own)(ledger, own, x, part)
        following += after
    return x, following


_KINDS: dict[type, Steps] = {
    keras.layers.LSTMCell: lstm,
    keras.layers.GRUCell: gru,
    keras.layers.SimpleRNNCell: simple,
    keras.layers.StackedRNNCells: stacked,
}


def steps_of(cell: Any) -> Steps:
    """Return how relevance goes through a cell. Raises ModelError for one without a rule."""
    for kind, steps in _KINDS.items():
        if isinstance(cell, kind):
            _refuse_bent(cell)
            return steps
    known = ", ".join(kind.__name__ for kind in _KINDS)
    raise ModelError(
        f"LRP has no rule for a {type(cell).__name__} (known are {known}): use IntegratedGradients"
    )


def _refuse_bent(cell: Any) -> None:
    """Raise ModelError for a cell whose signal goes through an activation that is not 0 at 0."""
    name = getattr(getattr(cell, "activation", None), "__name__", "tanh")
    if name not in FROM_ZERO:
        todo = "use IntegratedGradients"
        raise ModelError(f"LRP has no rule for a {type(cell).__name__} with the activation {name}: {todo}")


def recurrent(ledger: Ledger, layer: Any, call: Any, sequences: Array, *args: Any, **kwargs: Any) -> Any:
    """Return what an RNN layer returns for `sequences` `(batch, time, feature)`, by the rule of its cell."""
    steps = partial(steps_of(layer.cell), ledger, layer.cell)
    return _stepped(layer, steps, ledger.state, sequences, *args, **kwargs)


def unrolled(layer: Any, sequences: Array, *args: Any, **kwargs: Any) -> Any:
    """Return what an RNN layer returns, by its cell's own call at each step."""
    nested = layer.get_initial_state(batch_size=1)  # stacked cells want the states of each by themselves

    def steps(x: Array, states: Sequence[Array]) -> Any:
        return layer.cell(x, keras.tree.pack_sequence_as(nested, list(states)), training=False)

    return _stepped(layer, steps, lambda state: state, sequences, *args, **kwargs)


def _stepped(
    layer: Any,
    steps: Callable[[Array, Any], Any],
    remembered: Callable[[Array], Array],
    sequences: Array,
    initial_state: Any = None,
    mask: Any = None,
    training: bool = False,
) -> Any:
    """Run a layer step by step. steps: from features and states to output and states. remembered: of stateful ones."""
    states = _initial(layer, remembered, sequences, initial_state)
    places = range(sequences.shape[1])
    kept: Array = ops.zeros_like(states[0])
    outputs = []
    for place in reversed(places) if layer.go_backwards else places:
        output, following = steps(sequences[:, place], states)
        following = keras.tree.flatten(following)
        if mask is not None:
            seen = ops.expand_dims(mask[:, place], -1)
            following = [ops.where(seen, new, old) for new, old in zip(following, states, strict=True)]
            output = ops.where(seen, output, ops.zeros_like(output) if layer.zero_output_for_mask else kept)
        kept, states = output, following
        outputs.append(output)
    result = ops.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]
    return (result, *states) if layer.return_state else result


def _initial(layer: Any, remembered: Callable[[Array], Array], sequences: Array, given: Any) -> list[Array]:
    """Return the states before the first step: given by other layers, remembered, or zero."""
    if given is not None:
        return list(keras.tree.flatten(given))
    if layer.stateful and layer.states is not None:
        return [remembered(ops.convert_to_tensor(state)) for state in keras.tree.flatten(layer.states)]
    zeros = layer.get_initial_state(batch_size=sequences.shape[0])
    return [ops.cast(x, sequences.dtype) for x in keras.tree.flatten(zeros)]


def _by_cell(cell: Any, states: Sequence[Array]) -> list[Sequence[Array]]:
    parts, low = [], 0
    for own in cell.cells:
        count = len(keras.tree.flatten(own.state_size))
        parts.append(states[low : low + count])
        low += count
    return parts


def _plain(cell: Any, x: Array, h: Array) -> Array:
    z = x @ _constant(cell.kernel) + h @ _constant(cell.recurrent_kernel)
    return z if cell.bias is None else z + _constant(cell.bias)


def _signal(ledger: Ledger, cell: Any, x: Array, h: Array, parts: int, which: int) -> Array:
    inward = _product(ledger, x, cell.kernel, cell.bias, parts, which)
    return inward + _product(ledger, h, cell.recurrent_kernel, None, parts, which)


def _product(ledger: Ledger, x: Array, weight: Array, bias: Array | None, parts: int, which: int) -> Array:
    """Return one part of W x + b, of as many as lie side by side in the columns."""
    units = weight.shape[-1] // parts
    columns = slice(which * units, (which + 1) * units)
    z = x @ _constant(weight)[:, columns]
    return z if bias is None else z + ledger.bias(_constant(bias)[..., columns], z)


def _gru_parts(cell: Any, x: Array, h: Array) -> tuple[list[Array], list[Array]]:
    """Return what the features and the state give to z, r and n, with the biases of each."""
    from_x, from_h = x @ _constant(cell.kernel), h @ _constant(cell.recurrent_kernel)
    if cell.bias is not None:
        bias = _constant(cell.bias)
        from_x = from_x + (bias[0] if cell.reset_after else bias)
        from_h = from_h + bias[1] if cell.reset_after else from_h
    return ops.split(from_x, 3, axis=-1), ops.split(from_h, 3, axis=-1)


def _constant(weight: Any) -> Array:
    """Return a weight as a tensor that is not differentiated. Products use `@`: `ops.matmul` may round to float32."""
    return held(ops.convert_to_tensor(weight))
