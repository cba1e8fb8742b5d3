"""The view-synthesis loss: how well the sources, warped by depth and pose, explain the target.

Terms are kept apart, per sample, scale and source, so that each can be a score by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from chronocam.errors import InputError, suggest
from chronocam.odometry.checks import Views, checked_masks, checked_views, depth_levels
from chronocam.odometry.geometry import checked_intrinsics, resized_intrinsics, warp

TERMS = ("total", "photometric", "smoothness", "mask")
_OPTIONS = {"photometric": ("l1", "ssim"), "reduce": ("mean", "minimum"), "smooth": ("second", "edge")}
_C1, _C2 = 0.01**2, 0.03**2  # of SSIM, for values in [0, 1]


@dataclass(frozen=True, eq=False)
class Terms:
    """The parts of a loss as they enter its total, weights included.

    photometric_parts, mask_parts: `(batch, scale, source)`.
    smoothness_parts: `(batch, scale)`.

    Example:
        >>> parts = torch.tensor([[[0.2, 0.1]]])  # (sample, scale, source)
        >>> terms = cc.odometry.Terms(parts, torch.tensor([[0.05]]), torch.zeros(1, 1, 2))
        >>> terms.total, terms.term("photometric", source=0)
        (tensor([0.3500]), tensor([0.2000]))
    """

    photometric_parts: Float[Tensor, "batch scale source"]
    smoothness_parts: Float[Tensor, "batch scale"]
    mask_parts: Float[Tensor, "batch scale source"]

    @property
    def photometric(self) -> Float[Tensor, " batch"]:
        """What is left unexplained of the target."""
        return self.photometric_parts.sum((1, 2))

    @property
    def smoothness(self) -> Float[Tensor, " batch"]:
        """How rough the disparities are."""
        return self.smoothness_parts.sum(1)

    @property
    def mask(self) -> Float[Tensor, " batch"]:
        """How far the explainability masks are from 1; 0 without masks."""
        return self.mask_parts.sum((1, 2))

    @property
    def total(self) -> Float[Tensor, " batch"]:
        """The loss: photometric + smoothness + mask."""
        return self.photometric + self.smoothness + self.mask

    def term(self, name: str, scale: int | None = None, source: int | None = None) -> Float[Tensor, " batch"]:
        """Return one term per sample: of all scales and sources, or of one.

        name: `"total"`, `"photometric"`, `"smoothness"` or `"mask"`.
        scale: 0 is the finest.
        Raises InputError for a name, scale or source that does not exist, and for the smoothness or the total
        of one source: disparities belong to all of them.
        """
        if name not in TERMS:
            raise InputError(
                f"no term `{name}`{suggest(name, list(TERMS))}; choose one of {', '.join(TERMS)}"
            )
        _, scales, sources = self.photometric_parts.shape
        for what, index, count in (("scale", scale, scales), ("source", source, sources)):
            if index is not None and not 0 <= index < count:
                raise InputError(f"no {what} {index}; the loss has {count}, 0 to {count - 1}")
        if source is not None and name in ("total", "smoothness"):
            raise InputError(
                f"the {name} of one source is not defined; choose photometric or mask, or no source"
            )
        at_scale = slice(None) if scale is None else slice(scale, scale + 1)
        of_source = slice(None) if source is None else slice(source, source + 1)
        parts = {
            "photometric": self.photometric_parts[:, at_scale, of_source].sum((1, 2)),
            "smoothness": self.smoothness_parts[:, at_scale].sum(1),
            "mask": self.mask_parts[:, at_scale, of_source].sum((1, 2)),
        }
        return sum(parts.values(), torch.zeros_like(parts["mask"])) if name == "total" else parts[name]


@dataclass(frozen=True)
class ViewSynthesis:
    """The loss of self-supervised depth and motion, with the options under which it was published.

    photometric: the error of a pixel, averaged over its channels: `"l1"` |I − Î|, or `"ssim"` 0.85·(1 −
        SSIM)/2 + 0.15·|I − Î| over windows of 3 × 3 pixels, which is for images in [0, 1].
    reduce: `"mean"`: the mean error of each source, summed over the sources; `"minimum"`: of each pixel only
        the source with the smallest error. Both are means over all pixels, also those that do not count.
    auto_mask: leave out pixels that the source explains as well without warping (with the minimum: any
        source).
    outside: whether pixels count that look beyond the edge of a source, with the colour of its edge.
    smooth: `"second"`: mean |∂²d/∂x²| + 2·mean |∂²d/∂x∂y| + mean |∂²d/∂y²| for disparities d; `"edge"`: mean
        |∂d*/∂x|·e^(−|∂I/∂x|) and the same along y, for d* = d/mean d.
    smooth_weight: weight of the smoothness at the finest scale, halved at each coarser one.
    mask_weight: weight of the masks.
    scales: how many of the disparities are used, finest first.
    full_resolution: whether coarse disparities are upsampled to the images; otherwise images are averaged
        down.
    average_scales: whether scales are averaged rather than summed.
    rotation: what the last three numbers of a pose are, `"euler"` or `"axis-angle"`.

    Raises InputError for an option that does not exist.
    Source: Zhou et al. 2017 (arXiv:1704.07813), section 3; Godard et al. 2019 (arXiv:1806.01260), section 3.
    Deviations: an auto-mask leaves pixels out (equation 5 there) instead of adding their unwarped error;
    smoothness is of what the network calls disparity, offset and range included.

    Example:
        >>> loss = cc.odometry.ViewSynthesis(photometric="l1", scales=1)
        >>> camera = torch.tensor([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]])
        >>> same, depth, still = images[:, None], torch.ones(2, 1, 32, 32), torch.zeros(2, 1, 6)
        >>> loss(images, same, depth, still, camera).total.round(decimals=4)
        tensor([0., 0.])
    """

    photometric: str = "l1"
    reduce: str = "mean"
    auto_mask: bool = False
    outside: bool = False
    smooth: str = "second"
    smooth_weight: float = 0.5
    mask_weight: float = 0.2
    scales: int = 4
    full_resolution: bool = False
    average_scales: bool = False
    rotation: str = "euler"

    def __post_init__(self) -> None:
        for name, known in _OPTIONS.items():
            value = getattr(self, name)
            if value not in known:
                raise InputError(
                    f"{name} is `{value}`{suggest(value, list(known))}; choose {' or '.join(known)}"
                )
        if self.scales < 1 or self.smooth_weight < 0 or self.mask_weight < 0:
            value = f"{self.scales}, {self.smooth_weight} and {self.mask_weight}"
            raise InputError(
                f"scales, smooth_weight and mask_weight are {value}; expected at least 1, 0 and 0"
            )

    def __call__(
        self,
        target: Tensor,
        sources: Tensor,
        disparities: Tensor | Sequence[Tensor],
        poses: Tensor,
        intrinsics: Any,
        masks: Sequence[Tensor] | None = None,
    ) -> Terms:
        """Return the terms of the loss, per sample.

        target: `(batch, 3, height, width)`.
        sources: `(batch, source, 3, height, width)`.
        disparities: `(batch, 1, height/2^s, width/2^s)` each, finest first; or one depth `(batch, 1, height,
            width)`, 0 where it is unknown, which is the only scale then.
        poses: `(batch, source, 6)`, or transforms `(batch, source, 4, 4)`, from the target's camera to each
            source's.
        intrinsics: `(3, 3)` or `(batch, 3, 3)`, of the images as given.
        masks: for each scale `(batch, source, height/2^s, width/2^s)` in [0, 1]: how far a pixel counts.
        Raises InputError for no source, shapes that do not match, values that are not finite, wrong
        intrinsics.
        """
        views = checked_views(target, sources, poses, self.rotation)
        matrix = checked_intrinsics(intrinsics, target)
        levels = depth_levels(disparities, views, self.scales, self.full_resolution)
        weights = checked_masks(masks, views, len(levels))
        photometric = [
            self._photometric(views.resized(depth.shape[-2:]), depth, matrix, weight)
            for (_, depth), weight in zip(levels, weights, strict=True)
        ]
        smoothness = [
            self.smooth_weight / 2**s * self._roughness(views, d) for s, (d, _) in enumerate(levels)
        ]
        mask = [
            p.new_zeros(p.shape) if w is None else -self.mask_weight * w.clamp_min(1e-12).log().mean((2, 3))
            for p, w in zip(photometric, weights, strict=True)
        ]
        share = 1 / len(levels) if self.average_scales else 1
        return Terms(*(share * torch.stack(parts, dim=1) for parts in (photometric, smoothness, mask)))

    def _photometric(self, views: Views, depth: Tensor, matrix: Tensor, mask: Tensor | None) -> Tensor:
        """Return the photometric part of each source at one scale, `(batch, source)`."""
        size = depth.shape[-2:]
        # Sources are folded into the batch, each with its own copy of the target's depth.
        repeated = depth.repeat_interleave(views.count, dim=0)
        k = resized_intrinsics(matrix, views.full_size, (size[0], size[1]))
        k = k.repeat_interleave(views.count, dim=0) if k.ndim == 3 else k
        warped, valid = warp(views.sources.flatten(0, 1), repeated, views.transforms.flatten(0, 1), k)
        error = self._error(views.target, warped.reshape(views.sources.shape))
        visible = (repeated > 0 if self.outside else valid).reshape(error.shape)
        counted = self._counted(error, visible, views)
        if mask is not None:
            fits = mask.shape[-2:] == size
            error = error * (mask if fits else interpolate(mask, size, mode="bilinear", align_corners=False))
        return torch.where(counted, error, 0.0).mean((2, 3))

    @torch.no_grad()
    def _counted(
        self,
        error: Float[Tensor, "batch source height width"],
        visible: Bool[Tensor, "batch source height width"],
        views: Views,
    ) -> Bool[Tensor, "batch source height width"]:
        """Return which pixels of which source count."""
        unwarped = self._error(views.target, views.sources) if self.auto_mask else None
        if self.reduce == "mean":
            return visible if unwarped is None else visible & (error < unwarped)
        # Which source is best is decided, not differentiated. Where no source is visible all errors are
        # infinite and the winner is arbitrary; `visible` keeps such pixels out.
        candidates = torch.where(visible, error, torch.inf)
        smallest, winner = candidates.min(dim=1, keepdim=True)
        counted = visible & (torch.arange(views.count, device=winner.device).reshape(-1, 1, 1) == winner)
        return counted if unwarped is None else counted & (smallest < unwarped.amin(dim=1, keepdim=True))

    def _error(
        self,
        target: Float[Tensor, "batch 3 height width"],
        images: Float[Tensor, "batch source 3 height width"],
    ) -> Float[Tensor, "batch source height width"]:
        """Return the error of each pixel of each image."""
        repeated = target[:, None].expand_as(images)
        absolute = (repeated - images).abs().mean(2)
        if self.photometric == "l1":
            return absolute
        return 0.85 * _dissimilarity(repeated, images).mean(2) + 0.15 * absolute

    def _roughness(self, views: Views, disparity: Tensor) -> Float[Tensor, " batch"]:
        if self.smooth == "second":
            return _second_differences(disparity)
        size = (disparity.shape[-2], disparity.shape[-1])
        return _edge_aware(disparity, views.resized(size).target)


def _dissimilarity(
    x: Float[Tensor, "batch source 3 height width"], y: Float[Tensor, "batch source 3 height width"]
) -> Float[Tensor, "batch source 3 height width"]:
    """Return (1 − SSIM)/2 in [0, 1] with means over 3 × 3 pixels, reflected at the edges."""
    shape = x.shape
    x, y = (pad(image.flatten(0, 1), (1, 1, 1, 1), mode="reflect") for image in (x, y))

    def mean(image: Tensor) -> Tensor:
        return avg_pool2d(image, 3, stride=1)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    ssim = (2 * mx * my + _C1) * (2 * vxy + _C2) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))
    return ((1 - ssim) / 2).clamp(0, 1).reshape(shape)


def _second_differences(disparity: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, " batch"]:
    dx, dy = disparity.diff(dim=3), disparity.diff(dim=2)
    return _mean_size(dx.diff(dim=3)) + 2 * _mean_size(dx.diff(dim=2)) + _mean_size(dy.diff(dim=2))


def _edge_aware(
    disparity: Float[Tensor, "batch 1 height width"], image: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, " batch"]:
    relative = disparity / disparity.mean((2, 3), keepdim=True).clamp_min(1e-7)
    steps = [
        relative.diff(dim=axis) * (-image.diff(dim=axis).abs().mean(1, keepdim=True)).exp() for axis in (3, 2)
    ]
    return _mean_size(steps[0]) + _mean_size(steps[1])


def _mean_size(values: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, " batch"]:
    """Return the mean |v| of each sample, 0 where a small grid leaves no difference."""
    return values.abs().sum((1, 2, 3)) / max(1, values[0].numel())


SFMLEARNER = ViewSynthesis()
"""Zhou et al.

2017: L1 over all sources and four scales, second differences of disparity, masks where given.
"""

MONODEPTH2 = ViewSynthesis(
    photometric="ssim",
    reduce="minimum",
    auto_mask=True,
    outside=True,
    smooth="edge",
    smooth_weight=1e-3,
    mask_weight=0,
    full_resolution=True,
    average_scales=True,
)
"""Godard et al.

2019: SSIM + L1, the best source of each pixel, static pixels left out, edge-aware smoothness.
"""
