"""Targets of instance masks: why a detection has the mask that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from chronocam.detections import Detection, Rows
from chronocam.errors import ModelError, TargetError
from chronocam.maps.arrays import like, namespace, to_numpy, widen
from chronocam.targets.boxes import SAME, Boxes, BoxesOf, Choice
from chronocam.types import Array, BoxInfo, Outputs, Scored, Target, TargetInfo

HEAD: Final = "roi_heads.mask_predictor"


@dataclass(frozen=True)
class Mask(Target):
    """The instance masks of detections (Mask R-CNN): the mean of a mask's logits where it is predicted.

    found: what `cc.detect` found, or one of it; the model itself must have kept it.

    Each mask is a column, explained on the level of the pyramid that it is pooled from.

    Example:
    >>> found = cc.detect(detector, photos)
    >>> cc.ODAM(detector).explain(photos, cc.targets.Mask(found[0]))
    Traceback (most recent call last):
    chronocam.errors.ModelError: a Spots has no masks of instances...
    """

    found: Detection | Sequence[Detection]

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the masks of a model. Raises ModelError for one that has none."""
        if getattr(getattr(model, "roi_heads", None), "mask_predictor", None) is None:
            raise ModelError(
                f"a {type(model).__name__} has no masks of instances as Mask R-CNN has them; explain "
                "cc.targets.Boxes, or cc.targets.Region of a segmentation"
            )
        boxes = Boxes(self.found).of_model(model, size, samples)
        return MasksOf(boxes) if isinstance(boxes, BoxesOf) else boxes

    def __call__(self, outputs: Outputs) -> Scored:
        """Refuse, since masks are read by the model."""
        raise TargetError("masks go with a model that is called plainly; leave operator= out")


class MasksOf(BoxesOf):
    """Masks of one model and batch of inputs."""

    def __init__(self, boxes: BoxesOf) -> None:
        super().__init__(boxes.asked, boxes.adapter, boxes.size, boxes.detections)
        self.reads: Sequence[str] = (*boxes.reads, HEAD)

    def _choices(self, number: int, rows: Rows, outputs: Outputs) -> list[Choice]:
        """Return the detections, on the level that their masks are pooled from."""
        chosen = super()._choices(number, rows, outputs)
        if not chosen or not hasattr(self.adapter, "level_of_boxes"):
            return chosen
        boxes = np.asarray([one.box for one in chosen])
        levels = self.adapter.level_of_boxes(boxes, self.size, outputs.read)
        return [replace(one, level=int(level)) for one, level in zip(chosen, levels, strict=True)]

    def _values(self, at: int, rows: Rows, chosen: list[Choice], outputs: Outputs) -> Array:
        counts = [len(one["labels"]) for one in outputs.raw]
        logits, own = widen(outputs.read[HEAD]), outputs.raw[at]
        xp, start = namespace(logits), sum(counts[:at])
        labels, boxes = to_numpy(own["labels"]), to_numpy(own["boxes"])
        values = []
        for one in chosen:
            away = np.where(labels == one.index, np.abs(boxes - one.box).max(axis=1), np.inf)
            if not len(away) or away.min() > SAME * max(self.size):
                raise TargetError(
                    "the model itself leaves out a box whose mask is asked for, and makes no mask of it; "
                    "give one of a higher score"
                )
            mask = logits[start + int(away.argmin()), one.index]
            marks = to_numpy(mask) > 0
            shares = like((marks if marks.any() else np.ones_like(marks)).astype(np.float32), mask)
            values.append(xp.sum(mask * shares) / float(max(marks.sum(), 1) if marks.any() else marks.size))
        return xp.stack(values)

    def _info(self, one: Choice, rows: Rows, outputs: Outputs) -> TargetInfo:
        info = super()._info(one, rows, outputs)
        return replace(info, name=f"mask of {info}") if isinstance(info, BoxInfo) else info
