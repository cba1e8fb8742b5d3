"""`cc.evaluate`: every method by every measure over the same samples, their forward passes shared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from os import PathLike, fspath
from typing import Any, Final

import numpy as np

from chronocam.errors import ChronocamError, InputError, check_real, check_whole, printable
from chronocam.evaluation.judge import NEAR, Judge
from chronocam.evaluation.measures import Measure, Pointing, measure_named
from chronocam.evaluation.panel import Row, panel
from chronocam.evaluation.result import Evaluation
from chronocam.evaluation.samples import Sample, samples_of
from chronocam.evaluation.saved import values_of, write_parquet
from chronocam.evaluation.store import (
    Store,
    packed,
    settings_of,
    small_map,
    small_picture,
    store_of,
    unpacked,
)
from chronocam.joint.scores import scores_of
from chronocam.media.files import replace_file
from chronocam.methods import Saliency
from chronocam.models import Loaded

_THREADS: Final = 2
_TIMED: Final = 4
_TABLE_EVERY: Final = 20.0
"""Seconds between two writings of the table while samples are judged."""


def evaluate(
    model: Any,
    data: Any,
    targets: Any = None,
    *,
    methods: str | Sequence[Any] | Mapping[str, Any] = ("gradcam", "layercam"),
    layers: str | Sequence[Any] | None = None,
    measures: str | Sequence[str | Measure | type[Measure]] = ("deletion", "pointing"),
    truth: Any = None,
    tolerance: float = 0,
    budget: int | None = None,
    out: str | PathLike[str] | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    **options: Any,
) -> Evaluation:
    """Judge maps on a model and data: means with intervals, beside maps that know nothing, and a verdict.

    Every method and measure sees the same samples and shares forward passes; noise, masks and random
    weights are the same for all.

    model: a `torch.nn.Module`, a `keras.Model`, `cc.blackbox(…)`, or what `cc.models.load` returns.
    data: an array with a batch axis or a list of its samples; for models of several inputs a dict of them by
        the inputs' names, of which the one with places is judged (or `on=`); pictures, clips or their paths
        where a preprocessing is known; an iterable of batches of these, or of pairs (batch, targets); or a
        data set of samples by number, such as `torchvision.datasets.ImageFolder`.
    targets: a class or label for each sample, one for all, a callable, or None for the predicted class.
    methods: names, method classes, methods with their options, functions `(inputs, target) -> maps (batch,
        *grid)`, or methods of other libraries that are installed, such as `"captum:LayerGradCam"`,
        `"torchcam:LayerCAM"` and `"grad-cam:ScoreCAM"`; a dict by their names also of arrays
        `(sample, *grid)`. The first is the reference that others are compared with.
    layers: layers to judge one by one; None is each method's default.
    measures: names of `cc.evaluation.MEASURES`, or measures with options.
    truth: where the object is, for each sample, in order or as a dict by the files' names: a mask or its
        file, boxes, points or (of clips) frames, in pixels of the picture, or of the input where data are
        arrays; None where it is not known.
    tolerance: of the pointing game, in pixels of the input.
    budget: no sample is begun after so many forward passes of one input; None is all samples.
    out: a folder in which judged samples are kept, and their values as a table (`samples.parquet`); the same
        call goes on there after an interruption.
    batch_size: how many changed inputs go through the model at once; fewer where that is faster.
    seed: of all that is drawn.
    progress: wraps the samples while they are judged, such as `rich.progress.track`.
    options: of every method, such as `labels`, `fast`, `frames`.

    Samples of one picture count as one. A sample that cannot be judged is among the `failures`, and the
    others go on. Raises InputError for what does not fit, and where nothing could be judged.

    Example:
    >>> result = cc.evaluate(model, images, "dog", methods=["gradcam", "layercam"], measures=["insertion"])
    >>> [line.row.method for line in result.lines]
    ['gradcam', 'layercam', 'random', 'centre', 'edges', 'randomised']
    """
    check_real("tolerance", tolerance, "pixels, from 0", least=0)
    check_whole("batch_size", batch_size, "a number of inputs")
    check_whole("seed", seed, "a whole number from 0", least=0)
    if budget is not None:
        check_whole("budget", budget, "a number of forward passes")
    if isinstance(model, Loaded):
        options = {"labels": model.labels, "preprocess": model.preprocess} | options
        model = model.model
    preprocess = options.pop("preprocess", None)
    chosen = _measures(measures, tolerance)
    scorer = Saliency(model, batch_size=batch_size, **options)
    stem = scorer.session.subject.stem
    samples = samples_of(data, targets, truth, preprocess, options.get("on"), stem)
    with ExitStack() as scope:
        judged_by = panel(model, methods, layers, options, seed, scope)
        for name, maps in judged_by.arrays.items():
            if len(maps) != len(samples):
                raise InputError(
                    f"`{name}` holds {len(maps)} maps for {len(samples)} samples; give one for each"
                )
        pool = scope.enter_context(ThreadPoolExecutor(_THREADS))
        judge = Judge(judged_by, chosen, preprocess, scorer, seed, pool)
        store = None
        if out is not None:
            store = store_of(fspath(out), model, settings_of(judged_by, chosen, seed), samples)
        return _Run(judge, store, budget).of(samples, progress)


def _measures(measures: Any, tolerance: float) -> tuple[Measure, ...]:
    listed = [measures] if isinstance(measures, (str, Measure, type)) else list(measures)
    chosen = [measure_named(one) for one in listed]
    if not chosen:
        raise InputError("there is nothing to evaluate by: measures is empty")
    if len({one.name for one in chosen}) < len(chosen):
        raise InputError("a measure is given twice; give each once")
    pointing = [
        replace(one, tolerance=tolerance) if type(one) is Pointing and tolerance else one for one in chosen
    ]
    return tuple(pointing)


class _Run:
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
                    packed(row, values) | {"map": small_map(judged.maps[row])}
                    for row, values in judged.values.items()
                ],
                "picture": small_picture(judged.picture),
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
        failures = tuple((record["name"], record["error"]) for record in records if "error" in record)
        shown = self._shown()
        if not shown:
            first = f": {failures[0][0]}: {failures[0][1]}" if failures else ""
            raise InputError(f"none of {len(samples)} samples could be judged{first}")
        measures = tuple(self.judge.measures)
        rows = tuple(shown[0]["values"])
        self._remark(shown, measures)
        self._write_table(shown)
        return Evaluation(
            rows,
            measures,
            shown,
            failures,
            tuple(self.notes),
            self.judge.passes.run,
            self.judge.passes.alone,
            self._cost(samples, rows),
            self.judge.seed,
        )

    def _remark(self, shown: Sequence[dict[str, Any]], measures: Sequence[Measure]) -> None:
        """Say which measures could judge nothing, and why."""
        if self.judge.panel.without is not None:
            self.notes.append(f"no map of random weights: {self.judge.panel.without}")
        for measure in measures:
            values = [one.get(measure.name) for record in shown for one in record["values"].values()]
            if any(v is not None and np.isfinite(np.asarray(v, float)).all() for v in values):
                continue
            why = (
                f"it needs truth= ({measure.truth})"
                if measure.truth
                else "it has no value for these inputs and targets"
            )
            self.notes.append(f"{measure.name} judged nothing: {why}")

    def _cost(self, samples: Sequence[Sample], rows: Sequence[Row]) -> dict[Row, float]:
        """Return what a map of each of the library's methods costs, in forward passes, by the clock."""
        judge, judged_by = self.judge, self.judge.panel
        done = [sample for sample in samples if "error" not in self.records.get(sample.number, {"error": ""})]
        index = self.records[done[0].number]["index"]
        inputs, target = done[0].read().itself, done[0].target if index is None else index
        if not judged_by.rows:
            judged_by.first(inputs, done[0].target)
        own = [row for row in judged_by.judged if row.method not in judged_by.arrays and row in rows]
        calls: list[Callable[[], Any]] = [partial(scores_of, judge.scorer, inputs, target)]
        calls += [partial(judged_by.maps, [row], inputs, target) for row in own]
        floor, *times = _seconds(calls)
        return {row: seconds / floor for row, seconds in zip(own, times, strict=True)}


def _seconds(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Return the shortest time of each call, taken in turn so that what else runs disturbs all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(_TIMED):
        for of_call, call in zip(times, calls, strict=True):
            start = time.perf_counter()
            call()
            of_call.append(time.perf_counter() - start)
    return [min(of_call) for of_call in times]
