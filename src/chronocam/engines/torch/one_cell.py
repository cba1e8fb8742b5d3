"""Copies of a layer's output that differ in one cell each, and stand for themselves as long as they can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chronocam.engines.torch.repeated import Repeated


class OneCell(Repeated):
    """A stored tensor `(row, channel, *grid)` that stands for copies of itself, one cell of each another.

    What works on each cell by itself is done once for all others. A convolution differs between copies by
    what one cell adds: the whole is computed once. For anything else the copies are made.
    """

    _cells: Tensor
    """The number of each copy's cell on the grid, `(copy,)`."""
    _others: Tensor
    """What that cell holds, `(copy · row, channel)`."""

    @classmethod
    def around(cls, stored: Tensor, cells: Tensor, others: Tensor) -> OneCell:
        """Return what stands for one copy with each of the cells, one after the other."""
        one = cls.of(stored, len(cells), 0)
        assert isinstance(one, OneCell)
        one._cells, one._others = cells, others
        return one

    @classmethod
    def masked(cls, whole: Tensor, masks: Tensor) -> OneCell | None:
        """Return `(row, channel, *grid)` times each mask `(mask, *grid)`; None where one shows more cells."""
        flat = masks.flatten(1)
        if bool((flat.count_nonzero(dim=1) > 1).any()):
            return None
        cells = (flat != 0).int().argmax(dim=1)
        values = _at(whole, cells) * flat.gather(1, cells[:, None])[:, None]
        return cls.around(torch.zeros_like(whole), cells, values.flatten(0, 1))

    def copies(self) -> Tensor:
        """Return the copies; the same ones each time, since a model may write into them."""
        if self._copies is None:
            stored, count = self._stored, len(self._cells)
            copies = stored.expand(count, *stored.shape).flatten(3).clone()
            others = self._others.view(count, *stored.shape[:2])
            copies[torch.arange(count, device=others.device), :, :, self._cells] = others
            self._copies = copies.view(count * len(stored), *stored.shape[1:])
        return self._copies


def _at(x: Tensor, cells: Tensor) -> Tensor:
    """Return what `(row, channel, *grid)` holds at each cell, `(cell, row, channel)`."""
    return x.flatten(2)[:, :, cells].permute(2, 0, 1)


def _pointwise(func: Callable[..., Tensor], x: OneCell, *args: Any, **kwargs: Any) -> Tensor:
    stored, others = func(x._stored, *args, **kwargs), func(x._others, *args, **kwargs)
    return x if stored is x._stored else OneCell.around(stored, x._cells, others)


def _normalised(
    func: Callable[..., Tensor],
    x: OneCell,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    *args: Any,
    **kwargs: Any,
) -> Tensor | None:
    """Return a batch normalisation by statistics that are there already."""
    if training:
        return None
    return _pointwise(func, x, mean, var, weight, bias, training, *args, **kwargs)


def _convolved(
    func: Callable[..., Tensor],
    x: OneCell,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return a convolution of the whole, plus what each cell adds by being another."""
    stored, cells = x._stored, x._cells
    if isinstance(padding, str) or stored.ndim != weight.ndim:
        return None
    whole = func(stored, weight, bias, stride, padding, dilation, groups)
    step, before, apart = (_each(one, stored.ndim - 2) for one in (stride, padding, dilation))
    if prod(weight.shape[2:]) == groups == prod(step) and not before.any():
        return OneCell.around(whole, cells, F.linear(x._others, weight.flatten(1), bias))
    rise = x._others.view(len(cells), *stored.shape[:2]) - _at(stored, cells)
    taps = weight.reshape(groups, -1, weight.shape[1], prod(weight.shape[2:]))
    in_groups = rise.reshape(*rise.shape[:2], groups, -1)
    products = torch.einsum("nrgc,gock->knrgo", in_groups, taps).flatten(3)
    outputs = whole.shape[2:]
    parts = products.new_zeros(len(cells), prod(outputs), *products.shape[2:])
    at = np.stack(np.unravel_index(cells.cpu().numpy(), stored.shape[2:]), axis=1) + before
    for tap, product in zip(np.ndindex(*weight.shape[2:]), products, strict=True):
        places, off = np.divmod(at - apart * tap, step)
        met = ((off == 0) & (places >= 0) & (places < outputs)).all(axis=1).nonzero()[0]
        where = np.ravel_multi_index(tuple(places[met].T), outputs)
        parts[torch.as_tensor(met), torch.as_tensor(where)] = product[torch.as_tensor(met)]
    each = parts.permute(0, 2, 3, 1)
    return (whole + each.reshape(*each.shape[:3], *outputs)).flatten(0, 1)


def _each(number: int | Sequence[int], rank: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(number), (rank,))


OneCell._rules = {
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _convolved),
    **dict.fromkeys((F.relu, F.relu6, F.leaky_relu, F.elu, F.silu, F.gelu, F.hardswish), _pointwise),
    F.batch_norm: _normalised,
}
