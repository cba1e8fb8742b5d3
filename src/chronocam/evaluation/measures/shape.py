"""How much of the picture a map takes up; neither says whether it is right."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from chronocam.evaluation.case import Case
from chronocam.evaluation.measures.base import Measure
from chronocam.evaluation.measures.coherency import complexity
from chronocam.metrics.stability import flicker, sparseness


@dataclass(frozen=True)
class Complexity(Measure):
    """The mean of the map scaled to [0, 1] by its own range.

    Source: Poppi et al. 2021 (arXiv:2104.10252), section 3.

    Example:
    >>> cc.evaluation.Complexity().better
    'low'
    """

    name: ClassVar[str] = "complexity"
    title: ClassVar[str] = "complexity"
    shape: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    better: ClassVar[str | None] = "low"

    def of(self, case: Case, values: np.ndarray) -> float:
        """Return the complexity."""
        return complexity(values)


@dataclass(frozen=True)
class Sparseness(Measure):
    """The Gini index of the map's magnitudes; see `cc.metrics.sparseness`.

    Example:
    >>> cc.evaluation.Sparseness().name
    'sparseness'
    """

    name: ClassVar[str] = "sparseness"
    title: ClassVar[str] = "sparseness"
    shape: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def of(self, case: Case, values: np.ndarray) -> float:
        """Return the index."""
        return float(sparseness(values, values.ndim))


@dataclass(frozen=True)
class Flicker(Measure):
    """How much a map of a clip changes from frame to frame; see `cc.metrics.flicker`.

    Example:
    >>> cc.evaluation.Flicker().better is None
    True
    """

    name: ClassVar[str] = "flicker"
    title: ClassVar[str] = "flicker"
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)
    better: ClassVar[str | None] = None

    def of(self, case: Case, values: np.ndarray) -> float:
        """Return the flicker; NaN for anything but clips."""
        return float(flicker(values)) if values.ndim == 3 else float("nan")
