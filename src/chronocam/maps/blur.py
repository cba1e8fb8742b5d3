"""Gaussian blur over the places of an array, whatever its framework."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from chronocam.maps.arrays import in_full_precision, like, namespace

_REACH = 4.0  # standard deviations, behind which the kernel is cut


@in_full_precision
def blurred(array: Float[Any, "batch channel *grid"], sigma: float) -> Float[Any, "batch channel *grid"]:
    """Blur each picture, each frame of a clip by itself, or each signal, by a Gaussian of `sigma` cells.

    At a border the array goes on as its mirror image does.
    """
    xp = namespace(array)
    for axis in range(max(2, array.ndim - 2), array.ndim):
        matrix = like(_matrix(int(array.shape[axis]), float(sigma)), array)
        array = xp.moveaxis(xp.matmul(xp.moveaxis(array, axis, -1), matrix), -1, axis)
    return array


@lru_cache(maxsize=64)
def _matrix(n: int, sigma: float) -> Float[np.ndarray, "n n"]:
    """Return what blurs a row of n cells that is multiplied by it from the left."""
    if sigma == 0:
        return np.eye(n)
    reach = int(np.ceil(_REACH * sigma))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    # Cell i of the row, its mirror image, and so on: the row repeats after 2 n.
    at = (np.arange(n)[:, None] + offsets) % (2 * n)
    at = np.where(at < n, at, 2 * n - 1 - at)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (at, np.arange(n)[:, None]), np.broadcast_to(kernel / kernel.sum(), at.shape))
    return matrix
