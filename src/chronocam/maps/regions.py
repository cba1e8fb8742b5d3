"""Regions of a map: bounding boxes from a threshold."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError

Box = tuple[int, ...]
"""Lower corner, then upper corner (exclusive), last axis first: `(x0, y0, x1, y1)` for an image."""


def boxes(grid_map: Float[np.ndarray, "*grid"], threshold: float = 0.15, largest: bool = True) -> list[Box]:
    """Return bounding boxes of the connected regions where the map is at least `threshold` times its maximum.

    The largest region only, or all, largest first. A map without a positive value has none. Neighbours share
    a side. Raises InputError for a threshold outside (0, 1]. Source of the 15 %: Selvaraju et al. 2017.
    """
    from scipy import ndimage

    if not 0 < threshold <= 1:
        raise InputError(
            f"threshold {threshold} is not in (0, 1]; give a share of the map's maximum, such as 0.15"
        )
    if not grid_map.max() > 0:
        return []
    labels, _ = ndimage.label(grid_map >= threshold * grid_map.max())
    order = np.argsort(-np.bincount(labels.ravel())[1:], kind="stable")
    slices = ndimage.find_objects(labels)
    found = [_corners(slices[i]) for i in order]
    return found[:1] if largest else found


def _corners(region: tuple[slice, ...]) -> Box:
    return tuple(int(s.start) for s in reversed(region)) + tuple(int(s.stop) for s in reversed(region))
