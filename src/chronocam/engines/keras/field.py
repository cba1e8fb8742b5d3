"""Receptive fields of a Keras layer, composed from the calls of the layers between the input and it.

Cell i of a layer sees the input positions [stride·i + low, stride·i + high] on each axis; going forward
through kernels, strides, paddings and dilations these compose, and where branches meet the wider interval
holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras

from chronocam.engines.keras.layers import Node, Run, Wrap, first_tensor, is_float
from chronocam.engines.keras.program import Program
from chronocam.engines.names import part_at, split_call, split_entry
from chronocam.types import Array, Inputs

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


_KEEP_PLACES = _POINTWISE | {
    "InputLayer",
    "Flatten",
    "Masking",
    "Softmax",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "Reshape",
}
"""Kinds that leave places in their order, beside windows and global pools."""

_CONSTANT = {"ZerosLike", "OnesLike", "FullLike"}

TRIM = 1  # rows or columns cut off at an end, as networks do whose kernels are even
KERNEL = 3  # places of padding on one side: what a kernel of 7 × 7 needs


def keep_places(model: Node, channels_last: bool) -> bool:
    """Say whether all layers of a functional model are of kinds that leave places where they are."""
    if isinstance(model, (keras.layers.TimeDistributed, keras.layers.Wrapper)):
        return keep_places(model.layer, channels_last)
    inside = model.layers if isinstance(model, keras.Sequential) else getattr(model, "operations", None)
    if isinstance(inside, list):
        return all(keep_places(one, channels_last) for one in inside)
    kind = type(model).__name__
    if kind == "Concatenate" and (shape := _shape_of(model)) is not None and len(shape) > 3:
        return _keeps_places(model, len(shape), channels_last)
    known = type(model).__module__.startswith("keras.") and (
        kind in _KEEP_PLACES
        or kind.startswith("Global")
        or (kind.startswith("ZeroPadding") and max(keras.tree.flatten(model.padding)) <= KERNEL)
        or (kind == "Cropping2D" and max(keras.tree.flatten(model.cropping)) <= TRIM)
        or isinstance(model, keras.layers.RNN)
        or hasattr(model, "kernel_size")
        or hasattr(model, "pool_size")
    )
    return known


def _shape_of(node: Node) -> Sequence[int | None] | None:
    """Return the shape of what a node makes; None for one that is called several times."""
    try:
        shape: Sequence[int | None] = keras.tree.flatten(node.output)[0].shape
    except (AttributeError, ValueError):
        return None
    return shape


@dataclass(frozen=True)
class AxisField:
    """Along one axis: cell i sees positions [stride·i + low, stride·i + high]."""

    stride: int = 1
    low: int = 0
    high: int = 0

    def through(self, kernel: int, stride: int, before: int, dilation: int) -> AxisField:
        """Return the field after a window, with `before` cells of padding in front of the axis."""
        first = self.low - before * self.stride
        return AxisField(
            self.stride * stride, first, first + self.high - self.low + (kernel - 1) * dilation * self.stride
        )

    def center(self, cell: int) -> float:
        """Return the coordinate of a cell's centre."""
        return (self.low + self.high) / 2 + self.stride * cell


Fields = tuple[AxisField, ...] | None
"""One per axis; None after a layer of unknown extent."""


def fields_of(program: Program, inputs: Inputs, layer: str, rank: int, channels_last: bool) -> list[Fields]:
    """Return the fields of the calls of `layer` over `rank` axes, None for one that is unknown."""
    (path, entry), (_, number) = split_entry(layer), split_call(layer)
    start = first_tensor(inputs)
    # By the tensors' ids, which no other tensor gets while these are kept.
    known: dict[int, tuple[Array, Fields]] = {id(start): (start, (AxisField(),) * rank)}
    calls: list[Fields] = []

    def wrap(at: str) -> Wrap:
        def around(node: Node, call: Run) -> Run:
            def run(*args: object, **options: object) -> object:
                output = call(*args, **options)
                every = [x for x in keras.tree.flatten((args, options)) if is_float(x)]
                fields = {id(x): known[id(x)][1] for x in every if id(x) in known}
                tensor = first_tensor(output)
                if fields and tensor is not None and id(tensor) not in known and not _forgets(node):
                    known[id(tensor)] = tensor, _after(node, every, fields, channels_last)
                if at == path:
                    own = first_tensor(part_at(output, entry))
                    calls.append(known.get(id(own), (None, None))[1])
                return output

            return run

        return around

    program.run(inputs, {at: [wrap(at)] for at in program.nodes})
    return calls if number is None else calls[number : number + 1]


def _forgets(node: Node) -> bool:
    """Say whether no local path leads through a layer: its output has no grid, or is constant."""
    return type(node).__name__.startswith("Global") or type(node).__name__ in _CONSTANT


def _after(node: Node, every: Sequence[Array], fields: Mapping[int, Fields], channels_last: bool) -> Fields:
    """Return the fields after a layer, None for one of unknown extent.

    every: its inputs. fields: of those that depend on the model's input, by id.
    """
    inputs = [x for x in every if id(x) in fields]
    known = [f for f in map(fields.__getitem__, map(id, inputs)) if f is not None]
    if len(known) < len(inputs):
        return None
    kind = type(node).__name__
    if kind in _POINTWISE:
        if _keeps_places(node, len(inputs[0].shape), channels_last):
            return _joined(known)
        return _moved(node, every, inputs[0], known[0], channels_last) if len(inputs) == 1 else None
    if kind.startswith(("ZeroPadding", "Cropping")):
        return _padded(node, known[0])
    return _windowed(node, inputs[0].shape, known[0])


def _keeps_places(node: Node, ndim: int, channels_last: bool) -> bool:
    """Say whether a layer keeps every cell where it is: all but a concatenation along an axis of the grid."""
    channels = ndim - 1 if channels_last else 1
    return type(node).__name__ != "Concatenate" or bool(node.axis % ndim == channels)


def _moved(
    node: Node, every: Sequence[Array], own: Array, fields: tuple[AxisField, ...], channels_last: bool
) -> Fields:
    """Return the fields of what stands beside constants along an axis of the grid: those are its padding."""
    axis = node.axis % len(own.shape)
    before = sum(x.shape[axis] for x in every[: [x is own for x in every].index(True)])
    along = axis - 1 if channels_last else axis - 2
    return tuple(f.through(1, 1, before if i == along else 0, 1) for i, f in enumerate(fields))


def _padded(node: Node, fields: tuple[AxisField, ...]) -> Fields:
    """Return the fields after cells were put in front of each axis, or taken away there."""
    sign, ends = (1, node.padding) if type(node).__name__.startswith("Zero") else (-1, node.cropping)
    before = [end[0] for end in (ends if isinstance(ends[0], (tuple, list)) else (ends,))]
    return tuple(f.through(1, 1, sign * b, 1) for f, b in zip(fields, before, strict=True))


def _windowed(node: Node, shape: Sequence[int], fields: tuple[AxisField, ...]) -> Fields:
    """Return the fields after a convolution or pooling; None for any other layer."""
    rank = len(fields)
    window = _window(node, rank)
    if window is None:
        return None
    sizes = shape[1 : 1 + rank] if node.data_format == "channels_last" else shape[2 : 2 + rank]
    each = zip(fields, sizes, *window, strict=True)
    return tuple(f.through(k, s, _before(node.padding, n, k, s, d), d) for f, n, k, s, d in each)


def _window(node: Node, rank: int) -> tuple[Sequence[int], Sequence[int], Sequence[int]] | None:
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
    if padding == "same":  # an odd cell of padding goes behind
        return max((-(-size // stride) - 1) * stride + extent + 1 - size, 0) // 2
    return extent if padding == "causal" else 0


def _joined(fields: Sequence[tuple[AxisField, ...]]) -> Fields:
    """Return the fields that hold all of those that meet; None where their strides differ."""
    axes = list(zip(*fields, strict=True))
    if any(len({f.stride for f in axis}) > 1 for axis in axes):
        return None
    return tuple(
        AxisField(axis[0].stride, min(f.low for f in axis), max(f.high for f in axis)) for axis in axes
    )
