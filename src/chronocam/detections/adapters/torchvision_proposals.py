"""torchvision's detectors in two stages: Faster, Mask and Keypoint R-CNN. A row is a proposal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.rows import Rows, Size, scaled
from chronocam.detections.suppress import Suppression
from chronocam.maps.arrays import to_numpy


class Proposals(Adapter):
    """Rows are the proposals of an image; each class has a box of its own, class 0 is the background."""

    name: ClassVar[str] = "torchvision-proposals"
    reads: ClassVar[tuple[str, ...]] = ("transform", "backbone", "rpn", "roi_heads.box_predictor")

    @classmethod
    def fits(cls, model: Any) -> bool:
        """Say whether a model has a head for regions of interest, as torchvision's have."""
        heads = getattr(model, "roi_heads", None)
        return hasattr(heads, "box_predictor") and hasattr(heads, "box_coder") and hasattr(model, "rpn")

    @property
    def _names(self) -> list[str]:
        """The feature maps that are pooled from: of those the model names, those that its pyramid has."""
        blocks = getattr(getattr(self.model.backbone, "fpn", None), "inner_blocks", None)
        names = list(self.model.roi_heads.box_roi_pool.featmap_names)
        return names if blocks is None else names[: len(blocks)]

    @property
    def layers(self) -> tuple[str, ...]:
        """The feature maps that proposals are pooled from."""
        names = self._names
        return ("backbone",) if len(names) == 1 else tuple(f"backbone[{name}]" for name in names)

    @property
    def suppression(self) -> Suppression:
        """The model's own, of each class."""
        heads = self.model.roi_heads
        return Suppression(
            heads.nms_thresh,
            per_row=False,
            first=10**9,
            most=heads.detections_per_img,
            least_side=1e-2,
            cut_first=True,
        )

    def rows(self, raw: Any, read: Mapping[str, Any], sizes: Sequence[Size]) -> list[Rows]:
        """Return the proposals of each image."""
        images, (logits, deltas) = read["transform"][0], read["roi_heads.box_predictor"]
        proposals, every = read["rpn"][0], []
        ends = list(accumulate(len(one) for one in proposals))
        maps = _maps(read["backbone"], self._names)
        for i, (boxes, size, seen) in enumerate(zip(proposals, sizes, images.image_sizes, strict=True)):
            part = slice(ends[i] - len(boxes), ends[i])
            decoded = self.model.roi_heads.box_coder.decode(deltas[part], [boxes])
            height, width = size[0] / seen[0], size[1] / seen[1]
            every.append(
                Rows(
                    logits[part],
                    scaled(decoded.reshape(len(boxes), -1, 4), height, width),
                    "softmax",
                    background=0,
                    level=self._level(to_numpy(boxes), maps, images.image_sizes),
                    extent=(images.tensors.shape[-2] * height, images.tensors.shape[-1] * width),
                    stable=False,
                )
            )
        return every

    def level_of_boxes(self, boxes: np.ndarray, size: Size, read: Mapping[str, Any]) -> np.ndarray:
        """Return the level that masks and keypoints of boxes, in pixels of an input, are pooled from."""
        sizes = read["transform"][0].image_sizes
        scale = np.array([sizes[0][1] / size[1], sizes[0][0] / size[0]] * 2)
        return self._level(boxes * scale, _maps(read["backbone"], self._names), sizes)

    def _level(self, boxes: np.ndarray, maps: Sequence[Any], sizes: Sequence[Size]) -> np.ndarray:
        """Return the level that each proposal is pooled from, by its size (equation 1 of the FPN paper)."""
        pool, tallest = self.model.roi_heads.box_roi_pool, max(size[0] for size in sizes)
        low, high = (-round(np.log2(maps[at].shape[-2] / tallest)) for at in (0, -1))
        side = np.sqrt(np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1e-12))
        level = np.floor(pool.canonical_level + np.log2(side / pool.canonical_scale) + 1e-6)
        return np.asarray(np.clip(level, low, high) - low, np.int64)


def _maps(features: Any, names: Sequence[str]) -> list[Any]:
    return [features[name] for name in names] if isinstance(features, Mapping) else [features]
