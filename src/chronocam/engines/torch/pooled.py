"""Gradients in closed form, where all that follows a layer is its mean over the grid.

The gradient of any score is then the same at every cell: that of the mean, divided by the number of cells.
So the backward pass need not come as far as the layer, and of a linear layer behind the mean the gradients of
many classes are rows of its weight. That this is so is read off the graph of the pass, never off names; what
no graph shows, hooks of tensors in between, is found out by one backward pass of all scores together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from chronocam.engines.torch.tensors import TARGETS_PER_PASS, vjp

Users: TypeAlias = Mapping[Any, Sequence[tuple[Any, int]]]
"""For each node of a graph those that use it, and as which of their inputs."""

_AT_ONCE = 2**22  # numbers in the gradients by a linear layer's output that are held at once
_SAME_ROWS = {"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "SqueezeBackward1"}


def _alike(one: Tensor, other: Tensor, scale: Tensor) -> bool:
    """Say whether values differ by rounding alone: by little beside the largest value of `scale`."""
    norm = torch.linalg.vector_norm
    apart, largest = norm(one - other, torch.inf), norm(scale, torch.inf)
    return bool(apart <= max(1e-4, 8 * torch.finfo(one.dtype).eps) * largest)


def users_in(scores: Tensor) -> Users:
    """Return the users of every node that the scores are computed of."""
    users: dict[Any, list[tuple[Any, int]]] = {}
    if scores.grad_fn is None:
        return users
    ahead = [scores.grad_fn]
    while ahead:
        node = ahead.pop()
        for place, (before, _) in enumerate(node.next_functions):
            if before is None:
                continue
            if before not in users:
                users[before] = []
                ahead.append(before)
            users[before].append((node, place))
    return users


def _only_user(users: Users, node: Any) -> tuple[Any, int]:
    """Return the only user of a node, and as which of its inputs; (None, 0) where there are others."""
    every = users.get(node, ())
    return every[0] if len(every) == 1 else (None, 0)


def _only_strides(node: Any, shape: tuple[int, ...]) -> bool:
    """Say whether a node gives rows other strides, as pooling does with channels last: none is moved."""
    if node.name() != "AsStridedBackward1":
        return False
    same = tuple(node._saved_size) == shape and not node._saved_storage_offset
    steps = zip(shape, node._saved_stride, torch.empty(shape, device="meta").stride(), strict=True)
    return same and all(n == 1 or step == dense for n, step, dense in steps)


@dataclass(frozen=True)
class Head:
    """The rest of a model after a layer, where that is a mean over the grid and a linear layer.

    linear: the linear layer, which returns the model's outputs. axes: those of the grid.

    A pass with a graph has proven this. Later passes need no graph as long as the model does not change:
    gradients are rows of the weight. Each pass still compares the outputs with those of the mean, since a
    function that is called outside of modules, or data, may lead elsewhere.
    """

    linear: nn.Linear
    axes: tuple[int, ...]

    def gradients(
        self, scores: Tensor, outputs: Tensor, activations: Tensor, columns: Callable[[], Tensor]
    ) -> Tensor | None:
        """Return the gradients `(target, *activation shape)`, each once in memory for all cells.

        scores: `(sample, target)`, made of `outputs`. activations: of the layer. columns: returns a cotangent
            `(target, sample, target)` for each target.

        None where the outputs are not what the head makes of the activations.
        """
        weight = self.linear.weight.detach()
        bias = None if self.linear.bias is None else self.linear.bias.detach()
        features = activations.detach().mean(self.axes).flatten(1)
        if features.shape[1:] != weight.shape[1:]:
            return None
        # Scores that are single outputs have a row of the weight each. Others are differentiated, no further
        # than the outputs. In each case what the head makes of the mean is compared with the values.
        picked = _picked(scores, outputs.grad_fn or outputs)
        if picked is None:
            (by_output,) = vjp(scores, [outputs], columns())
            rows = None if by_output is None else by_output @ weight
            values, expected = outputs.detach(), F.linear(features, weight, bias)
        elif isinstance(picked, slice) or picked.ndim == 1:
            rows, values = weight[picked], scores.detach()
            expected = F.linear(features, rows, None if bias is None else bias[picked])
        else:
            rows, values = weight[picked], scores.detach()
            expected = (rows * features).sum(-1).T + (0 if bias is None else bias[picked].T)
        if rows is None or not _alike(values, expected, outputs.detach()):
            return None
        shape = activations.shape
        cells = prod([shape[axis] for axis in self.axes])
        # Rows that are the same for all samples stay one in memory.
        samples = 1 if rows.ndim == 2 else len(features)
        channels = [1 if axis in self.axes else n for axis, n in enumerate(shape)][1:]
        return (rows / cells).reshape(-1, samples, *channels).expand(-1, *shape)

    def same(self, one: Tensor, other: Tensor) -> bool:
        """Say whether two ways give the same gradients, which need be compared at one cell only."""
        for axis in self.axes:
            one, other = (x.narrow(axis + 1, 0, 1) for x in (one, other))
        return _alike(one, other, other)


@dataclass(frozen=True)
class Pooled:
    """A tensor of which scores see the mean over some axes, and nothing else.

    mean: its node in the graph. shape: of the tensor.
    """

    mean: Any
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def means(self) -> tuple[int, ...]:
        """The shape of the means, with the axes kept."""
        return tuple(1 if axis in self.axes else n for axis, n in enumerate(self.shape))

    @property
    def cells(self) -> int:
        """How many cells the mean is of."""
        return prod(self.shape[axis] for axis in self.axes)

    def gradients(
        self,
        scores: Tensor,
        columns: Callable[[], Tensor],
        users: Users,
        own: Callable[[Tensor], Tensor] | None,
    ) -> Tensor | None:
        """Return the gradients `(target, *shape)` by the tensor, each once in memory for all cells.

        columns: a cotangent per backward pass. own: keeps of each gradient by the means what is of the sample
            itself; None where samples do not couple.
        """
        linear = self._linear(users) if own is None and scores.shape[1] > TARGETS_PER_PASS else None
        found = None if linear is None else self._by_weight(scores, linear, columns)
        if found is None:
            (by_means,) = vjp(scores, [GradientEdge(self.mean, 0)], columns())
            found = None if by_means is None else by_means / self.cells
        if found is None:
            return None
        found = found.reshape(-1, *self.means)
        return (found if own is None else own(found)).expand(-1, *self.shape)

    def _by_weight(self, scores: Tensor, linear: Any, columns: Callable[[], Tensor]) -> Tensor | None:
        """Return the gradients `(target, sample, channel)` by the tensor at any cell, of the weight.

        None where one backward pass of all scores together, each by a factor of its own, shows that something
        in between changes them.
        """
        picked, weight = _picked(scores, linear), linear._saved_mat2.detach().T
        if picked is None:
            found = _by_output(scores, linear, columns())
        else:
            rows = weight[picked]
            found = (rows if rows.ndim == 3 else rows[:, None]) * linear._saved_alpha
        if found is None:
            return None
        factors = torch.cos(torch.arange(len(found), device=found.device)).to(found.dtype)
        (together,) = torch.autograd.grad(
            scores, [GradientEdge(self.mean, 0)], factors.expand_as(scores), retain_graph=True
        )
        expected = (factors[None] @ found.reshape(len(found), -1)).reshape(found.shape[1:])
        if not _alike(together.reshape(len(together), -1), expected, expected):
            return None
        return (found / self.cells).expand(-1, len(together), -1)

    def head(self, outputs: Tensor, users: Users, modules: Sequence[nn.Module]) -> Head | None:
        """Return what follows the tensor, where that is the mean and a linear layer of the model alone."""
        linear: Any = self._linear(users)
        returned: Any = outputs.grad_fn
        if linear is None or linear is not returned or (linear._saved_alpha, linear._saved_beta) != (1, 1):
            return None
        weight = linear._saved_mat2
        known = (m for m in modules if type(m) is nn.Linear)
        own = next((m for m in known if m.weight.data_ptr() == weight.data_ptr()), None)
        return None if own is None else Head(own, self.axes)

    def _linear(self, users: Users) -> Any:
        """Return the node of the linear layer that alone uses the means, as rows `(sample, channel)`."""
        node, place = _only_user(users, self.mean)
        while node is not None and (node.name() in _SAME_ROWS or _only_strides(node, self.means)):
            node, place = _only_user(users, node)
        if node is None or node.name() != "AddmmBackward0" or place != 1:
            return None
        batch, *channels = self.means
        alike = len(node._saved_mat2) == prod(channels) == max(channels)
        return node if alike and next(iter(node._saved_mat1_sym_sizes)) == batch else None


def _is_of(node: Any, source: Any) -> bool:
    """Say whether a node of a graph follows another one, or a leaf."""
    before = node.next_functions[0][0]
    return before is source or getattr(before, "variable", None) is source


def _picked(scores: Tensor, source: Any) -> slice | Tensor | None:
    """Return which outputs of a node the scores are, one each: for all samples, or `(target, sample)`.

    source: the node, or the leaf itself. None where they are not.
    """
    node: Any = scores.grad_fn
    if node is None:
        return None
    if node.name() == "SliceBackward0":
        plain = node._saved_dim == 1 and node._saved_step == 1 and _is_of(node, source)
        return slice(node._saved_start, node._saved_start + scores.shape[1]) if plain else None
    if node.name() != "GatherBackward0" or node._saved_dim not in (1, 2**64 - 1):
        return None
    index: Tensor = node._saved_index.T
    before = node.next_functions[0][0]
    if not _is_of(before if before.name() == "ExpandBackward0" else node, source):  # to the shape that it has
        return None
    chosen = index[:, 0]
    # Of few classes it is not asked whether they are the same for all samples: a device would wait for it.
    if len(index) <= TARGETS_PER_PASS or not (index == index[:, :1]).all():
        return index
    return slice(0, len(index)) if torch.equal(chosen, torch.arange(len(index)).to(chosen)) else chosen


def _by_output(scores: Tensor, linear: Any, columns: Tensor) -> Tensor | None:
    """Return the gradients `(column, sample, channel)` by what a linear layer gets: by its output first."""
    weight = linear._saved_mat2.detach().T  # (class, channel)
    step = max(TARGETS_PER_PASS, _AT_ONCE // (columns.shape[1] * len(weight)))
    parts: list[Tensor] = []
    for part in torch.split(columns, step):
        (by_output,) = vjp(scores, [GradientEdge(linear, 0)], part, step)
        if by_output is None:
            return None
        by_output = by_output * linear._saved_alpha
        if bool((by_output.count_nonzero(-1) <= 1).all()):  # of one class each: its row
            row = by_output.abs().argmax(-1)
            parts.append(weight[row] * by_output.gather(-1, row[..., None]))
        else:
            parts.append(by_output @ weight)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def pooled_in(users: Users, tensor: Tensor, passed: Tensor) -> Pooled | None:
    """Return how a layer's output is pooled; None where the graph does not prove that scores see no more.

    passed: its clone, which the model went on with; hooks of either may change the gradient.
    """
    if passed._backward_hooks or tensor._backward_hooks or passed.grad_fn is None:
        return None
    clone, _ = _only_user(users, get_gradient_edge(tensor).node)
    mean, _ = _only_user(users, clone)
    if mean is None or clone.name() != "CloneBackward0" or mean.name() != "MeanBackward1":
        return None
    shape = tuple(tensor.shape)
    # Negative axes are saved as large ones, by 64 bits without a sign.
    axes = tuple((axis - 2**64 if axis >= 2**63 else axis) % tensor.ndim for axis in mean._saved_dim)
    fits = tuple(mean._saved_self_sym_sizes) == shape and len(axes) > 0 and 0 not in axes
    return Pooled(mean, shape, axes) if fits else None
