"""ROAD: remove cells and fill the gaps from their neighbours, so that the gap itself tells nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.evaluation.case import AskScores, Case
from chronocam.evaluation.measures.base import Asking, Measure, check_shares


@dataclass(frozen=True)
class ROAD(Measure):
    """(least relevant first − most relevant first)/2 of the score, averaged over shares removed.

    shares: of the cells that are removed, exactly, with ties in a random order.

    Source: Rong et al. 2022 (arXiv:2202.00449); the difference of both orders as in `grad-cam`.

    Example:
    >>> cc.evaluation.ROAD(shares=(0.5,)).shares
    (0.5,)
    """

    shares: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    name: ClassVar[str] = "road"
    title: ClassVar[str] = "ROAD"

    def __post_init__(self) -> None:
        check_shares("shares", self.shares)

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the mean over the shares."""
        cells = case.cells(values)
        rank = cells.rank[0].reshape(values.shape)
        counts = [round(share * cells.total) for share in self.shares]
        last = [case.hidden(rank < cells.total - n, "road") for n in counts]
        first = [case.hidden(rank >= n, "road") for n in counts]
        answer = yield AskScores([*last, *first])
        least, most = np.split(answer.best, 2)
        return float(np.mean(least - most) / 2)
