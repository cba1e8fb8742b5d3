"""Which rows are kept: the best of each class that do not lie on a better one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from chronocam.detections.rows import Rows, Size, overlaps
from chronocam.maps.arrays import to_numpy


@dataclass(frozen=True)
class Kept:
    """A row that is kept, for one class.

    box: x0, y0, x1, y1 in pixels of the input, within it. score: a probability.
    """

    row: int
    index: int
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Suppression:
    """How a detector chooses among its rows.

    overlap: the IoU above which a box on a better one of its class is left out; None leaves none out.
    per_row: whether a row counts for its best class alone, and not for each class.
    within, first: of each `"level"`, of each `"class"` or of `"all"`, how many are looked at.
    most: how many boxes of one image are kept.
    least_side: in pixels, below which a box is empty.
    cut_first: whether boxes are cut off at the image's borders before they are held against each other.
    """

    overlap: float | None = 0.45
    per_row: bool = True
    within: Literal["level", "class", "all"] = "all"
    first: int = 3000
    most: int = 300
    least_side: float = 0.0
    cut_first: bool = False

    def __call__(
        self, rows: Rows, size: Size, least: float, only: int | None = None, top: int | None = None
    ) -> list[Kept]:
        """Return the rows of an image that are kept, the best first.

        size: of the image. least: the lowest score. only: the class that is asked for; None for all. top: how
            many are asked for.
        """
        scores = rows.scores()
        if self.per_row:
            best = scores.argmax(axis=1)
            scores = np.where(np.arange(scores.shape[1]) == best[:, None], scores, 0)
        if only is not None:
            scores = np.where(np.arange(scores.shape[1]) == only, scores, 0)
        chosen = np.concatenate([np.zeros(0, np.int64), *self._candidates(scores, rows, least)])
        row, index = np.divmod(chosen, scores.shape[1])
        few = rows.at(row)
        whole = to_numpy(few.boxes_of(index)).astype(np.float64)
        boxes = within(whole, size)
        values = scores[row, index]
        large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= self.least_side
        order = [i for i in np.argsort(-values, kind="stable") if large[i]]
        rivals = boxes if self.cut_first else whole
        kept = order if self.overlap is None or rows.suppressed else apart(rivals, index, order, self.overlap)
        return [
            Kept(int(row[i]), int(index[i]), tuple(boxes[i].tolist()), float(values[i]))
            for i in islice(kept, self.most if top is None else min(self.most, top))
        ]

    def _candidates(self, scores: np.ndarray, rows: Rows, least: float) -> Iterator[np.ndarray]:
        """Yield the flat numbers of (row, class), those of each group together."""
        flat = np.arange(scores.size).reshape(scores.shape)
        groups = [flat]
        if self.within == "class":
            groups = [flat[:, [k]] for k in range(scores.shape[1])]
        elif self.within == "level" and rows.level is not None:
            groups = [flat[rows.level == k] for k in np.unique(rows.level)]
        for group in groups:
            numbers = group.ravel()
            values = scores.ravel()[numbers]
            # A score of exactly 0 marks the background, or a class that is not the best of its row.
            able = np.flatnonzero((values >= least) & (values > 0))
            yield numbers[able[np.argsort(-values[able], kind="stable")[: self.first]]]


def within(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Return boxes cut off at the borders of an image."""
    height, width = size
    return np.clip(boxes, 0, [width, height, width, height])


def apart(boxes: np.ndarray, classes: np.ndarray, order: list[int], overlap: float) -> Iterator[int]:
    """Yield those that do not lie on a better one of their class; order: from the best to the worst."""
    gone = np.zeros(len(boxes), bool)
    ranked = np.asarray(order, np.int64)
    for at, i in enumerate(order):
        if gone[i]:
            continue
        yield i
        later = ranked[at + 1 :]
        rivals = later[(classes[later] == classes[i]) & ~gone[later]]
        gone[rivals[overlaps(boxes[rivals], boxes[i][None]) > overlap]] = True
