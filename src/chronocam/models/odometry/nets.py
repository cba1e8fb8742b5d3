"""Depth of a picture and motion between pictures: the two networks of SfMLearner.

Sources: the paper (arXiv:1704.07813, section 3.5) and its PyTorch version by C. Pinard, with whose names of
layers and parameters these networks agree, so that its published weights fit. Pictures are (value / 255 −
0.5) / 0.5 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from chronocam.errors import InputError, ModelError

MOTION: Final = ("tx", "ty", "tz", "rx", "ry", "rz")
"""What the numbers of a pose are: a translation, and rotations around x, y and z in radians."""

_DEPTH: Final = (32, 64, 128, 256, 512, 512, 512)
_DEPTH_UP: Final = (16, 32, 64, 128, 256, 512, 512)
_POSE: Final = (16, 32, 64, 128, 256, 256, 256)
_POSE_UP: Final = (16, 32, 64, 128, 256)
_KERNELS: Final = (7, 5, 3, 3, 3, 3, 3)
_SCALES: Final = 4
_STEEPNESS, _FARTHEST = 10.0, 0.01  # disparity = 10·sigmoid + 0.01: depth between 0.1 and 100
_STEP: Final = 0.01  # poses are small: the head's mean is scaled so that training begins near standing still


class DepthNet(nn.Module):
    """Depth from one picture (DispNetS): seven halvings, a decoder with skips, four disparity scales.

    width: scales the number of channels; 31.6 million parameters at 1.
    Layers `conv1` to `conv7`, `upconv7` to `upconv1`, `iconv7` to `iconv1`, `predict_disp4` to
    `predict_disp1`, each ending in its activation. Takes any height and width: what is upsampled is cropped
    to its skip.
    Raises ModelError for a width that is not positive, InputError for inputs other than `(batch, 3, height,
    width)`.

    Example:
        >>> net = cc.models.DepthNet(width=0.125)
        >>> pictures = torch.rand(1, 3, 64, 96)
        >>> net(pictures).shape, [scale.shape[-1] for scale in net.disparities(pictures)]
        (torch.Size([1, 1, 64, 96]), [96, 48, 24, 12])
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        down, up = _slim(_DEPTH, width), _slim(_DEPTH_UP, width)
        for n, ((before, after), kernel) in enumerate(zip(pairwise((3, *down)), _KERNELS, strict=True), 1):
            halve = (*_convolution(before, after, kernel, 2), *_convolution(after, after, kernel, 1))
            self.add_module(f"conv{n}", nn.Sequential(*halve))
        for n in range(len(down), 0, -1):
            before = down[-1] if n == len(down) else up[n]
            skip = (down[n - 2] if n > 1 else 0) + (1 if n < _SCALES else 0)
            double = nn.ConvTranspose2d(before, up[n - 1], 3, stride=2, padding=1, output_padding=1)
            self.add_module(f"upconv{n}", nn.Sequential(double, nn.ReLU()))
            self.add_module(f"iconv{n}", nn.Sequential(*_convolution(up[n - 1] + skip, up[n - 1], 3, 1)))
        for n in range(_SCALES, 0, -1):
            predict = nn.Conv2d(up[n - 1], 1, 3, padding=1)
            self.add_module(f"predict_disp{n}", nn.Sequential(predict, nn.Sigmoid()))
        _initialise(self)

    def forward(self, x: Tensor) -> Float[Tensor, "batch 1 height width"]:
        """Return the depth, 1 / disparity at the finest scale."""
        return 1 / self.disparities(x)[0]

    def disparities(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return disparities `(batch, 1, height / 2^s, width / 2^s)`, rounded up, for s from 0 to 3."""
        _check(x, 3, "3")
        encoded = [x]
        for n in range(1, len(_DEPTH) + 1):
            encoded.append(self.get_submodule(f"conv{n}")(encoded[-1]))
        disparities: list[Tensor] = []
        out = encoded.pop()
        # From the coarsest stage up: what is upsampled, beside what the encoder had at that size and, once
        # there is one, the coarser disparity. Sides that do not halve evenly are cropped to the encoder's.
        for n, skip in zip(range(len(_DEPTH), 0, -1), reversed(encoded), strict=True):
            parts = [_crop(self.get_submodule(f"upconv{n}")(out), skip)]
            if n > 1:
                parts.append(skip)
            if disparities:
                parts.append(
                    _crop(nn.functional.interpolate(disparities[0], scale_factor=2, mode="bilinear"), skip)
                )
            out = self.get_submodule(f"iconv{n}")(torch.cat(parts, dim=1))
            if n <= _SCALES:
                disparities.insert(0, _STEEPNESS * self.get_submodule(f"predict_disp{n}")(out) + _FARTHEST)
        return disparities[0], disparities[1], disparities[2], disparities[3]


class PoseNet(nn.Module):
    """Motion from a target picture to its sources (PoseExpNet): seven halvings and a pooled linear head.

    sources: how many pictures there are beside the target.
    width: scales the number of channels; with two sources there are 1.59 million parameters at 1.
    masks: add the decoder of explainability masks.

    Layers `conv1` to `conv7`, each ending in its activation, then `pose_pred`: output j is
    0.01·(mean over the grid of Σ_k W_jk A_k + b_j) with A what `conv7` gives. The masks are made of `conv5`
    by `upconv5` to `upconv1` and `predict_mask4` to `predict_mask1`.

    Takes pictures side by side on channels, target first, `(batch, 3 + 3 · sources, height, width)` of any
    height and width; `labels` names the outputs. Raises ModelError for a width or number of sources that is
    not positive, InputError for other inputs.

    Example:
        >>> net = cc.models.PoseNet(sources=2, width=0.25)
        >>> net.labels[:2], net.poses(torch.rand(1, 9, 64, 96)).shape
        (('tx of source 1', 'ty of source 1'), torch.Size([1, 2, 6]))
    """

    def __init__(self, sources: int = 1, width: float = 1.0, masks: bool = False) -> None:
        super().__init__()
        if sources < 1:
            raise ModelError(f"there are {sources} sources; expected at least 1 beside the target")
        self.sources: int = sources
        self.has_masks: bool = masks
        self.labels: tuple[str, ...] = (
            MOTION
            if sources == 1
            else tuple(f"{m} of source {s + 1}" for s in range(sources) for m in MOTION)
        )
        down = _slim(_POSE, width)
        planes = pairwise((3 * (1 + sources), *down))
        for n, ((before, after), kernel) in enumerate(zip(planes, _KERNELS, strict=True), 1):
            self.add_module(f"conv{n}", nn.Sequential(*_convolution(before, after, kernel, 2)))
        self.pose_pred: nn.Conv2d = nn.Conv2d(down[-1], len(MOTION) * sources, 1)
        if masks:
            self._add_masks((*_slim(_POSE_UP, width), down[4]))
        _initialise(self)

    def _add_masks(self, planes: Sequence[int]) -> None:
        for n in range(len(_POSE_UP), 0, -1):
            double = nn.ConvTranspose2d(planes[n], planes[n - 1], 4, stride=2, padding=1)
            self.add_module(f"upconv{n}", nn.Sequential(double, nn.ReLU()))
        for n in range(_SCALES, 0, -1):
            self.add_module(f"predict_mask{n}", nn.Conv2d(planes[n - 1], self.sources, 3, padding=1))

    def forward(self, x: Tensor) -> Float[Tensor, "batch output"]:
        """Return the poses side by side, source after source, `(batch, 6 · sources)`."""
        return _STEP * self.pose_pred(self._encode(x, len(_POSE))[-1]).mean(dim=(2, 3))

    def poses(self, x: Tensor) -> Float[Tensor, "batch {self.sources} 6"]:
        """Return (tx, ty, tz, rx, ry, rz) from the target to each source."""
        return self(x).unflatten(1, (self.sources, len(MOTION)))

    def masks(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return how far to trust each source, 0 to 1, at four scales.

        `(batch, sources, height / 2^s, width / 2^s)` rounded up, finest first. Raises ModelError where the
        network was made without masks.
        """
        if not self.has_masks:
            raise ModelError("this PoseNet has no masks; make it with masks=True")
        skips = self._encode(x, len(_POSE_UP))
        out = skips.pop()
        masks: list[Tensor] = []
        for n, skip in zip(range(len(_POSE_UP), 0, -1), reversed(skips), strict=True):
            out = _crop(self.get_submodule(f"upconv{n}")(out), skip)
            if n <= _SCALES:
                masks.insert(0, torch.sigmoid(self.get_submodule(f"predict_mask{n}")(out)))
        return masks[0], masks[1], masks[2], masks[3]

    def _encode(self, x: Tensor, stages: int) -> list[Tensor]:
        """Return the input and what the first stages make of it."""
        _check(x, 3 * (1 + self.sources), f"3 · (1 + {self.sources}), target first")
        encoded = [x]
        for n in range(1, stages + 1):
            encoded.append(self.get_submodule(f"conv{n}")(encoded[-1]))
        return encoded


def _slim(channels: Sequence[int], width: float) -> tuple[int, ...]:
    if not width > 0:
        raise ModelError(f"width is {width}; expected a number above 0, 1 for the published one")
    return tuple(max(4, round(width * channel)) for channel in channels)


def _convolution(before: int, after: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(before, after, kernel, stride, padding=kernel // 2), nn.ReLU()


def _crop(upsampled: Tensor, skip: Tensor) -> Tensor:
    return upsampled[:, :, : skip.shape[2], : skip.shape[3]]


def _initialise(network: nn.Module) -> None:
    """Begin as published: Glorot's uniform weights, biases of zero."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer.bias is not None:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def _check(x: Tensor, channels: int, meaning: str) -> None:
    if x.ndim != 4 or x.shape[1] != channels:
        expected = f"(batch, {channels}, height, width): {meaning} channels"
        raise InputError(f"the pictures have shape {tuple(x.shape)}; expected {expected}")
