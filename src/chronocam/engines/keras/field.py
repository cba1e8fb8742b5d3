"""Receptive fields of a Keras layer, composed from the calls of the layers between the input and it.

Cell i of a layer sees the input positions [stride·i + low, stride·i + high] on each axis; going forward
through kernels, strides, paddings and dilations these compose, and where branches meet the wider interval
holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from chronocam.engines.base import split_call
from chronocam.engines.keras.layers import Wrap, first_tensor, intercepted, is_float, own_errors
from chronocam.engines.keras.program import call_model
from chronocam.types import Inputs

_POINTWISE = {
    "Activation",
    "ReLU",
    "LeakyReLU",
    "PReLU",
    "ELU",
    "Softmax",
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "UnitNormalization",
    "Dense",
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
    "Add",
    "Subtract",
    "Multiply",
    "Average",
    "Maximum",
    "Minimum",
    "Concatenate",
    "Rescaling",
    "Normalization",
    "Relu",
    "Relu6",
    "Silu",
    "Sigmoid",
    "Tanh",
    "Gelu",
    "Elu",
    "Divide",
    "TrueDivide",
    "LayerScale",
    "StochasticDepth",
}


@dataclass(frozen=True)
class Field:
    """Along one axis: cell i sees positions [stride·i + low, stride·i + high]."""

    stride: int = 1
    low: int = 0
    high: int = 0

    def through(self, kernel: int, stride: int, before: int, dilation: int) -> Field:
        """Return the field after a window, with `before` cells of padding in front of the axis."""
        first = self.low - before * self.stride
        return Field(
            self.stride * stride, first, first + self.high - self.low + (kernel - 1) * dilation * self.stride
        )

    def center(self, cell: int) -> float:
        """Return the coordinate of a cell's centre."""
        return (self.low + self.high) / 2 + self.stride * cell


Fields = tuple[Field, ...] | None
"""Per axis; None where a layer does not tell its extent."""


def fields_of(
    model: Any, nodes: Mapping[str, Any], inputs: Inputs, layer: str, rank: int, channels_last: bool
) -> list[Fields]:
    """Return the fields of the calls of `layer` over `rank` axes, None for one that sees the input in another way."""
    path, number = split_call(layer)
    start = first_tensor(inputs)
    # By the tensors' ids, which stay theirs as long as they are kept.
    known: dict[int, tuple[Any, Fields]] = {id(start): (start, (Field(),) * rank)}
    found: list[Fields] = []

    def wrap(at: str) -> Wrap:
        def around(node: Any, call: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **options: Any) -> Any:
                output = call(*args, **options)
                given = [x for x in keras.tree.flatten((args, options)) if is_float(x) and id(x) in known]
                tensor = first_tensor(output)
                if given and tensor is not None and id(tensor) not in known and not _forgets(node):
                    known[id(tensor)] = (
                        tensor,
                        _after(node, given, [known[id(x)][1] for x in given], channels_last),
                    )
                if at == path:
                    found.append(known.get(id(tensor), (None, None))[1])
                return output

            return run

        return around

    with own_errors(), intercepted({at: [wrap(at)] for at in nodes}, nodes):
        call_model(model, inputs)
    return found if number is None else found[number : number + 1]


def _forgets(node: Any) -> bool:
    """Say whether a layer's output has no grid, so that it is no local path."""
    return type(node).__name__.startswith("Global")


def _channel_axis(ndim: int, channels_last: bool) -> int:
    return ndim - 1 if channels_last else 1


def _after(node: Any, given: Sequence[Any], fields: Sequence[Fields], channels_last: bool) -> Fields:
    """Return the fields after a layer that was given tensors with these."""
    kind, first = type(node).__name__, fields[0]
    if any(f is None for f in fields) or first is None:
        return None
    if kind == "Concatenate" and node.axis % len(given[0].shape) != _channel_axis(
        len(given[0].shape), channels_last
    ):
        return None
    if kind in _POINTWISE:
        return _joined([f for f in fields if f is not None])
    if kind.startswith(("ZeroPadding", "Cropping")):
        sign, ends = (1, node.padding) if kind.startswith("Zero") else (-1, node.cropping)
        before = [end[0] for end in (ends if isinstance(ends[0], (tuple, list)) else (ends,))]
        return tuple(f.through(1, 1, sign * b, 1) for f, b in zip(first, before, strict=True))
    window = _window(node, len(first))
    if window is None:
        return None
    shape = given[0].shape
    sizes = shape[1 : 1 + len(first)] if node.data_format == "channels_last" else shape[2 : 2 + len(first)]
    each = zip(first, sizes, *window, strict=True)
    return tuple(f.through(k, s, _before(node.padding, n, k, s, d), d) for f, n, k, s, d in each)


def _window(node: Any, rank: int) -> tuple[Sequence[int], Sequence[int], Sequence[int]] | None:
    """Return kernel, strides and dilation of a convolution or pooling, per axis; None for other layers."""
    kernel = getattr(node, "kernel_size", None) or getattr(node, "pool_size", None)
    if kernel is None or "Transpose" in type(node).__name__ or not hasattr(node, "data_format"):
        return None
    window = (kernel, node.strides, getattr(node, "dilation_rate", 1))
    each = tuple(tuple(v) if isinstance(v, (tuple, list)) else (v,) * rank for v in window)
    return (each[0], each[1], each[2]) if all(len(v) == rank for v in each) else None


def _before(padding: str, size: int, kernel: int, stride: int, dilation: int) -> int:
    """Return how many cells are put in front of an axis."""
    extent = dilation * (kernel - 1)
    if padding == "same":  # what is odd goes behind
        return max((-(-size // stride) - 1) * stride + extent + 1 - size, 0) // 2
    return extent if padding == "causal" else 0


def _joined(fields: Sequence[tuple[Field, ...]]) -> Fields:
    """Return the fields that hold all of those that meet; None where their strides differ."""
    axes = list(zip(*fields, strict=True))
    if any(len({f.stride for f in axis}) > 1 for axis in axes):
        return None
    return tuple(Field(axis[0].stride, min(f.low for f in axis), max(f.high for f in axis)) for axis in axes)
