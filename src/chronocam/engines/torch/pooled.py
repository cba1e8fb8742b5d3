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
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from chronocam.engines.torch.tensors import TARGETS_PER_PASS, vjp

Users: TypeAlias = Mapping[Any, Sequence[tuple[Any, int]]]
"""For each node of a graph those that use it, and as which of their inputs."""

_AT_ONCE = 2**22  # numbers in the gradients by a linear layer's output that are held at once
_SAME_ROWS = {"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "SqueezeBackward1"}


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
        found = _rows(scores, linear)
        if found is None:
            found = _by_output(scores, linear, columns())
        if found is None:
            return None
        factors = torch.cos(torch.arange(len(found), device=found.device)).to(found.dtype)
        (together,) = torch.autograd.grad(
            scores, [GradientEdge(self.mean, 0)], factors.expand_as(scores), retain_graph=True
        )
        expected = (factors[None] @ found.reshape(len(found), -1)).reshape(found.shape[1:])
        apart = (together.reshape(len(together), -1) - expected).abs().max() / expected.abs().max()
        if not apart <= max(1e-4, 8 * torch.finfo(found.dtype).eps):
            return None
        return (found / self.cells).expand(-1, len(together), -1)

    def _linear(self, users: Users) -> Any:
        """Return the node of the linear layer that alone uses the means, as rows `(sample, channel)`."""
        node, place = _only_user(users, self.mean)
        while node is not None and node.name() in _SAME_ROWS:
            node, place = _only_user(users, node)
        if node is None or node.name() != "AddmmBackward0" or place != 1:
            return None
        batch, *channels = self.means
        alike = len(node._saved_mat2) == prod(channels) == max(channels)
        return node if alike and next(iter(node._saved_mat1_sym_sizes)) == batch else None


def _rows(scores: Tensor, linear: Any) -> Tensor | None:
    """Return rows of the weight of a linear layer, `(target, sample, channel)`: one for each score.

    Of one sample where all have the same classes.

    None where the scores are not its outputs, one each.
    """
    node: Any = scores.grad_fn
    if node is None or node.name() != "GatherBackward0" or node._saved_dim not in (1, 2**64 - 1):
        return None
    before = node.next_functions[0][0]
    if before.name() == "ExpandBackward0":  # to the shape that it has
        before = before.next_functions[0][0]
    if before is not linear:
        return None
    index, weight = node._saved_index.T, linear._saved_mat2.detach().T
    if (index == index[:, :1]).all():
        rows = (weight if _is_range(index[:, 0], len(weight)) else weight[index[:, 0]])[:, None]
    else:
        rows = weight[index]
    return rows if linear._saved_alpha == 1 else rows * linear._saved_alpha


def _is_range(index: Tensor, count: int) -> bool:
    """Say whether an index is of all of so many rows in their order."""
    return torch.equal(index, torch.arange(count, device=index.device))


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
