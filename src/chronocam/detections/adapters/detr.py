"""Detectors of the DETR family as their authors publish them: DETR, Deformable DETR, DINO, RF-DETR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.rows import Gate, Rows, Size, corners, scaled
from chronocam.detections.suppress import Suppression
from chronocam.errors import ModelError


class Detr(Adapter):
    """Rows are queries: those of `pred_logits` and `pred_boxes`, centres and sides as shares of the input.

    DETR itself has a softmax with a last class for nothing; the others have a sigmoid for each class.
    """

    name: ClassVar[str] = "detr"

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Say whether a model has the heads of the family, by their names."""
        return all(hasattr(model, name) for name in ("transformer", "class_embed", "bbox_embed"))

    @property
    def suppression(self) -> Suppression:
        """None: queries do not lie on each other. A query counts for its best class."""
        return Suppression(None)

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the rows of each image. Raises ModelError for another output."""
        if not isinstance(raw, Mapping) or not {"pred_logits", "pred_boxes"} <= raw.keys():
            raise ModelError(f"a {type(self.model).__name__} returned no pred_logits with pred_boxes")
        logits, boxes = raw["pred_logits"], raw["pred_boxes"]
        softmax = any(kind.__name__.upper().startswith("DETR") for kind in type(self.model).__mro__)
        gate: Gate = "softmax" if softmax else "sigmoid"
        background = logits.shape[-1] - 1 if softmax else None
        return [
            Rows(logits[i], scaled(corners(boxes[i]), *size), gate, background=background)
            for i, size in enumerate(sizes)
        ]
