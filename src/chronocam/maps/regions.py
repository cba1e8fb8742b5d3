"""Regions of a map: bounding boxes from a threshold."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

from chronocam.errors import InputError

Box: TypeAlias = tuple[int, ...]
"""Lower corner, then upper corner (exclusive), last axis first: `(x0, y0, x1, y1)` for an image."""


def boxes(grid_map: Float[np.ndarray, "*grid"], threshold: float = 0.15, largest: bool = True) -> list[Box]:
    """Return bounding boxes of the connected regions where the map is at least `threshold` times its maximum.

    The largest region only, or all, largest first. A map without a positive value has none. Neighbours share
    a side. Raises InputError for a threshold outside (0, 1]. Source of the 15 %: Selvaraju et al. 2017.
    """
    from scipy import ndimage

    labels = labelled(grid_map, threshold)
    by_size = np.argsort(-np.bincount(labels.ravel())[1:], kind="stable")
    slices = ndimage.find_objects(labels)
    corners = [_corners(slices[i]) for i in by_size]
    return corners[:1] if largest else corners


def labelled(grid_map: Float[np.ndarray, "*grid"], threshold: float) -> Int[np.ndarray, "*grid"]:
    """Return the number of the connected region that each cell belongs to, from 1; 0 for cells in none.

    Raises InputError for a threshold outside (0, 1].
    """
    from scipy import ndimage

    if not 0 < threshold <= 1:
        raise InputError(
            f"threshold {threshold} is not in (0, 1]; give a share of the map's maximum, such as 0.15"
        )
    peak = grid_map.max()
    inside = grid_map >= threshold * peak if peak > 0 else np.zeros(grid_map.shape, dtype=bool)
    return np.asarray(ndimage.label(inside)[0])


def _corners(region: tuple[slice, ...]) -> Box:
    return tuple(int(s.start) for s in reversed(region)) + tuple(int(s.stop) for s in reversed(region))
