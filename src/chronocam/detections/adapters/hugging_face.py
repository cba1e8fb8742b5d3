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
        """Say whether a model of Hugging Face is called a detector, or is one of a user's own made of one."""
        names = [kind.__name__ for kind in type(model).__mro__]
        return hasattr(model, "config") and any(name.endswith("ObjectDetection") for name in names)

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
