"""Whether a map of a clip is at the right time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.evaluation.case import Case
from chronocam.evaluation.measures.base import Measure
from chronocam.maps.frames import frame_importance
from chronocam.metrics.temporal import temporal_auc, temporal_iou


@dataclass(frozen=True)
class TemporalIoU(Measure):
    """The overlap of the frames that a map marks with those that have the object (`cc.metrics.temporal_iou`).

    Example:
    >>> cc.evaluation.TemporalIoU().truth
    'frames'
    """

    name: ClassVar[str] = "temporal_iou"
    title: ClassVar[str] = "temporal IoU"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    truth: ClassVar[str | None] = "frames"

    def of(self, case: Case, values: np.ndarray) -> float:
        """Return the overlap; NaN where no times are known."""
        if case.truth is None or case.truth.frames is None or values.ndim != 3:
            return float("nan")
        return float(self.value(frame_importance(values), case.truth.frames))

    def value(self, curve: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Return the value of a curve `(time,)`."""
        return temporal_iou(curve, frames)


@dataclass(frozen=True)
class TemporalAUC(TemporalIoU):
    """The chance that a frame with the object is above one without; see `cc.metrics.temporal_auc`.

    Example:
    >>> cc.evaluation.TemporalAUC().name
    'temporal_auc'
    """

    name: ClassVar[str] = "temporal_auc"
    title: ClassVar[str] = "temporal AUC"

    def value(self, curve: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Return the area; NaN where all frames, or none, have the object."""
        return temporal_auc(curve, frames)
