"""Targets of networks without classes: outputs with a sign, and losses. Their maps keep both signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsIndex

from chronocam.errors import TargetError
from chronocam.maps.arrays import namespace
from chronocam.targets.classes import class_index, rows_of, same_for_all
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo


@dataclass(frozen=True)
class Regression(Target):
    """One output, by index or name, with its sign: `direction=-1` explains what lowers it.

    `index=None` is for networks with a single output.
    """

    index: SupportsIndex | str | None = None
    direction: int = +1
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return ±y. Raises TargetError for a direction that is not ±1 or an output that does not exist."""
        if self.direction not in (-1, +1):
            raise TargetError(f"direction is {self.direction}; expected +1 (what raises the output) or -1")
        values = rows_of(outputs)
        if self.index is None and values.shape[1] != 1:
            raise TargetError(f"the model has {values.shape[1]} outputs; say which: Regression(0)")
        index = 0 if self.index is None else class_index(self.index, outputs)
        labelled = outputs.labels is not None and index < len(outputs.labels)
        name = outputs.label(index) if labelled else f"output {index}"
        sign = "" if self.direction > 0 else "−"
        return same_for_all(self.direction * values[:, index], TargetInfo(f"{sign}{name}", index))


@dataclass(frozen=True)
class Norm(Target):
    """The Euclidean norm of a sample's outputs."""

    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return ‖y‖ per sample."""
        y = outputs.logits
        xp = namespace(y)
        flat = xp.reshape(y, (y.shape[0], -1))
        return same_for_all(xp.sqrt(xp.sum(flat * flat, axis=1)), TargetInfo("norm of the outputs"))


@dataclass(frozen=True)
class NegativeLoss(Target):
    """The negative loss against `y`: what makes the output right. `y` holds one row per sample of the call.

    `loss(outputs, y)` is called for one sample at a time, with its batch axis, on what the model returned (on its
    logits where that is no single array); what it returns is averaged.
    """

    loss: Callable[[Any, Any], Array]
    y: Any
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return −loss per sample. Raises TargetError where `y` has too few rows."""
        y = self.y[outputs.rows]
        predicted = outputs.raw if hasattr(outputs.raw, "shape") else outputs.logits
        if len(y) != predicted.shape[0]:
            raise TargetError(f"y has {len(self.y)} rows; expected one per sample, at least {outputs.rows.stop}")
        xp = namespace(predicted)
        losses = [xp.mean(self.loss(predicted[i : i + 1], y[i : i + 1])) for i in range(len(y))]
        return same_for_all(-xp.stack(losses), TargetInfo("negative loss"))
