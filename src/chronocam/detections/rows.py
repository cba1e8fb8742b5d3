"""What a detector says of one image: a row per box, before suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from chronocam.maps.arrays import expand, like, namespace, placed, to_numpy, widen
from chronocam.types import Array

Gate: TypeAlias = Literal["sigmoid", "softmax"]
"""What makes probabilities of class logits: each by itself, or one of all."""

Size: TypeAlias = tuple[int, int]
"""Height and width."""

SMALLEST = 1e-7
"""How near to 0 and 1 probabilities come before they are taken for logits."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The boxes of one image before suppression, with their gradients.

    classes: logits `(row, class)`, or probabilities where `given` says so.
    boxes: `(row, 4)`, or `(row, class, 4)` where each class has its own: x0, y0, x1, y1 in pixels of the
        input.
    gate: what makes probabilities of the logits.
    objectness: logits `(row,)`, or probabilities, by which those of the classes are multiplied.
    background: the class that says that nothing is there; None without one.
    power: of the product of both probabilities that is the score.
    level: `(row,)`, which of the levels of a pyramid a row comes from.
    extent: height and width, in pixels of the input, of what the grids of the levels cover, from the upper
        left: more than the input where the model pads it. None for the input's own.
    given: whether classes and objectness are logits or probabilities already.
    stable: whether a row stays at its place when the image changes, as those of proposals do not.
    suppressed: whether the model has left out what lies on a better box already.
    """

    classes: Array
    boxes: Array
    gate: Gate = "sigmoid"
    objectness: Array = None
    background: int | None = None
    power: float = 1.0
    level: np.ndarray | None = None
    extent: tuple[float, float] | None = None
    given: Literal["logits", "probabilities"] = "logits"
    stable: bool = True
    suppressed: bool = False

    def __len__(self) -> int:
        return int(self.classes.shape[0])

    def at(self, rows: Sequence[int] | np.ndarray) -> Rows:
        """Return some of the rows."""
        numbers = np.asarray(rows, np.int64)
        index = placed(numbers, self.classes)
        return replace(
            self,
            classes=self.classes[index],
            boxes=self.boxes[index],
            objectness=None if self.objectness is None else self.objectness[index],
            level=None if self.level is None else self.level[numbers],
        )

    def log_scores(self) -> Array:
        """Return the logarithms of the scores `(row, class)`; the column of a background is not a score."""
        classes = widen(self.classes)
        if self.gate == "softmax":
            xp = namespace(classes)
            away = classes - xp.max(classes, axis=1, keepdims=True)
            logs = away - xp.log(xp.sum(xp.exp(away), axis=1, keepdims=True))
        else:
            logs = self._logs(classes)
        if self.objectness is not None:
            logs = logs + self._logs(widen(self.objectness))[:, None]
        return logs if self.power == 1 else logs * self.power

    def _logs(self, values: Array) -> Array:
        if self.given == "logits":
            return log_sigmoid(values)
        xp = namespace(values)
        return xp.log(xp.clip(values, SMALLEST, 1))

    def logits(self) -> Array:
        """Return the class logits `(row, class)`."""
        return widen(self.classes) if self.given == "logits" else logits_of(self.classes)

    def objectness_logits(self) -> Array:
        """Return the logits of the objectness `(row,)`."""
        return widen(self.objectness) if self.given == "logits" else logits_of(self.objectness)

    def objectness_share(self) -> np.ndarray | None:
        """Return the objectness `(row,)` as probabilities; None without one."""
        if self.objectness is None:
            return None
        values = to_numpy(widen(self.objectness)).astype(np.float64)
        return values if self.given == "probabilities" else 1 / (1 + np.exp(-values))

    def scores(self) -> np.ndarray:
        """Return the scores `(row, class)` as probabilities; 0 for the background."""
        if self.given == "probabilities":
            scores = to_numpy(widen(self.classes)).astype(np.float64)
            objectness = self.objectness_share()
            scores = scores if objectness is None else scores * objectness[:, None]
        else:
            scores = np.exp(to_numpy(self.log_scores()).astype(np.float64))
        if self.background is not None:
            scores[:, self.background] = 0
        return scores

    def boxes_of(self, classes: np.ndarray) -> Array:
        """Return one box per row, `(row, 4)`: that of its class."""
        return self.boxes if self.boxes.ndim == 2 else picked(self.boxes, classes)


def picked(values: Array, columns: np.ndarray) -> Array:
    """Return one entry of each row of `(row, column, …)`."""
    xp = namespace(values)
    marks = np.arange(values.shape[1])[None] == np.asarray(columns)[:, None]
    chosen = expand(placed(marks, values), values.ndim)
    return xp.sum(xp.where(chosen, values, xp.zeros_like(values)), axis=1)


def log_sigmoid(x: Array) -> Array:
    """Return log σ(x), with the right gradient at 0 and for large values."""
    xp = namespace(x)
    return xp.minimum(x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x)))


def logits_of(probabilities: Array) -> Array:
    """Return the logits of probabilities."""
    xp = namespace(probabilities)
    inside = xp.clip(widen(probabilities), SMALLEST, 1 - SMALLEST)
    return xp.log(inside) - xp.log1p(-inside)


def corners(centres: Array) -> Array:
    """Return x0, y0, x1, y1 of boxes `(…, 4)` given as centre, width and height."""
    xp = namespace(centres)
    middle, half = centres[..., :2], centres[..., 2:4] / 2
    return xp.concat([middle - half, middle + half], axis=-1)


def scaled(boxes: Array, height: float, width: float) -> Array:
    """Return boxes with x times a width and y times a height."""
    factors = np.asarray([width, height, width, height], np.float32)
    return boxes * like(factors, widen(boxes))


def overlaps(a: Array, b: Array) -> Array:
    """Return the intersection over the union of boxes, `(…)` of `(…, 4)`; 0 for empty ones."""
    xp = namespace(a)
    low, high = xp.maximum(a[..., :2], b[..., :2]), xp.minimum(a[..., 2:4], b[..., 2:4])
    sides = xp.where(high > low, high - low, xp.zeros_like(high))
    inner = sides[..., 0] * sides[..., 1]
    union = _area(a) + _area(b) - inner
    known = union > 0
    return xp.where(known, inner / xp.where(known, union, xp.ones_like(union)), xp.zeros_like(union))


def _area(boxes: Array) -> Array:
    sides = boxes[..., 2:4] - boxes[..., :2]
    return sides[..., 0] * sides[..., 1]
