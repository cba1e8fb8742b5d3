"""What Lightning trains: a network for pictures, its loss, its optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, UInt8
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from chronocam.media import Preprocess
from chronocam.models.image_nets import last_layer
from chronocam.train.batches import Batch, augment, mixed, unit
from chronocam.train.loop import scheduled
from chronocam.train.settings_images import ImageSettings


class ImagesModule(LightningModule):
    """A network with its settings.

    identity: what a checkpoint must share with a run that resumes it. say: takes a line on each epoch.
    unread: names of pictures that could not be read. history: the figures of each epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: ImageSettings,
        preprocess: Preprocess,
        identity: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.network, self.settings, self.identity, self.say = network, settings, identity, say
        self.mean, self.std = (torch.tensor(values).reshape(3, 1, 1) for values in (preprocess.mean, preprocess.std))
        self.unread: set[str] = set()
        self.history: list[dict[str, float]] = []
        self._losses: list[Tensor] = []
        self.head = network.get_submodule(last_layer(network))
        if settings.freeze:
            network.requires_grad_(False)
            self.head.requires_grad_(True)
            network.eval()

    def train(self, mode: bool = True) -> ImagesModule:
        """Set the mode of training; what is frozen stays in that of inference, and so do BatchNorm's statistics."""
        super().train(mode)
        if self.settings.freeze:
            self.network.eval()
        return self

    def forward(self, pixels: UInt8[Tensor, "batch 1 height width 3"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of pictures as they are in files."""
        return self._logits(unit(pixels))

    def training_step(self, batch: Batch, _index: int) -> Tensor | None:
        """Return the loss of a batch, or None where less than two pictures are left to normalise over."""
        pixels, labels, unread = batch
        self.unread.update(unread)
        if len(labels) < 2:
            return None
        torch.manual_seed(mixed(self.settings.seed, self.global_step))  # a resumed run draws what it would have drawn
        shown = augment(pixels, self.settings.crop, self.settings.flip)
        loss = cross_entropy(self._logits(shown), labels)
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Measure loss and accuracy."""
        pixels, labels, unread = batch
        self.unread.update(unread)
        if not len(labels):
            return
        logits = self(pixels)
        right = (logits.argmax(1) == labels).float().mean()
        for name, value in (("val_loss", cross_entropy(logits, labels)), ("val_accuracy", right)):
            self.log(name, value, batch_size=len(labels), prog_bar=True)

    def on_train_epoch_end(self) -> None:
        """Note the figures of the epoch; an epoch without a readable picture has no loss."""
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        loss = float(torch.stack(self._losses).mean()) if self._losses else math.nan
        self.history.append({"epoch": self.current_epoch, "train_loss": loss, **metrics})
        self.say(", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.history[-1].items()))
        self._losses.clear()

    def configure_optimizers(self) -> Any:
        """Return AdamW over what is trained, with a rate that rises linearly and falls by a cosine."""
        settings = self.settings
        new = list(self.head.parameters())
        known = [p for p in self.network.parameters() if p.requires_grad and all(p is not one for one in new)]
        groups = [{"params": known, "lr": settings.lr}, {"params": new, "lr": settings.lr * settings.head_lr}]
        groups = [group for group in groups if group["params"]]
        return scheduled(torch.optim.AdamW(groups, weight_decay=settings.weight_decay), self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what tells whether a run can go on from here."""
        checkpoint |= {"identity": self.identity, "history": self.history}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the history of the run that stopped."""
        self.history = checkpoint["history"]

    def _logits(self, clips: Float[Tensor, "batch 1 3 height width"]) -> Float[Tensor, "batch classes"]:
        prepared = clips[:, 0].sub(self.mean.to(clips)).div(self.std.to(clips))
        logits: Tensor = self.network(prepared)
        return logits.float()
