"""Whether maps depend on what the model has learned: they must change when its weights are made random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from chronocam._repr import ShortRepr
from chronocam.errors import InputError
from chronocam.maps.rank import spearman
from chronocam.metrics.checks import Floats, finite, flat, grid_axes, ratio, same_shape

WINDOW = 1.5  # standard deviation of SSIM's Gaussian window, in cells, which ends at 3.5 of them
STABILISERS = (0.01**2, 0.03**2)  # of SSIM, for values in [0, 1]


@dataclass(frozen=True, eq=False)
class Randomisation(ShortRepr):
    """How similar the maps of a trained model stay as more and more of its layers are made random.

    spearman: rank correlation, `(stage, …)`, one value per stage and map.
    ssim: structural similarity, `(stage, …)`.

    Both are near 0 where a map depends on the weights.

    Example:
    >>> a = np.random.default_rng(0).random((1, 8, 8))
    >>> curve = cc.metrics.randomisation_curve(a, [a, 1 - a])
    >>> isinstance(curve, cc.metrics.Randomisation), curve.ssim[0].round(2)
    (True, array([1.]))
    """

    spearman: Float[np.ndarray, "stage ..."]
    ssim: Float[np.ndarray, "stage ..."]


def randomisation_curve(reference: Floats, stages: Sequence[Floats], rank: int = 2) -> Randomisation:
    """Compare maps `(…, *grid)` with those of each stage of randomisation, sample by sample.

    `stages` holds the maps after the top layer was made random, after the top two, and so on; `rank` is that
    of the grid. Signs count: give magnitudes where only they matter. Raises InputError for no stages, unequal
    shapes and maps that are not finite.
    Source: the cascading randomisation of Adebayo et al. 2018 (arXiv:1810.03292), section 3.

    Example:
    >>> a = np.random.default_rng(0).random((1, 8, 8))
    >>> cc.metrics.randomisation_curve(a, [a, 1 - a]).spearman.round(2)
    array([[ 1.],
           [-1.]])
    """
    if not stages:
        raise InputError("no stages to compare with; give the maps of at least one randomised model")
    return Randomisation(
        np.stack([rank_correlation(reference, stage, rank) for stage in stages]),
        np.stack([ssim(reference, stage, rank) for stage in stages]),
    )


def rank_correlation(a: Floats, b: Floats, rank: int = 2) -> Floats:
    """Return Spearman's rank correlation of maps `(…, *grid)` over their last `rank` axes.

    Ties share their mean rank. 0 where either map is constant: it ranks nothing.
    Raises InputError for unequal shapes and for maps that are not finite.

    Example:
    >>> a = np.arange(6.0).reshape(1, 2, 3)
    >>> cc.metrics.rank_correlation(a, a**3).round(2)
    array([1.])
    """
    same_shape(a, b, "the others")
    return np.asarray(np.nan_to_num(spearman(flat(finite(a, rank), rank), flat(finite(b, rank), rank))))


def ssim(a: Floats, b: Floats, rank: int = 2) -> Floats:
    """Return the structural similarity of maps `(…, *grid)`, each scaled to [0, 1] by its own range.

    A Gaussian window of 1.5 cells, reflected at the borders, so that coarse grids have one too; the mean over
    all cells. Constant maps are taken as zeros. Raises InputError for unequal shapes and for maps that are
    not finite.
    Source: Wang et al. 2004, IEEE TIP 13(4), eq. 13, with K1 = 0.01 and K2 = 0.03.

    Example:
    >>> a = np.random.default_rng(0).random((1, 8, 8))
    >>> cc.metrics.ssim(a, 3 * a + 1).round(2)
    array([1.])
    """
    same_shape(a, b, "the others")
    x, y = _unit(finite(a, rank), rank), _unit(finite(b, rank), rank)
    mean_x, mean_y = _windowed(x, rank), _windowed(y, rank)
    var_x, var_y = _windowed(x * x, rank) - mean_x**2, _windowed(y * y, rank) - mean_y**2
    covariance = _windowed(x * y, rank) - mean_x * mean_y
    c1, c2 = STABILISERS
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return np.asarray((above / below).mean(axis=grid_axes(rank)))


def _unit(maps: np.ndarray, rank: int) -> np.ndarray:
    axes = grid_axes(rank)
    low = maps.min(axis=axes, keepdims=True)
    return ratio(maps - low, maps.max(axis=axes, keepdims=True) - low)


def _windowed(maps: np.ndarray, rank: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    sigma = (0.0,) * (maps.ndim - rank) + (WINDOW,) * rank
    return np.asarray(gaussian_filter(maps, sigma, truncate=3.5, mode="reflect"))
