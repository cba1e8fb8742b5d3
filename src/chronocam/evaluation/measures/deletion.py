"""Deletion and insertion: the area under the score while cells go, or come, in the order of the map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from chronocam.errors import InputError, check_whole
from chronocam.evaluation.case import AskScores, Case
from chronocam.evaluation.measures.base import Asking, Measure, Value
from chronocam.maps.frames import frame_importance
from chronocam.metrics._deletion import Curve


@dataclass(frozen=True)
class Deletion(Measure):
    """The area under the score while the most relevant cells give way to a baseline.

    steps: how many equal shares. baseline: as of `cc.metrics.deletion`, or `"road"`.
    over: what goes: `"cells"` of the input's grid; for clips also whole `"frames"`, in the order of their
        importance.

    Source: Petsiuk et al. 2018 (arXiv:1806.07421), section 3.2.

    Example:
    >>> cc.evaluation.Deletion(steps=5, baseline="mean").name
    'deletion'
    """

    steps: int = 10
    baseline: Any = field(default="blur", hash=False)
    over: str = "cells"
    name: ClassVar[str] = "deletion"
    title: ClassVar[str] = "deletion"
    better: ClassVar[str | None] = "low"
    inserts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, "a number of shares")
        if self.over not in ("cells", "frames"):
            raise InputError(f"over is {self.over!r}; expected 'cells', or for clips also 'frames'")

    def of(self, case: Case, values: np.ndarray) -> Value | Asking:
        """Return the curve of the class's probability, or of its score: shares and scores.

        NaN where whole frames are asked for and the input is not a clip.
        """
        if self.over == "cells":
            return self._curve(case, values)
        return self._curve(case, frame_importance(values)) if values.ndim == 3 else np.full((2, 2), np.nan)

    def _curve(self, case: Case, values: np.ndarray) -> Asking:
        cells = case.cells(values)
        counts = cells.counts(self.steps)
        inputs = []
        for count in counts:
            stays = cells.rank[0] < count if self.inserts else cells.rank[0] >= count
            inputs.append(case.hidden(stays.reshape(values.shape), self.baseline))
        answer = yield AskScores(inputs)
        return np.stack([counts / cells.total, answer.best])

    def number(self, value: Value) -> float:
        """Return the area under a curve, `(share and score, point)`."""
        shares, scores = np.asarray(value)
        return float(Curve(shares, scores[None]).area[0])


@dataclass(frozen=True)
class Insertion(Deletion):
    """The area under the score while the most relevant cells come to a baseline; as `Deletion`.

    Example:
    >>> cc.evaluation.Insertion().better
    'high'
    """

    name: ClassVar[str] = "insertion"
    title: ClassVar[str] = "insertion"
    better: ClassVar[str | None] = "high"
    inserts: ClassVar[bool] = True
