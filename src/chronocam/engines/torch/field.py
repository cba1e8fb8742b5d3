"""Receptive fields of a PyTorch layer, read from the autograd graph between the input and the layer.

The graph holds every convolution and pooling with its kernel, stride, padding and dilation, also those that
are called as functions, and every branch. An output cell i of an operation sees the input positions
[s·i + low, s·i + high] on each axis; going backward through the graph these compose, and where branches meet
the wider interval holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from chronocam.engines.torch.graph import signed
from chronocam.errors import LayoutError
from chronocam.types import Window

_POINTWISE = re.compile(
    r"(Add|Sub|Mul|Div|Neg|Abs|Exp|Sqrt|Rsqrt|Pow|Maximum|Minimum|Where|Clamp\w*|Threshold|Relu|LeakyRelu|PreluKernel|"
    r"Elu|Celu|Selu|Gelu|Silu|Mish|Softplus|Hardtanh|Hardswish|Hardsigmoid|Sigmoid|LogSigmoid|Tanh|Clone|Alias|ToCopy|"
    r"NativeDropout|\w*BatchNorm|NativeGroupNorm|NativeLayerNorm|Stack|Unbind|Squeeze|Unsqueeze|Permute|Transpose|T|View|UnsafeView|ReshapeAlias|"
    r"Addmm|Mm|Linear|Mkldnn\w*)Backward\d*$"
)
_POOL = re.compile(r"(Max|Avg)Pool(?P<rank>[123])D(WithIndices)?Backward\d*$")
_GLOBAL = re.compile(r"(Mean|AdaptiveAvgPool|AdaptiveMaxPool)")


@dataclass(frozen=True)
class GridField:
    """Per axis: cell i sees positions [stride·i + low, stride·i + high]."""

    stride: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    def through(
        self, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
    ) -> GridField:
        """Return the field one operation further down, towards the input."""
        each = zip(self.stride, self.low, self.high, kernel, stride, padding, dilation, strict=True)
        parts = [(j * s, lo * s - p, hi * s - p + d * (k - 1)) for j, lo, hi, k, s, p, d in each]
        return GridField(*(tuple(axis) for axis in zip(*parts, strict=True)))

    def joined(self, other: GridField | None) -> GridField | None:
        """Return the field that holds both, where two branches meet; None where their strides differ."""
        if other is None:
            return self
        if self.stride != other.stride:
            return None
        low, high = map(min, self.low, other.low), map(max, self.high, other.high)
        return GridField(self.stride, tuple(low), tuple(high))

    @property
    def windows(self) -> tuple[Window, ...]:
        """What each cell sees, per axis."""
        return tuple(map(Window, self.stride, self.low, self.high))

    def centers(self, grid: Sequence[int]) -> tuple[tuple[float, ...], ...]:
        """Return the coordinate of every cell's centre, per axis."""
        each = zip(grid, self.stride, self.low, self.high, strict=True)
        return tuple(tuple((lo + hi) / 2 + s * i for i in range(n)) for n, s, lo, hi in each)


def field_of(output: Tensor, source: Tensor, rank: int, layer: str) -> GridField | None:
    """Return the receptive field of `output`'s cells in `source`, over the last `rank` axes.

    None where the graph holds an operation of unknown extent. Raises LayoutError where no local path leads to
    the input.
    """
    try:
        return _between(output.grad_fn, torch.autograd.graph.get_gradient_edge(source).node, rank, _through)
    except LookupError as error:
        raise LayoutError(
            f'layer `{layer}` sees the input through no local path; use align="half_pixel"'
        ) from error


def windows_between(
    stages: Sequence[dict[str, Node | None]], source: Tensor, rank: int
) -> dict[str, tuple[Window, ...] | None]:
    """Return one layer per stage with the windows of its cells on the one before it, `source` for the first.

    stages: the nodes of the layers' outputs in the graph, first to last.

    Of each stage the last layer that leads to the last stage's is taken. Only operations that change the grid
    count. None where the extent is unknown.
    """
    *_, last = stages[-1].values()
    leading = {*_downward(last), None}
    before: Node | None = torch.autograd.graph.get_gradient_edge(source).node
    windows: dict[str, tuple[Window, ...] | None] = {}
    for nodes in stages:
        for layer in reversed(nodes):
            if nodes[layer] in leading:
                windows[layer], before = _windows(nodes[layer], before, rank), nodes[layer]
                break
    return windows


def _windows(start: Node | None, end: Node | None, rank: int) -> tuple[Window, ...] | None:
    try:
        field = (
            None
            if start is None or end is None
            else _between(start, end, rank, partial(_through, resizing=True))
        )
    except LookupError:
        return None
    return None if field is None else field.windows


def _between(
    start: Node | None, end: Node, rank: int, through: Callable[[Any, GridField], GridField | None]
) -> GridField | None:
    """Return the field of node `start` in node `end`, None for an unknown one.

    Raises LookupError where no local path leads there.
    """
    # Every node comes after all that use it, so the branches that meet in it have all been walked by then.
    fields = {start: GridField((1,) * rank, (0,) * rank, (0,) * rank)}
    nodes = _downward(start)
    leading = _leading(nodes, end)
    for node in nodes:
        if node is end and node in fields:
            return fields[node]
        if node not in fields or not node.next_functions or _GLOBAL.match(node.name()):
            continue
        for child, below in _below(node, fields[node], through):
            if child not in leading:  # as what a weight is made of, where it is a normalised one
                continue
            met = None if below is None else below.joined(fields.get(child))
            if met is None:
                return None
            fields[child] = met
    raise LookupError


def _leading(nodes: Sequence[Node], end: Node) -> set[Any]:
    """Return those of the nodes, each after all that use it, from which a way leads to the end."""
    leading: set[Any] = {end}
    for node in reversed(nodes):
        if any(child in leading for child, _ in node.next_functions):
            leading.add(node)
    return leading


def _below(
    node: Any, field: GridField, through: Callable[[Any, GridField], GridField | None]
) -> Iterator[tuple[Any, GridField | None]]:
    """Yield the nodes that one is made of, each with the field in it."""
    pasted = pastes(node, len(field.stride))
    for at, (child, _) in enumerate(node.next_functions):
        if child is not None and not (pasted and _is_strip(node, at)):
            yield child, _through_pasting(node, at, field) if pasted else through(node, field)


def _is_strip(node: Any, at: int) -> bool:
    """Say whether one of the tensors that were put together is cut from another, as padding by hand is."""
    child = node.next_functions[at][0]
    others = {one for one, _ in node.next_functions if one is not child}
    while len(child.next_functions) == 1 and child.next_functions[0][0] is not None:
        child = child.next_functions[0][0]
        if child in others:
            return True
    return False


def pastes(node: Any, rank: int) -> bool:
    """Say whether a node puts tensors side by side on the last `rank` axes, or one onto a part of another."""
    if node.name().endswith("CopySlices"):
        return True
    if not node.name().startswith("CatBackward"):
        return False
    return _grid_axis(node, signed(node._saved_dim), rank) >= 0


def _grid_axis(node: Any, dim: int, rank: int) -> int:
    """Return which of the grid's `rank` axes an axis of what a node returns is; negative for another axis.

    The grid's axes are the last ones of what convolutions and pools return, and of the input. From there a
    network may have put its channels last.
    """
    shape = _shape_of(node)
    naive = dim % len(shape) - (len(shape) - rank)
    at = dim % len(shape)
    while node.next_functions and not (node.name().startswith("Convolution") or _POOL.match(node.name())):
        name, child = node.name(), node.next_functions[0][0]
        if child is None:
            return naive
        below = _shape_of(child)
        if name.startswith("Permute"):
            at = signed(node._saved_dims[at]) % len(below)
        elif name.startswith("Transpose"):
            swapped = [signed(one) % len(below) for one in (node._saved_dim0, node._saved_dim1)]
            at = swapped[1 - swapped.index(at)] if at in swapped else at
        elif len(below) != len(_shape_of(node)):
            return naive
        node = child
    return at - (len(_shape_of(node)) - rank)


def _shape_of(node: Any) -> tuple[int, ...]:
    """Return the shape of what a node returns; of the input, the shape of that."""
    metadata = getattr(node, "_input_metadata", None)
    return tuple(metadata[0].shape) if metadata else tuple(node.variable.shape)


def _through_pasting(node: Any, at: int, field: GridField) -> GridField | None:
    """Return the field in one of the tensors that were put together.

    None where it does not lie in the whole as it was.

    The node's own backward pass says where it lies: of the places of the whole it returns those of each part.
    """
    whole, rank = node._input_metadata[0], len(field.stride)
    starts = []
    for axis in range(-rank, 0):
        size = whole.shape[axis]
        places = torch.arange(1, size + 1, dtype=whole.dtype, device=whole.device)
        places = places.reshape(-1, *(1,) * (-axis - 1)).expand(whole.shape)
        part = node(places.contiguous())[at]
        if part is None or part.ndim != len(whole.shape):
            return None
        own = part.movedim(axis, 0).flatten(1).amax(1)
        (left,) = own.nonzero(as_tuple=True)  # without what was put onto it
        starts.append(int(own[left[0]] - 1 - left[0]) if len(left) else 0)
        if not torch.equal(own[left], own[left[:1]] + left - left[:1]):
            return None
    ones = (1,) * rank
    return field.through(ones, ones, starts, ones)


def _through(node: Any, field: GridField, resizing: bool = False) -> GridField | None:
    """Return the field below a node. resizing: whether axes along which it keeps the grid are passed by."""
    name = node.name()
    if name.startswith("ConvolutionBackward") and not node._saved_transposed:
        kernel = tuple(node._saved_weight.shape[2:])
        window = kernel, node._saved_stride, node._saved_padding, node._saved_dilation
        return _through_window(field, *window, resizing=resizing)
    if pool := _POOL.match(name):
        rank = int(pool["rank"])
        kernel = _per_axis(node._saved_kernel_size, rank)
        stride = _per_axis(node._saved_stride, rank) or kernel
        dilation = _per_axis(getattr(node, "_saved_dilation", ()), rank) or (1,) * rank
        return _through_window(
            field, kernel, stride, _per_axis(node._saved_padding, rank), dilation, resizing=resizing
        )
    if name.startswith("ConstantPadNdBackward") and not resizing:
        return _through_padding(node._saved_pad, field)
    if name.startswith(("ReflectionPad", "ReplicationPad")) and not resizing:
        return _through_padding(node._saved_padding, field)
    if name.startswith(("SelectBackward", "SliceBackward")):
        return _through_part(node, field)
    return field if name.startswith("CatBackward") or _POINTWISE.match(name) else None


def _through_window(field: GridField, *window: Sequence[int], resizing: bool) -> GridField:
    """Return the field through a window of kernel, stride, padding and dilation, over its axes.

    A window of fewer axes leaves the first ones alone, as a 2D convolution does with time.
    """
    # An axis that the window does not have gets the window that does nothing: kernel 1, stride 1, no padding.
    # Where only changes of the grid count, so does an axis along which a convolution pads what its kernel
    # takes, however wide it is: its output lies on the same grid.
    rank, alone = len(field.stride), (1, 1, 0, 1)
    each = [
        (*(one,) * (rank - len(values)), *tuple(values)[-rank:])
        for one, values in zip(alone, window, strict=True)
    ]
    axes = [
        alone if resizing and s == 1 and 2 * p == d * (k - 1) else (k, s, p, d)
        for k, s, p, d in zip(*each, strict=True)
    ]
    return field.through(*zip(*axes, strict=True))


def _through_padding(pad: Sequence[int], field: GridField) -> GridField:
    """Return the field through `F.pad`: cells in front of an axis, or taken away there."""
    rank = len(field.stride)
    before = [signed(n) for n in pad[::2]][:rank]  # from the last axis on
    ones = (1,) * rank
    return field.through(ones, ones, [0] * (rank - len(before)) + before[::-1], ones)


def _through_part(node: Any, field: GridField) -> GridField | None:
    """Return the field through `x[..., start:end:step]` or `x[:, i]`; None where the grid loses an axis."""
    sizes, rank = node._saved_self_sym_sizes, len(field.stride)
    dim = signed(node._saved_dim) % len(sizes)
    axis = _grid_axis(node, dim, rank) if node.name().startswith("Slice") else dim - (len(sizes) - rank)
    if axis < 0:
        return field
    if node.name().startswith("SelectBackward"):
        return None
    ones, start, step = (1,) * rank, [0] * rank, [1] * rank
    start[axis], step[axis] = signed(node._saved_start) % sizes[dim], node._saved_step
    return field.through(ones, step, [-s for s in start], ones)


def _per_axis(value: Sequence[int], rank: int) -> tuple[int, ...]:
    return tuple(value) * rank if len(value) == 1 else tuple(value)


def _downward(start: Node | None) -> list[Node]:
    """Return the nodes of the graph from the output to the input, every node after all that use it."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node | None, bool]] = [(start, False)]
    while stack:
        node, done = stack.pop()
        if node is None:
            continue
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((child, False) for child, _ in node.next_functions)
    return order[::-1]
