"""Bootstrap confidence intervals of a mean, or of any other number that a set of samples has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import Any, Final

import numpy as np

from chronocam.errors import InputError

DRAWS: Final = 2000

Statistic = Callable[[np.ndarray], Any]
"""Takes rows, one per sample, and returns one number for all of them."""


@dataclass(frozen=True)
class Interval:
    """A mean, or another number of a set, with its confidence interval, over `count` samples.

    Example:
    >>> str(cc.metrics.Interval(0.5, 0.4, 0.6, count=20))
    '0.500 [0.400, 0.600]'
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return self._written("")

    def _written(self, sign: str) -> str:
        """Return it with three digits, and up to six where its width calls for them: four that count.

        One sample says nothing of how others would be: then the mean alone.
        """
        width, size = self.high - self.low, max(abs(self.low), abs(self.high), abs(self.mean))
        digits = 3
        if width > 0 and isfinite(width):
            digits = min(max(3, min(1 - floor(log10(width)), 3 - floor(log10(size)))), 6)
        if self.count == 1:
            return f"{round(self.mean, digits) + 0.0:{sign}.{digits}f}"
        # Rounded first, so that −0 is never printed.
        mean, low, high = (round(value, digits) + 0.0 for value in (self.mean, self.low, self.high))
        return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def bootstrap(
    values: Sequence[float] | np.ndarray,
    confidence: float = 0.95,
    seed: int = 0,
    statistic: Statistic | None = None,
) -> Interval:
    """Return the mean of per-sample values with its bootstrap interval (2,000 resamples).

    The interval is corrected for bias and skewness (BCa), and for the spread of few samples being too small
    by itself.

    values: `(sample,)`; with a `statistic`, `(sample, …)`.
    statistic: the number that a set of rows has, in place of their mean.

    Raises InputError for no values and for NaN or infinity, which a measure gives where it is undefined.
    Source: Efron 1987, JASA 82(397); the correction for few samples of Hesterberg 2015 (arXiv:1411.5279),
    section 4.3.

    Example:
    >>> interval = cc.metrics.bootstrap([0.2, 0.4, 0.6, 0.8])
    >>> interval.mean, interval.low < 0.5 < interval.high
    (0.5, True)
    """
    sample = checked(values)
    draws = np.random.default_rng(seed).integers(0, len(sample), (DRAWS, len(sample)))
    if statistic is None:
        mean, estimates = float(sample.mean()), sample[draws].mean(axis=1)
        left_out = (sample.sum() - sample) / max(len(sample) - 1, 1)
    else:
        mean = float(statistic(sample))
        estimates = np.array([statistic(sample[rows]) for rows in draws], dtype=np.float64)
        rest = [np.delete(sample, i, axis=0) for i in range(len(sample))] if len(sample) > 1 else [sample]
        left_out = np.array([statistic(rows) for rows in rest], dtype=np.float64)
    low, high = np.quantile(estimates, _levels(mean, estimates, left_out, confidence))
    return Interval(mean, float(low), float(high), len(sample))


def checked(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return values in float64. Raises InputError for none, and for NaN or infinity."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise InputError("no values to average; expected at least one sample")
    finite = np.isfinite(sample).reshape(len(sample), -1).all(axis=1)
    if not finite.all():
        count = int((~finite).sum())
        raise InputError(f"{count} of {len(sample)} values are NaN or infinite; leave those samples out")
    return sample


def _levels(mean: float, estimates: np.ndarray, left_out: np.ndarray, confidence: float) -> np.ndarray:
    """Return which quantiles of the resampled estimates are the ends of the interval."""
    from scipy.special import ndtr, ndtri, stdtrit

    n = len(left_out)
    tail = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    # A sample's spread is too small by √((n − 1)/n), and it is not known: Student's t.
    wanted = np.sqrt(n / (n - 1)) * stdtrit(n - 1, tail) if n > 1 else ndtri(tail)
    below = np.mean(estimates < mean) + np.mean(estimates == mean) / 2
    bias = ndtri(np.clip(below, 1 / len(estimates), 1 - 1 / len(estimates)))
    away = left_out.mean() - left_out
    spread = np.sum(away**2) ** 1.5
    skew = np.sum(away**3) / (6 * spread) if spread > 0 else 0.0
    moved = bias + wanted
    return np.asarray(ndtr(bias + moved / np.maximum(1 - skew * moved, 1e-9)))
