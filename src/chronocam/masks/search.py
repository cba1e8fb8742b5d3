"""Score some of many masks, each of which weighs exp(score) in a map, and predict the scores of the others.

A Gaussian process with a Matérn 3/2 kernel over the masks predicts the mean and the variance of each score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

_FEWEST = 16  # masks that are scored before predictions from them are trusted
_NOISE = 0.03  # of the variance of scores, which similar masks do not explain
# The length scale of the kernel: so many times the usual distance to the fifth nearest mask.
_REACH = 4
_NEIGHBOUR = 5
_LARGEST = 20.0  # variance: exp() of more may overflow

Posterior = tuple[Float[np.ndarray, "mask batch target"], Float[np.ndarray, "mask batch target"]]


def likely_scores(
    score: Callable[[Int[np.ndarray, " some"]], Float[np.ndarray, "some batch target"]],
    masks: Float[np.ndarray, "mask value"],
    parts: Float[np.ndarray, "mask batch cell"],
    most: int,
    until: float | None = None,
) -> tuple[Float[np.ndarray, "mask batch target"], float]:
    """Return the scores of all masks, and how uncertain the map is.

    The map is Σ_k exp(S_k) P_k over Σ_k exp(S_k). The first masks that are scored are spread over all; then
    those follow that leave the map most uncertain for some sample and target. Scores of the others are the
    means of the process.

    score: returns the scores of some masks, given their numbers.
    masks: what each mask lets through. parts: P, what each adds to the map, less its mean over the grid.
    most: how many masks are scored at most.
    until: stop as soon as the map is known to this share of its spread; None scores `most` masks.

    The uncertainty is the standard error of the map as a share of its spread, the largest of any sample and
    target; infinite where only one of several masks was scored.
    """
    count, step = len(masks), max(1, min(most // 8, max(len(masks) // 32, 8)))
    distance, sizes = _distances(masks), np.linalg.norm(parts, axis=2)
    scale = float(np.median(np.sort(distance, axis=1)[:, min(_NEIGHBOUR, count - 1)])) * _REACH or 1.0
    scaled = np.sqrt(3 * distance / scale)
    kernel = (1 + scaled) * np.exp(-scaled)
    known = _spread_out(distance, max(1, min(most // 4, max(_FEWEST, count // 16))))
    scores = score(known)
    while True:
        mean, variance = _posterior(kernel, known, scores)
        mean[known], variance[known] = scores, 0
        # exp(S) is log-normal: its mean is exp(μ + σ²/2), its deviation √(exp σ² − 1) times that.
        expected = mean + variance / 2
        weights = np.exp(expected - expected.max(axis=0))
        errors = weights * np.sqrt(np.expm1(np.minimum(variance, _LARGEST))) * sizes[:, :, None]
        share = _relative_error(weights, errors, parts)
        precise = until is not None and len(known) >= min(_FEWEST, count) and share <= until
        if precise or len(known) >= min(most, count):
            return mean, share if len(known) > 1 or count == 1 else np.inf
        errors[known] = -1  # never chosen again
        order = np.argsort(-(errors / np.maximum(errors.max(axis=0), 1e-300)).max(axis=(1, 2)))
        more = order[: min(step, most - len(known), count - len(known))]
        scores = np.concatenate([scores, score(more)])
        known = np.concatenate([known, more])


def _relative_error(weights: np.ndarray, errors: np.ndarray, parts: np.ndarray) -> float:
    """Return the largest standard error of a map, as a share of its spread."""
    spread = np.linalg.norm(np.einsum("kbt,kbc->btc", weights, parts), axis=2)
    error = np.sqrt((errors**2).sum(axis=0))
    return float(np.divide(error, spread, out=np.where(error > 0, np.inf, 0.0), where=spread > 0).max())


def _distances(masks: np.ndarray) -> Float[np.ndarray, "mask mask"]:
    squares = (masks**2).sum(axis=1)
    return np.maximum(squares[:, None] + squares - 2 * masks @ masks.T, 0)


def _spread_out(distance: np.ndarray, count: int) -> Int[np.ndarray, " count"]:
    """Return masks each of which is the farthest from those before it, from the one nearest to all."""
    chosen = [int(distance.sum(axis=1).argmin())]
    nearest = distance[chosen[0]]
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distance[chosen[-1]])
    return np.array(chosen)


def _posterior(kernel: np.ndarray, known: np.ndarray, scores: np.ndarray) -> Posterior:
    """Return the mean and the variance of every mask's score, given the scores of the known ones."""
    inverse = np.linalg.inv(kernel[np.ix_(known, known)] + _NOISE * np.eye(len(known)))
    shares = inverse @ kernel[known]
    middle = scores.mean(axis=0)
    solved = np.tensordot(inverse, scores - middle, (1, 0))
    mean = middle + np.tensordot(kernel[known], solved, (0, 0))
    variance = np.maximum(1 + _NOISE - (kernel[known] * shares).sum(axis=0), 0)
    # The variance of the process, by leaving one out: how far each known score lies from what the others
    # predict, as a share of how far it should.
    scale = (solved**2 / np.diag(inverse)[:, None, None]).mean(axis=0)
    return mean, variance[:, None, None] * scale
