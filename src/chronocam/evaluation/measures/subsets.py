"""Whether what a map adds up to over a set of cells is what the score loses without them.

The sets are drawn once per sample, so that all methods share their forward passes.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import numpy as np

from chronocam.errors import check_whole
from chronocam.evaluation.case import Ask, AskScores, Case
from chronocam.evaluation.measures.base import Asking, Measure, check_shares
from chronocam.maps.rank import spearman


@dataclass(frozen=True)
class MuFidelity(Measure):
    """Spearman's correlation of the fall of the score with the sum of the map, over random sets of cells.

    sets: how many. cells: into how many pieces each axis is cut. share: how likely a cell is in a set.
    baseline: what is seen in its place.

    Source: Bhatt et al. 2020 (arXiv:2005.00631), with random sets of their own size as in Xplique.

    Example:
    >>> cc.evaluation.MuFidelity(sets=50).sets
    50
    """

    sets: int = 200
    cells: int = 9
    share: float = 0.2
    baseline: Any = field(default=0.0, hash=False)
    name: ClassVar[str] = "mufidelity"
    title: ClassVar[str] = "µFidelity"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        check_whole("sets", self.sets, "a number of sets, from 2", least=2)
        check_whole("cells", self.cells, "a number of pieces")
        check_shares("share", [self.share])

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the correlation; NaN for a constant map or score."""
        fall, total = yield from self.falls(case, values)
        return float(spearman(fall, total))

    def falls(self, case: Case, values: np.ndarray) -> Generator[Ask, Any, tuple[np.ndarray, np.ndarray]]:
        """Return by how much the score falls without each set, and the sum of the map over it."""
        rng, grid = case.rng("subsets"), case.grid
        hidden = [self._drawn(rng, grid) for _ in range(self.sets)]
        answer = yield AskScores([case.hidden(~one, self.baseline) for one in hidden])
        return case.score - answer.scores, np.array([values[one].sum() for one in hidden], dtype=np.float64)

    def _drawn(self, rng: np.random.Generator, grid: tuple[int, ...]) -> np.ndarray:
        pieces = tuple(min(self.cells, n) for n in grid)
        marks = rng.random(pieces) < self.share
        at = [np.arange(n) * piece // n for n, piece in zip(grid, pieces, strict=True)]
        return marks[np.ix_(*at)]


@dataclass(frozen=True)
class Infidelity(MuFidelity):
    """E[(β Σ_set map − fall of the score)²] over random sets of cells, β the best scale of the map.

    Options as of `MuFidelity`. In squared units of the score: compare methods on the same samples.

    Source: Yeh et al. 2019 (arXiv:1901.09392), eq. 1, with the optimal scaling of `captum`.

    Example:
    >>> cc.evaluation.Infidelity().better
    'low'
    """

    name: ClassVar[str] = "infidelity"
    title: ClassVar[str] = "infidelity"
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)
    better: ClassVar[str | None] = "low"

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the mean square; that of the falls for a map of zeros."""
        fall, total = yield from self.falls(case, values)
        square = float(total @ total)
        scale = float(total @ fall) / square if square > 0 else 0.0
        return float(np.mean((scale * total - fall) ** 2))
