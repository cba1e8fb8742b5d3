"""What Lightning trains: a network for clips, its loss, its optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from chronocam.models.cnn_lstm import CNNLSTM
from chronocam.models.video_nets import architecture
from chronocam.train.batches import Batch, augment, mixed, unit
from chronocam.train.loop import scheduled
from chronocam.train.settings import VideoSettings
from chronocam.train.weights import answers


class VideoModule(LightningModule):
    """A network with its settings.

    identity: what a checkpoint must share with a run that resumes it. say: takes a line on each epoch.
    unread: names of clips that could not be read. history: the figures of each epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: VideoSettings,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        identity: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.network, self.settings, self.identity, self.say = network, settings, identity, say
        self.axes = architecture(settings.arch).axes
        self.mean, self.std = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, std))
        self.unread: set[str] = set()
        self.history: list[dict[str, float]] = []
        self._losses: list[Tensor] = []
        self.per_step = isinstance(network, CNNLSTM) and network.per_step
        if isinstance(network, CNNLSTM):
            network.lstm.register_forward_pre_hook(self._show_change)

    def forward(self, pixels: UInt8[Tensor, "batch time height width 3"]) -> Float[Tensor, "batch *step classes"]:
        """Return the logits of clips as they are in files, after every frame where the network gives those."""
        return self._logits(unit(pixels))

    def training_step(self, batch: Batch, _index: int) -> Tensor | None:
        """Return the loss of a batch, or None where less than two clips are left to normalise over."""
        pixels, labels, unread = batch
        self.unread.update(unread)
        if len(labels) < 2:
            return None
        torch.manual_seed(mixed(self.settings.seed, self.global_step))  # a resumed run draws what it would have drawn
        clips = augment(pixels, self.settings.crop, self.settings.flip)
        if self.per_step and len(labels) > 1:
            clips, labels = end_to_end(clips, labels)
        loss = _loss(self._logits(clips), labels)
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Measure loss and accuracy."""
        pixels, labels, unread = batch
        self.unread.update(unread)
        if not len(labels):
            return
        logits = self(pixels)
        right = (voted(logits) == labels).float().mean()
        for name, value in (("val_loss", _loss(logits, labels)), ("val_accuracy", right)):
            self.log(name, value, batch_size=len(labels), prog_bar=True)

    def on_train_epoch_end(self) -> None:
        """Note the figures of the epoch; an epoch without a readable clip has no loss."""
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        loss = float(torch.stack(self._losses).mean()) if self._losses else math.nan
        self.history.append({"epoch": self.current_epoch, "train_loss": loss, **metrics})
        self.say(", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.history[-1].items()))
        self._losses.clear()

    def configure_optimizers(self) -> Any:
        """Return AdamW with a rate that rises linearly and falls by a cosine."""
        settings = self.settings
        rates = ((settings.lr, False), (settings.lr * settings.head_lr, True))
        groups = [
            {"params": [p for name, p in self.network.named_parameters() if answers(name) == head], "lr": rate}
            for rate, head in rates
        ]
        return scheduled(torch.optim.AdamW(groups, weight_decay=settings.weight_decay), self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what tells whether a run can go on from here."""
        checkpoint |= {"identity": self.identity, "history": self.history}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the history of the run that stopped."""
        self.history = checkpoint["history"]

    def _show_change(self, lstm: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Take a share of the mean over time from the features, less and less with every step of training.

        At random weights clips differ most by their backgrounds, and an LSTM over them stays at chance for thousands
        of steps; with the mean gone, what moves is all there is. It is scaled up to the spread that the features had.
        Clips that lie end to end are taken one by one.
        """
        (features,) = inputs
        steps = self.settings.change_first * self.trainer.estimated_stepping_batches if lstm.training else 0
        share = 1 - self.global_step / steps if steps else 0
        if share <= 0:
            return inputs
        clips = features.reshape(len(features), -1, self.settings.frames, features.shape[2])
        change = (clips - share * clips.mean(dim=2, keepdim=True)).flatten(1, 2)
        return (change * (features.std((0, 1)) / change.std((0, 1)).clamp_min(1e-6)),)

    def _logits(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch *step classes"]:
        prepared = clips.sub_(self.mean.to(clips)).div_(self.std.to(clips))
        outputs = self.network(prepared.transpose(1, 2) if self.axes == "channel time" else prepared)
        return (outputs["logits"] if isinstance(outputs, dict) else outputs).float()


def end_to_end(
    clips: Float[Tensor, "batch time 3 height width"], labels: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, "half twice 3 height width"], Int[Tensor, "half twice"]]:
    """Lay clips end to end, two and two, so that a network with logits after every frame meets changes of class.

    The labels become one per frame. A clip without a partner is left out.
    """
    half, frames = len(labels) // 2, clips.shape[1]
    pairs = clips[: 2 * half].reshape(half, 2 * frames, *clips.shape[2:])
    return pairs, labels[: 2 * half].reshape(half, 2).repeat_interleave(frames, dim=1)


def voted(logits: Float[Tensor, "batch *step classes"]) -> Int[Tensor, " batch"]:
    """Return the class of each clip: that of the largest logit, by a majority of the steps where there are several."""
    found = logits.argmax(-1)
    return found.mode(dim=1).values if found.ndim == 2 else found


def _loss(logits: Float[Tensor, "batch *step classes"], labels: Int[Tensor, "*clips"]) -> Float[Tensor, ""]:
    """Return the cross-entropy, averaged over the steps; one label per clip is that of all its steps."""
    if labels.ndim < logits.ndim - 1:
        labels = labels[:, None].expand(logits.shape[:2])
    return cross_entropy(logits.movedim(-1, 1), labels)
