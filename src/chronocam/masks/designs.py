"""Which regions are shown together, and what the scores then say of each region.

Every design estimates one number per region from a block of masks. Blocks are drawn independently, so that
the spread between them says how well the numbers are known. For a score that is linear in the regions shown,
each block alone is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import TypeAlias

import numpy as np

Score: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Scores `(mask, batch, target)` of masks `(mask, region)` that show the regions marked 1."""

Effects: TypeAlias = np.ndarray
"""A number for each region, `(batch, target, region)`."""


def balanced_size(regions: int) -> int:
    """Return how many pairs of masks a whole balanced block has."""
    return 1 << max(1, int(np.ceil(np.log2(max(regions, 2)))))


def balanced(score: Score, regions: int, pairs: int, rng: np.random.Generator) -> Effects:
    """Return by how much the score is higher, on average, with each region than without it.

    Masks come in pairs, each with its complement, whose difference is free of whatever does not depend on
    which half is shown. In a whole block the pairs are rows of a Hadamard matrix, in which every two regions
    are shown together as often as apart: none is taken for another. Random signs of its columns make each
    block a draw of its own, and a part of one unbiased.

    pairs: how many, `balanced_size(regions)` at most.
    """
    size = balanced_size(regions)
    columns = rng.permutation(size)[:regions]
    rows = rng.permutation(size)[:pairs]
    signs = _hadamard(rows, columns) * rng.choice([-1, 1], regions)
    shown = np.concatenate([signs > 0, signs < 0]).astype(np.float64)
    scores = score(shown)
    differences = scores[:pairs] - scores[pairs:]
    return np.einsum("mr,mbt->btr", signs, differences) / pairs


def _hadamard(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return some rows and columns of Sylvester's Hadamard matrix, -1 where i & j has an odd number of ones.

    The whole matrix of a region for each pixel would not fit into memory.
    """
    ones = rows[:, None] & columns
    for shift in (16, 8, 4, 2, 1):
        ones ^= ones >> shift
    return 1 - 2 * (ones & 1)


def every_mask(regions: int) -> np.ndarray:
    """Return all masks there are, the one that shows nothing first, the one that shows all last."""
    return np.array(list(product([0.0, 1.0], repeat=regions)))


def all_effects(score: Score, regions: int) -> Effects:
    """Return by how much the score is higher with each region than without it, on average over all masks."""
    shown = every_mask(regions)
    return np.einsum("mr,mbt->btr", 2 * shown - 1, score(shown)) * 2 / len(shown)


def some_masks(regions: int, masks: int, rng: np.random.Generator) -> np.ndarray:
    """Return masks that show each region or not as a coin falls, each with its complement."""
    half = rng.integers(0, 2, (-(-masks // 2), regions))
    return np.concatenate([half, 1 - half]).astype(np.float64)


def local_ridge(score: Score, shown: np.ndarray, width: float, alpha: float) -> Effects:
    """Return the slopes of a ridge regression on which regions are shown: LIME.

    Masks weigh exp(−D² / width²), D = 1 − the cosine of what is shown and of all shown, √(share).
    """
    regions = shown.shape[1]
    scores = score(shown)
    distance = 1 - np.sqrt(shown.mean(axis=1))
    weights = np.exp(-((distance / width) ** 2))
    centre = np.average(shown, axis=0, weights=weights)
    x = (shown - centre) * np.sqrt(weights)[:, None]
    flat = scores.reshape(len(scores), -1)
    y = (flat - np.average(flat, axis=0, weights=weights)) * np.sqrt(weights)[:, None]
    slopes = np.linalg.solve(x.T @ x + alpha * np.eye(regions), x.T @ y)
    return np.moveaxis(slopes.reshape(regions, *scores.shape[1:]), 0, -1)


def shapley(score: Score, regions: int, pairs: int, rng: np.random.Generator) -> Effects:
    """Return estimates of the Shapley values, by a regression that Shapley's weights draw the masks of.

    Sizes s of what is shown are drawn by 1 / (s (M − s)), and each mask comes with its complement. That the
    values add up to the score with all regions less that with none is a constraint.
    """
    sizes = np.arange(1, regions)
    chance = 1 / (sizes * (regions - sizes))
    drawn = rng.choice(sizes, pairs, p=chance / chance.sum())
    half = np.stack([rng.permutation(regions) < size for size in drawn]).astype(np.float64)
    return _constrained(score, np.concatenate([half, 1 - half]), None)


def all_shapley(score: Score, regions: int) -> Effects:
    """Return the Shapley values themselves, from every mask there is."""
    if regions == 1:
        none, whole = score(every_mask(1))
        return (whole - none)[..., None]
    shown = every_mask(regions)[1:-1]
    sizes = shown.sum(axis=1).astype(int)
    from scipy.special import binom

    weights = (regions - 1) / (binom(regions, sizes) * sizes * (regions - sizes))
    return _constrained(score, shown, weights)


def _constrained(score: Score, shown: np.ndarray, weights: np.ndarray | None) -> Effects:
    """Return the least squares slopes that add up to the whole; the last is what the others leave."""
    regions = shown.shape[1]
    ends = np.stack([np.zeros(regions), np.ones(regions)])
    scores = score(np.concatenate([ends, shown]))
    none, whole, rest = scores[0], scores[1], scores[2:]
    total = whole - none
    x = shown[:, :-1] - shown[:, -1:]
    y = (rest - none - shown[:, -1, None, None] * total).reshape(len(rest), -1)
    if weights is not None:
        x, y = x * np.sqrt(weights)[:, None], y * np.sqrt(weights)[:, None]
    slopes = np.linalg.lstsq(x, y, rcond=None)[0].reshape(regions - 1, *total.shape)
    return np.moveaxis(np.concatenate([slopes, (total - slopes.sum(axis=0))[None]]), 0, -1)
