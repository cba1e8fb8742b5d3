"""Frames of a clip, or steps of a sequence, whole."""

from __future__ import annotations

import numpy as np

from chronocam.errors import InputError
from chronocam.masks.regions.base import Regions, Spread, pieces_of
from chronocam.masks.regions.cells import boxes


class Frames(Regions):
    """Each frame of a clip, or step of a sequence, or runs of them."""

    name = "frames"

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> Spread:
        """Return the frames, or runs of them where `pieces` is a smaller number."""
        grid = x.shape[2:]
        if len(grid) != 3 and not self.by_feature:
            raise InputError(
                f'inputs have a grid of {grid}; regions="frames" is for clips and sequences: choose cells'
            )
        runs = grid[0] if self.pieces is None else pieces_of(self.pieces, grid)[0]
        return boxes(grid, (runs, *[1] * (len(grid) - 1)))
