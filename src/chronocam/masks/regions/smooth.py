"""RISE's smooth grid: coarse cells, enlarged linearly, at a place that is drawn anew."""

from __future__ import annotations

import numpy as np

from chronocam.masks.regions.base import Product, Regions, Spread, pieces_of


class Smooth(Regions):
    """Soft cells: a place between the centres of two belongs to both.

    Source: Petsiuk et al. 2018 (arXiv:1806.07421), section 3.2.
    """

    name = "grid"

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> Spread:
        """Return the cells, shifted by a random part of one along each axis."""
        axes = []
        for size, n in zip(x.shape[2:], pieces_of(self.pieces, x.shape[2:]), strict=True):
            step = -(-size // n)
            axes.append(_tents(size, n + 1, step, int(rng.integers(step))))
        return Product(tuple(axes))


def _tents(size: int, cells: int, step: int, shift: int) -> np.ndarray:
    """Return how much of each place is of each cell, cells being `step` places wide and enlarged linearly."""
    at = np.clip((np.arange(size) + shift + 0.5) / step - 0.5, 0, cells - 1)
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(cells)))
