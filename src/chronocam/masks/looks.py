"""When a map is known well enough: intervals that hold although they are looked at again and again."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SHARE = 0.05
"""Of intervals, how many may miss."""

_FIRST = 3
_GROWTH = 1.5


@dataclass
class Looks:
    """The mean of independent estimates of a map, with a 95 % interval for each of its cells.

    Looking often at an interval until it is narrow makes it miss far more often than it says. So looks are
    planned, at 3 estimates and then at each half more, and each gets the same share of α = 5 %: however many
    are needed, together they miss no more often. Estimates are sums over many masks, so Student's t is their
    law.

    A map that is known is kept as it is then, while others of the batch go on: it depends on no neighbour.

    until: the half-width that is narrow enough, as a share of the map's range; None looks only at the end.
    most: how many estimates there may be.
    rise: `(batch, target)`, of the score from nothing shown to all, to which regions of a linear score add
        up. What others miss may be due to what no mask has shown. By the rule of three, what N masks have not
        met has a chance of 3/N at most: no interval is narrower than what that would add. None asks for none.
    rounding: `(batch, target)`, below which values are no more than rounding errors of the scores: a map of
        them is known, and so is one that is not finite, which no further estimate changes.
    """

    until: float | None
    most: int
    rise: np.ndarray | None = None
    rounding: np.ndarray | float = 0.0
    count: int = 0
    looks: int = 0
    reached: float = np.inf
    _next: int = _FIRST
    _mean: np.ndarray = field(default_factory=lambda: np.zeros(()))
    _squares: np.ndarray = field(default_factory=lambda: np.zeros(()))
    _total: np.ndarray | float = 0.0
    _masks: int = 0
    _kept: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, float]] = field(default_factory=dict)

    def add(self, estimate: np.ndarray, total: np.ndarray | float = 0.0, masks: int = 0) -> None:
        """Take one more estimate `(batch, target, *grid)` of so many masks; its regions add up to `total`."""
        self.count += 1
        self._total, self._masks = self._total + total, self._masks + masks
        away = estimate - self._mean
        self._mean = self._mean + away / self.count
        self._squares = self._squares + away * (estimate - self._mean)

    def enough(self) -> bool:
        """Say whether the map is known well enough, where it is time for a look."""
        if self.until is None or self.count < self._next:
            return False
        self._next = _after(self.count)
        self.interval()
        return self.reached <= self.until

    def interval(self) -> np.ndarray:
        """Look: return the half-width of the interval of each cell; infinite for fewer than two estimates."""
        from scipy.special import stdtrit

        self.looks += 1
        if self.count < 2:
            return np.full_like(self._mean, np.inf)
        alpha = SHARE / (1 if self.until is None else _planned(self.most))
        error = np.sqrt(self._squares / (self.count - 1) / self.count)
        half = np.maximum(stdtrit(self.count - 1, 1 - alpha / 2) * error, self._unmet(error.ndim))
        axes = tuple(range(2, half.ndim))
        span, widest = np.ptp(self._mean, axis=axes), half.max(axis=axes)
        open_ = ((span > self.rounding) | (widest > self.rounding)) & np.isfinite(span)
        with np.errstate(divide="ignore"):
            share = np.divide(widest, span, out=np.zeros_like(span), where=open_)
        for at in np.ndindex(*span.shape):
            if self.until is not None and at not in self._kept and share[at] <= self.until:
                self._kept[at] = self._mean[at].copy(), half[at].copy(), float(share[at])
        for at, (_, known, reached) in self._kept.items():
            half[at], share[at] = known, reached
        self.reached = float(share.max(initial=0.0))
        return half

    def _unmet(self, ndim: int) -> np.ndarray | float:
        """Return what may be missing at each cell of what no mask has met, `(batch, target, 1, …)`."""
        if self.rise is None:
            return 0.0
        missed = np.abs(self.rise - self._total / self.count)
        # With a chance of p, it makes a mean with a region 2p higher than that without.
        return np.reshape(2 * 3 / self._masks * missed, (*missed.shape, *(1,) * (ndim - 2)))

    @property
    def mean(self) -> np.ndarray:
        """The maps."""
        mean = self._mean.copy()
        for at, (known, *_) in self._kept.items():
            mean[at] = known
        return mean


def _after(count: int) -> int:
    """Return how many estimates the next look waits for."""
    return int(np.ceil(count * _GROWTH))


def _planned(most: int) -> int:
    """Return how many looks there may be: at the counts planned, and at the end."""
    counts = [_FIRST]
    while counts[-1] < most:
        counts.append(_after(counts[-1]))
    return len(counts)
