"""Which of many masks to score where only the highest scores count, and what the others likely have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

_FIRST = (
    0.25  # of the masks that are scored, how many are spread over all; the others are where scores are high
)
_ROUNDS = 8
_NUGGET = 1e-3
_NEIGHBOUR = 5  # alike masks lie as far apart as the fifth nearest usually is


def likely_scores(
    score: Callable[[Int[np.ndarray, " some"]], Float[np.ndarray, "some batch target"]],
    masks: Float[np.ndarray, "mask value"],
    count: int,
) -> Float[np.ndarray, "mask batch target"]:
    """Return the scores of all masks, `count` of them scored, the others told from those that are alike.

    A Gaussian process over the masks says what each is likely to score, and how surely. The first are
    spread over all masks; then those follow whose weight exp(S) is expected to be highest for some sample
    and target.

    score: of some masks, by their numbers.
    """
    distance = _distances(masks)
    scale = float(np.median(np.sort(distance, axis=1)[:, min(_NEIGHBOUR, len(masks) - 1)])) or 1.0
    alike = np.exp(-distance / scale)
    known = _spread_out(distance, max(1, round(count * _FIRST)))
    scores = score(known)
    while len(known) < count:
        mean, variance = _told(alike, known, scores)
        expected = mean + variance / 2
        weight = np.exp(expected - expected.max(axis=0)).max(axis=(1, 2))
        weight[known] = -1
        more = np.argsort(-weight)[: min(max(1, count // _ROUNDS), count - len(known))]
        scores = np.concatenate([scores, score(more)])
        known = np.concatenate([known, more])
    found, _ = _told(alike, known, scores)
    found[known] = scores
    return found


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


def _told(
    alike: np.ndarray, known: np.ndarray, scores: np.ndarray
) -> tuple[Float[np.ndarray, "mask batch target"], Float[np.ndarray, "mask batch target"]]:
    """Return the mean and the variance of every mask's score, given those that are known."""
    within = alike[np.ix_(known, known)] + _NUGGET * np.eye(len(known))
    shares = np.linalg.solve(within, alike[known])
    middle = scores.mean(axis=0)
    mean = middle + np.tensordot(shares, scores - middle, (0, 0))
    unsure = np.maximum(1 - (alike[known] * shares).sum(axis=0), 0)
    return mean, unsure[:, None, None] * scores.var(axis=0)
