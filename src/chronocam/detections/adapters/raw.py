"""Heads that return their rows as one array, as YOLO's do; axes and columns are recognised from values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.adapters.queries import Queries, queries_in
from chronocam.detections.rows import Rows, Size, corners, scaled
from chronocam.errors import ModelError
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.types import Array

Form: TypeAlias = Literal["xyxy", "cxcywh", "xywh"]
"""How a row gives its box: by two corners, or by its centre or its upper left corner, and its sides."""

CORNERS = 4
_POWERS = [2**k for k in range(8)]
_STRIDES = (  # of the levels of a pyramid: the common ones first
    (8, 16, 32),
    *(tuple(_POWERS[a : a + n]) for n in (4, 2, 3, 5, 1) for a in (3, 4, 2, 5, 1, 0)),
)
_LISTED = ("boxes", "scores", "labels")  # what torchvision's detectors say of each image
_ANCHORS = (1, 3)  # of a cell
# Sides that the first stride, and later ones, do not divide are padded, or cut off.
_ROUNDED = tuple(sorted(product((math.ceil, math.floor), repeat=2), key=lambda pair: pair[0] is not pair[1]))
_SHARES = 2.0  # of the picture: what no side of a box reaches that is in shares of it, and some in pixels do
_BOXES = 0.99  # of the numbers after the first corner are above 0 where they are sides or corners
TOLD = 32  # rows, from which columns that all lie between 0 and 1 are probabilities
_CLASSES = 1024  # at least as many as a detector has whose rows name one class each


@dataclass(frozen=True, eq=False)
class Raw(Adapter):
    """Rows `(batch, box, 4 + 1 + class)`, as of YOLOX, or `(batch, 4 + class, box)`, as of ultralytics.

    The first have an objectness. Classes and objectness may be probabilities or logits, boxes in pixels or
    shares of the picture. Columns after the classes (coefficients of masks, keypoints) are left out. Boxes
    `(batch, box, 4)` may stand beside probabilities of classes. Rows `(batch, box, 4 + 2 + …)` of a score and
    the number of a class are what the model itself has kept, and so is a list of `boxes`, `scores` and
    `labels` of each image. Outputs that name `logits` and `pred_boxes` are queries.

    boxes: the form of the boxes; None tells it from the rows.
    """

    boxes: Form | None = None
    name: ClassVar[str] = "rows"

    def __post_init__(self) -> None:
        if self.boxes not in (None, *get_args(Form)):
            raise ModelError(f"no form `{self.boxes}` of boxes; choose {', '.join(get_args(Form))}")

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the rows of each image. Raises ModelError for an output that holds none."""
        if queries_in(raw) is not None:
            return [replace(one, suppressed=True) for one in Queries(self.model).rows(raw, read, sizes)]
        if _are_kept_lists(raw, len(sizes)):
            return [self._of_list(one, size) for one, size in zip(raw, sizes, strict=True)]
        array, objectness = self._laid(raw, sizes)
        table, grids = to_numpy(array), levels(int(array.shape[1]), sizes[0])
        values, placed = array[..., :CORNERS], table[..., :CORNERS].reshape(-1, CORNERS)
        if placed.max() <= _SHARES < min(sizes[0]):
            values, placed = scaled(values, *sizes[0]), scaled(placed, *sizes[0])
        if are_kept(table, grids):
            boxes = cornered(values, self.boxes or _form_of_kept(placed))
            return [kept_rows(array[i], boxes[i], self._known) for i in range(len(sizes))]
        boxes = cornered(values, self.boxes or form_of(placed, grids, len(sizes)))
        count, shares = self._classes(table[..., CORNERS:], objectness)
        rest = array[..., CORNERS : CORNERS + count]
        return [
            Rows(
                rest[i, :, int(objectness) :],
                boxes[i],
                objectness=rest[i, :, 0] if objectness else None,
                level=None if grids is None else grids.level,
                given="probabilities" if shares else "logits",
            )
            for i in range(len(sizes))
        ]

    def _of_list(self, kept: Mapping[str, Array], size: Size) -> Rows:
        """Return the rows of one image that a model lists: `boxes` `(row, 4)`, `scores` and `labels`."""
        boxes, scores, labels = (kept[name] for name in _LISTED)
        xp = namespace(scores)
        whole = to_numpy(boxes)
        if 0 < whole.max(initial=0) <= _SHARES < min(size):
            boxes = scaled(boxes, *size)
        boxes = cornered(boxes, self.boxes or "xyxy")
        numbers = xp.astype(labels, scores.dtype)
        return kept_rows(xp.concat([boxes, scores[:, None], numbers[:, None]], axis=1), boxes, self._known)

    def _laid(self, raw: Any, sizes: Sequence[Size]) -> tuple[Array, bool]:
        """Return the rows as `(batch, row, column)`, and whether they have an objectness."""
        pair = _paired(raw)
        if pair is not None and _are_of_cells(pair[0], sizes[0]):
            return namespace(pair[0]).concat(pair, axis=2), False
        array = None if pair is not None else first_array(raw)
        shape = () if array is None else tuple(array.shape)
        if array is None or len(shape) != 3 or shape[0] != len(sizes) or max(shape[1:]) <= CORNERS:
            what = f"an array {shape}" if shape else f"a {type(raw).__name__}"
            predicts = not shape and hasattr(self.model, "predictor")
            within = "the network within, model.model, or " if predicts else ""
            raise ModelError(
                f"the model returns {what}, in which no boxes are known: give {within}adapter=, a function "
                "that makes (boxes, class logits) of it"
            )
        along, objectness = _axes(shape, sizes[0])
        return array if along == 1 else namespace(array).permute_dims(array, (0, 2, 1)), objectness

    @property
    def _known(self) -> int | None:
        """How many classes the model names; None where it carries no names."""
        names = getattr(self.model, "labels", None) or getattr(self.model, "names", None)
        return len(names) if isinstance(names, (Sequence, Mapping)) and names else None

    def _classes(self, table: np.ndarray, objectness: bool) -> tuple[int, bool]:
        """Return how many columns after the box are of classes and objectness, and whether of probabilities.

        They are as many as the classes that the model names. Where it names none, and probabilities are
        followed by columns that are none, those are of something else.
        """
        inside = are_shares(table)
        least, count = int(objectness), len(inside)
        if self._known is not None:
            count = min(count, self._known + least)
        elif inside[: least + 1].all() and not inside.all() and table.shape[0] * table.shape[1] >= TOLD:
            count = int(inside.argmin())
        return count, bool(inside[:count].all())


def are_shares(table: np.ndarray) -> np.ndarray:
    """Say of each column `(batch, row, column)` whether it may be of probabilities."""
    return np.asarray((table.min(axis=(0, 1)) >= 0) & (table.max(axis=(0, 1)) <= 1))


def kept_rows(array: Array, boxes: Array, known: int | None) -> Rows:
    """Return the rows of one image that a model has kept after suppression.

    array: `(row, 4 + 2 + …)`, whose fifth column is the score of the class that the sixth names. boxes:
    `(row, 4)`, as corners in pixels. known: how many classes there are, where that is known.
    """
    numbers = to_numpy(array[..., CORNERS + 1]).astype(np.int64)
    highest = int(numbers.max(initial=0)) + 1
    count = max(highest, known or -(-highest // _CLASSES) * _CLASSES)
    marks = np.arange(count) == numbers[..., None]
    classes = array[..., CORNERS : CORNERS + 1] * like(marks.astype(np.float32), array)
    return Rows(classes, boxes, given="probabilities", stable=False, suppressed=True)


def _are_kept_lists(raw: Any, images: int) -> bool:
    """Say whether an output lists the kept boxes of each image, as that of torchvision's detectors does."""
    return (
        isinstance(raw, (list, tuple))
        and len(raw) == images
        and all(isinstance(one, Mapping) and all(name in one for name in _LISTED) for one in raw)
    )


def cornered(values: Array, form: Form | str) -> Array:
    """Return x0, y0, x1, y1 of boxes `(…, 4)` of another form."""
    if form == "xyxy":
        return values
    if form == "cxcywh":
        return corners(values)
    return namespace(values).concat([values[..., :2], values[..., :2] + values[..., 2:]], axis=-1)


def are_kept(rows: np.ndarray, grids: Grids | None) -> bool:
    """Say whether the columns after the box are a probability and a whole number, as after suppression."""
    if rows.shape[2] < CORNERS + 2:
        return False
    scores, classes = rows[..., CORNERS], rows[..., CORNERS + 1]
    numbers = (classes == np.round(classes)).all() and classes.min() >= 0
    alone = grids is None and rows.shape[2] == CORNERS + 2
    chosen = alone or classes.max() > 1 or bool((np.diff(scores, axis=1) <= 0).all())
    return bool(numbers and chosen and scores.min() >= 0 and scores.max() <= 1)


def _paired(raw: Any) -> list[Array] | None:
    """Return boxes `(batch, row, 4)` and classes `(batch, row, class)`, where an output is both."""
    while isinstance(raw, (list, tuple)) and raw and isinstance(raw[0], (list, tuple)):
        raw = raw[0]
    parts = list(raw.values() if isinstance(raw, Mapping) else raw if isinstance(raw, (list, tuple)) else ())[
        :2
    ]
    shapes = [tuple(getattr(part, "shape", ())) for part in parts]
    fits = len(shapes) == 2 and all(len(shape) == 3 for shape in shapes) and shapes[0][:2] == shapes[1][:2]
    return parts if fits and shapes[0][2] == CORNERS else None


def _are_of_cells(boxes: Array, size: Size) -> bool:
    """Say whether boxes `(batch, row, 4)` are those of cells, and not offsets from anchors."""
    positive = to_numpy(boxes)[..., 2:] > 0
    return levels(int(boxes.shape[1]), size) is not None and bool(positive.mean() > _BOXES)


def _form_of_kept(boxes: np.ndarray) -> Form:
    """Return the form of boxes that a model has kept: corners, unless most of them would be empty."""
    return "xyxy" if (boxes[:, 2:] > boxes[:, :2]).all(axis=1).mean() > 0.5 else "cxcywh"


def first_array(raw: Any) -> Array | None:
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
    of_cells = [axis for axis in able if levels(shape[axis], size) is not None]
    axis = of_cells[0] if len(of_cells) == 1 else able[0] if len(able) == 1 else 1 if a >= b else 2
    if shape[axis] == CORNERS and axis not in of_cells:
        raise ModelError(f"the model returns {shape}, which may be boxes without classes; give adapter=")
    return axis, axis == 1


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

    @property
    def level(self) -> np.ndarray:
        """Which level each row comes from."""
        return np.repeat(np.arange(len(self.cells)), self.cells)

    def centres(self) -> np.ndarray:
        """Return the centres (x, y) of the cells in pixels, level by level and row by row."""
        every = []
        for (height, width), stride in zip(self.grids, self.strides, strict=True):
            y, x = np.mgrid[:height, :width]
            every.append((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        return np.concatenate(every)


def levels(count: int, size: Size) -> Grids | None:
    """Return the levels whose cells are as many as the rows; None where no common strides give as many."""
    for (first, then), anchors, strides in product(_ROUNDED, _ANCHORS, _STRIDES):
        if strides[-1] > min(size):
            continue
        grids: tuple[Size, ...] = ((first(size[0] / strides[0]), first(size[1] / strides[0])),)
        for shrunk in (b / a for a, b in pairwise(strides)):
            grids = (*grids, (then(grids[-1][0] / shrunk), then(grids[-1][1] / shrunk)))
        if sum(map(math.prod, grids)) * anchors == count:
            return Grids(grids, strides, anchors)
    return None


def form_of(boxes: np.ndarray, grids: Grids | None, images: int) -> Form:
    """Return the form of boxes `(row, 4)`: that in which each lies at its cell, or in which all are boxes.

    Raises ModelError where corners or centres may be meant.
    """
    centres, halves = boxes[:, :2], boxes[:, 2:] / 2
    middles: dict[Form, np.ndarray] = {"cxcywh": centres, "xywh": centres + halves}
    if ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).all():
        middles["xyxy"] = centres / 2 + halves
    if grids is None or grids.anchors != 1:
        if "xyxy" not in middles:
            return "cxcywh"
        raise ModelError(
            'boxes may be corners or centres with sides; say which: boxes="xyxy" or boxes="cxcywh"'
        )
    cells = np.tile(grids.centres(), (images, 1))
    return min(middles, key=lambda form: float(np.abs(middles[form] - cells).mean()))
