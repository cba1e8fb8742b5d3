"""How much a map changes under noise too weak to see."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from chronocam.errors import POSITIVE, check_real, check_whole
from chronocam.evaluation.case import AskMaps, Case, Changed
from chronocam.evaluation.measures.base import Asking, Measure
from chronocam.maps.rank import spearman


@dataclass(frozen=True)
class MaxSensitivity(Measure):
    """The largest ‖map(x + δ) − map(x)‖/‖map(x)‖ over noises δ, uniform within ±`radius`.

    radius: in units of the input. draws: how many noises; all methods share them.

    Source: Yeh et al. 2019 (arXiv:1901.09392), definition 2.

    Example:
    >>> cc.evaluation.MaxSensitivity(draws=4).radius
    0.02
    """

    radius: float = 0.02
    draws: int = 10
    name: ClassVar[str] = "max_sensitivity"
    title: ClassVar[str] = "max-sensitivity"
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)
    better: ClassVar[str | None] = "low"
    controls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_real("radius", self.radius, "a positive radius in units of the input", least=POSITIVE)
        check_whole("draws", self.draws, "a number of noises")

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the value over the draws; NaN for a map of zeros."""
        maps = yield AskMaps([self._noisy(case, k) for k in range(self.draws)])
        size = float(np.linalg.norm(values))
        if size == 0:
            return float("nan")
        return self.over([float(np.linalg.norm(one - values)) / size for one in maps])

    def over(self, changes: list[float]) -> float:
        """Return the number of all changes."""
        return max(changes)

    def _noisy(self, case: Case, number: int) -> Changed:
        def make() -> np.ndarray:
            noise = case.rng(f"noise {number}").uniform(-self.radius, self.radius, case.input.shape)
            return case.input + noise.astype(case.input.dtype)

        return Changed(("noise", self.radius, number), make)


@dataclass(frozen=True)
class AverageSensitivity(MaxSensitivity):
    """The mean over the noises; as `MaxSensitivity`.

    Example:
    >>> cc.evaluation.AverageSensitivity().name
    'avg_sensitivity'
    """

    name: ClassVar[str] = "avg_sensitivity"
    title: ClassVar[str] = "average sensitivity"

    def over(self, changes: list[float]) -> float:
        """Return the mean of all changes."""
        return float(np.mean(changes))


@dataclass(frozen=True)
class Stability(MaxSensitivity):
    """Spearman's correlation of a map with those under noise, averaged; noise as of `MaxSensitivity`.

    Example:
    >>> cc.evaluation.Stability().better
    'high'
    """

    name: ClassVar[str] = "stability"
    title: ClassVar[str] = "stability"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    better: ClassVar[str | None] = "high"

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the mean; NaN for a constant map."""
        maps = yield AskMaps([self._noisy(case, k) for k in range(self.draws)])
        return float(np.mean([spearman(values.ravel(), one.ravel()) for one in maps]))
