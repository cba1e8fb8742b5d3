"""What every training run does, whatever it trains: go on where one stopped, show progress, keep the best."""

from __future__ import annotations

import json
import logging
import math
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from rich.console import Console
from rich.progress import track as track_on
from safetensors.torch import save
from torch import Tensor

from chronocam.errors import InputError
from chronocam.media.files import replace_file
from chronocam.models.specs import first_line

_STDERR = Console(stderr=True, highlight=False, markup=False)
_WARM_UP = 0.1  # of all steps


@runtime_checkable
class Loop(Protocol):
    """The settings that a loop depends on, see `VideoSettings`."""

    @property
    def out(self) -> Path:
        """Folder of the result."""

    @property
    def epochs(self) -> int:
        """Times that everything is seen."""

    @property
    def patience(self) -> int | None:
        """Epochs without a better validation loss after which to stop."""

    @property
    def precision(self) -> str:
        """Of the arithmetic."""

    @property
    def accelerator(self) -> str:
        """Of Lightning."""

    @property
    def resume(self) -> bool:
        """Whether to go on from a checkpoint."""


def checkpoint(settings: Loop) -> Path | None:
    """Return where to go on from; raises InputError where a result would be lost or there is nothing to resume."""
    last = folder(settings) / "last.ckpt"
    if settings.resume and not last.is_file():
        raise InputError(f"there is no `{last}` to resume; expected the out of a run that was stopped")
    if not settings.resume and (last.exists() or (settings.out / "model.json").exists()):
        raise InputError(f"`{settings.out}` holds a run already; expected a new folder, or resume (--resume)")
    return last if settings.resume else None


def folder(settings: Loop) -> Path:
    """Return where the checkpoints of a run are."""
    return settings.out / "checkpoints"


def check_same(last: Path, network: Mapping[str, Any]) -> None:
    """Raise InputError where a checkpoint belongs to a network that is described by other values."""
    try:
        identity = torch.load(last, "cpu", weights_only=True)["identity"]
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(f"`{last}` is damaged ({first_line(error)}); train again in a new folder") from error
    for name, value in network.items():
        if identity.get(name) != value:
            other = f"{name} {identity.get(name)}, not {value}"
            raise InputError(f"`{last}` was made with {other}; resume with the same")


def fit(settings: Loop, module: LightningModule, batches: tuple[Any, Any], last: Path | None) -> int:
    """Train on batches, validate on others, and leave the module with the weights of the best epoch, returned.

    last: the checkpoint to go on from; None begins anew. The best epoch has the lowest `val_loss`.
    """
    trainer = _trainer(settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice on workers and logging
        trainer.fit(module, *batches, ckpt_path=last, weights_only=True)
    best = torch.load(folder(settings) / "best.ckpt", "cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    module.to(trainer.strategy.root_device)
    return int(best["epoch"])


def write(out: Path, record: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """Write weights and record and return the record's path. It comes last: where it is, all is."""
    content = save({name: weight.cpu().contiguous() for name, weight in weights.items()})
    replace_file(out / "model.safetensors", lambda path: path.write_bytes(content))
    text = json.dumps(record, indent=2) + "\n"
    return replace_file(out / "model.json", lambda path: path.write_text(text, encoding="utf-8"))


def share_of_rate(step: int, total: int) -> float:
    """Return by what the learning rate is multiplied at a step of `total`: a linear rise, then a cosine to 0."""
    warm = max(1, round(_WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))


def scheduled(optimiser: torch.optim.Optimizer, module: LightningModule) -> dict[str, Any]:
    """Return what Lightning wants of an optimiser whose rate follows `share_of_rate`."""
    total = int(module.trainer.estimated_stepping_batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: share_of_rate(step, total))
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def track(numbers: Iterable[int], what: str) -> Iterable[int]:
    """Pass numbers on and show on stderr how far it is."""
    return track_on(numbers, what, console=_STDERR, transient=True)


def say(line: str) -> None:
    """Print a line to stderr."""
    _STDERR.print(line, soft_wrap=True)


def few(names: list[str], limit: int = 10) -> str:
    """Return the first of many names."""
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def _trainer(settings: Loop) -> Trainer:
    """Return Lightning's loop: best and last checkpoint, early stopping; progress on stderr."""
    kept: Any = {"dirpath": folder(settings), "enable_version_counter": False, "save_on_train_epoch_end": True}
    precision: Any = settings.precision
    callbacks: list[Callback] = [
        ModelCheckpoint(filename="best", monitor="val_loss", **kept),
        ModelCheckpoint(filename="last", **kept),
    ]
    if _STDERR.is_terminal:
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
            enable_progress_bar=_STDERR.is_terminal,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError) as error:
        problem = f"accelerator `{settings.accelerator}` with precision {settings.precision}"
        raise InputError(f"{problem}: {first_line(error)}; pass accelerator cpu, or auto") from error
