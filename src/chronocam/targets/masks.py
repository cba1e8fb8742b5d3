"""Targets of instance masks: why a detection has the mask that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np

from chronocam.detections import Detection, Rows
from chronocam.detections.adapters.queries import Queries
from chronocam.errors import ModelError, TargetError
from chronocam.maps.arrays import like, namespace, to_numpy, widen
from chronocam.targets.boxes import SAME, Boxes, BoxesOf, Choice
from chronocam.types import Array, BoxInfo, Outputs, Scored, Target, TargetInfo

HEAD: Final = "roi_heads.mask_predictor"


@dataclass(frozen=True)
class Mask(Target):
    """The instance masks of detections: the mean of a mask's logits where it is predicted.

    found: what `cc.detect` found, or one of it; Mask R-CNN itself must have kept it.

    Each mask is a column, explained on the level of the pyramid that it is pooled from. Of queries (DETR,
    RF-DETR) it is that of `pred_masks`.

    Example:
    >>> found = cc.detect(detector, photos)
    >>> cc.ODAM(detector).explain(photos, cc.targets.Mask(found[0]))
    Traceback (most recent call last):
    chronocam.errors.ModelError: a Spots has no masks of instances...
    """

    found: Detection | Sequence[Detection]

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the masks of a model. Raises ModelError for one that has none."""
        boxes = Boxes(self.found).of_model(model, size, samples)
        if not isinstance(boxes, BoxesOf):
            return boxes
        if getattr(getattr(model, "roi_heads", None), "mask_predictor", None) is not None:
            return MasksOf(boxes)
        if isinstance(boxes.adapter, Queries):
            return MasksOfQueries(boxes)
        raise _no_masks(model)

    def __call__(self, outputs: Outputs) -> Scored:
        """Refuse, since masks are read by the model."""
        raise TargetError("masks go with a model that is called plainly; leave operator= out")


class OfKept(BoxesOf):
    """What a head of the model makes of the boxes that it keeps itself: of each a score and a name.

    head: the path of the module whose outputs follow the boxes of all images.
    """

    head: ClassVar[str]

    def __init__(self, boxes: BoxesOf) -> None:
        super().__init__(boxes.asked, boxes.adapter, boxes.size, boxes.detections)
        self.reads: Sequence[str] = (*boxes.reads, self.head)

    def score(self, own: Array, one: Choice) -> Array:
        """Return the score of what the head made of one box, `(…)` without an axis of boxes."""
        raise NotImplementedError(f"{type(self).__name__} must define score(own, one)")

    def name(self, info: TargetInfo) -> str:
        """Return what is explained of a box."""
        raise NotImplementedError(f"{type(self).__name__} must define name(info)")

    def _choices(self, number: int, rows: Rows, outputs: Outputs) -> list[Choice]:
        """Return the detections, on the level that the head pools them from."""
        chosen = super()._choices(number, rows, outputs)
        if not chosen or not hasattr(self.adapter, "level_of_boxes"):
            return chosen
        boxes = np.asarray([one.box for one in chosen])
        levels = self.adapter.level_of_boxes(boxes, self.size, outputs.read)
        return [replace(one, level=int(level)) for one, level in zip(chosen, levels, strict=True)]

    def _values(self, at: int, rows: Rows, chosen: list[Choice], outputs: Outputs) -> Array:
        counts = [len(one["labels"]) for one in outputs.raw]
        made, own = widen(outputs.read[self.head]), outputs.raw[at]
        start, values = sum(counts[:at]), []
        labels, boxes = to_numpy(own["labels"]), to_numpy(own["boxes"])
        for one in chosen:
            away = np.where(labels == one.index, np.abs(boxes - one.box).max(axis=1), np.inf)
            if not len(away) or away.min() > SAME * max(self.size):
                raise TargetError(
                    "the model itself leaves out a box that is asked for, and makes nothing more of it; give "
                    "one of a higher score"
                )
            values.append(self.score(made[start + int(away.argmin())], one))
        return namespace(made).stack(values)

    def _info(self, one: Choice, rows: Rows, outputs: Outputs) -> TargetInfo:
        info = super()._info(one, rows, outputs)
        return replace(info, name=self.name(info)) if isinstance(info, BoxInfo) else info


class MasksOf(OfKept):
    """Masks of one model and batch of inputs."""

    head = HEAD

    def score(self, own: Array, one: Choice) -> Array:
        """Return the mean of a mask's logits where it is predicted."""
        return _predicted(own[one.index])

    def name(self, info: TargetInfo) -> str:
        """Return that the mask is explained."""
        return f"mask of {info}"


class MasksOfQueries(BoxesOf):
    """Masks of queries, as `pred_masks` beside their boxes, `(batch, query, height, width)`."""

    def __init__(self, boxes: BoxesOf) -> None:
        super().__init__(boxes.asked, boxes.adapter, boxes.size, boxes.detections)

    def _values(self, at: int, rows: Rows, chosen: list[Choice], outputs: Outputs) -> Array:
        raw = outputs.raw
        masks = raw.get("pred_masks") if isinstance(raw, Mapping) else getattr(raw, "pred_masks", None)
        if masks is None:
            raise _no_masks(self.adapter.model)
        values = [_predicted(widen(masks[at, one.row])) for one in chosen]
        return namespace(values[0]).stack(values)

    def _info(self, one: Choice, rows: Rows, outputs: Outputs) -> TargetInfo:
        info = super()._info(one, rows, outputs)
        return replace(info, name=f"mask of {info}")


def _predicted(mask: Array) -> Array:
    """Return the mean of a mask's logits where they are above 0, or of all where none is."""
    marks = to_numpy(mask) > 0
    marks = marks if marks.any() else np.ones_like(marks)
    return namespace(mask).sum(mask * like(marks.astype(np.float32), mask)) / float(marks.sum())


def _no_masks(model: Any) -> ModelError:
    return ModelError(
        f"a {type(model).__name__} has no masks of instances as Mask R-CNN or the queries of DETR have them; "
        "explain cc.targets.Boxes, or cc.targets.Region of a segmentation"
    )
