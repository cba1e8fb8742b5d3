"""How the class's probability changes when only what the map highlights is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.evaluation.case import AskScores, Case, Changed, digest
from chronocam.evaluation.measures.base import Asking, Measure
from chronocam.metrics.drop import average_drop, average_gain, increase_in_confidence


def unit(values: np.ndarray) -> np.ndarray:
    """Return a map scaled to [0, 1] by its own range; zeros for a constant one."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low) if high > low else 0 * values)


def highlighted(case: Case, values: np.ndarray) -> Changed:
    """Return the input times its map in [0, 1]; black where that is 0."""
    shown = unit(values).astype(case.input.dtype)
    return Changed(("highlighted", digest(shown)), lambda: case.black + shown * (case.input - case.black))


@dataclass(frozen=True)
class Drop(Measure):
    """max(0, Y − O)/Y: by what share the probability Y falls to O, where only the highlighted is left.

    Source: Chattopadhay et al. 2018 (arXiv:1710.11063), section 4.1.

    Example:
    >>> cc.evaluation.Drop().better
    'low'
    """

    name: ClassVar[str] = "drop"
    title: ClassVar[str] = "average drop"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    better: ClassVar[str | None] = "low"

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the value; NaN for a target without a probability."""
        answer = yield AskScores([highlighted(case, values)])
        before, after = np.array([case.probability]), answer.probabilities
        known = np.isfinite(before).all() and np.isfinite(after).all()
        return float(self.value(before.clip(0, 1), after.clip(0, 1))[0]) if known else float("nan")

    def value(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the value of both probabilities."""
        return average_drop(before, after)


@dataclass(frozen=True)
class Increase(Drop):
    """Whether the probability rises; as `Drop`.

    Example:
    >>> cc.evaluation.Increase().name
    'increase'
    """

    name: ClassVar[str] = "increase"
    title: ClassVar[str] = "increase in confidence"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    hits: ClassVar[bool] = True
    better: ClassVar[str | None] = "high"

    def value(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return 1 where it rises, else 0."""
        return increase_in_confidence(before, after)


@dataclass(frozen=True)
class Gain(Drop):
    """max(0, O − Y)/(1 − Y); as `Drop`.

    Source: Zhang et al. 2024, Opti-CAM (arXiv:2301.07002), section 4.

    Example:
    >>> cc.evaluation.Gain().name
    'gain'
    """

    name: ClassVar[str] = "gain"
    title: ClassVar[str] = "average gain"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    better: ClassVar[str | None] = "high"

    def value(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the gain of both probabilities."""
        return average_gain(before, after)
