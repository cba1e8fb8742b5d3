"""Whether a map is where the object is, in an image or in the space-time volume of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from jaxtyping import Bool, Float

from chronocam._repr import ShortRepr
from chronocam.errors import InputError
from chronocam.maps.regions import Box, labelled
from chronocam.metrics.checks import Bools, Floats, finite, grid_axes, ratio, same_shape


def pointing_game(maps: Floats, masks: Bools, rank: int = 2) -> Floats:
    """Return for each map 1 where its maximum lies inside the object's mask, else 0.

    `maps` and `masks` are `(…, *grid)` with a grid of `rank` axes: 2 for images, 3 for clips `(…, time,
    height, width)`, where the maximum over all frames counts. Where several positions share the maximum (an
    upsampled peak is flat where it is clipped to the raw range), the share of them that lies inside. A map
    without any value, zero everywhere, misses. Raises InputError for unequal shapes and for maps that are not
    finite.
    Source: Zhang et al. 2016 (arXiv:1608.00507), section 4.1, without its tolerance margin.

    Example:
    >>> maps, masks = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), bool)
    >>> maps[:, 1, 1], masks[0, :2, :2] = 1, True
    >>> cc.metrics.pointing_game(maps, masks)
    array([1., 0.])
    """
    same_shape(maps, masks, "masks")
    values, axes = finite(maps, rank), grid_axes(rank)
    peak = values == values.max(axis=axes, keepdims=True)
    return np.asarray((peak & masks).sum(axis=axes) / peak.sum(axis=axes) * values.any(axis=axes))


def energy_inside(maps: Floats, masks: Bools, rank: int = 2) -> Floats:
    """Return the share of each map's positive values that lies inside the mask; 0 for a map without any.

    Shapes and errors as in `pointing_game`; the energy of a clip is that of all its frames.
    Source: the energy-based pointing game of Wang et al. 2020 (arXiv:1910.01279), section 4.3, on masks.

    Example:
    >>> maps, masks = np.ones((1, 4, 4)), np.zeros((1, 4, 4), bool)
    >>> masks[0, :2, :2] = True
    >>> cc.metrics.energy_inside(maps, masks)
    array([0.25])
    """
    same_shape(maps, masks, "masks")
    axes = grid_axes(rank)
    positive = np.maximum(finite(maps, rank), 0)
    return ratio((positive * masks).sum(axis=axes), positive.sum(axis=axes))


@dataclass(frozen=True, eq=False)
class Localisation(ShortRepr):
    """How well the largest region of each map agrees with its object.

    mask_iou: intersection over union of the region and the object's mask.
    box_iou: the same of their bounding boxes.

    Example:
    >>> cc.metrics.Localisation(np.array([0.4, 0.1]), np.array([0.7, 0.2])).localised
    array([ True, False])
    """

    mask_iou: Floats
    box_iou: Floats

    @property
    def localised(self) -> Bools:
        """Whether the boxes agree by more than half."""
        return np.asarray(self.box_iou > 0.5)


def localisation(maps: Floats, masks: Bools, rank: int = 2, threshold: float = 0.15) -> Localisation:
    """Compare the largest region of at least `threshold` of each map's maximum with the object's mask.

    Shapes and errors as in `pointing_game`; in a clip a region is connected through space and time, and a box
    has a first and a last frame. The object's box holds all of its mask. A map without a positive value, and
    an empty mask, have an IoU of 0. Raises InputError for a threshold outside (0, 1].
    Source: Selvaraju et al. 2017 (arXiv:1610.02391), section 4.1, with the truth given as a mask.

    Example:
    >>> maps, masks = np.zeros((1, 4, 4)), np.zeros((1, 4, 4), bool)
    >>> maps[0, :2, :2], masks[0, :2, :3] = 1, True
    >>> cc.metrics.localisation(maps, masks).box_iou.round(2)
    array([0.67])
    """
    same_shape(maps, masks, "masks")
    values = finite(maps, rank)
    batch = maps.shape[: maps.ndim - rank]
    of_mask, of_box = np.zeros(batch), np.zeros(batch)
    for at in np.ndindex(*batch):
        region, mask = largest_region(values[at], threshold), masks[at]
        of_mask[at] = ratio((region & mask).sum(), (region | mask).sum())
        if region.any() and mask.any():
            of_box[at] = box_iou(_bounds(region), _bounds(mask))
    return Localisation(of_mask, of_box)


def largest_region(
    grid_map: Float[np.ndarray, "*grid"], threshold: float = 0.15
) -> Bool[np.ndarray, "*grid"]:
    """Return where the map is at least `threshold` of its maximum, the largest connected region only.

    It is the region whose box `maps.regions.boxes` gives; neighbours share a side. Nothing where no value is
    positive. Raises InputError for a threshold outside (0, 1].

    Example:
    >>> cc.metrics.largest_region(np.array([[9.0, 0.0, 3.0], [0.0, 0.0, 3.0]]))
    array([[False, False,  True],
           [False, False,  True]])
    """
    labels = labelled(grid_map, threshold)
    sizes = np.bincount(labels.ravel())[1:]
    return np.asarray(labels == 1 + np.argmax(sizes)) if sizes.size else np.zeros(labels.shape, dtype=bool)


def _bounds(region: Bool[np.ndarray, "*grid"]) -> Box:
    """Return the bounding box of a region, last axis first, ends exclusive."""
    places = np.argwhere(region)[:, ::-1]
    return (*map(int, places.min(axis=0)), *map(int, places.max(axis=0) + 1))


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the intersection over union of two boxes.

    Boxes are `(x0, y0, x1, y1)`, or `(x0, y0, t0, x1, y1, t1)` in a clip.

    Raises InputError for boxes of different lengths.

    Example:
    >>> cc.metrics.box_iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    if len(a) != len(b) or len(a) % 2:
        raise InputError(
            f"boxes have {len(a)} and {len(b)} numbers; expected a lower corner, then an upper one, each"
        )
    rank = len(a) // 2
    inner = prod(max(min(a[rank + i], b[rank + i]) - max(a[i], b[i]), 0) for i in range(rank))
    area = sum(prod(box[rank + i] - box[i] for i in range(rank)) for box in (a, b))
    return inner / (area - inner) if area > inner else 0.0
