"""One sample as measures see it, and what they can ask of the model about it.

A measure is a function of a case and a map. Where it needs the model, it is a generator that yields what it
asks (`Ask`) and is sent the answer: so one pass serves what many measures and methods ask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np

from chronocam.errors import InputError
from chronocam.evaluation.truth import Truth
from chronocam.maps.impute import NOISE, filled
from chronocam.metrics._deletion import Cells


@dataclass(frozen=True, eq=False)
class Changed:
    """A changed input: `make` returns it, `(channel, *grid)`; those of one key are the same.

    Example:
    >>> cc.evaluation.Changed("dark", lambda: np.zeros((3, 8, 8))).make().shape
    (3, 8, 8)
    """

    key: Hashable
    make: Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class AskScores:
    """Asks for the scores of changed inputs; the answer is `Answer`.

    Example:
    >>> len(cc.evaluation.AskScores([cc.evaluation.Changed("dark", lambda: np.zeros((3, 8, 8)))]).inputs)
    1
    """

    inputs: Sequence[Changed]


Weights: TypeAlias = tuple[float, bool]
"""The share of the modules that are random, and whether it is the last of them alone."""

OWN: Final[Weights] = (0.0, False)
"""The model's own weights."""


@dataclass(frozen=True, eq=False)
class AskMaps:
    """Asks for this method's maps, `(input, *grid)`.

    inputs: changed inputs; None for the sample itself.
    other: explain this class in place of the sample's own.
    random: of the model with this share of its modules random, from the output down.
    alone: the last of those modules alone is random.

    Example:
    >>> cc.evaluation.AskMaps(random=1.0).weights
    (1.0, False)
    """

    inputs: Sequence[Changed] | None = None
    other: int | None = None
    random: float = 0.0
    alone: bool = False

    @property
    def weights(self) -> Weights:
        """Which weights are random."""
        return self.random, self.alone


Ask: TypeAlias = AskScores | AskMaps


@dataclass(frozen=True, eq=False)
class Answer:
    """Scores `(input,)` as the target gives them, and the probabilities of the class, NaN without any.

    Example:
    >>> cc.evaluation.Answer(np.array([2.0]), np.array([0.9])).best
    array([0.9])
    """

    scores: np.ndarray
    probabilities: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """The probabilities where the model gives them, else the scores."""
        return self.scores if np.isnan(self.probabilities).any() else self.probabilities


@dataclass(frozen=True, eq=False)
class Case:
    """A sample with its target.

    input: `(channel, *grid)`, as the model takes it but for the order of the axes.
    score, probability: of the sample itself; NaN for a probability that the model does not give.
    index: of the class explained; None for other targets. classes: how many there are, 0 where unknown.
    truth: where the object is; None where that is not known.
    black: what a black input is, broadcasting to `input`.
    others: inputs of other samples with the index of their class, for what is made of several.

    Example:
    >>> x = np.ones((3, 8, 8), np.float32)
    >>> case = cc.evaluation.Case(x, 2.0, 0.9, 1, 3, None, seed=0)
    >>> case.hidden(np.zeros((8, 8), bool), 0.0).make().max()
    np.float32(0.0)
    """

    input: np.ndarray
    score: float
    probability: float
    index: int | None
    classes: int
    truth: Truth | None
    seed: int
    black: np.ndarray = field(default_factory=lambda: np.zeros(1, np.float32))
    others: Sequence[tuple[np.ndarray, int | None]] = ()

    @property
    def grid(self) -> tuple[int, ...]:
        """The input's axes without its channels."""
        return tuple(self.input.shape[1:])

    @property
    def best(self) -> float:
        """The probability where the model gives it, else the score."""
        return self.score if np.isnan(self.probability) else self.probability

    def rng(self, name: str) -> np.random.Generator:
        """Return random numbers for one purpose, the same for every method."""
        return np.random.default_rng([self.seed, *name.encode()])

    def cells(self, values: np.ndarray) -> Cells:
        """Return the order of the cells of a map, once for equal maps; of a curve, that of the frames."""
        key = digest(values)
        if key not in self._ordered:
            self._ordered[key] = Cells(self.input[None], values[None], 1, self.seed)
        return self._ordered[key]

    @cached_property
    def _ordered(self) -> dict[str, Cells]:
        return {}

    def hidden(self, stays: np.ndarray, baseline: Any) -> Changed:
        """Return the input with a baseline where it does not stay.

        stays: bool `(*grid)`, or `(time,)` for whole frames.
        baseline: a name of `cc.metrics.deletion`, `"road"`, or an array.
        """
        if stays.all():
            return self.itself
        key = (self._named(baseline), digest(stays))
        if not stays.any() and isinstance(baseline, str) and baseline not in ("road", "freeze"):
            key = (baseline, "nothing")
        return Changed(key, lambda: self._filled(stays, baseline))

    @property
    def itself(self) -> Changed:
        """The input as it is."""
        return Changed("itself", lambda: self.input)

    @staticmethod
    def _named(baseline: Any) -> Hashable:
        return baseline if isinstance(baseline, str) else digest(np.asarray(baseline))

    def _filled(self, stays: np.ndarray, baseline: Any) -> np.ndarray:
        if isinstance(baseline, str) and baseline == "road":
            return self._imputed(np.broadcast_to(_over(stays, self.grid), self.grid))
        if isinstance(baseline, str) and baseline == "freeze":
            if len(self.grid) != 3 or stays.ndim != 1:
                raise InputError(
                    "baseline `freeze` is for whole frames of a clip; give over='frames', or another baseline"
                )
            return self.cells(np.zeros(self.grid[:1])).without("freeze")(stays[None])[0]
        other = self.baseline(baseline) if isinstance(baseline, str) else self._given(baseline)
        return np.where(_over(stays, self.grid), self.input, other)

    def _given(self, baseline: Any) -> np.ndarray:
        try:
            return np.broadcast_to(np.asarray(baseline, self.input.dtype), self.input.shape)
        except ValueError as error:
            raise InputError(
                f"baseline has shape {np.shape(baseline)}; expected one that broadcasts to "
                f"{self.input.shape}, (channel, *grid)"
            ) from error

    def baseline(self, name: str) -> np.ndarray:
        """Return what the input is replaced by, made once per sample."""
        return self._baselines(name)

    @cached_property
    def _baselines(self) -> Callable[[str], np.ndarray]:
        arrays: dict[str, np.ndarray] = {}

        def of(name: str) -> np.ndarray:
            if name not in arrays:
                cells = self.cells(np.zeros(self.grid))
                arrays[name] = cells.without(name)(np.zeros((1, cells.total), bool))[0]
            return arrays[name]

        return of

    def _imputed(self, stays: np.ndarray) -> np.ndarray:
        noise = self.rng("road").normal(scale=NOISE, size=self.input.shape).astype(self.input.dtype)
        return filled(self.input, stays, noise)


def digest(array: np.ndarray) -> str:
    """Return what tells an array from others."""
    packed = np.packbits(array) if array.dtype == bool else np.ascontiguousarray(array)
    return hashlib.blake2b(packed.tobytes() + str(array.shape).encode(), digest_size=16).hexdigest()


def _over(stays: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    return stays.reshape(stays.shape + (1,) * (len(grid) - stays.ndim))
