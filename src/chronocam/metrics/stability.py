"""How restless and how concentrated a map is; neither says whether it is right."""

from __future__ import annotations

import numpy as np

from chronocam.metrics.checks import Floats, finite, flat, ratio


def flicker(maps: Floats) -> Floats:
    """Return how much a map `(…, time, height, width)` changes from slice to slice, relative to its energy.

    F = (Σ_t≥1 Σ_xy |M_t − M_t−1| / (T − 1)) / (Σ_t Σ_xy |M_t| / T): the mean absolute change over the mean
    absolute value. 0 for a still map, a single slice or zeros everywhere, about 2 where consecutive slices
    share nothing. A map that follows a short event changes rightly: compare methods on the same clips.
    Raises InputError for maps of fewer than three axes or that are not finite.

    Example:
    >>> maps = np.zeros((1, 3, 2, 2))
    >>> maps[0, 1] = 1  # one slice lights up
    >>> cc.metrics.flicker(maps)
    array([3.])
    """
    values = finite(maps, 3)
    slices, axes = values.shape[-3], (-3, -2, -1)
    change = np.abs(np.diff(values, axis=-3)).sum(axis=axes) / max(slices - 1, 1)
    return ratio(change, np.abs(values).sum(axis=axes) / slices)


def sparseness(maps: Floats, rank: int = 2) -> Floats:
    """Return the Gini index of each map's magnitudes over its last `rank` axes.

    G = Σ_i (2i − n − 1) a_i / (n Σ a), with a_1 ≤ … ≤ a_n: 0 where all cells are equal (or zero), 1 − 1/n
    where one cell has everything. Raises InputError for maps of fewer axes or that are not finite.
    Source: Hurley and Rickard 2009 (arXiv:0811.4706).

    Example:
    >>> cc.metrics.sparseness(np.array([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 5.0]]]))
    array([0.  , 0.75])
    """
    ordered = np.sort(np.abs(flat(finite(maps, rank), rank)), axis=-1)
    n = ordered.shape[-1]
    return ratio(ordered @ (2 * np.arange(1, n + 1) - n - 1), n * ordered.sum(axis=-1))
