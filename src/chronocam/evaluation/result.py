"""What an evaluation found: a row per method, layer and measure, all differences, and a verdict in words."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from chronocam._repr import ShortRepr
from chronocam.errors import MediaError, printable
from chronocam.evaluation.measures import Measure
from chronocam.evaluation.panel import Row
from chronocam.maps.rank import spearman
from chronocam.media.files import replace_file
from chronocam.metrics.comparisons import Difference, holm, paired
from chronocam.metrics.intervals import Interval, bootstrap, of_mean

if TYPE_CHECKING:
    import pandas as pd


_I = TypeVar("_I", bound=Interval)

COLUMNS: Final = (
    *("method", "layer", "measure", "samples", "mean", "low", "high"),
    *("difference", "difference_low", "difference_high", "p", "cost"),
)
"""The columns of the table."""


@dataclass(frozen=True)
class Line:
    """One line of the table.

    interval: the mean, or the number of all samples, with its 95 % interval.
    difference: to the reference on the same samples; None for the reference. p: corrected for how many
        comparisons there are.
    cost: of a map, in forward passes.

    Example:
    >>> result = cc.evaluate(model, images, measures=["complexity"])
    >>> isinstance(result.lines[0], cc.evaluation.Line), result.lines[0].interval.count
    (True, 2)
    """

    row: Row
    measure: Measure
    interval: Interval
    difference: Difference | None
    p: float
    cost: float


@dataclass(frozen=True)
class Comparison:
    """A method beside another over the same samples; p is corrected for how many comparisons there are.

    Example:
    >>> one = cc.evaluate(model, images, measures=["complexity"]).comparisons[0]
    >>> isinstance(one, cc.evaluation.Comparison), str(one.row), str(one.against)
    (True, 'layercam at relu2', 'gradcam at relu2')
    """

    row: Row
    against: Row
    measure: Measure
    difference: Difference
    p: float


@dataclass(frozen=True, eq=False)
class Evaluation(ShortRepr):
    """How good maps are, by several measures.

    rows: who was judged, the reference first and the controls last. measures: by what.
    samples: a dict per sample that was judged: `sample`, `name`, `group`, `target`, `confidence`, and under
        `values` by row and measure what it got.
    failures: what could not be judged, with the reason. notes: what else is to be said.
    passes: how many forward passes of one input were run; alone: how many it would be for every method and
        measure by itself.
    cost: of a map of each row, in forward passes.

    Example:
    >>> result = cc.evaluate(model, images, methods=["gradcam", "layercam"], measures=["deletion"])
    >>> result.lines[0].row.method, len(result.samples)
    ('gradcam', 2)
    """

    rows: tuple[Row, ...]
    measures: tuple[Measure, ...]
    samples: tuple[dict[str, Any], ...]
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    passes: int = 0
    alone: int = 0
    cost: Mapping[Row, float] = field(default_factory=dict)
    seed: int = 0

    def __repr__(self) -> str:
        names = ", ".join(measure.name for measure in self.measures)
        return printable(
            f"Evaluation({len(self.rows)} methods and controls, {len(self.samples)} samples: {names})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS[:7])
        lines = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(line[name]))}</td>" for name in COLUMNS[:7]) + "</tr>"
            for line in self.records()
        )
        words = "".join(f"<li>{escape(text)}</li>" for text in self.verdicts)
        return f"<ul>{words}</ul><table><tr>{head}</tr>{lines}</table>"

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """A line per method, layer and measure with at least one value."""
        beside = {(c.row, c.measure.name): c for c in self.comparisons if c.against == self.rows[0]}
        # A control is compared with the reference the other way round.
        against = {(c.against, c.measure.name): c for c in self.comparisons if c.row == self.rows[0]}
        lines = []
        for measure in self.measures:
            for row in self.rows:
                values = self._values(row, measure)
                has_value = np.array([v is not None for v in values], dtype=bool)
                if not has_value.any():
                    continue
                interval = self._interval(row, measure)
                one = beside.get((row, measure.name)) or against.get((row, measure.name))
                difference = None if one is None else one.difference
                if one is not None and one.row == self.rows[0] and difference is not None:
                    difference = Difference(
                        -difference.mean, -difference.high, -difference.low, difference.count, difference.p
                    )
                p = float("nan") if one is None else one.p
                lines.append(Line(row, measure, interval, difference, p, self.cost.get(row, float("nan"))))
        return tuple(lines)

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every method beside the reference, and every method beside every control.

        The p values of all of them are corrected together (Holm).
        """
        reference, *others = self.rows
        methods = [row for row in others if not row.control]
        controls = [row for row in others if row.control]
        pairs = [(row, reference) for row in methods]
        pairs += [(row, control) for row in (reference, *methods) for control in controls]
        differences = []
        for measure in self.measures:
            for row, against in pairs:
                difference = self._difference(row, against, measure)
                if difference is not None:
                    differences.append((row, against, measure, difference))
        corrected = holm([difference.p for *_, difference in differences])
        return tuple(Comparison(*one, float(p)) for one, p in zip(differences, corrected, strict=True))

    @cached_property
    def verdicts(self) -> list[str]:
        """What follows of the intervals, in sentences."""
        from chronocam.evaluation.verdicts import sentences

        return sentences(self)

    @cached_property
    def agreement(self) -> np.ndarray:
        """How alike the maps of every two rows are, `(row, row)`: Spearman's correlation, over all samples.

        Of the positive values of maps cut to at most 16 cells a side; a constant map is like nothing. NaN
        where no sample has both.
        """
        alike = np.full((len(self.samples), len(self.rows), len(self.rows)), np.nan)
        for sample, of_sample in zip(self.samples, alike, strict=True):
            places = [k for k, one in enumerate(sample["rows"]) if "map" in one]
            maps = np.stack([_cells(sample["rows"][k]["map"]) for k in places])
            of_sample[np.ix_(places, places)] = np.nan_to_num(spearman(maps[:, None], maps[None]))
        counts = np.isfinite(alike).sum(axis=0)
        return np.asarray(np.nansum(alike, axis=0) / np.where(counts, counts, np.nan))

    def values(self, row: Row, measure: Measure) -> np.ndarray:
        """Return the number of each sample, NaN where it has none."""
        values = [self._one(sample, row, measure) for sample in self.samples]
        return np.array([float("nan") if v is None else measure.number(v) for v in values])

    def _one(self, sample: dict[str, Any], row: Row, measure: Measure) -> Any:
        return sample["values"].get(row, {}).get(measure.name)

    def _values(self, row: Row, measure: Measure) -> list[Any]:
        """Return per group of samples its mean value, None where it has none."""
        groups: dict[str, list[np.ndarray]] = {}
        for sample in self.samples:
            value = self._one(sample, row, measure)
            of = groups.setdefault(sample["group"], [])
            if value is None:
                continue
            number = np.asarray(value if measure.pooled else measure.number(value), dtype=np.float64)
            if np.isfinite(number).all():
                of.append(number)
        return [np.mean(of, axis=0) if of else None for of in groups.values()]

    def _interval(self, row: Row, measure: Measure) -> Interval:
        values = np.array([v for v in self._values(row, measure) if v is not None])
        if measure.pooled:
            interval = bootstrap(values, seed=self.seed, statistic=measure.total)
        else:
            interval = bootstrap(values) if measure.hits else of_mean(values, seed=self.seed)
        return _within(interval, *measure.bounds)

    def _difference(self, row: Row, against: Row, measure: Measure) -> Difference | None:
        pairs = [
            (a, b)
            for a, b in zip(self._values(row, measure), self._values(against, measure), strict=True)
            if a is not None and b is not None
        ]
        if not pairs:
            return None
        a, b = (np.array(side) for side in zip(*pairs, strict=True))
        difference = paired(a, b, seed=self.seed, statistic=measure.total if measure.pooled else None)
        width = measure.bounds[1] - measure.bounds[0]
        return _within(difference, -width, width)

    def records(self) -> list[dict[str, Any]]:
        """Return the table as a dict per line; see `to_pandas`."""
        missing = float("nan")
        records = []
        for line in self.lines:
            of, apart = line.interval, line.difference
            gap = (missing,) * 3 if apart is None else (apart.mean, apart.low, apart.high)
            values = (line.row.method, line.row.layer, line.measure.name, of.count, of.mean, of.low, of.high)
            records.append(dict(zip(COLUMNS, (*values, *gap, line.p, line.cost), strict=True)))
        return records

    def to_pandas(self) -> pd.DataFrame:
        """Return the table; controls are the methods `random`, `centre`, `edges` and `randomised`.

        Columns: method, layer, measure, samples, mean, low, high, difference, difference_low,
        difference_high (to the reference), p (corrected), cost (of a map, in forward passes).
        """
        import pandas as pd

        return pd.DataFrame(self.records(), columns=list(COLUMNS))

    def save(self, path: str | Path) -> Path:
        """Write the evaluation: `.html` a page, `.json` everything but pictures, `.parquet` a row per value.

        The rows of Parquet are sample × method × measure: `sample`, `name`, `group`, `target`, `confidence`,
        `method`, `layer`, `measure`, `value`. Raises MediaError for another suffix. Written atomically.
        """
        from chronocam.evaluation.saved import as_json, as_page, values_of, write_parquet

        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".parquet":
            values = values_of(self.samples, self.rows, self.measures)
            return replace_file(path, lambda temporary: write_parquet(temporary, values))
        if suffix not in (".json", ".html"):
            raise MediaError(f"cannot save as `{path.name}`; expected .html, .json or .parquet")
        text = as_json(self) if suffix == ".json" else as_page(self)
        return replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _within(interval: _I, low: float, high: float) -> _I:
    """Return an interval cut to where the number can lie."""
    return replace(interval, low=max(interval.low, low), high=min(interval.high, high))


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _cells(small: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(small["bytes"]), np.uint8).astype(np.float64)
