"""The page of an evaluation: its verdict, a forest plot per measure, curves, and samples to click on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from chronocam.evaluation.measures import Deletion, Measure
from chronocam.evaluation.panel import names
from chronocam.render._overlay import colour_map
from chronocam.render.page.html import asset, filled
from chronocam.render.page.packed import encoded, number, numbers
from chronocam.render.theme import WARM

if TYPE_CHECKING:
    from chronocam.evaluation.panel import Row
    from chronocam.evaluation.result import Evaluation

_SHOWN: Final = 80
"""Samples on a page at most."""
_ENDS: Final = 4
"""How many of the worst and best samples of a method are shown under a measure."""


def page(result: Evaluation) -> str:
    """Return the HTML of an evaluation."""
    row_names = names(result.rows)
    ends = {measure.name: _ends(result, measure) for measure in result.measures if not measure.pooled}
    shown = sorted(_few(ends))
    place = {at: k for k, at in enumerate(shown)}
    colours = np.rint(255 * colour_map(WARM)(np.arange(256))[:, :3]).astype(np.uint8)
    data: dict[str, Any] = {
        "title": f"Evaluation of {len(result.samples)} samples",
        "about": _about(result),
        "verdicts": result.verdicts,
        "notes": list(result.notes),
        "failures": [f"{name}: {error}" for name, error in result.failures],
        "colours": encoded(colours.tobytes()),
        "rows": [
            {"name": name, "control": row.control, "cost": number(result.cost.get(row, float("nan")), 3)}
            for name, row in zip(row_names, result.rows, strict=True)
        ],
        "measures": [_measure(result, measure) for measure in result.measures],
        "ends": {
            name: [[[place[k] for k in side if k in place] for side in of_row] for of_row in of_rows]
            for name, of_rows in ends.items()
        },
        "samples": [_sample(result, at) for at in shown],
        "agreement": [numbers(row, 2) for row in result.agreement],
    }
    data["measures"] = [one for one in data["measures"] if one["lines"]]
    script = asset("base.js") + asset("page.js", __package__)
    return filled(
        asset("page.html", __package__), script, data["title"], data, asset("page.css", __package__)
    )


def _about(result: Evaluation) -> str:
    methods = sum(not row.control for row in result.rows)
    groups = len({sample["group"] for sample in result.samples})
    of = "" if groups == len(result.samples) else f" of {groups} files, each of which counts once"
    shared = f", where each method and measure by itself would take {result.alone:,}" if result.alone else ""
    return (
        f"{methods} {'method' if methods == 1 else 'methods'} and {len(result.rows) - methods} controls on "
        f"{len(result.samples)} samples{of}; {result.passes:,} forward passes{shared}. Bars are 95 % "
        "intervals; a verdict also holds for how many comparisons there are (Holm)."
    )


def _measure(result: Evaluation, measure: Measure) -> dict[str, Any]:
    lines = {line.row: line for line in result.lines if line.measure.name == measure.name}
    return {
        "name": measure.name,
        "title": measure.title,
        "better": measure.better,
        "pooled": measure.pooled,
        "lines": [
            {
                "row": k,
                "mean": number(lines[row].interval.mean),
                "low": number(lines[row].interval.low),
                "high": number(lines[row].interval.high),
                "interval": str(lines[row].interval),
                "count": lines[row].interval.count,
                "difference": None if lines[row].difference is None else str(lines[row].difference),
                "p": number(lines[row].p, 2),
            }
            for k, row in enumerate(result.rows)
            if row in lines
        ],
        "curves": _curves(result, measure),
    }


def _curves(result: Evaluation, measure: Measure) -> list[list[float | None]] | None:
    """Return the mean curve of every row at equal shares."""
    if not isinstance(measure, Deletion):
        return None
    shares = np.linspace(0, 1, measure.steps + 1)
    means = []
    for row in result.rows:
        curves = [
            np.interp(shares, *np.asarray(sample["values"][row][measure.name]))
            for sample in result.samples
            if measure.name in sample["values"].get(row, {})
        ]
        means.append(numbers(np.mean(curves, axis=0)) if curves else [])
    return means


def _ends(result: Evaluation, measure: Measure) -> list[list[list[int]]]:
    """Return of every row the samples at which it is worst, and best."""
    extremes = []
    for row in result.rows:
        values = result.values(row, measure)
        order = [int(k) for k in np.argsort(values, kind="stable") if np.isfinite(values[k])]
        if measure.better == "low":
            order.reverse()
        few = min(_ENDS, len(order) // 2 or len(order))
        extremes.append([order[:few], order[::-1][:few]])
    return extremes


def _few(ends: dict[str, list[list[list[int]]]]) -> set[int]:
    """Return which samples a page holds: the extremes of the first rows first, as many as it may."""
    samples: set[int] = set()
    for k in range(max((len(rows) for rows in ends.values()), default=0)):
        for at in _of_row(ends, k):
            if len(samples) < _SHOWN:
                samples.add(at)
    return samples


def _of_row(ends: dict[str, list[list[list[int]]]], k: int) -> Iterator[int]:
    for rows in ends.values():
        for side in rows[k]:
            yield from side


def _sample(result: Evaluation, at: int) -> dict[str, Any]:
    sample = result.samples[at]
    records = {(one["method"], one["layer"]): one for one in sample["rows"]}
    return {
        "name": sample["name"],
        "target": sample["target"],
        "confidence": number(sample["confidence"]),
        "picture": sample["picture"],
        "maps": [_map(records, row) for row in result.rows],
        "values": {
            measure.name: [_number(sample, row, measure) for row in result.rows]
            for measure in result.measures
            if not measure.pooled
        },
    }


def _map(records: dict[tuple[str, str], dict[str, Any]], row: Row) -> dict[str, Any] | None:
    one = records.get((row.method, row.layer))
    return None if one is None else one.get("map")


def _number(sample: dict[str, Any], row: Row, measure: Measure) -> float | None:
    value = sample["values"].get(row, {}).get(measure.name)
    return None if value is None else number(measure.number(value))
