"""Means over clips and trained networks, their intervals, and the words that follow from these."""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.claims.tables import DIGITS, Cell
from chronocam.metrics import Interval, bootstrap

RESAMPLES = 2000
UNDEFINED = Interval(np.nan, np.nan, np.nan, 0)

Values = np.ndarray
"""Of one measure, `(network, clip)`: networks differ in their training seed; NaN where it is undefined."""


def pooled(values: Values) -> Interval:
    """Return the mean over networks and clips; the interval resamples both, the same clips for all."""
    return _interval(values, _means(values, 1))


def difference(a: Values, b: Values) -> Interval:
    """Return mean(a) − mean(b) of two arms on the same clips and the same networks, pair by pair.

    Pairs of which one is undefined are left out.
    """
    return pooled(a - b)


def apart(a: Values, b: Values) -> Interval:
    """Return mean(a) − mean(b) of different networks on the same clips: each side resamples its own networks.

    Clips on which a measure is undefined for any of the networks are left out.
    """
    both = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    a, b = a[:, both], b[:, both]
    means = _means(a, 1) - _means(b, 2)
    if not both.any():
        return UNDEFINED
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(a.mean() - b.mean()), float(low), float(high), int(both.sum()))


def each(values: Values) -> list[Interval | None]:
    """Return the interval over clips of each network; None where the measure is undefined throughout."""
    return [bootstrap(row[np.isfinite(row)]) if np.isfinite(row).any() else None for row in values]


def side(cell: Cell, low: float = 0, high: float | None = None) -> str:
    """Return on which side of a level, or of the limits `low` and `high`, a cell's whole interval lies."""
    if isinstance(cell, str):
        return cell
    bottom, top = (cell.low, cell.high) if isinstance(cell, Interval) else (cell, cell)
    if round(bottom - (low if high is None else high), DIGITS) > 0:
        return "above"
    return "below" if round(top - low, DIGITS) < 0 else "undecided"


def written(cell: Cell, signed: bool = False) -> str:
    """Write a mean with its interval, or a number; nothing for a cell that is only a side."""
    if isinstance(cell, str):
        return ""
    if not isinstance(cell, Interval):
        return f"{cell:.{1 + (abs(cell) >= 0.01)}g}"
    sign = "+" if signed else ""
    mean, low, high = (
        f"{round(value, DIGITS) + 0.0:{sign}.3f}" for value in (cell.mean, cell.low, cell.high)
    )
    return f"{mean} [{low}, {high}]"


def _interval(values: Values, means: np.ndarray) -> Interval:
    defined = np.isfinite(values)
    if not defined.any():
        return UNDEFINED
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return Interval(float(values[defined].mean()), float(low), float(high), int(defined.any(axis=0).sum()))


def _means(values: Values, stream: int) -> np.ndarray:
    """Return the mean of every resample: of clips, and of networks drawn from random numbers `stream`."""
    networks, clips = values.shape
    if not clips:
        return np.full(RESAMPLES, np.nan)
    # A resample is a weighted mean: every clip and network counts as often as it was drawn. Clips use one
    # stream of draws, so that arms stay paired; networks of other designs use a stream of their own.
    times_clip, times_network = _counts(clips, 0), _counts(networks, stream)
    defined = np.isfinite(values)
    above = ((times_clip @ np.where(defined, values, 0.0).T) * times_network).sum(axis=1)
    below = ((times_clip @ defined.T.astype(float)) * times_network).sum(axis=1)
    return np.divide(above, below, out=np.full(RESAMPLES, np.nan), where=below > 0)


@cache
def _counts(total: int, stream: int) -> np.ndarray:
    """Return how often each of `total` things is drawn in every resample: `(resample, thing)`."""
    rng = np.random.default_rng((stream, total))
    return rng.multinomial(total, np.full(total, 1 / total), RESAMPLES).astype(float)
