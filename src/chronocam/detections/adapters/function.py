"""Detectors of any kind, through a function that makes rows of what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.adapters.raw import levels
from chronocam.detections.rows import Rows, Size
from chronocam.errors import ModelError
from chronocam.types import Array


@dataclass(frozen=True, eq=False)
class Function(Adapter):
    """Rows are what a function makes of the output: boxes, class logits and, where there is one, objectness.

    Where there are as many as cells of the common strides, they are those cells, level by level.

    function: `output -> (boxes, classes)` or `(boxes, classes, objectness)`: `(batch, row, 4)` as x0, y0, x1,
        y1 in pixels of the input, logits `(batch, row, class)` and `(batch, row)`.
    """

    function: Callable[[Any], Sequence[Array]] = field(kw_only=True)
    name: ClassVar[str] = "function"

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the rows of each image. Raises ModelError for what is not shaped like rows."""
        boxes, classes, *others = self.function(raw)
        shapes = tuple(boxes.shape), tuple(classes.shape)
        fits = len(shapes[0]) == len(shapes[1]) == 3 and shapes[0][2] == 4 and shapes[0][:2] == shapes[1][:2]
        if not fits or shapes[0][0] != len(sizes):
            raise ModelError(
                f"adapter= returned boxes {shapes[0]} and classes {shapes[1]}; expected "
                f"({len(sizes)}, row, 4) and ({len(sizes)}, row, class)"
            )
        grids = levels(shapes[0][1], sizes[0])
        level = None if grids is None else grids.level
        return [
            Rows(classes[i], boxes[i], objectness=others[0][i] if others else None, level=level)
            for i in range(len(sizes))
        ]
