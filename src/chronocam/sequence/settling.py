"""How relevance settles over the steps of a sequence, and how far back it reaches. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int

from chronocam._repr import ShortRepr
from chronocam.errors import POSITIVE, InputError, check_real
from chronocam.maps.rank import spearman

Profiles = Float[np.ndarray, "*batch feature"]
"""One relevance per feature."""


@dataclass(frozen=True, eq=False)
class Similarity(ShortRepr):
    """How alike profiles of relevance over the features are, by three measures, each of any shape.

    cosine: of the signed relevances; NaN where a profile is zero.
    spearman: rank correlation; NaN where a profile is constant.
    jaccard: |A ∩ B| / |A ∪ B| of both's k most relevant features, those of largest signed relevance.

    Example:
        >>> layer = nn.LSTM(4, 3, batch_first=True)
        >>> method, steps = cc.sequence.LRP(layer), cc.targets.EveryStep(0)
        >>> one, other = (method.explain(x, steps) for x in (features, -features))
        >>> one.compare(other, k=2).cosine.shape  # of every sample with every other
        (1, 1)
    """

    cosine: Float[np.ndarray, "*shape"]
    spearman: Float[np.ndarray, "*shape"]
    jaccard: Float[np.ndarray, "*shape"]


@dataclass(frozen=True, eq=False)
class Settling(ShortRepr):
    """How the relevance at each output step compares with the steady state.

    similarity: of each step's profile to the steady state, `(batch, step)`; a step in it is compared with the
        mean of the others.
    chance: the similarity that the same relevances reach on average if their features are shuffled, `(batch,
        step)`: what unrelated profiles look like.
    settled: the first step from which the cosine stays at least 1 − tolerance to the end, `(batch,)`; −1 for
        never.
    steady: the steady state, `(batch, feature)`.
    steps: the output steps, in order.

    Example:
        >>> method = cc.sequence.LRP(nn.LSTM(4, 3, batch_first=True))
        >>> steps = method.explain(features, cc.targets.EveryStep(0))
        >>> steps.settling(tolerance=0.2).similarity.cosine.shape
        (1, 6)
    """

    similarity: Similarity
    settled: Int[np.ndarray, " batch"]
    steady: Float[np.ndarray, "batch feature"]
    steps: Int[np.ndarray, " step"]
    chance: Similarity


@dataclass(frozen=True, eq=False)
class Horizon(ShortRepr):
    """How much relevance lies how far back.

    lags: output step minus input step; negative ones lie ahead, where only a bidirectional network looks.
    mass: Σ_feature |relevance| averaged over the output steps that have this lag, `(batch, lag)`.
    share: mass as a share of all lags, `(batch, lag)`; sums to 1, zero where there is no relevance.

    Example:
        >>> method = cc.sequence.LRP(nn.LSTM(4, 3, batch_first=True))
        >>> steps = method.explain(features, cc.targets.EveryStep(0))
        >>> horizon = steps.memory_horizon()
        >>> bool(horizon.share[:, horizon.lags < 0].any())  # nothing comes from the future
        False
    """

    lags: Int[np.ndarray, " lag"]
    mass: Float[np.ndarray, "batch lag"]
    share: Float[np.ndarray, "batch lag"]

    def reach(self, share: float = 0.9) -> np.ndarray:
        """Return the least number of steps, back or ahead, within which at least `share` of the mass lies."""
        check_real("share", share, "more than 0, at most 1, such as 0.9", POSITIVE, 1)
        distance = np.abs(self.lags)
        within = np.stack(
            [self.share[:, distance <= d].sum(axis=1) for d in range(int(distance.max()) + 1)], axis=1
        )
        return np.argmax(within >= share * within[:, -1:] * (1 - 1e-12), axis=1)


def similarity(a: Float[np.ndarray, "... feature"], b: Float[np.ndarray, "... other"], k: int) -> Similarity:
    """Compare profiles along the last axis; the axes before it broadcast.

    Raises InputError for k out of range.
    """
    if a.shape[-1] != b.shape[-1]:
        raise InputError(f"profiles have {a.shape[-1]} and {b.shape[-1]} features; compare the same features")
    if not 1 <= k <= a.shape[-1]:
        raise InputError(f"k is {k}; expected 1 to {a.shape[-1]}, the number of features")
    a, b = (np.asarray(x, dtype=float) for x in np.broadcast_arrays(a, b))
    scale = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.divide((a * b).sum(axis=-1), scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    both = (_top(a, k) & _top(b, k)).sum(axis=-1)
    return Similarity(cosine, spearman(a, b), both / (2 * k - both))


def chance_level(
    a: Float[np.ndarray, "... feature"], b: Float[np.ndarray, "... feature"], k: int
) -> Similarity:
    """Return the mean similarity over all orders of one profile's features.

    Cosine: F ā b̄ / (|a| |b|). Spearman: 0. Jaccard: Σ_n P(n) n / (2k − n), n of k features being common with
    hypergeometric probability P(n).
    """
    a, b = (np.asarray(x, dtype=float) for x in np.broadcast_arrays(a, b))
    size = a.shape[-1]
    scale = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    products = a.sum(axis=-1) * b.sum(axis=-1) / size
    cosine = np.divide(products, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    common = ((n, comb(k, n) * comb(size - k, k - n) / comb(size, k)) for n in range(1, k + 1))
    jaccard = sum(n / (2 * k - n) * probability for n, probability in common)
    return Similarity(cosine, np.zeros(scale.shape), np.full(scale.shape, float(jaccard)))


def without_own(
    profiles: Float[np.ndarray, "batch step feature"], last: int
) -> Float[np.ndarray, "batch step feature"]:
    """Return what each step is compared with: the mean of the last steps, for one of them that of the others.

    Counted in, each of n unrelated steps would be like their mean by 1 / √n. Where `last` is 1, the last
    step is compared with the one before it; NaN if there is none.
    """
    tail = profiles[:, -last:]
    references = np.repeat(tail.mean(axis=1, keepdims=True), profiles.shape[1], axis=1)
    if last > 1:
        references[:, -last:] = (tail.sum(axis=1, keepdims=True) - tail) / (last - 1)
    elif profiles.shape[1] > 1:
        references[:, -1] = profiles[:, -2]
    else:
        references[:] = np.nan
    return references


def settled_at(cosine: Float[np.ndarray, "batch step"], tolerance: float) -> np.ndarray:
    """Return the first index from which the cosine stays at least 1 − tolerance to the end, else −1."""
    expected = "0 to 2, such as 0.1: the cosine stays above 1 − tolerance"
    check_real("tolerance", tolerance, expected, most=2)
    # Seen from the end, a cosine stays high as long as none after it is low.
    stays = np.flip(np.logical_and.accumulate(np.flip(cosine >= 1 - tolerance, axis=1), axis=1), axis=1)
    return np.where(stays.any(axis=1), np.argmax(stays, axis=1), -1)


def horizon(
    relevance: Float[np.ndarray, "batch step time feature"],
    steps: Int[np.ndarray, " step"],
    lengths: Sequence[int] | None = None,
) -> Horizon:
    """Return relevance against lag, of relevance for the output `steps`.

    Steps past a sample's length do not count.
    """
    mass = np.abs(relevance).sum(axis=3, dtype=float)
    batch, _, time = mass.shape
    there = np.arange(time) < np.asarray([time] * batch if lengths is None else lengths)[:, None]
    # Short lags occur at more steps than long ones: each lag's mass is a mean over the steps that have it.
    lag = steps[:, None] - np.arange(time)
    lags = np.arange(lag.min(), lag.max() + 1)
    sums = np.stack([mass[:, lag == one].sum(axis=1) for one in lags], axis=1)
    counts = np.stack([(there[:, None] & (lag == one)).sum(axis=(1, 2)) for one in lags], axis=1)
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    total = means.sum(axis=1, keepdims=True)
    return Horizon(lags, means, np.divide(means, total, out=np.zeros_like(means), where=total > 0))


def most_relevant(relevance: Profiles, share: float, by: str) -> Bool[np.ndarray, "*batch feature"]:
    """Return a mask of the features of largest relevance, by count or by mass; see `SequenceExplanation`."""
    check_real("share", share, "more than 0, at most 1, such as 0.1", POSITIVE, 1)
    if by not in ("count", "mass"):
        raise InputError(
            f"no choice by `{by}`; choose count (a share of the features) or mass (of their relevance)"
        )
    positive = np.maximum(np.asarray(relevance, dtype=float), 0)
    if by == "count":
        return _top(relevance, int(np.ceil(share * relevance.shape[-1] - 1e-9))) & (positive > 0)
    # A feature is needed as long as those before it, most relevant first, do not reach the share by
    # themselves; the last factor keeps rounding from adding one more.
    order = np.argsort(-positive, axis=-1, kind="stable")
    ranked = np.take_along_axis(positive, order, axis=-1)
    before = np.cumsum(ranked, axis=-1) - ranked
    needed = before < share * ranked.sum(axis=-1, keepdims=True) * (1 - 1e-12)
    mask = np.zeros(positive.shape, dtype=bool)
    np.put_along_axis(mask, order, needed & (ranked > 0), axis=-1)
    return mask


def _top(values: np.ndarray, k: int) -> np.ndarray:
    """Return a mask of the k largest values along the last axis, the first of equal ones."""
    mask = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(mask, np.argsort(-values, axis=-1, kind="stable")[..., :k], True, axis=-1)
    return mask
