"""RISE's smooth grid: coarse cells, enlarged linearly."""

from __future__ import annotations

import numpy as np

from chronocam.maps.resample import axis_matrix, half_pixel_centers
from chronocam.masks.regions.base import Product, Regions, Spread, pieces_of
from chronocam.masks.regions.cells import boxes


class Smooth(Regions):
    """Soft cells: a place between the centres of two belongs to both.

    They lie still. Shifted at random for each block, as in the paper, they make blocks differ so much that a
    map takes many times the forward passes to be known. Of a sequence they are sharp, for its features have
    no order.

    Source: Petsiuk et al. 2018 (arXiv:1806.07421), section 3.2.
    """

    name = "grid"

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> Spread:
        """Return the cells, which are always the same."""
        grid, pieces = x.shape[2:], pieces_of(self.pieces, x.shape[2:])
        if self.by_feature:
            return boxes(grid, pieces)
        pairs = zip(grid, pieces, strict=True)
        return Product(tuple(axis_matrix(half_pixel_centers(n, size), size) for size, n in pairs))
