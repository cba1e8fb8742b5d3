"""Targets of keypoints: why a detection has one where it has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from chronocam.detections import Detection
from chronocam.errors import ModelError, TargetError
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.targets.boxes import Boxes, BoxesOf, Choice
from chronocam.targets.labels import find_label
from chronocam.targets.masks import OfKept
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo

HEAD: Final = "roi_heads.keypoint_predictor"

PERSON: Final = (
    "nose",
    *(f"{side} {part}" for part in ("eye", "ear") for side in ("left", "right")),
    *(
        f"{side} {part}"
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
"""The keypoints of a person in COCO, in order."""


@dataclass(frozen=True)
class Keypoint(Target):
    """A keypoint of detections (Keypoint R-CNN): the logit of its heat map where that is highest.

    found: what `cc.detect` found, or one of it; the model itself must have kept it.
    which: the keypoint, by index, or of the 17 of a person by name, such as `"left knee"`.

    Each detection is a column, explained on the level of the pyramid that its keypoints are pooled from. For
    networks that return heat maps, `Region.peak(channel)` is the same.

    Example:
    >>> found = cc.detect(detector, photos)
    >>> cc.ODAM(detector).explain(photos, cc.targets.Keypoint(found[0], "nose"))
    Traceback (most recent call last):
    chronocam.errors.ModelError: a Spots has no keypoints as Keypoint R-CNN has them...
    """

    found: Detection | Sequence[Detection]
    which: int | str

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the keypoints of a model. Raises ModelError for one that has none."""
        if getattr(getattr(model, "roi_heads", None), "keypoint_predictor", None) is None:
            raise ModelError(
                f"a {type(model).__name__} has no keypoints as Keypoint R-CNN has them; of heat maps explain "
                "cc.targets.Region.peak(channel)"
            )
        boxes = Boxes(self.found).of_model(model, size, samples)
        return KeypointsOf(boxes, self.which) if isinstance(boxes, BoxesOf) else boxes

    def __call__(self, outputs: Outputs) -> Scored:
        """Refuse, since keypoints are read by the model."""
        raise TargetError("keypoints go with a model that is called plainly; leave operator= out")


class KeypointsOf(OfKept):
    """A keypoint of the boxes of one model and batch of inputs."""

    head = HEAD

    def __init__(self, boxes: BoxesOf, which: int | str) -> None:
        super().__init__(boxes)
        self.which = find_label(PERSON, which) if isinstance(which, str) else which

    def score(self, own: Array, one: Choice) -> Array:
        """Return the highest logit of a heat map. Raises TargetError for an unknown keypoint."""
        if not 0 <= self.which < own.shape[0]:
            raise TargetError(
                f"no keypoint {self.which}; the model has {own.shape[0]}, 0 to {own.shape[0] - 1}"
            )
        heat = own[self.which]
        highest = np.zeros(tuple(heat.shape), np.float32)
        highest.flat[int(to_numpy(heat).argmax())] = 1
        return namespace(heat).sum(heat * like(highest, heat))

    def name(self, info: TargetInfo) -> str:
        """Return which keypoint is explained."""
        keypoint = PERSON[self.which] if self.which < len(PERSON) else f"keypoint {self.which}"
        return f"{keypoint} of {info}"
