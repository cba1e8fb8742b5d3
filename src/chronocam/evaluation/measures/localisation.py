"""Whether a map lies on the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.errors import check_real, check_whole
from chronocam.evaluation.case import Case
from chronocam.evaluation.measures.base import Measure, Value
from chronocam.evaluation.measures.drop import unit
from chronocam.maps.regions import boxes
from chronocam.metrics._localisation import box_iou, energy_inside, pointing_game


def mask_of(case: Case) -> np.ndarray | None:
    """Return the object's mask, None where it is not known."""
    return None if case.truth is None else case.truth.mask


@dataclass(frozen=True)
class Pointing(Measure):
    """1 where the map's maximum lies in the object, else 0; the share of the maxima where it has several.

    tolerance: how near to the object counts too: nearer than so many pixels of the input. TorchRay's protocol
        takes 15.

    Source: Zhang et al. 2016 (arXiv:1608.00507), section 4.1.

    Example:
    >>> cc.evaluation.Pointing(tolerance=15).tolerance
    15
    """

    tolerance: float = 0
    name: ClassVar[str] = "pointing"
    title: ClassVar[str] = "the pointing game"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    hits: ClassVar[bool] = True
    truth: ClassVar[str | None] = "mask"

    def __post_init__(self) -> None:
        check_real("tolerance", self.tolerance, "pixels, from 0", least=0)

    def of(self, case: Case, values: np.ndarray) -> float:
        """Return the share of hits."""
        mask = mask_of(case)
        if mask is None:
            return float("nan")
        if self.tolerance > 0:
            from scipy.ndimage import distance_transform_edt

            # In space alone: a tolerance in pixels says nothing of frames.
            frames = mask.reshape(-1, *mask.shape[-2:])
            near = [
                distance_transform_edt(~frame) < self.tolerance if frame.any() else frame for frame in frames
            ]
            mask = np.stack(near).reshape(mask.shape)
        return float(pointing_game(values, mask, values.ndim))


@dataclass(frozen=True)
class Energy(Measure):
    """The share of the map's positive values inside the object.

    Source: Wang et al. 2020 (arXiv:1910.01279), section 4.3, on masks.

    Example:
    >>> cc.evaluation.Energy().truth
    'mask'
    """

    name: ClassVar[str] = "energy"
    title: ClassVar[str] = "energy inside"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    truth: ClassVar[str | None] = "mask"

    def of(self, case: Case, values: np.ndarray) -> float:
        """Return the share."""
        mask = mask_of(case)
        return float("nan") if mask is None else float(energy_inside(values, mask, values.ndim))


@dataclass(frozen=True)
class MaxBoxAcc(Measure):
    """How many samples have a box of the map that fits one of the object's, at the best threshold.

    The mean over IoU of 0.3, 0.5 and 0.7, each with the threshold that is best over all samples; the box of
    any connected part counts (MaxBoxAccV2). The threshold is chosen on the samples that are judged.

    Source: Choe et al. 2020 (arXiv:2007.04178), section 3.

    Example:
    >>> cc.evaluation.MaxBoxAcc().name
    'maxboxacc'
    """

    thresholds: int = 100
    name: ClassVar[str] = "maxboxacc"
    title: ClassVar[str] = "MaxBoxAccV2"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    truth: ClassVar[str | None] = "boxes"

    def __post_init__(self) -> None:
        check_whole("thresholds", self.thresholds, "a number of thresholds")

    def of(self, case: Case, values: np.ndarray) -> np.ndarray:
        """Return 1 where a box fits, `(IoU · threshold,)`."""
        overlaps = (0.3, 0.5, 0.7)
        if case.truth is None or not case.truth.boxes or values.ndim != 2:
            return np.full(len(overlaps) * self.thresholds, np.nan)
        best = np.zeros(self.thresholds)
        scaled = unit(values)
        for k, threshold in enumerate(np.linspace(0, 1, self.thresholds, endpoint=False)):
            region = (scaled >= threshold).astype(np.float32)
            regions = boxes(region, 1.0, largest=False)
            best[k] = max((box_iou(one, true) for one in regions for true in case.truth.boxes), default=0.0)
        return np.concatenate([best >= overlap for overlap in overlaps]).astype(float)

    def number(self, value: Value) -> float:
        """Return NaN: a threshold is that of all samples."""
        return float("nan")

    def total(self, values: np.ndarray) -> float:
        """Return the mean over the overlaps of the best threshold's share."""
        return float(values.mean(axis=0).reshape(3, -1).max(axis=1).mean())


@dataclass(frozen=True)
class PxAP(Measure):
    """The average precision of pixels as belonging to the object, those of all samples together.

    Large objects count more: pixels are pooled. Maps are scaled to [0, 1] each and cut into 256 levels.

    Source: Choe et al. 2020 (arXiv:2007.04178), section 3.

    Example:
    >>> cc.evaluation.PxAP().name
    'pxap'
    """

    name: ClassVar[str] = "pxap"
    title: ClassVar[str] = "PxAP"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    truth: ClassVar[str | None] = "mask"

    def of(self, case: Case, values: np.ndarray) -> np.ndarray:
        """Return how many pixels of each level lie inside and outside, `(512,)`."""
        mask = mask_of(case)
        if mask is None:
            return np.full(512, np.nan)
        levels = np.minimum((unit(values) * 256).astype(int), 255)
        inside, outside = (np.bincount(levels[m], minlength=256) for m in (mask, ~mask))
        return np.concatenate([inside, outside]).astype(float)

    def number(self, value: Value) -> float:
        """Return NaN: pixels are those of all samples."""
        return float("nan")

    def total(self, values: np.ndarray) -> float:
        """Return Σ precision · Δrecall from the highest level down."""
        inside, outside = values.sum(axis=0).reshape(2, 256)[:, ::-1]
        right, marked = np.cumsum(inside), np.cumsum(inside + outside)
        precision = np.divide(right, marked, out=np.ones(256), where=marked > 0)
        return float((precision * inside).sum() / right[-1]) if right[-1] else float("nan")
