"""The softmax or sigmoid that a Keras model ends in, and what goes into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from chronocam.engines.keras.layers import Node, Run, Wrap, attribute
from chronocam.types import Array

Gated: TypeAlias = tuple[Array, Array, str]
"""What came out of a gate, what went into it, and which gate it is."""


_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Identity", "ExpandDims")


_GATES = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}


_LAST_IS_ACTIVATION = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Activation,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def gate_of(node: Node) -> str | None:
    """Return `softmax`, `log_softmax` or `sigmoid` for a layer or operation that ends in one, else None."""
    if type(node).__name__ in _GATES:
        return _GATES[type(node).__name__]
    name = getattr(getattr(node, "activation", None), "__name__", "")
    return name if isinstance(node, _LAST_IS_ACTIVATION) and name in _GATES.values() else None


def gates_pass(node: Node) -> bool:
    """Say whether a layer or operation only gives what it gets another shape or precision."""
    kind = type(node).__name__
    linear = getattr(node, "activation", None) is keras.activations.linear
    return kind in _RESHAPING or (kind == "Activation" and linear)


def noting_logits(
    gates: list[tuple[Array, Array]], gated: Callable[[Array], Array] = lambda output: output
) -> Wrap:
    """Note what a node with a final gate returns, and what goes into the gate.

    gated: what the output of the gate goes through.
    """

    def wrap(node: Node, call: Run) -> Run:
        def run(*args: object, **kwargs: object) -> object:
            activation = node.__dict__.get("activation")
            # `Dense(activation="softmax")` does both: without its activation the layer returns the logits.
            if activation is None:
                output, logits = call(*args, **kwargs), (*args, *kwargs.values())[0]
            else:
                with attribute(node, "activation", keras.activations.linear):
                    logits = call(*args, **kwargs)
                output = gated(activation(logits))
            gates.append((output, logits))
            return output

        return run

    return wrap


def noting_gate(gate: str, gates: list[Gated]) -> Wrap:
    """Note what a node with a final gate returns, what goes into the gate, and which gate it is.

    A sigmoid of `(batch, row, values)`, as of a detector's boxes, is left alone: not all of the values are of
    classes.
    """

    def wrap(node: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        pairs: list[tuple[Array, Array]] = []
        noted = noting_logits(pairs)(node, call)

        def run(*args: Any, **kwargs: Any) -> Any:
            output = noted(*args, **kwargs)
            after, before = pairs.pop()
            if len(after.shape) != 3 or gate != "sigmoid":
                gates.append((after, before, gate))
            return output

        return run

    return wrap


def passing_on(gates: list[Gated]) -> Wrap:
    """Note what a node makes of a gate's output, with the same made of what went into the gate."""

    def wrap(node: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            output = call(*args, **kwargs)
            x = (*args, *kwargs.values())[0]
            found = next(((before, gate) for after, before, gate in reversed(gates) if after is x), None)
            if found is not None:
                gates.append((output, call(found[0]), found[1]))
            return output

        return run

    return wrap


def changed_after_gates(
    change: Callable[[str, Array], Array], gates: list[Gated], layer: str, tensor: Array
) -> Array:
    """Change a tapped output; what comes of a gate's is noted as that gate's still."""
    changed = change(layer, tensor)
    found = next(((before, gate) for after, before, gate in reversed(gates) if after is tensor), None)
    if found is not None:
        gates.append((changed, *found))
    return changed
