"""What a map must beat: noise, and the habit of photographers to put things in the middle."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def random_maps(
    count: int, grid: tuple[int, int], size: tuple[int, int], seed: int = 0
) -> Float[np.ndarray, "count height width"]:
    """Return maps of uniform noise on `grid`, upsampled to `size` like any other map."""
    from chronocam.maps.resample import resample

    noise = np.random.default_rng(seed).random((count, 1, *grid), dtype=np.float32)
    return np.asarray(resample(noise, size, "cubic"))[:, 0]


def centre_prior(size: tuple[int, int]) -> Float[np.ndarray, "height width"]:
    """Return a Gaussian in the middle of `size`, with a standard deviation of a quarter of each side."""
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 4)) ** 2) for n in size]
    return np.outer(*axes).astype(np.float32)
