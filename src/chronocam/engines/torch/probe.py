"""What a layer's cells see of the input, found with gradients where the graph does not say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from chronocam.engines.geometry import Centers
from chronocam.errors import LayoutError

LOOKS = 4  # how many inputs of noise are tried: a maximum lets through one position of its window at a time
WHOLE = 0.9  # the share of the widest extent from which a cell counts as seen whole
PAIRS = 4  # how many pairs of neighbouring cells along an axis are looked at

Look = Callable[[Tensor], Tensor]
"""Runs a model on an input; returns the layer's output."""


def probed_centers(look: Look, like: Tensor, grid: Sequence[int], layer: str) -> tuple[Centers, ...]:
    """Return, per axis, the input coordinate at the centre of what every cell sees, over the last axes.

    The extent of the gradient of single cells is measured for noise shaped `like` the input. Cells whose
    extent ends at the border are cut off there, so the centres of the others are continued in a straight
    line; None for an axis along which too few are not.
    Raises LayoutError where cells see the whole input, or where the output does not have this grid.
    """
    extents: dict[tuple[int, int], tuple[int, int]] = {}
    sizes = like.shape[-len(grid) :]
    generator = torch.Generator(like.device).manual_seed(0)
    for _ in range(LOOKS):
        source = noise_like(like, generator).requires_grad_()
        cells = _cells_last(look(source), grid, layer)
        for axis, n in enumerate(grid):
            for i in _chosen(n):
                cell = cells
                for other, m in enumerate(grid):
                    cell = cell.select(1, i if other == axis else m // 2)
                (g,) = torch.autograd.grad(cell.sum(), source, retain_graph=True, allow_unused=True)
                found = None if g is None else _extent(g, axis - len(grid))
                if found is not None:
                    low, high = extents.get((axis, i), found)
                    extents[axis, i] = min(low, found[0]), max(high, found[1])
        each = [{i: extents[a, i] for i in _chosen(n) if (a, i) in extents} for a, n in enumerate(grid)]
        centers = tuple(_line(found, n, size) for found, n, size in zip(each, grid, sizes, strict=True))
        # Extents only grow, so what ends at all borders once is refused without another look.
        if all(axis is None for axis in centers):
            raise LayoutError(
                f"the cells of layer `{layer}` see the input from border to border; "
                'use align="half_pixel", or a larger input'
            )
    return centers


def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return noise of the shape of `x`; the global random numbers stay as they are."""
    generator = generator or torch.Generator(x.device).manual_seed(0)
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def _chosen(cells: int) -> list[int]:
    """Return pairs of neighbours, spread over an axis: interpolated cells differ in how they lie."""
    starts = {round(k * max(cells - 2, 0) / (PAIRS - 1)) for k in range(PAIRS)}
    return sorted({min(i, cells - 1) for start in starts for i in (start, start + 1)})


def _cells_last(output: Tensor, grid: Sequence[int], layer: str) -> Tensor:
    """Return the first sample (or frame) as `(channel, *grid)`, squared so that channels do not cancel."""
    rank = len(grid)
    if tuple(output.shape[-rank:]) == tuple(grid):
        return output[0] ** 2
    if tuple(output.shape[-rank - 1 : -1]) == tuple(grid):
        return output[0].movedim(-1, 0) ** 2
    raise LayoutError(
        f'layer `{layer}` returns {tuple(output.shape)}, which has no local cells; use align="half_pixel"'
    )


def _extent(gradient: Tensor, axis: int) -> tuple[int, int] | None:
    """Return the first and last position along `axis` where the gradient is not zero."""
    touched = gradient.movedim(axis, -1).flatten(0, -2).abs().sum(0).nonzero().flatten()
    return (int(touched[0]), int(touched[-1])) if len(touched) else None


def extent_of(output: Tensor, source: Tensor) -> tuple[tuple[int, int], ...] | None:
    """Return the first and last place that any cell of an output sees, per axis of a sample."""
    if not output.requires_grad:
        return None
    (g,) = torch.autograd.grad(output, source, noise_like(output), allow_unused=True)
    return None if g is None else extent_in(g)


def extent_in(gradient: Tensor) -> tuple[tuple[int, int], ...] | None:
    """Return the first and last place, per axis of a sample, at which a gradient is not zero."""
    extents = [_extent(gradient, axis) for axis in range(1, gradient.ndim)]
    return tuple(one for one in extents if one is not None) if extents and None not in extents else None


def _line(found: dict[int, tuple[int, int]], cells: int, size: int) -> Centers:
    """Return the centres of all cells, from those whose extent does not end at the border, if any."""
    free = {i: (low, high) for i, (low, high) in found.items() if low > 0 and high < size - 1}
    # Part of a dilated window can lie outside although what is left of it does not end at the border.
    widest = max((high - low for low, high in free.values()), default=0)
    inside = {i: (low + high) / 2 for i, (low, high) in free.items() if high - low >= WHOLE * widest}
    if cells == 1 and len(found) == 1:
        return ((size - 1) / 2,)
    if len(inside) < 2:
        return None
    stride, start = np.polyfit(list(inside), list(inside.values()), 1)
    return tuple(round(float(start + stride * i), 6) + 0.0 for i in range(cells))


def rows_in_time(rows: Tensor, source: Tensor, frame_axis: int) -> tuple[float, ...]:
    """Return the middle of the frames of the first clip in `source` that each of `rows` sees."""
    extents = []
    for row in rows:
        (g,) = torch.autograd.grad((row**2).sum(), source, retain_graph=True)
        first, last = _extent(g[0], frame_axis - 1) or (0, g.shape[frame_axis] - 1)
        extents.append((first + last) / 2)
    return tuple(extents)


def follows_in_time(tokens: Tensor, source: Tensor, prefix: int, frame_axis: int) -> bool:
    """Say whether the second token sees other frames than the first, rather than another place."""
    profiles = []
    for i in (prefix, prefix + 1):
        (g,) = torch.autograd.grad((tokens[0, i] ** 2).sum(), source, retain_graph=True)
        profiles.append(g[0].movedim(frame_axis - 1, 0).flatten(1).norm(dim=1))
    first, second = (p / p.sum().clamp(min=1e-30) for p in profiles)
    return bool((first - second).abs().sum() > 1)  # 0 for the same frames, 2 for others
