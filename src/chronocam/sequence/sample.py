"""One sequence through a model: its scores, their gradients at points, and layer-wise relevance."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float

from chronocam.engines.pull import differentiable
from chronocam.engines.scoped import scoped
from chronocam.errors import ModelError
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.sequence.checks import closes, constant, no_rule, refuse_other
from chronocam.sequence.ledger import ENTRIES, Ledger
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo

ROWS_PER_PASS: Final = 16  # how many points and targets are differentiated at once: bounds the memory

T = TypeVar("T")

Relevance: TypeAlias = Float[np.ndarray, "target time feature"]


@dataclass(frozen=True)
class Attribution:
    """What a method makes of one sample.

    relevance: `(target, time, feature)`.
    ledger: terms `(target,)` that sum to the scores, by name; empty where the method has none.
    notes: remarks, in words.

    Example:
        >>> cc.sequence.Attribution(np.zeros((1, 6, 4)), {"input": np.zeros(1)}).relevance.shape
        (1, 6, 4)
    """

    relevance: Relevance
    ledger: dict[str, Float[np.ndarray, " target"]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampleInputs:
    """What one sample gives the model.

    features: `(time, feature)`, in the model's precision, or float32 where NumPy has none like it.
    others: what else the model takes, of this sample.
    packed: whether the model takes the features as a PackedSequence.
    """

    features: np.ndarray
    others: tuple[Array, ...] = ()
    packed: bool = False


class Reading(NamedTuple):
    """How a model is read: whether inputs have the batch first, and the names of its classes, if given."""

    batch_first: bool
    labels: Sequence[str] | None


class PassResult(NamedTuple):
    """What a model returned for points, first to last.

    raw: as the model returned it.
    logits: its main output `(point, …)`, before a final gate.
    gate: the name of that gate, None where there is none.
    point_axis: the axis of the points in `raw`, where that is an array.
    unclear: why none of several outputs is the main one, and `logits` only stands for it; None where one is.
    """

    raw: Array
    logits: Array
    gate: str | None
    point_axis: int = 0
    unclear: ModelError | None = None


class Outline(NamedTuple):
    """How raw outputs and logits lie side by side in one array `(point, value)`.

    raw, logits: their shapes for one point, the point first. point_axis: as in `PassResult`.
    """

    raw: tuple[int, ...]
    logits: tuple[int, ...]
    point_axis: int

    def apart(self, row: Array) -> tuple[Array, Array]:
        """Return the raw output and the logits of one point."""
        xp, size = namespace(row), math.prod(self.raw)
        raw = xp.reshape(row[:, :size], self.raw)
        logits = xp.reshape(row[:, size:], self.logits)
        return (raw if self.point_axis == 0 else xp.moveaxis(raw, 0, 1)), logits


def _side_by_side(result: PassResult, outlines: list[Outline]) -> Array:
    """Return raw outputs and logits as one array `(point, value)`; adds how they lie in it to `outlines`."""
    xp, logits, points = namespace(result.logits), result.logits, result.logits.shape[0]
    raw = result.raw if result.point_axis == 0 else xp.moveaxis(result.raw, 1, 0)
    raw = raw if raw.dtype == logits.dtype else xp.astype(raw, logits.dtype)
    outlines.append(Outline((1, *raw.shape[1:]), (1, *logits.shape[1:]), result.point_axis))
    return xp.concat([xp.reshape(raw, (points, -1)), xp.reshape(logits, (points, -1))], axis=1)


class SequenceModel(ABC):
    """A model of one framework, bound to what one sample gives it.

    source: the model itself, a module or a Keras model.
    inputs: what the sample gives.
    labels: the names of the classes that the model carries.
    rounding: the rounding of the coarsest arithmetic that its scores go through.
    """

    copies: ClassVar[bool]
    """Whether rows come first in every array within the model, so that each can have a ledger of its own."""

    source: object
    inputs: SampleInputs
    labels: Sequence[str] | None
    rounding: float

    @abstractmethod
    def settle(self, scope: ExitStack) -> None:
        """Let the model be differentiated for as long as `scope` is entered."""

    def settled(self, run: Callable[[], T]) -> T:
        """Return what `run` returns where the model can be differentiated."""

        def within(scope: ExitStack) -> T:
            self.settle(scope)
            return run()

        return scoped(within)()

    @abstractmethod
    def array(self, values: np.ndarray) -> Array:
        """Return values as an array of the framework, where and in the precision that the model takes."""

    @abstractmethod
    def look(self, points: np.ndarray | None = None) -> PassResult:
        """Return what the model returns for points, or the features, without gradients."""

    def together(self, samples: Sequence[SampleInputs]) -> np.ndarray | None:
        """Return the logits of samples of one shape that run together; None where rows cannot be mixed up."""
        return None

    @abstractmethod
    def forward(self, points: Array, ledger: Ledger | None = None) -> PassResult:
        """Return what the model returns for points `(point, time, feature)`, differentiably.

        ledger: where constants are entered, so that gradients are relevance; None for the model as it is.
        """

    @abstractmethod
    def stackable(self, raw: Array) -> bool:
        """Say whether several points can be run at once, by what the model returned for one."""

    @abstractmethod
    def suspects(self) -> list[str]:
        """Return the layers or operations without a rule through which relevance does not add up."""


class Sample:
    """One sequence bound to a model and its targets, as a method sees it.

    target: what is explained.
    row: which sample of the call it is.

    Example:
        >>> class Signs(cc.sequence.SequenceMethod):
        ...     def attribute(self, sample):
        ...         scores, gradient = sample.gradients([sample.features], [1.0])
        ...         return cc.sequence.Attribution(np.sign(gradient))
        >>> explanation = Signs(rnn).explain(features, 0)
    """

    def __init__(self, model: SequenceModel, target: Target, row: int) -> None:
        self.model = model
        self.target = target
        self.rows: slice = slice(row, row + 1)
        self.notes: list[str] = []
        self._gate: str | None = None
        self._unclear: ModelError | None = None

    @property
    def features(self) -> Float[np.ndarray, "time feature"]:
        """The features, in the model's precision."""
        return self.model.inputs.features

    @property
    def scores(self) -> Float[np.ndarray, " target"]:
        """The scores explained."""
        return to_numpy(self._clean[1].values)[0].astype(float)

    @property
    def infos(self) -> tuple[TargetInfo, ...]:
        """What each score explains."""
        return self._clean[1].infos[0]

    @property
    def logits(self) -> np.ndarray:
        """What the model returns for the features, before a final gate, `(1, …)`."""
        return self._clean[0]

    def scores_at(self, points: Float[np.ndarray, "point time feature"]) -> Float[np.ndarray, "point target"]:
        """Return the scores at `points`, without gradients. Classes are chosen at the sample itself."""
        clean, _, stackable = self._clean
        scores: list[np.ndarray] = []
        for rows in self._parts(range(len(points))):
            result, outlines = self.model.look(points[list(rows)]), list[Outline]()
            if not stackable:
                scores.append(to_numpy(self._score(result.raw, result.logits, clean).values)[0])
                continue
            outputs = _side_by_side(result, outlines)
            for row in range(len(rows)):
                raw, logits = outlines[0].apart(outputs[row : row + 1])
                scores.append(to_numpy(self._score(raw, logits, clean).values)[0])
        return np.stack(scores).astype(float)

    @cached_property
    def _clean(self) -> tuple[np.ndarray, Scored, bool]:
        """The logits at the features, their scores, and whether several points can be scored at once."""
        result = self.model.look()
        if result.gate is not None:
            self.notes.append(f"scores are logits, read before the model's final {result.gate}")
        logits, self._gate, self._unclear = to_numpy(result.logits), result.gate, result.unclear
        scored = self._score(result.raw, result.logits, logits)
        self.notes.extend(scored.notes)
        return logits, scored, self.model.stackable(result.raw)

    def gradients(
        self, points: Sequence[np.ndarray], weights: Sequence[float]
    ) -> tuple[Float[np.ndarray, "point target"], Relevance]:
        """Return the scores at `points` `(time, feature)`, and Σ_n weights_n ∂score/∂features at point n.

        Classes are chosen at the sample itself.
        """
        columns = len(self.scores)
        scores = np.zeros((len(points), columns))
        total = np.zeros((columns, *self.features.shape))
        connected = False
        # One row per point and target: a batch costs less than as many backward passes.
        rows = [(n, k) for n, weight in enumerate(weights) for k in range(columns if weight else 1)]
        for part in self._parts(rows):
            leaves = [np.stack([points[n] for n, _ in part])]
            values, (gradients,) = self._pulled(leaves, [n for n, _ in part], [k for _, k in part])
            for place, (n, k) in enumerate(part):
                scores[n] = values[place]
                if gradients is not None:
                    total[k] += weights[n] * gradients[place]
            connected = connected or gradients is not None
        self._refuse_constant(total, connected)
        return scores, total.astype(self.features.dtype)

    def propagated(self, epsilon: float) -> Attribution:
        """Return layer-wise relevance and its ledger.

        Raises ModelError where the surrogate's scores are not the model's, and where relevance does not add
        up.
        """
        columns = len(self.scores)
        relevance = np.zeros((columns, *self.features.shape), self.features.dtype)
        terms = np.zeros((len(ENTRIES), columns))
        connected = False
        # Every target has a copy of the sample as its row, or one row is pulled back for all of them.
        for part in self._parts(range(columns)) if self.model.copies else [range(columns)]:
            rows = len(part) if self.model.copies else 1
            entries = [np.ones(rows, self.features.dtype)] * len(ENTRIES)
            leaves = [np.repeat(self.features[None], rows, axis=0), *entries]
            values, (gradients, *of_entries) = self._pulled(leaves, [0] * rows, part, epsilon)
            refuse_other(self.scores, values[0], self.model.rounding)
            if gradients is not None:
                connected = True
                relevance[list(part)] = gradients * self.features
            for term, gradient in zip(terms, of_entries, strict=True):
                term[list(part)] = 0 if gradient is None else gradient
        if not connected:
            raise constant((1, columns), (1, *self.features.shape))
        book = {"input": relevance.sum(axis=(1, 2), dtype=float), **dict(zip(ENTRIES, terms, strict=True))}
        if not closes(
            self.scores, book, np.abs(relevance).sum(axis=(1, 2), dtype=float), self.model.rounding
        ):
            raise no_rule(self.scores, book, self.model.suspects())
        self._refuse_constant(relevance, connected)
        return Attribution(relevance, book)

    def _pulled(
        self,
        leaves: Sequence[np.ndarray],
        point_of: Sequence[int],
        columns: Sequence[int],
        epsilon: float | None = None,
    ) -> tuple[Float[np.ndarray, "row target"], list[np.ndarray | None]]:
        """Return the scores of every row, and ∂score/∂leaf of one score per row, or of several of one row.

        leaves: points, and the entries of the ledger.
        point_of: which point each row is a copy of.
        columns: the scores that are differentiated.
        epsilon: of the surrogate; None for the model as it is.
        """

        def forward(points: Array, *entries: Array) -> PassResult:
            return self.model.forward(points, None if epsilon is None else Ledger(epsilon, entries))

        arrays = [self.model.array(leaf) for leaf in leaves]
        rows = len(leaves[0])
        clean, _, stackable = self._clean
        if rows < len(columns) or not stackable:
            values, pull = differentiable(
                lambda *leaves: self._score(*forward(*leaves)[:2], clean).values, arrays, len(columns)
            )
            gradients = pull(np.eye(len(self.scores))[list(columns)][:, None])
            return to_numpy(values), [None if g is None else g[:, 0] for g in gradients]
        # Scores are differentiated by the outputs for each point once, not for each of its copies: a target
        # of all steps takes longer than the pass. What comes back to the outputs is pulled through the model.
        outlines: list[Outline] = []
        outputs, pull = differentiable(lambda *leaves: _side_by_side(forward(*leaves), outlines), arrays)
        values, slopes = np.zeros((rows, len(self.scores))), np.zeros((rows, outputs.shape[1]))
        connected = False
        for point in dict.fromkeys(point_of):
            copies = [row for row, n in enumerate(point_of) if n == point]
            chosen = [columns[row] for row in copies]
            row = outputs[copies[0] : copies[0] + 1]
            values[copies], of_point = self._slopes(row, outlines[-1], chosen)
            if of_point is not None:
                connected = True
                slopes[copies] = of_point
        gradients = pull(slopes[None])
        return values, [None if g is None or not connected else g[0] for g in gradients]

    def _slopes(
        self, outputs: Array, outline: Outline, columns: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the scores of one row of outputs, and ∂score/∂output of some, None where not connected."""
        clean = self._clean[0]
        values, pull = differentiable(
            lambda row: self._score(*outline.apart(row), clean).values, [outputs], len(columns)
        )
        (slopes,) = pull(np.eye(len(self.scores))[columns][:, None])
        return to_numpy(values)[0], None if slopes is None else slopes[:, 0]

    def _score(self, raw: Array, logits: Array, clean: np.ndarray) -> Scored:
        def main() -> Array:
            if self._unclear is not None:
                raise self._unclear
            return logits

        outputs = Outputs(raw, main, self.rows, self.model.labels, clean, gate=self._gate)
        return self.target(outputs)

    def _parts(self, rows: Sequence[T]) -> Iterator[Sequence[T]]:
        """Yield rows, one per point and target, as many as are run at once."""
        each = ROWS_PER_PASS if self._clean[2] else 1
        yield from (rows[low : low + each] for low in range(0, len(rows), each))

    def _refuse_constant(self, gradients: np.ndarray, connected: bool) -> None:
        """Raise ModelError where no score changes with the features."""
        if gradients.any():
            return
        # Zeros may also come from units that are off, or features that are zero: large noise moves those.
        noise = 1e3 * np.random.default_rng(0).standard_normal((1, *self.features.shape))
        if not connected or np.array_equal(
            self._pulled([noise.astype(self.features.dtype)], [0], [0])[0][0], self.scores
        ):
            raise constant((1, len(self.scores)), (1, *self.features.shape))
