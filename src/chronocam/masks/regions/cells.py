"""Cells of a grid, all about the same size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chronocam.masks.regions.base import Product, Regions, Spread, pieces_of


class Cells(Regions):
    """Boxes that cut each axis into equal pieces."""

    name = "cells"

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> Spread:
        """Return the boxes, which are always the same."""
        return boxes(x.shape[2:], pieces_of(self.pieces, x.shape[2:]))


def boxes(grid: Sequence[int], pieces: Sequence[int]) -> Product:
    """Return boxes that cut the axes of a grid into so many pieces."""
    return Product(
        tuple(
            (np.arange(size)[:, None] * n // size == np.arange(n)).astype(np.float64)
            for size, n in zip(grid, pieces, strict=True)
        )
    )
