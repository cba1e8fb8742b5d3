"""Whether a map is at the right time: frame importance and its agreement with the active frames."""

from __future__ import annotations

import numpy as np

from chronocam.errors import InputError
from chronocam.maps import frames
from chronocam.maps.rank import ranks
from chronocam.metrics._localisation import largest_region
from chronocam.metrics.checks import Bools, Floats, finite, ratio, same_shape


def frame_importance(maps: Floats) -> Floats:
    """Return each slice's share of a map's energy: `(…, time, height, width)` to `(…, time)`.

    I_t = Σ_xy max(M_t, 0) / Σ_txy max(M, 0), which sums to 1 over time; a map without a positive value stays
    zero. Raises InputError for maps of fewer than three axes or that are not finite.

    Example:
    >>> maps = np.ones((1, 3, 2, 2))
    >>> maps[0, 1] = 2
    >>> cc.metrics.frame_importance(maps)
    array([[0.25, 0.5 , 0.25]])
    """
    return np.asarray(frames.frame_importance(finite(maps, 3)))


def active_frames(curves: Floats, threshold: float = 0.5, largest: bool = True) -> Bools:
    """Return which frames of curves `(…, time)` reach `threshold` of the curve's maximum.

    The longest run of them only (the first of equally long ones), or all with `largest=False`. A curve
    without a positive value has none. Raises InputError for a threshold outside (0, 1] or a curve that is not
    finite.

    Example:
    >>> cc.metrics.active_frames(np.array([[0.1, 0.9, 0.8, 0.2, 0.7]]))
    array([[False,  True,  True, False, False]])
    """
    values = finite(curves, 1, "curves")
    if not 0 < threshold <= 1:
        raise InputError(
            f"threshold {threshold} is not in (0, 1]; give a share of the curve's maximum, such as 0.5"
        )
    if largest:
        return np.apply_along_axis(largest_region, -1, values, threshold)
    peak = values.max(axis=-1, keepdims=True)
    return np.asarray((values >= threshold * peak) & (peak > 0))


def temporal_iou(curves: Floats, active: Bools, threshold: float = 0.5, largest: bool = True) -> Floats:
    """Return the intersection over union of the frames that a curve marks with the frames that are active.

    `curves`, such as `frame_importance` gives, and `active` are `(…, time)`; the frames marked are
    `active_frames`. 0 where neither has a frame. Raises InputError for unequal shapes, and as `active_frames`
    does.

    Example:
    >>> active = np.array([[False, True, True, True, False]])
    >>> cc.metrics.temporal_iou(np.array([[0.1, 0.9, 0.8, 0.2, 0.0]]), active).round(2)
    array([0.67])
    """
    same_shape(curves, active, "active frames")
    marked = active_frames(curves, threshold, largest)
    return ratio((marked & active).sum(axis=-1), (marked | active).sum(axis=-1))


def temporal_auc(curves: Floats, active: Bools) -> Floats:
    """Return the area under the ROC curve of per-frame values `(…, time)` as a detector of active frames.

    It is the exact Mann–Whitney statistic: the share of pairs of an active and an idle frame in which the
    active one is higher; ties count half. NaN where all or no frames are active: there is no pair to compare.
    Raises InputError for unequal shapes and for curves that are not finite.

    Example:
    >>> active = np.array([[False, True, True, False, False]])
    >>> cc.metrics.temporal_auc(np.array([[0.1, 0.9, 0.8, 0.2, 0.85]]), active).round(2)
    array([0.83])
    """
    same_shape(curves, active, "active frames")
    place = ranks(finite(curves, 1, "curves"))
    yes = active.sum(axis=-1)
    pairs = yes * (~active).sum(axis=-1)
    # The sum of the active frames' ranks counts the frames below each of them; what is taken off are the
    # pairs of two active frames, and each one itself.
    wins = (place * active).sum(axis=-1) - yes * (yes + 1) / 2
    return np.asarray(np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan))
