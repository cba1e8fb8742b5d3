"""Which of many masks to score, where each weighs exp(score) in a map, and what the others likely have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

_FEWEST = 16  # masks that are scored before what they say of the others is believed
_NUGGET = 0.03  # of the variance of scores, which no alike mask explains
_NEIGHBOUR = 5  # alike masks lie as far apart as the fifth nearest usually is,
_REACH = 4  # times this
_LARGEST = 20.0  # of a variance: exp() of it is still a number

Told = tuple[Float[np.ndarray, "mask batch target"], Float[np.ndarray, "mask batch target"]]


def likely_scores(
    score: Callable[[Int[np.ndarray, " some"]], Float[np.ndarray, "some batch target"]],
    masks: Float[np.ndarray, "mask value"],
    parts: Float[np.ndarray, "mask batch cell"],
    most: int,
    until: float | None = None,
) -> tuple[Float[np.ndarray, "mask batch target"], float]:
    """Return the scores of all masks, some of them scored, the others told from those that are alike.

    The map is Σ_k exp(S_k) P_k over Σ_k exp(S_k). A Gaussian process over the masks says what each is likely
    to score, and how surely, as leaving out one after the other of those that are known confirms. The first
    are spread over all masks; then those follow that leave the map most uncertain for some sample and target.

    score: of some masks, by their numbers.
    masks: what is seen through each. parts: what each adds to the map, less its mean over the grid.
    most: how many are scored at most.
    until: stop before, where the map is known to this share of its spread.

    Returns also to which share of its spread each map is known: the largest one, infinite where a single mask
    was scored of several.
    """
    count, step = len(masks), max(1, min(most // 8, max(len(masks) // 32, 8)))
    distance, sizes = _distances(masks), np.linalg.norm(parts, axis=2)
    scale = float(np.median(np.sort(distance, axis=1)[:, min(_NEIGHBOUR, count - 1)])) * _REACH or 1.0
    away = np.sqrt(3 * distance / scale)
    alike = (1 + away) * np.exp(-away)
    known = _spread_out(distance, max(1, min(most // 4, max(_FEWEST, count // 16))))
    scores = score(known)
    while True:
        mean, variance = _told(alike, known, scores)
        mean[known], variance[known] = scores, 0
        expected = mean + variance / 2
        weights = np.exp(expected - expected.max(axis=0))
        unsure = weights * np.sqrt(np.expm1(np.minimum(variance, _LARGEST))) * sizes[:, :, None]
        share = _shares(weights, unsure, parts)
        believed = until is not None and len(known) >= min(_FEWEST, count) and share <= until
        if believed or len(known) >= min(most, count):
            return mean, share if len(known) > 1 or count == 1 else np.inf
        unsure[known] = -1
        order = np.argsort(-(unsure / np.maximum(unsure.max(axis=0), 1e-300)).max(axis=(1, 2)))
        more = order[: min(step, most - len(known), count - len(known))]
        scores = np.concatenate([scores, score(more)])
        known = np.concatenate([known, more])


def _shares(weights: np.ndarray, unsure: np.ndarray, parts: np.ndarray) -> float:
    """Return how large the standard error of a map is beside its spread, at most."""
    spread = np.linalg.norm(np.einsum("kbt,kbc->btc", weights, parts), axis=2)
    error = np.sqrt((unsure**2).sum(axis=0))
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


def _told(alike: np.ndarray, known: np.ndarray, scores: np.ndarray) -> Told:
    """Return the mean and the variance of every mask's score, given those that are known."""
    inverse = np.linalg.inv(alike[np.ix_(known, known)] + _NUGGET * np.eye(len(known)))
    shares = inverse @ alike[known]
    middle = scores.mean(axis=0)
    solved = np.tensordot(inverse, scores - middle, (1, 0))
    mean = middle + np.tensordot(alike[known], solved, (0, 0))
    unsure = np.maximum(1 + _NUGGET - (alike[known] * shares).sum(axis=0), 0)
    # How far each that is known lies from what the others say of it, beside how far it should.
    scale = (solved**2 / np.diag(inverse)[:, None, None]).mean(axis=0)
    return mean, unsure[:, None, None] * scale
