"""What the view-synthesis loss is given, checked and brought to one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from chronocam.errors import InputError
from chronocam.odometry.geometry import pose_to_matrix


@dataclass(frozen=True, eq=False)
class Views:
    """A target and its sources at one size, and the transforms from the target's camera to the sources'.

    full_size: (height, width) of the images as they were given.
    """

    target: Float[Tensor, "batch 3 height width"]
    sources: Float[Tensor, "batch source 3 height width"]
    transforms: Float[Tensor, "batch source 4 4"]
    full_size: tuple[int, int]

    @property
    def count(self) -> int:
        """How many sources there are."""
        return self.sources.shape[1]

    def resized(self, size: Sequence[int]) -> Views:
        """Return the views averaged down to `size`, (height, width)."""
        if tuple(size) == tuple(self.target.shape[-2:]):
            return self
        target = interpolate(self.target, tuple(size), mode="area")
        sources = interpolate(self.sources.flatten(0, 1), tuple(size), mode="area")
        return replace(self, target=target, sources=sources.reshape(-1, self.count, *sources.shape[1:]))


def checked_views(target: Tensor, sources: Tensor, poses: Tensor, rotation: str) -> Views:
    """Return the views of a call.

    Raises InputError for no source, shapes that do not match, values not finite.
    """
    if target.ndim != 4 or target.shape[1] != 3:
        raise InputError(f"target has shape {tuple(target.shape)}; expected (batch, 3, height, width)")
    batch, _, height, width = target.shape
    if sources.ndim != 5 or sources.shape[1] == 0:
        expected = "(batch, source, 3, height, width) with at least one source: one frame alone has no motion"
        raise InputError(f"sources have shape {tuple(sources.shape)}; expected {expected}")
    count = sources.shape[1]
    if sources.shape != (batch, count, 3, height, width):
        expected = f"{(batch, count, 3, height, width)}, frames of the target's size"
        raise InputError(f"sources have shape {tuple(sources.shape)}; expected {expected}")
    if poses.shape not in ((batch, count, 6), (batch, count, 4, 4)):
        expected = f"{(batch, count, 6)} or {(batch, count, 4, 4)}, one per source"
        raise InputError(f"poses have shape {tuple(poses.shape)}; expected {expected}")
    for name, values in (("target", target), ("sources", sources), ("poses", poses)):
        if not values.isfinite().all():
            raise InputError(
                f"the {name} hold values that are not finite; look for NaN in frames or in the weights"
            )
    return Views(
        target, sources, pose_to_matrix(poses, rotation) if poses.ndim == 3 else poses, (height, width)
    )


def depth_levels(
    disparities: Tensor | Sequence[Tensor], views: Views, scales: int, full_resolution: bool
) -> list[tuple[Tensor, Tensor]]:
    """Return disparity and depth of each scale that is used, the finest first.

    The depth at the size to warp at.

    Raises InputError for too few scales, shapes that do not match, and disparities that are not positive and
    finite.
    """
    if isinstance(disparities, Tensor):
        return [_given_depth(disparities, views)]
    if len(disparities) < scales:
        raise InputError(
            f"{len(disparities)} disparities for {scales} scales; give more, or a loss with fewer scales"
        )
    levels = []
    for disparity in disparities[:scales]:
        if disparity.ndim != 4 or disparity.shape[:2] != (len(views.target), 1):
            expected = f"({len(views.target)}, 1, height, width)"
            raise InputError(
                f"a disparity has shape {tuple(disparity.shape)}; expected {expected}, one per target"
            )
        if not ((disparity > 0) & disparity.isfinite()).all():
            raise InputError(
                "a disparity is not positive and finite, and has no depth; look at what the network returns"
            )
        fine = disparity
        if full_resolution and tuple(disparity.shape[-2:]) != views.full_size:
            fine = interpolate(disparity, views.full_size, mode="bilinear", align_corners=False)
        levels.append((disparity, 1 / fine))
    return levels


def _given_depth(depth: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    expected = (len(views.target), 1, *views.full_size)
    if tuple(depth.shape) != expected:
        raise InputError(f"depth has shape {tuple(depth.shape)}; expected {expected}, as the target")
    if not depth.isfinite().all():
        raise InputError("depth is not finite; give depths in scene units, 0 where they are unknown")
    known = depth > 0  # inner where: 1 / 0 would leave NaN in the gradient even where it is not used
    return torch.where(known, 1 / torch.where(known, depth, 1.0), 0.0), depth


def checked_masks(masks: Sequence[Tensor] | None, views: Views, scales: int) -> list[Tensor | None]:
    """Return the mask of each scale.

    Raises InputError for too few, another number of sources, values beyond [0, 1].
    """
    if masks is None:
        return [None] * scales
    if len(masks) < scales:
        raise InputError(f"{len(masks)} masks for {scales} scales; give one per scale, finest first")
    for mask in masks[:scales]:
        if mask.ndim != 4 or mask.shape[:2] != views.sources.shape[:2]:
            expected = f"({len(views.target)}, {views.count}, height, width)"
            raise InputError(f"a mask has shape {tuple(mask.shape)}; expected {expected}, one per source")
        if not ((mask >= 0) & (mask <= 1)).all():
            raise InputError("a mask has values outside [0, 1]; give probabilities, after the sigmoid")
    return list(masks[:scales])
