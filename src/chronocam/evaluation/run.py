"""One evaluation as it goes: what is judged already, what is left, and what is written meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from chronocam.errors import ChronocamError, InputError, printable
from chronocam.evaluation.judge import NEAR, Judge
from chronocam.evaluation.measures import Measure
from chronocam.evaluation.panel import Row
from chronocam.evaluation.result import Evaluation
from chronocam.evaluation.samples import Sample
from chronocam.evaluation.saved import values_of, write_parquet
from chronocam.evaluation.store import Store, packed, small_map, small_picture, unpacked
from chronocam.joint.scores import scores_of
from chronocam.media.files import replace_file

_TIMED: Final = 4
_TABLE_EVERY: Final = 20.0
"""Seconds between two writings of the table while samples are judged."""


class Run:
    """One evaluation: what is judged already, and what is left."""

    def __init__(self, judge: Judge, store: Store | None, budget: int | None) -> None:
        self.judge = judge
        self.store = store
        self.budget = budget
        self.records: dict[int, dict[str, Any]] = {}
        self.failures: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.written = time.monotonic()

    def of(self, samples: Sequence[Sample], progress: Callable[[Iterable[Any]], Iterable[Any]]) -> Evaluation:
        """Judge all samples."""
        if self.store is not None:
            for record in self.store.lines():
                self.records[int(record["sample"])] = record
        passes = self.judge.passes
        passes.run += sum(record["passes"][0] for record in self.records.values())
        passes.alone += sum(record["passes"][1] for record in self.records.values())
        pending = [one for one in samples if one.number not in self.records]
        if pending and self.judge.mixes:
            self._recall(samples, pending[0].number)
        for sample in progress(pending):
            if self.budget is not None and passes.run >= self.budget:
                self.notes.append(
                    f"stopped at {passes.run} forward passes, after {len(self.records)} of {len(samples)} "
                    "samples"
                )
                break
            self._judge(sample)
        return self._evaluation(samples)

    def _recall(self, samples: Sequence[Sample], first: int) -> None:
        """Remember the samples that an earlier run judged before the first that is left."""
        judged = [n for n, record in self.records.items() if n < first and "error" not in record]
        for number in sorted(judged)[-NEAR:]:
            self.judge.recall(samples[number], self.records[number]["index"])

    def _judge(self, sample: Sample) -> None:
        passes = self.judge.passes
        before = passes.run, passes.alone
        record: dict[str, Any] = {
            "sample": sample.number,
            "name": printable(sample.name),
            "group": sample.group,
        }
        try:
            judged = self.judge.judge(sample)
        except ChronocamError as error:
            record |= {"error": str(error)}
        else:
            record |= {
                "target": judged.target,
                "index": judged.index,
                "confidence": judged.confidence,
                "rows": [
                    packed(row, values) | ({"map": small_map(judged.maps[row])} if row in judged.maps else {})
                    for row, values in judged.values.items()
                ],
                "picture": small_picture(judged.picture),
                "failed": judged.failed,
            }
        record["passes"] = [passes.run - before[0], passes.alone - before[1]]
        self.records[sample.number] = record
        if self.store is not None:
            self.store.add(record)
            if time.monotonic() - self.written >= _TABLE_EVERY:
                self._write_table(self._shown())

    def _shown(self) -> tuple[dict[str, Any], ...]:
        """Return the samples that were judged, their values as arrays."""
        records = [self.records[number] for number in sorted(self.records)]
        measures = tuple(self.judge.measures)
        return tuple(
            {**record, "values": unpacked(record, measures)} for record in records if "error" not in record
        )

    def _write_table(self, shown: Sequence[dict[str, Any]]) -> None:
        """Write all values so far beside the store, for whoever kills the run or cannot wait for its end."""
        if self.store is None or not shown:
            return
        self.written = time.monotonic()
        values = values_of(shown, tuple(shown[0]["values"]), tuple(self.judge.measures))
        try:
            replace_file(self.store.path.with_suffix(".parquet"), lambda path: write_parquet(path, values))
        except InputError as error:  # pyarrow is an extra
            self.written = float("inf")
            self.notes.append(f"samples.parquet is not written: {error}")

    def _evaluation(self, samples: Sequence[Sample]) -> Evaluation:
        records = [self.records[number] for number in sorted(self.records)]
        failures = tuple((record["name"], why) for record in records for why in _failed(record))
        shown = self._shown()
        if not shown:
            first = f": {failures[0][0]}: {failures[0][1]}" if failures else ""
            raise InputError(f"none of {len(samples)} samples could be judged{first}")
        measures = tuple(self.judge.measures)
        rows = tuple(shown[0]["values"])
        self._remark(shown, measures, any(sample.truth is not None for sample in samples))
        self._write_table(shown)
        return Evaluation(
            rows,
            measures,
            shown,
            failures,
            tuple(self.notes),
            self.judge.passes.run,
            self.judge.passes.alone,
            self._cost(samples),
            self.judge.seed,
        )

    def _remark(self, shown: Sequence[dict[str, Any]], measures: Sequence[Measure], truth: bool) -> None:
        """Say which measures could judge nothing, and why."""
        if self.judge.panel.without is not None:
            self.notes.append(f"no map of random weights: {self.judge.panel.without}")
        for measure in measures:
            values = [one.get(measure.name) for record in shown for one in record["values"].values()]
            if any(v is not None and np.isfinite(np.asarray(v, float)).all() for v in values):
                continue
            why = (
                f"it needs truth= ({measure.truth})"
                if measure.truth and not truth
                else "it has no value for these inputs, targets and truths"
                if measure.truth
                else "it has no value for these inputs and targets"
            )
            self.notes.append(f"{measure.name} judged nothing: {why}")

    def _cost(self, samples: Sequence[Sample]) -> dict[Row, float]:
        """Return what a map of each of the library's methods costs, in forward passes, by the clock."""
        judge, judged_by = self.judge, self.judge.panel
        judged = [
            sample for sample in samples if "error" not in self.records.get(sample.number, {"error": ""})
        ]
        sample = min(judged, key=lambda one: len(self.records[one.number]["failed"]))
        record = self.records[sample.number]
        inputs, target = sample.read().itself, sample.target if record["index"] is None else record["index"]
        if not judged_by.rows:
            judged_by.first(inputs, sample.target)
        maps = {(one["method"], one["layer"]) for one in record["rows"] if "map" in one}
        rows = [
            row
            for row in judged_by.judged
            if row.method not in judged_by.arrays and (row.method, row.layer) in maps
        ]
        calls: list[Callable[[], Any]] = [partial(scores_of, judge.scorer, inputs, target)]
        calls += [partial(judged_by.maps, [row], inputs, target) for row in rows]
        floor, *times = _seconds(calls)
        return {row: seconds / floor for row, seconds in zip(rows, times, strict=True)}


def _failed(record: dict[str, Any]) -> list[str]:
    """Return why a sample, or a map of it, could not be judged."""
    return [record["error"]] if "error" in record else list(record["failed"])


def _seconds(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Return the shortest time of each call, taken in turn so that what else runs disturbs all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(_TIMED):
        for of_call, call in zip(times, calls, strict=True):
            start = time.perf_counter()
            call()
            of_call.append(time.perf_counter() - start)
    return [min(of_call) for of_call in times]
