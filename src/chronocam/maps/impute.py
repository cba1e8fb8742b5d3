"""Fill removed pixels from their neighbours, as ROAD does, so that the gap itself tells nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from chronocam.errors import InputError

NOISE: Final = 0.01
"""Standard deviation of the noise on what is filled, in the units of the input."""

_TOLERANCE: Final = 1e-4
_COARSEST: Final = 8
_LONGEST: Final = 500
_DAMPED: Final = 0.8


def filled(
    values: Float[np.ndarray, channel * grid],
    stays: Bool[np.ndarray, "*grid"],
    noise: Float[np.ndarray, channel * grid],
) -> Float[np.ndarray, channel * grid]:
    """Return `values` with noise, and what is removed filled from its neighbours, of a clip in each frame.

    A frame of which nothing stays gets the mean of what stays of the others, and where nothing stays at all,
    all get the mean.

    Example:
    >>> stays = np.array([[True, False, True]])
    >>> cc.maps.impute.filled(np.array([[[1.0, 9.0, 3.0]]]), stays, np.zeros((1, 1, 3)))
    array([[[1., 2., 3.]]])
    """
    if not stays.any():
        return np.asarray(values.mean(axis=tuple(range(1, values.ndim)), keepdims=True) + noise)
    plane = stays.shape[-2:] if stays.ndim > 1 else (1, *stays.shape)
    flat, masks = values.reshape(len(values), -1, *plane), stays.reshape(-1, *plane)
    mean = flat[:, masks].mean(axis=1)[:, None, None]
    frames = [imputed(flat[:, t], m) if m.any() else 0 * flat[:, t] + mean for t, m in enumerate(masks)]
    return np.where(stays, values, np.stack(frames, axis=1).reshape(values.shape) + noise)


def imputed(
    values: Float[np.ndarray, "channel height width"],
    stays: Bool[np.ndarray, "height width"],
    tolerance: float = _TOLERANCE,
) -> Float[np.ndarray, "channel height width"]:
    """Return `values` with each removed pixel the weighted mean of its neighbours.

    Every removed pixel p obeys Σ_n w_n (x_n − x_p) = 0 over its neighbours in the picture: 1/6 for the four
    that share a side, 1/12 for the four at its corners. They are solved together, to `tolerance` times the
    values' range; they are NaN where a value that stays is NaN or infinite.

    Raises InputError where no pixel stays.
    Source: Rong et al. 2022, ROAD (arXiv:2202.00449), section 4.2, without its noise.

    Example:
    >>> stays = np.array([[True, False, True]])
    >>> cc.maps.impute.imputed(np.array([[[1.0, 9.0, 3.0]]]), stays)
    array([[[1., 2., 3.]]])
    """
    if not stays.any():
        raise InputError("no pixel stays to fill the others from; leave at least one")
    x = np.asarray(values, dtype=np.float32 if values.dtype == np.float32 else np.float64)
    if stays.all():
        return x
    if not np.isfinite(x[:, stays]).all():
        return np.where(stays, x, np.nan)
    return _solved(x, stays, tolerance * max(float(np.ptp(x[:, stays])), 1e-12))


@dataclass(frozen=True)
class _Level:
    """The equations A x = b of the removed cells of one grid, each times 12, x being 0 at the others.

    removed: which they are, 1 or 0. diagonal: of A + 4: A x = diagonal · x − removed · (x summed around).
    scale: of a damped Jacobi step, its inverse times 0.8. kept: what such a step leaves of x by itself.
    """

    removed: np.ndarray
    diagonal: np.ndarray
    scale: np.ndarray
    kept: np.ndarray


def _solved(x: np.ndarray, stays: np.ndarray, allowed: float) -> np.ndarray:
    """Solve by conjugate gradients, each channel by itself, with coarser grids as the preconditioner."""
    levels = _levels(~stays, x.dtype)
    finest = levels[0]
    tiny = np.finfo(x.dtype).tiny
    # What stays is a constant: its spread is the right-hand side, and the mean is where the search begins.
    start = np.where(stays, x, x[:, stays].mean(axis=1)[:, None, None])
    rest = _around(start) * finest.removed - finest.diagonal * start
    found = np.zeros_like(start)
    step = better = _corrected(rest, levels)
    energy = _dot(rest, better)
    for _ in range(_LONGEST):
        if np.abs(rest).max() <= 12 * allowed:
            break
        along = finest.diagonal * step
        along -= _around(step) * finest.removed
        length = energy / np.maximum(_dot(step, along), tiny)
        found += length * step
        rest -= length * along
        before, better = energy, _corrected(rest, levels)
        energy = _dot(rest, better)
        step = better + energy / np.maximum(before, tiny) * step
    return np.where(stays, x, start + found)


def _levels(removed: np.ndarray, dtype: np.dtype) -> list[_Level]:
    """Return the equations on the grid and on ever coarser ones.

    A coarse cell is removed where all of its pixels are.
    """
    levels = []
    while removed.any():
        here = removed.astype(dtype)
        diagonal = _around(np.ones(removed.shape, dtype)) * here
        scale = _DAMPED * here / np.maximum(diagonal - 4 * here, 1)
        levels.append(_Level(here, diagonal, scale, here - scale * diagonal))
        if min(removed.shape) < _COARSEST:
            break
        height, width = removed.shape
        even = np.pad(removed, ((0, height % 2), (0, width % 2)), constant_values=True)
        removed = even[::2, ::2] & even[1::2, ::2] & even[::2, 1::2] & even[1::2, 1::2]
    return levels


def _corrected(rest: np.ndarray, levels: list[_Level]) -> np.ndarray:
    """Return about the solution of what is left: a cycle down to the coarsest grid and back, symmetric."""
    here, coarser = levels[0], levels[1:]
    x = here.scale * rest
    if coarser:
        left = _around(x)
        left *= here.removed
        left += here.kept * rest
        # On twice the spacing the same weights are four times as stiff: sums, not means, are handed down.
        down = _corrected(_halved(left) * coarser[0].removed, coarser)
        height, width = here.removed.shape
        x += down.repeat(2, axis=-2).repeat(2, axis=-1)[..., :height, :width] * here.removed
    better = _around(x)
    better += rest
    better *= here.scale
    x *= here.kept
    better += x
    return better


def _halved(x: np.ndarray) -> np.ndarray:
    """Return the sums over blocks of 2 × 2."""
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        x = np.pad(x, ((0, 0), (0, height % 2), (0, width % 2)))
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return np.asarray(rows[..., ::2] + rows[..., 1::2])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("chw,chw->c", a, b)[:, None, None]


def _around(x: np.ndarray) -> np.ndarray:
    """Return four times each cell, and twelve w_n x_n of its neighbours n, summed; nothing beyond the border.

    With 4 in their middle, twelve times the weights are the product of (1, 2, 1) along either side.
    """
    rows = x + x
    rows[..., 1:, :] += x[..., :-1, :]
    rows[..., :-1, :] += x[..., 1:, :]
    both = rows + rows
    both[..., 1:] += rows[..., :-1]
    both[..., :-1] += rows[..., 1:]
    return both
