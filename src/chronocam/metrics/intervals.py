"""Bootstrap confidence intervals of a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chronocam.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval, over `count` samples.

    Example:
    >>> str(cc.metrics.Interval(0.5, 0.4, 0.6, count=20))
    '0.500 [0.400, 0.600]'
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: Sequence[float] | np.ndarray, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of per-sample values with its percentile bootstrap interval (2,000 resamples).

    Raises InputError for no values and for NaN or infinity, which a measure gives where it is undefined.

    Example:
    >>> interval = cc.metrics.bootstrap([0.2, 0.4, 0.6, 0.8])
    >>> interval.mean, interval.low < 0.5 < interval.high
    (0.5, True)
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise InputError("no values to average; expected at least one sample")
    if not np.isfinite(sample).all():
        count = int((~np.isfinite(sample)).sum())
        raise InputError(f"{count} of {sample.size} values are NaN or infinite; leave those samples out")
    draws = np.random.default_rng(seed).integers(0, len(sample), (2000, len(sample)))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(sample[draws].mean(axis=1), [tail, 100 - tail])
    return Interval(float(sample.mean()), float(low), float(high), len(sample))
