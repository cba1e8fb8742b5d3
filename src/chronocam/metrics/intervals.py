"""Bootstrap confidence intervals of a mean, or of any other number that a set of samples has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import floor, isfinite, log10
from typing import Any, Final

import numpy as np

from chronocam.errors import InputError

DRAWS: Final = 2000
_NO_SPREAD: Final = 1e-3  # of a resample, in standard deviations of the sample

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
    hits: bool | None = None,
) -> Interval:
    """Return the mean of per-sample values with its bootstrap interval (2,000 resamples).

    The interval of a mean is studentised. Each end is three quarters of the way to the farther of the
    bootstrap's and Student's: how skewed few samples are says only half of how skewed others would be. That
    of hits and misses is Wilson's. Another statistic has its interval corrected for bias and skewness (BCa),
    and for the spread of few samples being too small by itself.

    values: `(sample,)`; with a `statistic`, `(sample, …)`.
    statistic: the number that a set of rows has, in place of their mean.
    hits: True for hits and misses, 1 and 0; False for values that only happen to be 0 and 1, as differences
        may (see `paired`). With None, values are taken for hits where all are 0 or 1.

    Raises InputError for no values, for NaN or infinity, which a measure gives where it is undefined, and for
    hits that are neither 0 nor 1.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 12.5; Wilson 1927, JASA
    22(158); Efron 1987, JASA 82(397), and Hesterberg 2015 (arXiv:1411.5279), section 4.3.

    Example:
    >>> interval = cc.metrics.bootstrap([0.2, 0.4, 0.6, 0.8])
    >>> interval.mean, interval.low < 0.5 < interval.high
    (0.5, True)
    """
    sample = checked(values)
    if statistic is not None:
        return _of_statistic(sample, confidence, seed, statistic)
    other = sample[~np.isin(sample, (0, 1))]
    if hits and other.size:
        raise InputError(f"values hold {other[0]:g}; expected hits and misses, 1 and 0, or leave hits= out")
    if hits or (hits is None and sample.ndim == 1 and not other.size):
        return _of_hits(sample, confidence)
    return of_mean(sample, confidence, seed)


def of_mean(sample: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean with its studentised interval, `(sample,)`; without width where all are equal."""
    from scipy.special import stdtrit

    n, mean = len(sample), float(sample.mean())
    if np.ptp(sample) == 0:
        return Interval(mean, mean, mean, n)
    spread = float(sample.std())
    away = ((sample - mean) / spread).astype(np.float32)
    means, squares = (_resamples(n, seed) @ np.stack([away, away**2], axis=1)).T
    spreads = np.sqrt(np.maximum(squares - means**2, 0))
    # A resample of one value again and again has no spread, and says nothing.
    t = (means / np.where(spreads > _NO_SPREAD, spreads, 1))[spreads > _NO_SPREAD]
    tail = np.array([(1 + confidence) / 2, (1 - confidence) / 2])
    student = stdtrit(n - 1, tail) / np.sqrt(n - 1)
    # The resamples of a handful of samples may have next to no spread: no further than twice Student's.
    both = np.stack([np.quantile(t, tail).clip(2 * student[1], 2 * student[0]), student])
    farther = np.array([both[:, 0].max(), both[:, 1].min()])
    ends = (both.mean(axis=0) + farther) / 2
    low, high = mean - spread * ends
    return Interval(mean, float(low), float(high), n)


@lru_cache(maxsize=2)
def _resamples(count: int, seed: int) -> np.ndarray:
    """Return of every resample the share that each sample has in it, `(resample, sample)`."""
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    return (times / count).astype(np.float32)


def _of_hits(sample: np.ndarray, confidence: float) -> Interval:
    """Return the share of hits with Wilson's interval, which has a width also where all are hits."""
    from scipy.special import ndtri

    n, share, z = len(sample), float(sample.mean()), ndtri((1 + confidence) / 2)
    middle = share + z**2 / (2 * n)
    apart = z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = (middle + np.array([-apart, apart])) / (1 + z**2 / n)
    return Interval(share, max(float(low), 0.0), min(float(high), 1.0), n)


def _of_statistic(sample: np.ndarray, confidence: float, seed: int, statistic: Statistic) -> Interval:
    draws = np.random.default_rng(seed).integers(0, len(sample), (DRAWS, len(sample)))
    value = float(statistic(sample))
    estimates = np.array([statistic(sample[rows]) for rows in draws], dtype=np.float64)
    rest = [np.delete(sample, i, axis=0) for i in range(len(sample))] if len(sample) > 1 else [sample]
    left_out = np.array([statistic(rows) for rows in rest], dtype=np.float64)
    low, high = np.quantile(estimates, _levels(value, estimates, left_out, confidence))
    return Interval(value, float(low), float(high), len(sample))


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
