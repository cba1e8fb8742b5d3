"""Detectors of Hugging Face: rows are queries (DETR and kin), detection tokens (YOLOS) or patches (OWL)."""

from __future__ import annotations

from typing import Any, ClassVar

from chronocam.detections.adapters.queries import Queries
from chronocam.detections.suppress import Suppression

_LAYERS = ("model.encoder.pan_blocks.0", "model.input_proj_vision.1")
"""Where queries look at several levels, the middle one; of other models a gradient tells the layer."""


class HuggingFace(Queries):
    """Rows are those of `logits` and `pred_boxes`."""

    name: ClassVar[str] = "hf"

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Say whether a model of Hugging Face is called a detector, or is made of one, as with masks."""
        if not hasattr(model, "config"):
            return False
        kinds = (kind for part in (model, *model.children()) for kind in type(part).__mro__)
        return any(kind.__name__.endswith("ObjectDetection") for kind in kinds)

    @property
    def layers(self) -> tuple[str, ...]:
        """The middle one of several levels; else a gradient tells the layer."""
        modules = dict(self.model.named_modules())
        return tuple(layer for layer in _LAYERS if layer in modules)[:1]

    @property
    def suppression(self) -> Suppression:
        """None: queries do not lie on each other, but patches may. A query counts for its best class."""
        of_patches = getattr(self.model.config, "model_type", "").startswith("owl")
        return Suppression(0.3 if of_patches else None)
