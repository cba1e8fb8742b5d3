"""Detectors of Hugging Face: rows are queries (DETR and kin), detection tokens (YOLOS) or patches (OWL)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.rows import Gate, Rows, Size, corners, scaled
from chronocam.detections.suppress import Suppression
from chronocam.errors import ModelError

_SOFTMAX = ("detr", "yolos", "table-transformer")
"""Families whose last class says that nothing is there; the others have a sigmoid for each class."""

_LAYERS = {
    "rt_detr": "model.encoder.pan_blocks.0",
    "rt_detr_v2": "model.encoder.pan_blocks.0",
    "d_fine": "model.encoder.pan_blocks.0",
    "grounding-dino": "model.input_proj_vision.1",
}
"""Of families whose queries look at several levels, the middle one; of others a gradient tells the layer."""


class HuggingFace(Adapter):
    """Rows are those of `logits` and `pred_boxes`; boxes are centres and sides, as shares of the input."""

    name: ClassVar[str] = "hf"

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Say whether a model of Hugging Face is called a detector."""
        return hasattr(model, "config") and type(model).__name__.endswith("ObjectDetection")

    @property
    def _gate(self) -> Gate:
        config = self.model.config
        family = getattr(config, "model_type", "")
        softmax = family in _SOFTMAX or getattr(config, "use_focal_loss", True) is False
        return "softmax" if softmax else "sigmoid"

    @property
    def layers(self) -> tuple[str, ...]:
        """The middle one of several levels; else a gradient tells the layer."""
        layer = _LAYERS.get(getattr(self.model.config, "model_type", ""))
        known = layer is not None and layer in dict(self.model.named_modules())
        return (layer,) if layer is not None and known else ()

    @property
    def suppression(self) -> Suppression:
        """None: queries do not lie on each other, but patches may. A query counts for its best class."""
        of_patches = getattr(self.model.config, "model_type", "").startswith("owl")
        return Suppression(0.3 if of_patches else None, per_row=True)

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the rows of each image."""
        logits, boxes = (getattr(raw, name, None) for name in ("logits", "pred_boxes"))
        if logits is None or boxes is None:
            raise ModelError(
                f"a {type(self.model).__name__} returned no logits with pred_boxes; is it called in training?"
            )
        background = logits.shape[-1] - 1 if self._gate == "softmax" else None
        return [
            Rows(logits[i], scaled(corners(boxes[i]), *size), self._gate, background=background)
            for i, size in enumerate(sizes)
        ]
