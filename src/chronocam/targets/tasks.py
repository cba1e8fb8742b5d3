"""Tasks by name, as `operator=`: the score that each makes of a model's outputs and `targets=`.

The formulas and the targets' shapes are those of the Xplique library.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

from chronocam.errors import TargetError, suggest
from chronocam.maps.arrays import like, namespace
from chronocam.targets._parse import Several, holds_rows, parse, parse_one, rows
from chronocam.targets.classes import same_for_all
from chronocam.targets.regression import Regression
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo, Targets


class Task(Target):
    """A score made of the outputs and one row of `y` per sample; of `samples`, where that is known."""

    def __init__(
        self,
        name: str,
        formula: Callable[[Array, Array], Array],
        y: Array,
        samples: int | None,
        signed: bool = False,
    ) -> None:
        self.name = name
        self.formula = formula
        self.y: Array = rows(y)
        self.signed = signed
        if samples is not None and len(self.y) != samples:
            raise TargetError(f"targets have {len(self.y)} rows; expected {samples}, one per sample")

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the task's score per sample. Raises TargetError where `y` does not fit the outputs."""
        y = outputs.own(self.y, "targets")
        return same_for_all(self.formula(outputs.logits, like(y, outputs.logits)), TargetInfo(self.name))


def _product(outputs: Array, y: Array) -> Array:
    """Return Σ f(x)·y."""
    _same_shape(outputs, y)
    xp = namespace(outputs)
    return xp.sum(xp.reshape(outputs * y, (outputs.shape[0], -1)), axis=1)


def _segmentation(outputs: Array, y: Array) -> Array:
    """Return Σ f(x)·T / #(T ≠ 0), T in {−1, 0, 1}."""
    product = _product(outputs, y)
    xp = namespace(outputs)
    marked = xp.sum(xp.astype(xp.reshape(y, (y.shape[0], -1)) != 0, outputs.dtype), axis=1)
    if not xp.all(marked > 0):
        raise TargetError("targets mark nothing in some sample; mark at least one pixel with 1 or -1 in each")
    return product / marked


def _same_shape(outputs: Array, y: Array) -> None:
    if tuple(outputs.shape) != tuple(y.shape):
        raise TargetError(
            f"targets have shape {tuple(y.shape)}; expected that of the outputs, {tuple(outputs.shape)}"
        )


def _detection(outputs: Array, y: Array) -> Array:
    """Return the mean over reference boxes of the best prediction's IoU × objectness × cosine of the classes.

    Predictions are `(batch, boxes, 4 + 1 + classes)` without suppression, references the same with any number
    of boxes, or `(batch, 4 + 1 + classes)` for one; boxes are (x0, y0, x1, y1).
    """
    y = y[:, None] if y.ndim == 2 else y
    if outputs.ndim != 3 or y.ndim != 3 or outputs.shape[2] != y.shape[2]:
        raise TargetError(
            f"outputs {tuple(outputs.shape)} and targets {tuple(y.shape)} do not fit; expected "
            "(batch, boxes, 4 + 1 + classes)"
        )
    xp = namespace(outputs)
    p, r = outputs[:, None], y[:, :, None]
    match = _iou(xp, p, r) * p[..., 4] * _cosine(xp, p[..., 5:], r[..., 5:])
    return xp.mean(xp.max(match, axis=2), axis=1)


def _iou(xp: Any, a: Array, b: Array) -> Array:
    low, high = xp.maximum(a[..., :2], b[..., :2]), xp.minimum(a[..., 2:4], b[..., 2:4])
    inner = xp.prod(xp.where(high > low, high - low, xp.zeros_like(high)), axis=-1)
    area = [xp.prod(box[..., 2:4] - box[..., :2], axis=-1) for box in (a, b)]
    return _ratio(xp, inner, area[0] + area[1] - inner)


def _cosine(xp: Any, a: Array, b: Array) -> Array:
    norms = [xp.sqrt(xp.sum(v * v, axis=-1)) for v in (a, b)]
    return _ratio(xp, xp.sum(a * b, axis=-1), norms[0] * norms[1])


def _ratio(xp: Any, a: Array, b: Array) -> Array:
    """Return a/b, and 0 where b is 0: rows of zeros are padding, and match nothing."""
    return xp.where(b != 0, a / xp.where(b != 0, b, xp.ones_like(b)), xp.zeros_like(b))


def _regression(y: Targets, samples: int | None) -> Target:
    if holds_rows(y):
        return Task("regression", _product, y, samples, signed=True)
    if isinstance(y, (list, tuple)):
        return Several([_regression(one, samples) for one in y])
    return Regression(y) if y is None or isinstance(y, (Integral, str)) else parse_one(y)


def _given(name: str, formula: Callable[[Array, Array], Array]) -> Callable[[Targets, int | None], Target]:
    def make(y: Targets, samples: int | None) -> Target:
        if y is None:
            raise TargetError(f"{name} needs targets, one row per sample")
        return Task(name, formula, y, samples) if holds_rows(y) else parse(y, samples)

    return make


TASKS: dict[str, Callable[[Targets, int | None], Target]] = {
    "classification": parse,
    "regression": _regression,
    "semantic segmentation": _given("semantic segmentation", _segmentation),
    "object detection": _given("object detection", _detection),
}


def task(name: str) -> Callable[[Targets, int | None], Target]:
    """Return what makes a Target of `targets=` for a task. Raises TargetError for an unknown task."""
    if name not in TASKS:
        raise TargetError(f"no task `{name}`{suggest(name, list(TASKS))}; choose one of {', '.join(TASKS)}")
    return TASKS[name]
