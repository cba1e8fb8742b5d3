"""What an evaluation says, in sentences that follow of its intervals alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log2, log10
from typing import TYPE_CHECKING, Final

import numpy as np

from chronocam.evaluation.measures import Measure
from chronocam.evaluation.panel import names
from chronocam.metrics.comparisons import samples_needed

if TYPE_CHECKING:
    from chronocam.evaluation.panel import Row
    from chronocam.evaluation.result import Comparison, Evaluation

LEVEL: Final = 0.05
_MATTERS: Final = 0.1
"""What share of the reference's number a difference must have to matter."""

_MOST: Final = 100_000
"""Samples that nobody gathers: how many more than that are needed says nothing."""

_ROUNDING: Final = 1e-5
"""What share of the reference's number a difference may have that comes of rounding alone."""

_FEW: Final = 9
"""Samples up to which intervals hold the mean of skewed values less often than they say."""

_CONTROLS: Final = {
    "random": "a random map",
    "centre": "a blob in the middle",
    "edges": "the edges of the input",
    "randomised": "the map of random weights",
}


def sentences(result: Evaluation) -> list[str]:
    """Return the verdicts: each method beside the reference, then what is not above its controls."""
    row_names = dict(zip(result.rows, names(result.rows), strict=True))
    comparisons = []
    for one in result.comparisons:
        if one.measure.better is not None and not one.against.control:
            comparisons.append(_beside(result, one, row_names))
    too_few = _too_few(result)
    verdicts = [too_few, *comparisons] if too_few else comparisons + _below_controls(result, row_names)
    return verdicts + _too_optimistic(result)


def _too_few(result: Evaluation) -> str:
    """Return that no difference could be told from chance, whatever its size; nothing where one could."""
    tested = [one for one in result.comparisons if not one.measure.pooled]
    if not tested:
        return ""
    most = max(one.difference.count for one in tested)
    # All n samples agree by chance with 2^(1 − n), which Holm multiplies by the number of comparisons.
    needed = 1 + ceil(log2(len(result.comparisons) / LEVEL))
    if most >= needed:
        return ""
    compared = len(result.comparisons)
    return (
        f"{_counted(most, 'sample')} {'is' if most == 1 else 'are'} too few for a verdict: "
        f"{_counted(compared, 'comparison')} {'needs' if compared == 1 else 'need'} at least {needed}."
    )


def _too_optimistic(result: Evaluation) -> list[str]:
    """Return that intervals of few samples may be too narrow."""
    most = max((line.interval.count for line in result.lines), default=0)
    if not 1 < most <= _FEW:
        return []
    return [
        f"Intervals over {most} samples are too optimistic where values are skewed: "
        "fewer than 95 % of them hold the mean."
    ]


def _beside(result: Evaluation, one: Comparison, row_names: dict[Row, str]) -> str:
    a, b, what = row_names[one.row], row_names[one.against], one.measure.title
    count = _counted(one.difference.count, "sample")
    apart = max(abs(one.difference.low), abs(one.difference.high))
    if apart <= _ROUNDING * abs(_number(result, one.against, one.measure)):
        alike = "the one sample" if one.difference.count == 1 else f"every one of {count}"
        return f"{a} and {b} are equal in {what} on {alike}."
    if told_apart(one):
        verb = "beats" if is_better(one) else "loses to"
        sense = ", where less is better" if one.measure.better == "low" else ""
        return f"{a} {verb} {b} in {what}{sense} ({one.difference}, {count})."
    # Of many comparisons some have an interval beside 0 by chance.
    beside = one.difference.count > 1 and not one.difference.low <= 0 <= one.difference.high
    chance = f"; p = {one.p:.2g} over {_counted(len(result.comparisons), 'comparison')}" if beside else ""
    text = f"{a} and {b} cannot be told apart in {what} ({one.difference}, {count}{chance})"
    return f"{text}{_more(result, one)}."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def told_apart(one: Comparison) -> bool:
    """Say whether a difference is beyond chance: no 0 in its interval, and a corrected p below 5 %."""
    return one.p < LEVEL and not one.difference.low <= 0 <= one.difference.high


def is_better(one: Comparison) -> bool:
    """Say whether the first of two has the better number."""
    return (one.difference.mean > 0) == (one.measure.better == "high")


def _more(result: Evaluation, one: Comparison) -> str:
    """Return how many more samples would decide the smallest difference that matters."""
    if one.measure.pooled:
        return ""
    matters = _rounded(abs(_number(result, one.against, one.measure)) * _MATTERS)
    n = one.difference.count
    if n < 3 or matters == 0:
        return ""
    differences = result.values(one.row, one.measure) - result.values(one.against, one.measure)
    spread = _at_most(differences[np.isfinite(differences)])
    # Holm's correction begins with α over the number of comparisons.
    needed = samples_needed(spread, matters, 1 - LEVEL / len(result.comparisons))
    if needed <= n:
        return f"; one of {matters:g} would very likely have been seen"
    more = f"{needed - n}" if needed - n <= _MOST else f"over {_MOST:,}"
    return f"; {more} more would decide a difference of {matters:g}"


def _number(result: Evaluation, row: Row, measure: Measure) -> float:
    """Return the number of a row."""
    return next(
        line.interval.mean for line in result.lines if line.row == row and line.measure.name == measure.name
    )


def _at_most(differences: np.ndarray) -> float:
    """Return the upper 95 % confidence limit of their standard deviation."""
    from scipy.special import chdtri

    n = len(differences)
    return float(differences.std(ddof=1) * np.sqrt((n - 1) / chdtri(n - 1, 0.95)))


def _rounded(value: float) -> float:
    """Return a number with one digit that counts."""
    return float(f"{value:.1g}") if value > 0 and floor(log10(value)) > -9 else 0.0


def _below_controls(result: Evaluation, row_names: dict[Row, str]) -> list[str]:
    """Return what is below, or not shown to be above, which control, or that all are above all."""
    failing: dict[tuple[Row, Row, str], list[Measure]] = {}
    tested: set[Row] = set()
    for one in result.comparisons:
        if not one.against.control or one.measure.better is None or one.measure.shape:
            continue
        tested.add(one.against)
        if not (told_apart(one) and is_better(one)):
            how = "below" if told_apart(one) else "not shown to be above"
            failing.setdefault((one.row, one.against, how), []).append(one.measure)
    if not tested:
        return []
    if not failing:
        controls = _listed([_CONTROLS[row.method] for row in result.rows if row in tested])
        return [f"Every method is above {controls} in every measure."]
    # Those that fail alike stand in one sentence.
    alike: dict[tuple[Row, str, tuple[str, ...]], list[str]] = {}
    for (row, control, how), measures in failing.items():
        alike.setdefault((control, how, tuple(m.title for m in measures)), []).append(row_names[row])
    return [
        f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {how} {_CONTROLS[control.method]} "
        f"in {_listed(titles)}."
        for (control, how, titles), names in alike.items()
    ]


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
