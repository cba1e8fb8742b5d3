"""Lightning's part of a training run: what each of its modules does, and the loop around them."""

from __future__ import annotations

import logging
import math
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader

from chronocam.errors import InputError, first_line
from chronocam.jsonable import Json
from chronocam.lab.train.run import STDERR, Figures, folder, insist_on_same, say_epoch, share_of_rate
from chronocam.lab.train.settings.base import Settings

Batches: TypeAlias = tuple[DataLoader[Any], DataLoader[Any]]
"""Those to train on and those to validate on."""


class Learner(LightningModule):
    """What is trained, with the figures of each epoch.

    network: what is trained.
    identity: what a checkpoint must share with a run that resumes it.
    history: the figures of each epoch.
    unread: names of what could not be read.
    """

    network: nn.Module

    def __init__(self, identity: Json) -> None:
        super().__init__()
        self.identity = identity
        self.unread: set[str] = set()
        self.history: list[Figures] = []
        self._losses: list[Tensor] = []

    def noted(self, loss: Tensor) -> Tensor:
        """Return the loss of a batch, which counts for the epoch's."""
        self._losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Note and print the figures of the epoch; an epoch in which nothing could be read has no loss."""
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        loss = float(torch.stack(self._losses).mean()) if self._losses else math.nan
        self.history.append({"epoch": self.current_epoch, "train_loss": loss, **metrics})
        say_epoch(self.history[-1])
        self._losses.clear()

    def on_save_checkpoint(self, checkpoint: Json) -> None:
        """Store what a run must share to continue from here, and the figures so far."""
        checkpoint |= {"identity": dict(self.identity), "history": self.history}

    def on_load_checkpoint(self, checkpoint: Json) -> None:
        """Continue the history of the interrupted run."""
        self.history = checkpoint["history"]

    def scheduled(self, groups: list[Json], weight_decay: float) -> Json:
        """Return AdamW over groups of parameters, with a rate that follows `share_of_rate`."""
        optimiser = torch.optim.AdamW(
            [group for group in groups if group["params"]], weight_decay=weight_decay
        )
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: share_of_rate(step, total))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def check_same(last: Path, network: Json) -> None:
    """Raise InputError where a checkpoint belongs to a network that is described by other values."""
    try:
        identity = torch.load(last, "cpu", weights_only=True)["identity"]
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(f"`{last}` is damaged ({first_line(error)}); train again in a new folder") from error
    insist_on_same(last, identity, network)


def fit(settings: Settings, module: Learner, batches: Batches, last: Path | None) -> int:
    """Train and validate; give the module the weights of the best epoch, and return that epoch.

    last: the checkpoint to go on from; None begins anew. The best epoch has the lowest `val_loss`.
    """
    if last is not None:
        check_same(last, module.identity)
    trainer = _trainer(settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice on workers and logging
        # Checkpoints are files, and a pickle in one could run code: only tensors and plain values are read.
        trainer.fit(module, *batches, ckpt_path=last, weights_only=True)
    best = torch.load(folder(settings) / "best.ckpt", "cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    module.to(trainer.strategy.root_device)
    return int(best["epoch"])


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors."""
    path.write_bytes(save({name: weight.cpu().contiguous() for name, weight in weights.items()}))


def _trainer(settings: Settings) -> Trainer:
    """Return Lightning's loop: best and last checkpoint, early stopping; progress on stderr."""
    options: Any = {
        "dirpath": folder(settings),
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    precision: Any = settings.precision
    callbacks: list[Callback] = [
        ModelCheckpoint(filename="best", monitor="val_loss", **options),
        ModelCheckpoint(filename="last", **options),
    ]
    if STDERR.is_terminal:
        callbacks.append(RichProgressBar(leave=False, console_kwargs={"stderr": True}))
    if settings.patience is not None:
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    try:
        return Trainer(
            accelerator=settings.accelerator,
            devices=1,
            precision=precision,
            max_epochs=settings.epochs,
            callbacks=callbacks,
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=STDERR.is_terminal,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError) as error:
        problem = f"accelerator `{settings.accelerator}` with precision {settings.precision}"
        raise InputError(f"{problem}: {first_line(error)}; pass accelerator cpu, or auto") from error
