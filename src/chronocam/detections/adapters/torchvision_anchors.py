"""torchvision's detectors in one stage: RetinaNet, FCOS, SSD and SSDlite. A row is an anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.rows import Rows, Size, scaled
from chronocam.detections.suppress import Suppression


class Anchors(Adapter):
    """Rows are the anchors of all levels, one after the other."""

    name: ClassVar[str] = "torchvision-anchors"
    reads: ClassVar[tuple[str, ...]] = ("transform", "backbone", "head", "anchor_generator")

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Say whether a model has anchors and a head that returns class logits, as torchvision's have."""
        return all(hasattr(model, name) for name in ("anchor_generator", "head", "box_coder", "transform"))

    @property
    def _of_ssd(self) -> bool:
        """Whether class 0 is the background, as in SSD."""
        return not hasattr(self.model.anchor_generator, "sizes")

    @property
    def layers(self) -> tuple[str, ...]:
        """The feature maps of the backbone."""
        count = len(self.model.anchor_generator.num_anchors_per_location())
        return ("backbone",) if count == 1 else tuple(f"backbone[{at}]" for at in range(count))

    @property
    def suppression(self) -> Suppression:
        """The model's own: so many of each level, of SSD of each class."""
        model = self.model
        return Suppression(
            model.nms_thresh,
            per_row=False,
            within="class" if self._of_ssd else "level",
            first=model.topk_candidates,
            most=model.detections_per_img,
            cut_first=True,
        )

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the anchors of each image."""
        images, head, anchors = read["transform"][0], read["head"], read["anchor_generator"]
        features = read["backbone"]
        maps = list(features.values()) if isinstance(features, Mapping) else [features]
        of_cell = self.model.anchor_generator.num_anchors_per_location()
        cells = [one.shape[-2] * one.shape[-1] * n for one, n in zip(maps, of_cell, strict=True)]
        level = np.repeat(np.arange(len(cells)), cells)
        coder, centres = self.model.box_coder, head.get("bbox_ctrness")
        decode = getattr(coder, "decode_single", coder.decode)
        every = []
        for i, (size, seen) in enumerate(zip(sizes, images.image_sizes, strict=True)):
            height, width = size[0] / seen[0], size[1] / seen[1]
            every.append(
                Rows(
                    head["cls_logits"][i],
                    scaled(decode(head["bbox_regression"][i], anchors[i]), height, width),
                    "softmax" if self._of_ssd else "sigmoid",
                    objectness=None if centres is None else centres[i][:, 0],
                    background=0 if self._of_ssd else None,
                    power=1.0 if centres is None else 0.5,
                    level=level,
                    extent=(images.tensors.shape[-2] * height, images.tensors.shape[-1] * width),
                )
            )
        return every
