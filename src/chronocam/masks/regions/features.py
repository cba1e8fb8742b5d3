"""Features of a sequence, each in all of its steps."""

from __future__ import annotations

import numpy as np

from chronocam.errors import InputError
from chronocam.masks.regions.base import Regions, Spread, pieces_of
from chronocam.masks.regions.cells import boxes


class Features(Regions):
    """Each feature, or runs of neighbours, at all times at once."""

    name = "features"

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> Spread:
        """Return the features, or runs of them where `pieces` is a smaller number."""
        grid = x.shape[2:]
        if not self.by_feature:
            raise InputError(
                f'inputs have a grid of {grid}; regions="features" is for sequences (batch, time, feature): '
                "choose cells"
            )
        runs = grid[1] if self.pieces is None else pieces_of(self.pieces, grid)[1]
        return boxes(grid, (1, runs))
