"""What Lightning trains: networks for depth and motion, by view synthesis alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, UInt8
from lightning.pytorch import LightningModule
from torch import Tensor

from chronocam.models.odometry import MEAN, STD, Odometry
from chronocam.odometry import MONODEPTH2, SFMLEARNER, Terms, ViewSynthesis
from chronocam.train.batches import mixed
from chronocam.train.loop import scheduled
from chronocam.train.settings_odometry import OdometrySettings

RECIPES = {"monodepth2": MONODEPTH2, "sfmlearner": SFMLEARNER}
"""The losses by name."""

Batch: TypeAlias = list[Tensor]
"""Frames before, at and after a moment, uint8 `(batch, 3, height, width, 3)`, and their intrinsics `(batch, 3, 3)`."""


class OdometryModule(LightningModule):
    """The networks with their settings.

    identity: what a checkpoint must share with a run that resumes it. say: takes a line on each epoch.
    history: the figures of each epoch.
    """

    def __init__(
        self, network: Odometry, settings: OdometrySettings, identity: dict[str, Any], say: Callable[[str], None]
    ) -> None:
        super().__init__()
        network.to(memory_format=torch.channels_last)  # convolutions take half the time so on a CPU
        self.network, self.settings, self.identity, self.say = network, settings, identity, say
        self.loss = loss_of(settings)
        self.history: list[dict[str, float]] = []
        self._losses: list[Tensor] = []

    def forward(self, views: Float[Tensor, "batch 3 3 height width"], intrinsics: Float[Tensor, "batch 3 3"]) -> Terms:
        """Return the loss of snippets in [0, 1]."""
        target, sources = views[:, 1], views[:, ::2]
        disparities, poses, masks = self.network(_prepared(target), _prepared(sources))
        return self.loss(target, sources, disparities, poses.float(), intrinsics, masks)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of a batch."""
        torch.manual_seed(mixed(self.settings.seed, self.global_step))  # a resumed run draws what it would have drawn
        pixels, intrinsics = batch
        loss = self(*augment(pixels, intrinsics, self.settings.flip)).total.mean()
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Measure the loss and its photometric part."""
        pixels, intrinsics = batch
        terms = self(unit(pixels), intrinsics)
        for name, value in (("val_loss", terms.total), ("val_photometric", terms.photometric)):
            self.log(name, value.mean(), batch_size=len(pixels), prog_bar=True)

    def on_train_epoch_end(self) -> None:
        """Note the figures of the epoch."""
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        loss = float(torch.stack(self._losses).mean()) if self._losses else math.nan
        self.history.append({"epoch": self.current_epoch, "train_loss": loss, **metrics})
        self.say(", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.history[-1].items()))
        self._losses.clear()

    def configure_optimizers(self) -> Any:
        """Return AdamW with a rate that rises linearly and falls by a cosine."""
        settings = self.settings
        return scheduled(
            torch.optim.AdamW(self.network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay), self
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what tells whether a run can go on from here."""
        checkpoint |= {"identity": self.identity, "history": self.history}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the history of the run that stopped."""
        self.history = checkpoint["history"]


def loss_of(settings: OdometrySettings) -> ViewSynthesis:
    """Return the loss that the settings name, with their changes."""
    changes: dict[str, Any] = {
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
        matrix[:, 0, 2] = torch.where(mirrored, views.shape[4] - 1 - matrix[:, 0, 2], matrix[:, 0, 2])
    return (gains * views).clamp(0, 1), matrix


def _prepared(pictures: Tensor) -> Tensor:
    mean, std = (pictures.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (pictures - mean) / std
