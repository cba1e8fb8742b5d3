"""Judge one sample by every measure: what they ask is gathered, and each pass is run once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from chronocam.errors import ChronocamError, InputError
from chronocam.evaluation.case import Answer, AskMaps, AskScores, Case, Changed, Weights
from chronocam.evaluation.measures import Focus, Measure, RandomLogit
from chronocam.evaluation.panel import Panel, Row, edges
from chronocam.evaluation.samples import Read, Sample, on_view, read_truth
from chronocam.joint.scores import FixedTarget, Scores, at_once, channel_axis_of, fixed_target, scores_of
from chronocam.maps.resample import resample
from chronocam.media.preprocess import Preprocess
from chronocam.methods import Method
from chronocam.metrics.baselines import centre_prior, random_maps
from chronocam.targets import Class, Predicted
from chronocam.types import TargetInfo

NEAR: Final = 8
"""How many of the samples before are there for measures that make something of several."""


@dataclass
class Passes:
    """How many forward passes of one input were run, and how many it would be without sharing any.

    Those inside a method of several passes, such as SmoothGrad, count as one.
    """

    run: int = 0
    alone: int = 0


@dataclass(frozen=True, eq=False)
class Judged:
    """One sample: the values of every row and measure, and what a page shows of it.

    maps: a small map for every row; one from elsewhere may be missing, and `failed` says why.
    picture: the sample as uint8; None where it is not a picture.
    """

    target: str
    index: int | None
    confidence: float
    values: dict[Row, dict[str, Any]]
    maps: dict[Row, np.ndarray]
    picture: np.ndarray | None
    failed: tuple[str, ...] = ()


@dataclass(eq=False)
class Judge:
    """Judges samples one by one."""

    panel: Panel
    measures: Sequence[Measure]
    preprocess: Any
    scorer: Method
    """What scores changed inputs: a method of the input, of which no map is made."""
    seed: int
    pool: ThreadPoolExecutor
    passes: Passes = field(default_factory=Passes)
    near: dict[int, tuple[np.ndarray, int | None]] = field(default_factory=dict)
    """Inputs of samples judged before, with their classes, for measures that make something of several."""
    shared: dict[int | None, dict[Hashable, tuple[float, float]]] = field(default_factory=dict)
    """Scores and probabilities of changed inputs of one picture, by class."""
    _picture: str | None = None
    _axes: dict[int, int | None] = field(default_factory=dict)
    _count: int | None = None

    def judge(self, sample: Sample) -> Judged:
        """Return the values of a sample. Raises a ChronocamError that says what is wrong with it."""
        read = sample.read()
        array, inputs = read.array, read.itself
        explained, maps = self.panel.first(inputs, sample.target)
        reference = explained[0]
        info = reference.targets[0][0]
        # The class of the unchanged input is judged, whatever is predicted of changed ones.
        is_class = _is_class(sample.target) and type(info) is TargetInfo and info.index is not None
        fixed = FixedTarget(info.index) if is_class else fixed_target(self.scorer, inputs, sample.target)
        self.passes.run += int(not is_class)
        target = fixed.target
        # Of a sequence whose features are places of the map, none is a channel.
        by_feature = reference.maps.ndim - 2 == array.ndim
        axis = None if by_feature else self._channels(read, target)
        laid = array[None] if axis is None else np.moveaxis(array, axis - 1, 0)
        # Inputs are changed with the precision that SciPy has, and shown to the model with their own.
        laid = laid.astype(np.promote_types(array.dtype, np.float32), copy=False)
        grid = tuple(laid.shape[1:])
        confidences = reference.confidences
        case = Case(
            input=laid,
            score=float(reference.scores[0, 0]),
            probability=float(confidences[0, 0]) if is_class and confidences is not None else float("nan"),
            index=info.index if is_class else None,
            classes=self._classes(inputs, target),
            truth=read_truth(sample, grid, read.size, self.preprocess),
            # All samples of one picture are changed alike, so that one pass scores all of their classes.
            seed=self.seed + sample.first,
            black=self._black(laid, axis),
            others=tuple(self.near.values()),
        )
        self.passes.run += 1
        if sample.group != self._picture or not is_class:
            self.shared, self._picture = {}, sample.group
        whole, failed = self._maps(case, sample, read, maps, target, reference.maps.shape[2:])
        asked = _Asked(self, case, target, axis, read, _scored_together(sample, target), fixed.clean)
        values = asked.values(whole)
        self._remember(sample.number, laid, case.index)
        small = {row: _small(m) for row, m in whole.items()}
        picture = None if reference.copies is None else reference.copies[0]
        return Judged(str(info), case.index, case.probability, values, small, picture, failed)

    def _channels(self, read: Read, target: Any) -> int | None:
        """Return which axis of a batch the channels are on; inputs of one rank are alike."""
        rank = read.array.ndim
        if rank not in self._axes:
            self._axes[rank] = channel_axis_of(self.scorer, read.itself, target)
        return self._axes[rank]

    def _classes(self, inputs: Any, target: Any) -> int:
        if self._count is None and any(isinstance(measure, RandomLogit) for measure in self.measures):
            self._count = scores_of(self.scorer, inputs, target).classes
            self.passes.run += 1
        return self._count or 0

    def _black(self, laid: np.ndarray, axis: int | None) -> np.ndarray:
        """Return what black is to the model; zeros where its preprocessing is not known."""
        frame = getattr(self.preprocess, "frame", self.preprocess)
        if not isinstance(frame, Preprocess):
            return np.zeros(1, laid.dtype)
        pixel = np.zeros((1, 1, len(frame.mean)), np.float32)
        values = replace(frame, channels="last").normalised(pixel)[0, 0]
        return values.astype(laid.dtype).reshape(-1, *[1] * (laid.ndim - 1))

    def _maps(
        self,
        case: Case,
        sample: Sample,
        read: Read,
        maps: dict[Row, np.ndarray],
        target: Any,
        coarse: tuple[int, ...],
    ) -> tuple[dict[Row, np.ndarray], tuple[str, ...]]:
        """Return the map of every row at the size of the input, and why those from elsewhere have none."""
        of_rows: dict[Row, np.ndarray] = {}
        failed: list[str] = []
        for row in self.panel.rows:
            if row in maps or row.control:
                values = (
                    maps[row][0] if row in maps else self._control(row, case, read.itself, target, coarse)
                )
                of_rows[row] = _sized(values, case.grid, row)
                continue
            try:
                of_rows[row] = _sized(self._elsewhere(row, case, sample, read, target), case.grid, row)
            except ChronocamError as error:  # the others explain the sample
                failed.append(str(error))
        return of_rows, tuple(failed)

    def _elsewhere(self, row: Row, case: Case, sample: Sample, read: Read, target: Any) -> np.ndarray:
        """Return a map that a function makes, or one that is there already."""
        if row.method in self.panel.functions:
            self.passes.run += 1
            return self.panel.maps([row], read.itself, target)[row][0]
        return on_view(self.panel.arrays[row.method][sample.number], case.grid, read.size, self.preprocess)

    def _control(self, row: Row, case: Case, inputs: Any, target: Any, coarse: tuple[int, ...]) -> np.ndarray:
        """Return the map of a control; noise is drawn on the grid of the reference's maps."""
        if row.method == "random":
            return random_maps(1, coarse, case.grid, case.seed)[0]
        if row.method == "centre":
            return centre_prior(case.grid)
        if row.method == "edges":
            return edges(case.input)
        self.passes.run += 1
        return self.panel.randomised(inputs, target)

    @property
    def mixes(self) -> bool:
        """Whether a measure makes something of several samples."""
        return any(isinstance(measure, Focus) for measure in self.measures)

    def recall(self, sample: Sample, index: int | None) -> None:
        """Remember a sample that was judged by an earlier run, as if it had been in this one."""
        read = sample.read()
        array, axis = read.array, self._channels(read, sample.target)
        self._remember(sample.number, array[None] if axis is None else np.moveaxis(array, axis - 1, 0), index)

    def _remember(self, number: int, laid: np.ndarray, index: int | None) -> None:
        if self.mixes:
            self.near[number] = laid, index
            while len(self.near) > NEAR:
                del self.near[min(self.near)]


@dataclass(eq=False)
class _Asked:
    """What measures ask about one sample.

    targets: what is scored in each pass, the target of the sample among it.
    clean: the logits of the sample, by which its target chooses; None for classes.
    """

    judge: Judge
    case: Case
    target: Any
    axis: int | None
    read: Read
    targets: Any
    clean: np.ndarray | None
    explained: dict[Hashable, np.ndarray] = field(default_factory=dict)

    @property
    def scores(self) -> dict[Hashable, tuple[float, float]]:
        """Scores of changed inputs that are known."""
        return self.judge.shared.setdefault(self.case.index, {})

    def values(self, maps: dict[Row, np.ndarray]) -> dict[Row, dict[str, Any]]:
        """Return the value of every row and measure."""
        self.scores["itself"] = (self.case.score, self.case.probability)
        values: dict[Row, dict[str, Any]] = {row: {} for row in self.judge.panel.rows}
        waiting: dict[tuple[Row, str], tuple[Generator[Any, Any, Any], Any]] = {}
        for row, map_ in maps.items():
            for measure in self.judge.measures:
                if not measure.controls and (row.control or row.method in self.judge.panel.arrays):
                    continue
                value = measure.of(self.case, map_)
                self.judge.passes.alone += self.judge.panel.passes(row)
                if isinstance(value, Generator):
                    self._step(waiting, values, (row, measure.name), value, None)
                else:
                    values[row][measure.name] = value
        while waiting:
            now, waiting = waiting, {}
            self._run([ask for _, ask in now.values()], list(now))
            for (row, name), (asking, ask) in now.items():
                answer = self._answer(row, ask)
                if answer is None:
                    asking.close()
                    values[row][name] = float("nan")
                else:
                    self._step(waiting, values, (row, name), asking, answer)
        return values

    def _step(self, waiting: Any, values: Any, key: tuple[Row, str], asking: Any, answer: Any) -> None:
        row, name = key
        try:
            ask = asking.send(answer)
        except StopIteration as end:
            values[row][name] = end.value
        else:
            waiting[key] = (asking, ask)

    def _run(self, asks: Sequence[Any], keys: Sequence[tuple[Row, str]]) -> None:
        changed: dict[Hashable, Changed] = {}
        for ask in asks:
            if isinstance(ask, AskScores):
                self.judge.passes.alone += len(ask.inputs)
                changed |= {one.key: one for one in ask.inputs if one.key not in self.scores}
        self._score(list(changed.values()))
        groups: dict[tuple[Weights, int | None], dict[Hashable, tuple[Changed, set[Row]]]] = defaultdict(dict)
        for ask, (row, _) in zip(asks, keys, strict=True):
            if not isinstance(ask, AskMaps):
                continue
            inputs = ask.inputs if ask.inputs is not None else [self.case.itself]
            self.judge.passes.alone += len(inputs)
            for one in inputs:
                if (row, ask.weights, ask.other, one.key) not in self.explained:
                    groups[ask.weights, ask.other].setdefault(one.key, (one, set()))[1].add(row)
        for (weights, other), inputs_of in groups.items():
            self._explain(weights, other, list(inputs_of.values()))

    def _score(self, changed: Sequence[Changed]) -> None:
        size = self.judge.scorer.batch_size or len(changed)
        for low in range(0, len(changed), size):
            part = changed[low : low + size]
            scores = self._scored(self._inputs(part))
            self.judge.passes.run += len(part)
            for one, *columns in zip(part, scores.values, scores.confidences, scores.infos, strict=True):
                if self.case.index is None:
                    self.scores[one.key] = float(columns[0][0]), float("nan")
                    continue
                for value, sure, info in zip(*columns, strict=True):
                    self.judge.shared.setdefault(info.index, {})[one.key] = float(value), float(sure)

    def _scored(self, inputs: Any) -> Scores:
        try:
            return scores_of(self.judge.scorer, inputs, self.targets, self.clean)
        except ChronocamError:
            if self.targets is self.target:
                raise
            # The model lacks the class of another sample of this picture.
            self.targets = self.target
            return scores_of(self.judge.scorer, inputs, self.targets, self.clean)

    def _explain(
        self, weights: Weights, other: int | None, inputs: Sequence[tuple[Changed, set[Row]]]
    ) -> None:
        """Explain changed inputs by the rows that ask for them, those of the same rows together."""
        target = self.target if other is None else other
        alike: dict[frozenset[Row], list[Changed]] = defaultdict(list)
        for one, rows in inputs:
            alike[frozenset(rows)].append(one)
        for asking, of_rows in alike.items():
            size = at_once(self.judge.scorer, self.read.itself) or len(of_rows)
            for low in range(0, len(of_rows), size):
                part = of_rows[low : low + size]
                maps = self.judge.panel.maps(sorted(asking, key=str), self._inputs(part), target, weights)
                self.judge.passes.run += len(part)
                for row, values in maps.items():
                    for one, value in zip(part, values, strict=True):
                        self.explained[row, weights, other, one.key] = _sized(value, self.case.grid, row)

    def _inputs(self, changed: Sequence[Changed]) -> Any:
        """Return changed inputs as the model takes them."""
        arrays = np.stack(list(self.judge.pool.map(lambda one: one.make(), changed))).astype(
            self.read.array.dtype
        )
        return self.read.batch(arrays[:, 0] if self.axis is None else np.moveaxis(arrays, 1, self.axis))

    def _answer(self, row: Row, ask: Any) -> Any:
        """Return what was asked; None for maps that a function cannot make, as of other weights."""
        if isinstance(ask, AskScores):
            pairs = np.array([self.scores[one.key] for one in ask.inputs])
            return Answer(pairs[:, 0], pairs[:, 1])
        inputs = ask.inputs if ask.inputs is not None else [self.case.itself]
        keys = [(row, ask.weights, ask.other, one.key) for one in inputs]
        return np.stack([self.explained[key] for key in keys]) if {*keys} <= self.explained.keys() else None


def _is_class(target: Any) -> bool:
    """Say whether a target is a class of the model, given or predicted."""
    return target is None or isinstance(target, (int, np.integer, str, Class, Predicted))


def _scored_together(sample: Sample, target: Any) -> Any:
    """Return the classes of all samples of a picture, scored in one pass; else the sample's own target."""
    if len(sample.beside) > 1 and all(isinstance(one, (int, np.integer, str)) for one in sample.beside):
        return [Class(one) for one in dict.fromkeys(sample.beside)]
    return target


def _sized(values: np.ndarray, grid: tuple[int, ...], row: Row) -> np.ndarray:
    """Return a map at the size of the input. Raises InputError for one of another rank or not finite."""
    values = np.asarray(values, dtype=np.float32)
    if values.ndim > len(grid) and set(values.shape[: -len(grid)]) == {1}:
        # One channel, as methods of other libraries return it.
        values = values.reshape(values.shape[-len(grid) :])
    if values.ndim != len(grid):
        raise InputError(f"a map of {row} has shape {values.shape}; expected one on the grid {grid}")
    if not np.isfinite(values).all():
        raise InputError(f"the map of {row} holds NaN or infinity")
    if values.shape == grid:
        return values
    return np.asarray(resample(values[None, None], grid, "cubic" if len(grid) < 3 else "linear"))[0, 0]


def _small(values: np.ndarray, most: int = 16) -> np.ndarray:
    """Return a map for a small picture, scaled by its largest magnitude."""
    size = [min(n, most) for n in values.shape]
    small = np.asarray(resample(values[None, None], size, "linear"))[0, 0]
    # Half precision holds neither the gradients of random weights nor large scores.
    return (small / (np.abs(small).max() or 1)).astype(np.float16)
