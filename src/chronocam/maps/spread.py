"""A transposed convolution of ones: cells spread over the cells that they see, one matrix per axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from chronocam.maps.arrays import in_full_precision, like, namespace, widen
from chronocam.maps.resample import axis_matrix, half_pixel_centers
from chronocam.types import Window


@lru_cache(maxsize=256)
def window_matrix(window: Window, cells: int, size: int, mean: bool = False) -> np.ndarray:
    """Return the matrix `(size, cells)` with ones where cell i sees: stride·i + low to stride·i + high.

    mean: rows are divided by their sum, where that is not 0.
    """
    at, first = np.arange(size)[:, None], window.stride * np.arange(cells) + window.low
    matrix = ((at >= first) & (at <= first + window.high - window.low)).astype(np.float64)
    if mean:
        matrix /= np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    matrix.flags.writeable = False
    return matrix


@in_full_precision
def spread(
    maps: Float[Any, "batch target *grid"], size: Sequence[int], windows: Sequence[Window], mean: bool = False
) -> Float[Any, "batch target *size"]:
    """Spread every cell over its window on the grid `size`, and add where windows overlap.

    windows: for the last axes of the grid. The axes before them are resampled linearly where their lengths
        differ.
    mean: average where windows overlap.
    """
    out, xp = widen(maps), namespace(maps)
    by_axis = [None] * (len(size) - len(windows)) + list(windows)
    for axis, (window, length) in enumerate(zip(by_axis, size, strict=True), start=2):
        cells = int(out.shape[axis])
        if window is not None:
            table = window_matrix(window, cells, length, mean)
        elif cells != length:
            table = axis_matrix(half_pixel_centers(cells, length), length)
        else:
            continue
        out = xp.moveaxis(xp.tensordot(out, like(table, out), axes=((axis,), (1,))), -1, axis)
    return out
