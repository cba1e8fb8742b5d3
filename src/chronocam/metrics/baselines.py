"""What a map must beat: noise, and the habit of photographers to put things in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from jaxtyping import Float

from chronocam.metrics.checks import Floats


def random_maps(
    count: int, grid: Sequence[int], size: Sequence[int], seed: int = 0
) -> Float[np.ndarray, "count ..."]:
    """Return maps of uniform noise on `grid`, upsampled to `size` like any other map.

    Both are `(height, width)`, or `(time, height, width)` for clips.

    Example:
    >>> cc.metrics.random_maps(3, grid=(4, 4), size=(32, 32)).shape
    (3, 32, 32)
    """
    from chronocam.maps.resample import resample

    noise = np.random.default_rng(seed).random((count, 1, *grid), dtype=np.float32)
    return np.asarray(resample(noise, size, "cubic" if len(grid) < 3 else "linear"))[:, 0]


def centre_prior(size: Sequence[int]) -> Floats:
    """Return a Gaussian in the middle of `size`, with a standard deviation of a quarter of each side.

    `size` is `(height, width)`, or `(time, height, width)` for a bump in the middle of a clip.

    Example:
    >>> cc.metrics.centre_prior((3, 5)).round(1)
    array([[0.1, 0.3, 0.4, 0.3, 0.1],
           [0.3, 0.7, 1. , 0.7, 0.3],
           [0.1, 0.3, 0.4, 0.3, 0.1]], dtype=float32)
    """
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 4)) ** 2) for n in size]
    return np.asarray(reduce(np.multiply.outer, axes), dtype=np.float32)
