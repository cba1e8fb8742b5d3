"""Whether the map of what a map highlights is that map again, and measures that join it with others."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from chronocam.evaluation.case import Ask, AskMaps, AskScores, Case
from chronocam.evaluation.measures.base import Asking, Measure, check_shares
from chronocam.evaluation.measures.drop import highlighted, unit
from chronocam.evaluation.measures.road import ROAD
from chronocam.metrics.drop import average_drop


def coherency(case: Case, values: np.ndarray) -> Generator[Ask, Any, float]:
    """Return (1 + Pearson's correlation of a map with that of what it highlights)/2; NaN for constants."""
    again = yield AskMaps([highlighted(case, values)])
    a, b = values.ravel() - values.mean(), again[0].ravel() - again[0].mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float((a @ b / scale + 1) / 2) if scale > 0 else float("nan")


def complexity(values: np.ndarray) -> float:
    """Return the mean of a map scaled to [0, 1]."""
    return float(np.abs(unit(values)).mean())


def harmonic(*parts: float) -> float:
    """Return the harmonic mean, 0 where one of them is 0."""
    if any(np.isnan(parts)):
        return float("nan")
    return len(parts) / sum(1 / part for part in parts) if min(parts) > 0 else 0.0


@dataclass(frozen=True)
class Coherency(Measure):
    """(1 + Pearson's correlation)/2 of a map with the map of what it highlights.

    Source: Poppi et al. 2021 (arXiv:2104.10252), section 3.

    Example:
    >>> cc.evaluation.Coherency().name
    'coherency'
    """

    name: ClassVar[str] = "coherency"
    title: ClassVar[str] = "coherency"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    controls: ClassVar[bool] = False

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the coherency."""
        return (yield from coherency(case, values))


@dataclass(frozen=True)
class ADCC(Measure):
    """3/(1/Coherency + 1/(1 − Complexity) + 1/(1 − Drop)): the harmonic mean of the three.

    Source: Poppi et al. 2021 (arXiv:2104.10252), section 3.

    Example:
    >>> cc.evaluation.ADCC().name
    'adcc'
    """

    name: ClassVar[str] = "adcc"
    title: ClassVar[str] = "ADCC"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    controls: ClassVar[bool] = False

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the mean; NaN for a constant map or a target without a probability."""
        coherent = yield from coherency(case, values)
        answer = yield AskScores([highlighted(case, values)])
        before, after = np.array([case.probability]), answer.probabilities
        if not (np.isfinite(before).all() and np.isfinite(after).all()):
            return float("nan")
        drop = float(average_drop(before.clip(0, 1), after.clip(0, 1))[0])
        return harmonic(coherent, 1 - complexity(values), 1 - drop)


@dataclass(frozen=True)
class ARCC(Measure):
    """3/(1/Coherency + 1/(1 − Complexity) + 1/R), R twice ROAD's difference, within [0, 1].

    Source: arXiv:2605.14641, as `grad-cam` computes it, with shares of 20, 40, 60 and 80 %.

    Example:
    >>> cc.evaluation.ARCC().name
    'arcc'
    """

    shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    name: ClassVar[str] = "arcc"
    title: ClassVar[str] = "ARCC"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    controls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_shares("shares", self.shares)

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the mean; NaN for a constant map."""
        coherent = yield from coherency(case, values)
        road = yield from ROAD(self.shares).of(case, values)
        return harmonic(coherent, 1 - complexity(values), min(max(2 * float(road), 0.0), 1.0))
