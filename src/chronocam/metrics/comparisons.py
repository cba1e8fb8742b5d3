"""Comparisons over the same samples: paired differences, many at once, and how many samples decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from chronocam.errors import POSITIVE, InputError, check_real
from chronocam.metrics.intervals import Interval, Statistic, bootstrap, checked, of_mean

_ENUMERATED: Final = 14  # samples; all exchanges of more are too many to look at
_SHUFFLES: Final = 2000


@dataclass(frozen=True)
class Difference(Interval):
    """The difference of two means over the same samples, with its interval.

    p: how likely a difference as large is where the two are interchangeable, sample by sample.

    Example:
    >>> str(cc.metrics.Difference(0.1, 0.05, 0.15, count=20, p=0.001))
    '+0.100 [+0.050, +0.150]'
    """

    p: float

    def __str__(self) -> str:
        return self._written("+")


def paired(
    values: Sequence[float] | np.ndarray,
    others: Sequence[float] | np.ndarray,
    confidence: float = 0.95,
    seed: int = 0,
    statistic: Statistic | None = None,
) -> Difference:
    """Return by how much `values` exceed `others`, sample by sample.

    The interval is that of `bootstrap`. p is of the test that exchanges the two of some of the samples, in
    all ways (two-sided), which supposes nothing of how the differences are distributed: counted up to 14
    samples, and a saddlepoint approximation of that count above. With a `statistic`, of 2,000 random ways,
    and beyond what they can tell of a normal distribution of their spread.

    values, others: `(sample,)`; with a `statistic`, `(sample, …)`.
    statistic: the number that a set of rows has, in place of their mean.

    Raises InputError for values that do not pair, and as `bootstrap` does.
    Source: Fisher 1935, The Design of Experiments, section 21; Robinson 1982, JRSS B 44(1).

    Example:
    >>> difference = cc.metrics.paired([0.5, 0.6, 0.7, 0.9], [0.4, 0.4, 0.4, 0.4])
    >>> round(difference.mean, 3), difference.low > 0
    (0.275, True)
    """
    a, b = checked(values), checked(others)
    if a.shape != b.shape:
        raise InputError(f"values have shapes {a.shape} and {b.shape}; expected a pair for each sample")
    if statistic is None:
        interval, p = of_mean(a - b, confidence, seed), _exchanged(a - b)
    else:
        of = statistic
        both = np.stack([a, b], axis=1)
        interval = bootstrap(both, confidence, seed, lambda rows: of(rows[:, 0]) - of(rows[:, 1]))
        swap = np.random.default_rng(seed).random((_SHUFFLES, len(a))) < 0.5
        each = swap.reshape(*swap.shape, *[1] * (a.ndim - 1))
        p = _of_shuffles(
            interval.mean, np.array([of(np.where(s, b, a)) - of(np.where(s, a, b)) for s in each])
        )
    return Difference(interval.mean, interval.low, interval.high, interval.count, p)


def _exchanged(differences: np.ndarray) -> float:
    """Return the share of all choices of signs with a sum at least as large as that of the differences."""
    d = np.abs(differences[differences != 0])
    total = abs(float(differences.sum()))
    if total <= 1e-12 * float(d.sum()) or not d.size:
        return 1.0
    if d.max() - d.min() <= 1e-12 * d.max():  # hits and misses: the sign test
        from scipy.special import bdtrc

        wins = round((total / d[0] + d.size) / 2)
        return min(1.0, 2 * float(bdtrc(wins - 1, d.size, 0.5)))
    if d.size <= _ENUMERATED:
        signs = 1.0 - 2 * (np.arange(2**d.size)[:, None] >> np.arange(d.size) & 1)
        # Sums of the same numbers in another order differ in their last bits.
        return float(np.mean(np.abs(signs @ d) >= total * (1 - 1e-12)))
    return min(1.0, max(2 * _tail(d, total), 2.0 ** (1 - d.size)))


def _tail(d: np.ndarray, total: float) -> float:
    """Return how likely a sum of d with random signs is at least `total`: Lugannani and Rice's formula."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    if total >= d.sum() * (1 - 1e-9):
        return float(2.0**-d.size)
    high = 1 / d.max()
    while float(d @ np.tanh(high * d)) < total:
        high *= 2
    t = float(brentq(lambda t: float(d @ np.tanh(t * d)) - total, 0, high))
    # log cosh without overflow.
    cumulant = float(np.sum(np.abs(t * d) + np.log1p(np.exp(-2 * np.abs(t * d))) - np.log(2)))
    w = np.sqrt(max(2 * (t * total - cumulant), 0))
    u = t * np.sqrt(float(np.sum((d / np.cosh(np.minimum(t * d, 350))) ** 2)))
    if w < 1e-4:
        return float(ndtr(-total / np.sqrt(d @ d)))
    return float(ndtr(-w) + np.exp(-(w**2) / 2) / np.sqrt(2 * np.pi) * (1 / u - 1 / w))


def _of_shuffles(observed: float, shuffled: np.ndarray) -> float:
    from scipy.special import ndtr

    as_large = int((np.abs(shuffled) >= abs(observed) * (1 - 1e-12)).sum())
    counted = (1 + as_large) / (1 + len(shuffled))
    spread = float(shuffled.std())
    if as_large > 10 or spread == 0:
        return counted
    return min(counted, float(2 * ndtr(-abs(observed) / spread)))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p values corrected for how many there are: whichever are below α, all are right with 1 − α.

    p_(k) · (m − k + 1) for the k-th smallest of m, never below that of a smaller one, at most 1.

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2).

    Example:
    >>> cc.metrics.holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p, dtype=np.float64)
    if values.size and not ((values >= 0) & (values <= 1)).all():
        raise InputError("p holds a value outside [0, 1]; expected probabilities")
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(steps, 1)
    return corrected


def samples_needed(spread: float, difference: float, confidence: float = 0.95, power: float = 0.8) -> int:
    """Return how many samples tell a mean difference from none, with a chance of `power`.

    n = ((z_{1−α/2} + z_power) · spread / difference)², rounded up, for a two-sided test at
    α = 1 − `confidence`.

    spread: the standard deviation of the differences of the samples. difference: the smallest that matters;
    not the one observed, which is not the true one.

    Raises InputError for numbers that are not positive.

    Example:
    >>> cc.metrics.samples_needed(0.2, 0.05)
    126
    """
    from scipy.special import ndtri

    check_real("spread", spread, "a standard deviation, from 0", least=0)
    check_real("difference", difference, "the smallest difference that matters", least=POSITIVE)
    return ceil(((ndtri((1 + confidence) / 2) + ndtri(power)) * spread / difference) ** 2)
