"""Rank correlation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def spearman(a: Float[np.ndarray, "*#batch n"], b: Float[np.ndarray, "*#batch n"]) -> np.ndarray:
    """Return Spearman's rank correlation along the last axis; ties share their rank, constants give NaN."""
    x, y = (r - r.mean(axis=-1, keepdims=True) for r in map(ranks, np.broadcast_arrays(a, b)))
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.asarray(
        np.divide((x * y).sum(axis=-1), scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    )


def ranks(x: np.ndarray) -> np.ndarray:
    """Return ranks from 1 along the last axis: what `scipy.stats.rankdata` gives, which is slow to import."""
    order = np.argsort(x, axis=-1, kind="stable")
    values = np.take_along_axis(x, order, axis=-1)
    at = np.arange(x.shape[-1])
    # A run of equal values reaches from the last place at which the value changed to the place before the
    # next change; its members share the middle of the two.
    changes = values[..., 1:] != values[..., :-1]
    edge = np.ones_like(changes[..., :1], shape=(*x.shape[:-1], 1))
    first = np.maximum.accumulate(np.where(np.concatenate([edge, changes], axis=-1), at, 0), axis=-1)
    ends = np.where(np.concatenate([changes, edge], axis=-1), at, x.shape[-1])
    last = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
    place = np.empty(x.shape)
    np.put_along_axis(place, order, (first + last) / 2 + 1, axis=-1)
    return np.where(np.isnan(x).any(axis=-1, keepdims=True), np.nan, place)
