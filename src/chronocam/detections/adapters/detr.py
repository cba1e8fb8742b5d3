"""Detectors of the DETR family as their authors publish them: DETR, Deformable DETR, DINO, RF-DETR."""

from __future__ import annotations

from typing import Any, ClassVar

from chronocam.detections.adapters.queries import Queries


class Detr(Queries):
    """Rows are those of `pred_logits` and `pred_boxes`."""

    name: ClassVar[str] = "detr"

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Say whether a model has the heads of the family, by their names."""
        return all(hasattr(model, name) for name in ("transformer", "class_embed", "bbox_embed"))
