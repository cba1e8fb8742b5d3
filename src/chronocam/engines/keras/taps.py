"""What calls of the layers of a Keras model go through while a pass looks at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

import keras

from chronocam.engines.keras.attention import OUTPUT, part
from chronocam.engines.keras.layers import (
    Node,
    Run,
    Wrap,
    attribute,
    first_tensor,
    frames_at_once,
    replace_tensor,
)
from chronocam.engines.names import part_at, split_call, split_entry
from chronocam.errors import LayerError
from chronocam.types import Array

Change: TypeAlias = Callable[[str, Array], Array]
"""Makes of a tapped layer's path and output what the model goes on with."""


def all_frames(node: Node) -> list[Wrap]:
    """Return what lets a TimeDistributed layer run on all steps at once; nothing for other nodes."""
    return [frames_at_once] if type(node) is keras.layers.TimeDistributed else []


def after(change: Callable[[Any], object]) -> Wrap:
    """Return what lets the outputs of a node go through `change`."""

    def wrap(node: Node, call: Run) -> Run:
        def run(*args: object, **kwargs: object) -> object:
            return change(call(*args, **kwargs))

        return run

    return wrap


def guided_relu(node: Node, relu: Callable[[Array], Array]) -> Wrap | None:
    """Return what gives a layer another ReLU, or None for one that has no ReLU.

    Known are ReLU and ReLU6, as layers, as operations of a functional model, and as `activation=` of other
    layers.
    """
    if type(node).__name__ in ("ReLU", "Relu", "Relu6"):
        if getattr(node, "negative_slope", 0) or getattr(node, "threshold", 0):
            return None
        return lambda node, call: lambda x, *args, **kwargs: _capped(node, relu(x))
    activation = node.__dict__.get("activation")
    if activation not in (keras.activations.relu, keras.activations.relu6):
        return None
    six = activation is keras.activations.relu6

    def wrap(node: Node, call: Run) -> Run:
        def run(*args: object, **kwargs: object) -> object:
            with attribute(node, "activation", lambda x: keras.ops.minimum(relu(x), 6.0) if six else relu(x)):
                return call(*args, **kwargs)

        return run

    return wrap


def _capped(node: Node, x: Array) -> Any:
    highest = 6.0 if type(node).__name__ == "Relu6" else getattr(node, "max_value", None)
    return x if highest is None else keras.ops.minimum(x, highest)


def tap(layers: Sequence[str], seen: dict[str, list[Array]], change: Change) -> Wrap:
    """Note what a node returns under each of its names, and let the model go on with what `change` makes."""
    calls = count()

    def tapped(output: object) -> object:
        call = next(calls)
        for layer in layers:
            if split_call(layer)[1] not in (None, call):
                continue
            old = first_tensor(part_at(output, split_entry(layer)[1]))
            if old is None:
                raise LayerError(f"layer `{layer}` returns no floating-point tensor; choose another layer")
            seen[layer].append(change(layer, old))
            output = replace_tensor(output, old, seen[layer][-1])
        return output

    return after(tapped)


def see(path: str, seen: dict[str, list[Array]], change: Change, parts: Mapping[str, Array]) -> Array:
    """Take note of the parts of a call of attention, and return what goes on in the place of its output."""
    output = parts[OUTPUT]
    for name, x in parts.items():
        layer = part(path, name)
        if layer in seen:
            seen[layer].append(change(layer, x))
            output = seen[layer][-1] if name == OUTPUT else output
    return output


def before_activation(tap: Wrap) -> Wrap:
    """Return what taps a node before its own activation."""

    def wrap(node: Node, call: Run) -> Run:
        inner = tap(node, call)

        def run(*args: object, **kwargs: object) -> object:
            activation = node.__dict__["activation"]
            with attribute(node, "activation", keras.activations.linear):
                output = inner(*args, **kwargs)
            return activation(output)

        return run

    return wrap


def keeping(outputs: list[Array]) -> Wrap:
    """Note the first tensor that each call of a node returns."""

    def kept(output: object) -> object:
        tensor = first_tensor(output)
        if tensor is not None:
            outputs.append(tensor)
        return output

    return after(kept)


def keeping_all(calls: list[Array]) -> Wrap:
    """Note all that each call of a node returns."""

    def kept(output: object) -> object:
        calls.append(output)
        return output

    return after(kept)
