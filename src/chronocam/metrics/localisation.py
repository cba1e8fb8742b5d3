"""Whether a map is where the object is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float


def pointing_game(
    maps: Float[np.ndarray, "*batch height width"], masks: Bool[np.ndarray, "*batch height width"]
) -> Float[np.ndarray, "*batch"]:
    """Return for each map 1 where its maximum lies inside the object's mask, else 0.

    Where several positions share the maximum (an upsampled peak is flat where it is clipped to the raw range), the
    share of them that lies inside. A map without any value, zero everywhere, misses.
    Source: Zhang et al. 2016 (arXiv:1608.00507), section 4.1, without its tolerance margin.
    """
    axes = (-2, -1)
    peak = maps == maps.max(axis=axes, keepdims=True)
    return np.asarray((peak & masks).sum(axis=axes) / peak.sum(axis=axes) * maps.any(axis=axes))


def energy_inside(
    maps: Float[np.ndarray, "*batch height width"], masks: Bool[np.ndarray, "*batch height width"]
) -> Float[np.ndarray, "*batch"]:
    """Return the share of each map's positive values that lies inside the mask; 0 for a map without any.

    Source: the energy-based pointing game of Wang et al. 2020 (arXiv:1910.01279), section 4.3, on masks.
    """
    positive = np.maximum(maps, 0).astype(np.float64)
    total = positive.sum(axis=(-2, -1))
    return np.asarray((positive * masks).sum(axis=(-2, -1)) / np.where(total > 0, total, 1))


def box_iou(a: Sequence[float | int], b: Sequence[float | int]) -> float:
    """Return the intersection over union of two boxes `(x0, y0, x1, y1)`."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return inner / (area - inner) if area > inner else 0.0
