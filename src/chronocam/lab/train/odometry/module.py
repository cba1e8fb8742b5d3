"""What Lightning trains: networks for depth and motion, by view synthesis alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from chronocam.jsonable import Json
from chronocam.lab.models.odometry import MEAN, STD, Odometry
from chronocam.lab.train.settings import OdometrySettings
from chronocam.lab.train.torch.batches import mixed
from chronocam.lab.train.torch.loop import Learner
from chronocam.odometry import MONODEPTH2, SFMLEARNER, Terms, ViewSynthesis

RECIPES = {"monodepth2": MONODEPTH2, "sfmlearner": SFMLEARNER}
"""The losses by name."""

Batch: TypeAlias = list[Tensor]
"""Frames before, at and after a moment, `(batch, 3, height, width, 3)`, and intrinsics `(batch, 3, 3)`."""


class OdometryModule(Learner):
    """The networks with their settings; identity: what a checkpoint must share with a run that resumes it."""

    network: Odometry

    def __init__(self, network: Odometry, settings: OdometrySettings, identity: Json) -> None:
        super().__init__(identity)
        network.to(memory_format=torch.channels_last)  # convolutions take half the time so on a CPU
        self.network = network
        self.settings = settings
        self.loss = loss_of(settings)

    def forward(
        self, views: Float[Tensor, "batch 3 3 height width"], intrinsics: Float[Tensor, "batch 3 3"]
    ) -> Terms:
        """Return the loss of snippets in [0, 1]."""
        target, sources = views[:, 1], views[:, ::2]
        disparities, poses, masks = self.network(_prepared(target), _prepared(sources))
        return self.loss(target, sources, disparities, poses.float(), intrinsics, masks)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of a batch."""
        torch.manual_seed(mixed(self.settings.seed, self.global_step))  # resumed or not, the same draws
        pixels, intrinsics = batch
        return self.noted(self(*augment(pixels, intrinsics, self.settings.flip)).total.mean())

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Measure the loss and its photometric part."""
        pixels, intrinsics = batch
        terms = self(unit(pixels), intrinsics)
        for name, value in (("val_loss", terms.total), ("val_photometric", terms.photometric)):
            self.log(name, value.mean(), batch_size=len(pixels), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Return AdamW with a rate that rises linearly and falls by a cosine."""
        groups = [{"params": list(self.network.parameters()), "lr": self.settings.lr}]
        return self.scheduled(groups, self.settings.weight_decay)


def loss_of(settings: OdometrySettings) -> ViewSynthesis:
    """Return the loss that the settings name, with their changes."""
    changes: Json = {
        name: getattr(settings, name)
        for name in ("photometric", "auto_mask", "outside", "full_resolution", "smooth", "smooth_weight")
        if getattr(settings, name) is not None
    }
    return replace(RECIPES[settings.loss], **changes)


def unit(pixels: UInt8[Tensor, "batch time height width 3"]) -> Float[Tensor, "batch time 3 height width"]:
    """Return RGB in [0, 1] with the channels before the rows."""
    return (pixels / 255).permute(0, 1, 4, 2, 3)


def augment(
    pixels: UInt8[Tensor, "batch time height width 3"], intrinsics: Float[Tensor, "batch 3 3"], flip: bool
) -> tuple[Float[Tensor, "batch time 3 height width"], Float[Tensor, "batch 3 3"]]:
    """Return snippets in [0, 1], lit at random, and half of them mirrored, with the intrinsics that fit.

    The frames of a snippet are changed alike: brightness must not look like motion.
    """
    views, matrix = unit(pixels), intrinsics.float().clone()
    gains = 0.8 + 0.4 * torch.rand(len(views), 1, 1, 1, 1, device=views.device)
    if flip:
        mirrored = torch.rand(len(views), device=views.device) < 0.5
        views = torch.where(mirrored[:, None, None, None, None], views.flip(4), views)
        # Pixel centres are at whole numbers, so x becomes width − 1 − x, and so does the principal point.
        matrix[:, 0, 2] = torch.where(mirrored, views.shape[4] - 1 - matrix[:, 0, 2], matrix[:, 0, 2])
    return (gains * views).clamp(0, 1), matrix


def _prepared(pictures: Tensor) -> Tensor:
    mean, std = (pictures.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (pictures - mean) / std
