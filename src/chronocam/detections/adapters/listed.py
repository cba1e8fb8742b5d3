"""Networks that are a list of layers, the last of which names those it reads: YOLOv5 to YOLO26, RT-DETR."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from chronocam.detections.adapters.raw import CORNERS, Form, Raw, are_kept, cornered, first_array, kept_rows
from chronocam.detections.rows import Rows, Size, scaled
from chronocam.detections.suppress import Suppression
from chronocam.errors import ModelError
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.types import Array


@dataclass(frozen=True, eq=False)
class Listed(Raw):
    """Rows are cells of the levels that the head reads; end to end the cells that it has kept; or queries.

    Each row is explained on the layer of its level, queries on that of the middle level. A turned box is
    replaced by the upright one around it. Coefficients of masks and keypoints are ignored.
    """

    name: ClassVar[str] = "yolo"

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Say whether the last layer of a list names the levels that it reads, and has classes for them."""
        head = _head(model)
        return isinstance(getattr(head, "f", None), (list, tuple)) and all(
            isinstance(getattr(head, name, None), int) for name in ("nc", "nl")
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Those that the head reads."""
        read = tuple(f"model.{at}" for at in _head(self.model).f)
        return (read[len(read) // 2],) if self._queries else read

    @property
    def suppression(self) -> Suppression:
        """As the family's own predictors do it."""
        return Suppression(None if self._queries else 0.45 if self._objectness else 0.7)

    @property
    def _queries(self) -> bool:
        return hasattr(_head(self.model), "num_queries")

    @property
    def _objectness(self) -> bool:
        head = _head(self.model)
        return getattr(head, "no", None) == CORNERS + 1 + head.nc

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the rows of each image. Raises ModelError for an output that holds none, as in training."""
        head, array = _head(self.model), first_array(raw)
        if array is None or len(array.shape) != 3 or array.shape[0] != len(sizes):
            raise ModelError(f"a {type(head).__name__} returned no rows of boxes; is it called in training?")
        end = bool(getattr(head, "end2end", False))
        # Final rows name one class each; others have a column for each class.
        final = end or (self._queries and are_kept(to_numpy(array), None))
        if not (final or self._queries or self._objectness):
            array = namespace(array).permute_dims(array, (0, 2, 1))
        logits = None if self._queries else _class_logits(raw, "one2one" if end else "one2many", head.nc)
        level = None if self._queries else np.repeat(np.arange(head.nl), _cells(head, sizes[0]))
        every = []
        for i, size in enumerate(sizes):
            boxes, own = self._boxes(array[i], end, size), None if logits is None else logits[i]
            if not final:
                every.append(self._of_cells(array[i], boxes, own, level))
                continue
            rows = kept_rows(array[i], boxes, head.nc)
            every.append(rows if level is None else replace(rows, level=level[_cells_of(rows, own)]))
        return every

    def _of_cells(self, array: Array, boxes: Array, logits: Array | None, level: np.ndarray | None) -> Rows:
        """Return the rows of one image before suppression: with logits, where the head returns them too."""
        start = CORNERS + int(self._objectness)
        objectness = array[:, CORNERS] if self._objectness else None
        if logits is not None:
            return Rows(namespace(logits).permute_dims(logits, (1, 0)), boxes, level=level)
        classes = array[:, start : start + _head(self.model).nc]
        return Rows(classes, boxes, objectness=objectness, level=level, given="probabilities")

    def _boxes(self, array: Array, end: bool, size: Size) -> Array:
        """Return the boxes `(row, 4)` of one image as corners in pixels."""
        head = _head(self.model)
        angled = hasattr(head, "ne")
        form: Form = "xyxy" if (end or getattr(head, "xyxy", False)) and not angled else "cxcywh"
        values = upright(array[:, :CORNERS], array[:, -1]) if angled else array[:, :CORNERS]
        boxes = cornered(values, self.boxes or form)
        return scaled(boxes, *size) if self._queries else boxes


def upright(boxes: Array, angle: Array) -> Array:
    """Return the upright boxes around turned ones, both `(row, 4)` as centre and sides.

    angle: of each, in radians, `(row,)`.
    """
    xp = namespace(boxes)
    cosine, sine = xp.abs(xp.cos(angle))[:, None], xp.abs(xp.sin(angle))[:, None]
    width, height = boxes[:, 2:3], boxes[:, 3:4]
    sides = [width * cosine + height * sine, width * sine + height * cosine]
    return xp.concat([boxes[:, :2], *sides], axis=1)


def _head(model: Any) -> Any:
    """Return the last of the layers that a model lists; None where it lists none."""
    listed: Any = getattr(model, "model", None)
    known = all(hasattr(listed, name) for name in ("__getitem__", "__len__", "forward"))
    return listed[-1] if known and len(listed) else None


def _cells(head: Any, size: Size) -> list[int]:
    """Return how many rows each level has."""
    strides = [int(stride) for stride in to_numpy(head.stride)]
    return [
        getattr(head, "na", 1) * math.prod(math.ceil(side / stride) for side in size) for stride in strides
    ]


def _class_logits(raw: Any, branch: str, count: int) -> Array | None:
    """Return the class logits `(batch, class, row)` that a head returns beside its rows; None without any.

    branch: which of two heads has made the rows, where there are two. Older heads return maps of each level,
    whose last channels they are.
    """
    beside = raw[-1] if isinstance(raw, (tuple, list)) else None
    if isinstance(beside, Mapping) and branch in beside:
        beside = beside[branch]
    if isinstance(beside, Mapping):
        return beside.get("scores")
    maps = beside if isinstance(beside, (tuple, list)) else ()
    if not maps or any(len(getattr(one, "shape", ())) != 4 for one in maps):
        return None
    xp = namespace(maps[0])
    flat = [xp.reshape(one[:, -count:], (one.shape[0], count, -1)) for one in maps]
    return xp.concat(flat, axis=2)


def _cells_of(kept: Rows, logits: Array | None) -> np.ndarray:
    """Return from which cell each kept row comes: the one with the same score for the row's class.

    Raises ModelError where the logits `(class, cell)` of all are not known.
    """
    if logits is None:
        raise ModelError(
            "the head returns what it has kept and not of which level it is; set its end2end to False"
        )
    scores = to_numpy(kept.classes)
    index = scores.argmax(axis=1)
    every = 1 / (1 + np.exp(-to_numpy(logits).astype(np.float64)))[index]
    return np.abs(every - scores.max(axis=1)[:, None]).argmin(axis=1)
