"""Upsampling as one matrix per grid axis: any rank, any framework, half-pixel positions or true centres."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError
from chronocam.maps.arrays import grid_axes, in_full_precision, like, namespace, widen

Mode: TypeAlias = Literal["nearest", "linear", "cubic"]
CUBIC_SHARPNESS = -0.75  # as in PyTorch's and OpenCV's bicubic


def half_pixel_centers(cells: int, size: int) -> tuple[float, ...]:
    """Return where `cells` equal cells that tile `size` pixels have their centres, in pixel coordinates."""
    return tuple((i + 0.5) * size / cells - 0.5 for i in range(cells))


def _index_of_pixels(centers: np.ndarray, size: int) -> np.ndarray:
    """Return the fractional cell index of every pixel; beyond the outer centres the end spacing goes on."""
    if len(centers) == 1:
        return np.zeros(size)
    # Centres need not be evenly spaced (padding moves the outer ones): each pixel is measured in the spacing
    # of the two centres around it, or of the outermost two.
    pixels = np.arange(size, dtype=np.float64)
    i = np.clip(np.searchsorted(centers, pixels, side="right") - 1, 0, len(centers) - 2)
    return i + (pixels - centers[i]) / (centers[i + 1] - centers[i])


def _taps(position: np.ndarray, cells: int, mode: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (cell, weight) pairs whose weights sum to 1 at every position."""
    if mode == "nearest":
        return [(np.floor(position + 0.5), np.ones_like(position))]
    if mode == "linear":
        position = np.clip(position, 0, cells - 1)
    base = np.floor(position)
    t = position - base
    if mode == "linear":
        return [(base, 1 - t), (base + 1, t)]
    a = CUBIC_SHARPNESS

    def near(d: np.ndarray) -> np.ndarray:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: np.ndarray) -> np.ndarray:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [(base - 1, far(t + 1)), (base, near(t)), (base + 1, near(1 - t)), (base + 2, far(2 - t))]


@lru_cache(maxsize=256)
def axis_matrix(centers: tuple[float, ...], size: int, mode: Mode = "linear") -> np.ndarray:
    """Return the matrix `(size, cells)` that interpolates cell values at `centers` to every pixel.

    `centers` are increasing pixel coordinates. Rows sum to 1 and edge cells are repeated. `cubic` is Keys'
    cubic convolution with a = -0.75. Raises InputError for an unknown mode.
    """
    if mode not in get_args(Mode):
        raise InputError(f"no resampling mode `{mode}`; choose one of {', '.join(get_args(Mode))}")
    cells = len(centers)
    matrix = np.zeros((size, cells))
    for cell, weight in _taps(_index_of_pixels(np.asarray(centers), size), cells, mode):
        np.add.at(matrix, (np.arange(size), np.clip(cell, 0, cells - 1).astype(int)), weight)
    matrix.flags.writeable = False
    return matrix


@in_full_precision
def resample(
    maps: Float[Any, "batch target *grid"],
    size: Sequence[int],
    mode: Mode = "linear",
    centers: Sequence[Sequence[float]] | None = None,
) -> Float[Any, "batch target *size"]:
    """Resample maps from their grid to `size`, one axis at a time, clipped to each map's own range.

    centers: for each grid axis, the pixel coordinate of every cell; None means half-pixel centres.

    Float16 and bfloat16 come back as float32. Raises InputError where `size` has another rank than the grid.
    """
    grid = tuple(maps.shape[2:])
    if len(size) != len(grid):
        raise InputError(f"size {tuple(size)} has {len(size)} axes; the map's grid {grid} has {len(grid)}")
    maps = widen(maps)
    xp = namespace(maps)
    centers = centers or [half_pixel_centers(n, s) for n, s in zip(grid, size, strict=True)]
    out = maps
    for axis, (at, pixels) in enumerate(zip(centers, size, strict=True), start=2):
        matrix = like(axis_matrix(tuple(at), int(pixels), mode), maps)
        # tensordot puts the new axis last; after all axes in turn the order is restored by moving it back.
        with np.errstate(invalid="ignore"):  # of maps that are not finite, which findings say
            out = xp.moveaxis(xp.tensordot(out, matrix, axes=((axis,), (1,))), -1, axis)
    axes = grid_axes(maps, 2)
    low, high = xp.min(maps, axis=axes, keepdims=True), xp.max(maps, axis=axes, keepdims=True)
    return xp.minimum(xp.maximum(out, low), high)
