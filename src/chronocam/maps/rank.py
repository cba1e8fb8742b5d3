"""Rank correlation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


def spearman(a: Float[np.ndarray, "*#batch n"], b: Float[np.ndarray, "*#batch n"]) -> np.ndarray:
    """Return Spearman's rank correlation along the last axis, ties sharing their mean rank; NaN for constants."""
    ranks = [rankdata(x, axis=-1) for x in np.broadcast_arrays(a, b)]
    x, y = (r - r.mean(axis=-1, keepdims=True) for r in ranks)
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.asarray(
        np.divide((x * y).sum(axis=-1), scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    )
