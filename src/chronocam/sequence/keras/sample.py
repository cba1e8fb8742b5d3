"""One sequence through a Keras model, on any backend: scores, gradients at points, layer-wise relevance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import keras
import numpy as np

from chronocam.engines.keras.layers import Wrap, is_float, nodes_of
from chronocam.engines.pull import Pull, differentiable
from chronocam.errors import InputError
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.sequence.base import Attribution, Sample
from chronocam.sequence.checks import closes, constant, no_rule, refuse_nan, refuse_other
from chronocam.sequence.keras.forward import Passed, forward, repeated_to
from chronocam.sequence.keras.ledger import ENTRIES, Ledger, held
from chronocam.sequence.keras.rules import as_it_is, rule_of, ruled, suspecting
from chronocam.types import Array, Outputs, Scored, Target

_ROUNDING: Final = {"float64": 2.2e-16, "float32": 1.2e-7, "float16": 9.8e-4, "bfloat16": 7.8e-3}
ROWS_PER_PASS: Final = 16  # how many points and targets are differentiated at once: bounds the memory


@dataclass(frozen=True)
class Given:
    """What one sample gives the model: features `(time, feature)`, and what else it takes."""

    features: np.ndarray
    others: tuple[np.ndarray, ...] = ()


def split(engine: Any, features: Any) -> list[Given]:
    """Return the samples of an array, or of a tuple of one and what else the model takes.

    Raises InputError for other shapes, and for NaN.
    """
    given, *others = features if isinstance(features, (tuple, list)) else (features,)
    if not hasattr(given, "shape"):
        raise InputError(f"cannot explain a {type(given).__name__}; give features (batch, time, feature)")
    if len(given.shape) != 3 or 0 in given.shape:
        hint = ": give features[None]" if len(given.shape) == 2 else ""
        raise InputError(f"features have shape {tuple(given.shape)}; expected (batch, time, feature){hint}")
    adapted = engine.adapt((given, *others) if others else given)
    batch, *rest = [to_numpy(x) for x in (adapted if others else (adapted,))]
    batch = batch.astype(keras.config.floatx()) if batch.dtype.kind in "iub" else batch
    refuse_nan(batch)
    return [Given(one, tuple(x[row : row + 1] for x in rest)) for row, one in enumerate(batch)]


class KerasSample(Sample):
    """One sequence bound to a model and its targets; see `Sample`."""

    def __init__(self, engine: Any, given: Given, target: Target, row: int, batch_first: bool) -> None:
        if not batch_first:
            raise InputError("batch_first=False is for PyTorch; Keras models take (batch, time, feature)")
        self.model, self.labels, self.given, self.target = engine.model, engine.labels, given, target
        self.rows, self.notes = slice(row, row + 1), list[str]()
        self._nodes = nodes_of(engine.model)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Nothing of the model is changed but within each call of it."""
        yield

    @property
    def features(self) -> np.ndarray:
        """The features `(time, feature)`."""
        return self.given.features

    @cached_property
    def _clean(self) -> tuple[np.ndarray, Scored, bool]:
        """The logits at the features, their scores, and whether several points can be scored at once."""
        passed = self._passed(keras.ops.convert_to_tensor(self.features[None]))
        if passed.gate is not None:
            self.notes.append(f"scores are logits, read before the model's final {passed.gate}")
        known, raw = to_numpy(passed.logits), passed.raw
        remembers = any(
            getattr(node, "stateful", False) for node in self._nodes.values()
        )  # states of so many rows
        return known, self._score(raw, passed.logits, known), is_float(raw) and not remembers

    def gradients(
        self, points: Sequence[np.ndarray], weights: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores at `points`, and Σ_n weights_n ∂score/∂features at point n."""
        columns = len(self.scores)
        scores, total = np.zeros((len(points), columns)), np.zeros((columns, *self.features.shape))
        rows = [(n, k) for n, weight in enumerate(weights) for k in range(columns if weight else 1)]
        for part in self._parts(rows):
            found, pull = self._differentiated([np.stack([points[n] for n, _ in part])], None)
            for place, (n, _) in enumerate(part):
                scores[n] = to_numpy(found)[place]
            (gradients,) = pull(_of_each(found, [k for _, k in part]))
            for place, (n, k) in enumerate(part):
                total[k] += weights[n] * gradients[place]
        self._refuse_constant(total)
        return scores, total.astype(self.features.dtype)

    def propagated(self, epsilon: float) -> Attribution:
        """Return layer-wise relevance and its ledger.

        Raises ModelError where the surrogate's scores are not the model's, and where relevance does not add
        up.
        """
        columns = len(self.scores)
        relevance = np.zeros((columns, *self.features.shape), self.features.dtype)
        terms = np.zeros((len(ENTRIES), columns))
        for part in self._parts([(0, k) for k in range(columns)]):
            which = [k for _, k in part]
            ones = np.ones(len(part), self.features.dtype)
            leaves = [np.repeat(self.features[None], len(part), axis=0), *[ones] * len(ENTRIES)]
            found, pull = self._differentiated(leaves, epsilon)
            refuse_other(self.scores, to_numpy(found)[0], self._rounding)
            gradients, *entries = pull(_of_each(found, which))
            relevance[which] = gradients * self.features
            terms[:, which] = np.stack(entries)
        book = {"input": relevance.sum(axis=(1, 2), dtype=float), **dict(zip(ENTRIES, terms, strict=True))}
        if not closes(self.scores, book, np.abs(relevance).sum(axis=(1, 2), dtype=float), self._rounding):
            raise no_rule(self.scores, book, self._suspects())
        self._refuse_constant(relevance)
        return Attribution(relevance, book)

    def _differentiated(self, leaves: Sequence[np.ndarray], epsilon: float | None) -> tuple[Array, Pull]:
        """Return the scores `(point, target)` and their pull-back.

        leaves: points, and the entries of the ledger. epsilon: of the surrogate; None for the model as it is.
        """
        clean, _, apart = self._clean

        def scored(points: Array, *entries: Array) -> Array:
            passed = (
                self._passed(points) if epsilon is None else self._surrogate(Ledger(epsilon, entries), points)
            )
            if apart:
                return self._row_by_row(passed.logits, clean)
            return self._score(passed.raw, passed.logits, clean).values

        return differentiable(scored, leaves)

    def _passed(self, points: Array, wrap: Callable[[str, Any], Wrap | None] = as_it_is) -> Passed:
        return forward(self.model, self._nodes, points, self.given.others, wrap)

    def _surrogate(self, ledger: Ledger, points: Array) -> Passed:
        """Run the model so that differentiating it gives relevance; its other inputs are among the biases."""
        others = [repeated_to(points.shape[0], x) for x in self.given.others]
        others = [ledger.bias(x, x) if is_float(x) else x for x in others]
        return forward(self.model, self._nodes, points, others, partial(ruled, ledger), held)

    def _row_by_row(self, logits: Array, clean: np.ndarray) -> Array:
        rows = [logits[n : n + 1] for n in range(logits.shape[0])]
        return namespace(logits).concat([self._score(row, row, clean).values for row in rows], axis=0)

    def _score(self, raw: Any, logits: Array, clean: np.ndarray) -> Scored:
        return self.target(Outputs(raw, lambda: logits, self.rows, self.labels, clean))

    def _suspects(self) -> list[str]:
        """Return the nodes without a rule through which relevance does not add up."""
        suspects: list[str] = []
        inner = {path.rpartition("/")[0] for path in self._nodes}

        def watched(path: str, node: Any) -> Wrap | None:
            return None if path in inner or rule_of(node) is not None else suspecting(suspects, path)

        self._passed(keras.ops.convert_to_tensor(self.features[None]), watched)
        return suspects or ["an operation within the model's own call"]

    def _parts(self, rows: Sequence[tuple[int, int]]) -> Iterator[Sequence[tuple[int, int]]]:
        """Yield rows, one per point and target, as many as are run at once: a batch costs less than several passes."""
        each = ROWS_PER_PASS if self._clean[2] else 1
        yield from (rows[low : low + each] for low in range(0, len(rows), each))

    @cached_property
    def _rounding(self) -> float:
        """The rounding of the coarsest arithmetic; on JAX and PyTorch some of Keras' own compute float64 in float32."""
        used = {getattr(node, "compute_dtype", "float64") for node in (*self._nodes.values(), self.model)}
        least = _ROUNDING["float64" if keras.backend.backend() == "tensorflow" else "float32"]
        return max(least, *(_ROUNDING.get(dtype, 0.0) for dtype in used))

    def _refuse_constant(self, found: np.ndarray) -> None:
        """Raise ModelError where no score changes with the features."""
        if found.any():
            return
        noise = (
            np.random.default_rng(0).standard_normal((1, *self.features.shape)).astype(self.features.dtype)
        )
        scores, _ = self._differentiated([1e3 * noise], None)
        if np.array_equal(to_numpy(scores)[0], self.scores):
            raise constant((1, len(self.scores)), (1, *self.features.shape))


def _of_each(values: Array, columns: Sequence[int]) -> np.ndarray:
    """Return weights that pick one column of each row."""
    picked = np.zeros(tuple(values.shape))
    picked[np.arange(len(columns)), columns] = 1
    return picked


SAMPLE = KerasSample
"""What `chronocam.sequence.run` binds each sample to."""
