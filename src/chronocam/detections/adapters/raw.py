"""Heads that return their rows as one array, as YOLO's do: what its axes and columns mean is told from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.rows import Rows, Size, corners
from chronocam.errors import ModelError
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.types import Array

Form: TypeAlias = Literal["xyxy", "cxcywh"]
"""How a row gives its box: by two corners, or by its centre and sides; in pixels."""

CORNERS = 4
_POWERS = [2**k for k in range(8)]
_STRIDES = (  # of the levels of a pyramid: the common ones first
    (8, 16, 32),
    *(tuple(_POWERS[a : a + n]) for n in (4, 2, 3, 5, 1) for a in (3, 4, 2, 5, 1, 0)),
)
_ANCHORS = (1, 3)  # of a cell


@dataclass(frozen=True, eq=False)
class Raw(Adapter):
    """Rows `(batch, box, 4 + 1 + class)`, as of YOLOX, or `(batch, 4 + class, box)`, as of ultralytics.

    The first have an objectness. Classes and objectness may be probabilities or logits.

    boxes: the form of the boxes; None tells it from the rows.
    """

    boxes: Form | None = None
    name: ClassVar[str] = "rows"

    def __post_init__(self) -> None:
        if self.boxes not in (None, "xyxy", "cxcywh"):
            raise ModelError(f"no form `{self.boxes}` of boxes; choose xyxy or cxcywh")

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the rows of each image. Raises ModelError for an output that holds none."""
        array = _array(raw)
        shape = () if array is None else tuple(array.shape)
        if array is None or len(shape) != 3 or shape[0] != len(sizes) or max(shape[1:]) <= CORNERS:
            what = f"an array {shape}" if shape else f"a {type(raw).__name__}"
            raise ModelError(
                f"the model returns {what}, in which no boxes are known: give adapter=, a function that "
                "makes (boxes, class logits) of it"
            )
        along, objectness = _axes(shape, sizes[0])
        if along == 2:
            array = namespace(array).permute_dims(array, (0, 2, 1))
        grids = levels(int(array.shape[1]), sizes[0])
        if grids is None and array.shape[2] == CORNERS + 2 and _are_kept(to_numpy(array)):
            raise ModelError(
                f"the model returns {shape}, boxes with a score and the number of a class: what is left "
                "after suppression, without class logits; have it return its raw rows, or give adapter="
            )
        level = None if grids is None else np.repeat(np.arange(len(grids.cells)), grids.cells)
        first = CORNERS + objectness
        rest = array[..., CORNERS:]
        told = to_numpy(rest)
        shares = bool(told.min() >= 0 and told.max() <= 1)
        values = array[..., :CORNERS]
        form = self.boxes or form_of(to_numpy(values).reshape(-1, CORNERS), grids, len(sizes))
        values = values if form == "xyxy" else corners(values)
        return [
            Rows(
                rest[i, :, first - CORNERS :],
                values[i],
                objectness=rest[i, :, 0] if objectness else None,
                level=level,
                given="probabilities" if shares else "logits",
            )
            for i in range(len(sizes))
        ]


def _are_kept(rows: np.ndarray) -> bool:
    """Say whether the last columns are a probability and a whole number, as after suppression."""
    scores, classes = rows[..., CORNERS], rows[..., CORNERS + 1]
    return bool((classes == np.round(classes)).all() and scores.min() >= 0 and scores.max() <= 1)


def _array(raw: Any) -> Array | None:
    """Return the output, or the first of several, where it is an array."""
    while isinstance(raw, (tuple, list)) and raw:
        raw = raw[0]
    return raw if hasattr(raw, "shape") else None


def _axes(shape: tuple[int, ...], size: Size) -> tuple[int, bool]:
    """Return the axis of the boxes, and whether a row has an objectness.

    A row has four corners and a class at least; with an objectness five and a class. Where both axes may be
    that of the boxes, it is the one with a box for each cell of the strides that are common, or the longer.
    """
    _, a, b = shape
    able = [axis for axis, n, least in ((1, b, CORNERS + 2), (2, a, CORNERS + 1)) if n >= least]
    if not able:
        raise ModelError(
            f"the model returns {shape}, too few numbers in a row for a box and a class; give adapter="
        )
    fit = [axis for axis in able if levels(shape[axis], size) is not None]
    if len(fit) != 1:
        fit = able if len(able) == 1 else [1 if a >= b else 2]
    return fit[0], fit[0] == 1


@dataclass(frozen=True)
class Grids:
    """The levels that rows come from: height and width of each, the stride, and anchors of a cell."""

    grids: tuple[Size, ...]
    strides: tuple[int, ...]
    anchors: int

    @property
    def cells(self) -> list[int]:
        """How many rows each level has."""
        return [math.prod(grid) * self.anchors for grid in self.grids]

    def centres(self) -> np.ndarray:
        """Return the centres (x, y) of the cells in pixels, level by level and row by row."""
        every = []
        for (height, width), stride in zip(self.grids, self.strides, strict=True):
            y, x = np.mgrid[:height, :width]
            every.append((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        return np.concatenate(every)


def levels(count: int, size: Size) -> Grids | None:
    """Return the levels whose cells are as many as the rows; None where no common strides give as many."""
    for strides, anchors in product(_STRIDES, _ANCHORS):
        if strides[-1] > min(size):
            continue
        grids = tuple((-(-size[0] // stride), -(-size[1] // stride)) for stride in strides)
        if sum(map(math.prod, grids)) * anchors == count:
            return Grids(grids, strides, anchors)
    return None


def form_of(boxes: np.ndarray, grids: Grids | None, images: int) -> Form:
    """Return the form of boxes `(row, 4)`: that in which each lies at its cell, or in which all are boxes.

    Raises ModelError where either may be meant.
    """
    ordered = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if not ordered.all():
        return "cxcywh"
    if grids is None or grids.anchors != 1:
        raise ModelError(
            'boxes may be corners or centres with sides; say which: boxes="xyxy" or boxes="cxcywh"'
        )
    cells = np.tile(grids.centres(), (images, 1))
    as_corners = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - cells).mean()
    return "xyxy" if as_corners <= np.abs(boxes[:, :2] - cells).mean() else "cxcywh"
