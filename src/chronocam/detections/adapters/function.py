"""Detectors of any kind, through a function that makes rows of what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.adapters.raw import TOLD, are_shares, levels
from chronocam.detections.rows import Rows, Size
from chronocam.errors import ModelError
from chronocam.maps.arrays import to_numpy
from chronocam.types import Array


@dataclass(frozen=True, eq=False)
class Function(Adapter):
    """Rows are what a function makes of the output: boxes, class logits and, where there is one, objectness.

    Where there are as many as cells of the common strides, they are those cells, level by level.

    function: `output -> (boxes, classes)` or `(boxes, classes, objectness)`: `(batch, row, 4)` as x0, y0, x1,
        y1 in pixels of the input, logits `(batch, row, class)` and `(batch, row)`, or probabilities, which
        all lie between 0 and 1.
    """

    function: Callable[[Any], Sequence[Array]] = field(kw_only=True)
    name: ClassVar[str] = "function"

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the rows of each image. Raises ModelError for what is not shaped like rows."""
        boxes, classes, *others = self._parts(raw)
        shapes = tuple(boxes.shape), tuple(classes.shape)
        fits = len(shapes[0]) == len(shapes[1]) == 3 and shapes[0][2] == 4 and shapes[0][:2] == shapes[1][:2]
        if not fits or shapes[0][0] != len(sizes):
            raise ModelError(
                f"adapter= returned boxes {shapes[0]} and classes {shapes[1]}; expected "
                f"({len(sizes)}, row, 4) and ({len(sizes)}, row, class)"
            )
        grids = levels(shapes[0][1], sizes[0])
        level = None if grids is None else grids.level
        scores = [classes, *(one[..., None] for one in others[:1])]
        shares = shapes[1][0] * shapes[1][1] >= TOLD and all(are_shares(to_numpy(x)).all() for x in scores)
        return [
            Rows(
                classes[i],
                boxes[i],
                objectness=others[0][i] if others else None,
                level=level,
                given="probabilities" if shares else "logits",
            )
            for i in range(len(sizes))
        ]

    def _parts(self, raw: Any) -> Sequence[Array]:
        """Return what the function makes of an output. Raises ModelError where it makes no arrays."""
        try:
            parts = self.function(raw)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelError(
                f"adapter= fails on what the model returns, a {type(raw).__name__} "
                f"({type(error).__name__}: {error})"
            ) from error
        able = isinstance(parts, (tuple, list)) and len(parts) in (2, 3)
        if not able or not all(hasattr(part, "shape") for part in parts):
            raise ModelError(
                f"adapter= returned {type(parts).__name__}; expected (boxes, classes) or (boxes, classes, "
                "objectness), arrays"
            )
        return parts
