"""A network for clips from data to files: trained, measured on held-out clips, written with its record."""

from __future__ import annotations

import json
import logging
import pickle
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import __version__
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from rich.console import Console
from rich.progress import track
from safetensors.torch import save

from chronocam.errors import InputError
from chronocam.media.files import replace_file
from chronocam.models.sources.trained import FORMAT
from chronocam.models.specs import first_line
from chronocam.models.video_nets import architecture, check_backbone, recipe, video_net
from chronocam.train.batches import Shuffled, loader
from chronocam.train.clips import CALM, Clips, Splits, cached, find_clips, insist_on_one, joined
from chronocam.train.measure import measure
from chronocam.train.module import VideoModule
from chronocam.train.settings import VideoSettings
from chronocam.train.weights import start_from

_STDERR = Console(stderr=True, highlight=False, markup=False)


def train_video(settings: VideoSettings) -> Path:
    """Train a network for clips and return the path of its record, `OUT/model.json`.

    `OUT/model.safetensors` holds the weights of the epoch with the lowest validation loss, `OUT/checkpoints` what a
    later run with `resume` goes on from: it ends where an uninterrupted one would have. The record holds what
    `chronocam.models.load` needs, the command, and the figures on held-out clips. A clip that cannot be read is
    skipped and named. Raises ChronocamError for settings that do not fit the data, the network or the machine.
    """
    settings = replace(settings, backbone=settings.backbone or architecture(settings.arch).backbone)
    last = _checkpoint(settings)
    run = _Run(settings)
    begin = time.perf_counter()
    trainer = run.fit(last)
    minutes = round((time.perf_counter() - begin) / 60, 1)
    best = torch.load(run.folder / "best.ckpt", "cpu", weights_only=True)
    run.module.load_state_dict(best["state_dict"])
    run.module.to(trainer.strategy.root_device)
    figures = measure(run.module, run.clips.parts["test"], run.clips.labels)
    training = {"training minutes": minutes, "epochs": run.module.history, "best epoch": best["epoch"]}
    return run.write(figures, training)


def _checkpoint(settings: VideoSettings) -> Path | None:
    """Return where to go on from; raises InputError where a result would be lost or there is nothing to resume."""
    last = settings.out / "checkpoints" / "last.ckpt"
    if settings.resume and not last.is_file():
        raise InputError(f"there is no `{last}` to resume; expected the out of a run that was stopped")
    if not settings.resume and (last.exists() or (settings.out / "model.json").exists()):
        raise InputError(f"`{settings.out}` holds a run already; expected a new folder, or resume (--resume)")
    return last if settings.resume else None


class _Run:
    """The parts of one training run."""

    def __init__(self, settings: VideoSettings) -> None:
        arch, backbone = settings.arch, str(settings.backbone)
        check_backbone(arch, backbone)
        mean, std, side = recipe(backbone)
        self.settings, self.folder = settings, settings.out / "checkpoints"
        size = settings.size or side
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.clips = _clips(settings, size)
        self.network = {
            "arch": arch,
            "backbone": backbone,
            "hidden": settings.hidden,
            "labels": list(self.clips.labels),
            "frames": settings.frames,
            "size": [size, size],
            "mean": list(mean),
            "std": list(std),
            "axes": architecture(arch).axes,
            "sampling": settings.sampling,
        }
        torch.manual_seed(settings.seed)
        net = video_net(arch, backbone, len(self.clips.labels), settings.hidden)
        if settings.weights is not None:
            start_from(net, settings.weights, backbone)
        self.module = VideoModule(net, settings, mean, std, self.network, _say)

    def fit(self, last: Path | None) -> Trainer:
        """Train from the beginning, or from a checkpoint."""
        settings, parts = self.settings, self.clips.parts
        if last is not None:
            self._check_same(last)
        train = _lessons(parts, settings)
        validation = loader(parts["validation"], settings.batch_size, settings.workers)
        trainer = _trainer(settings, self.folder)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")  # advice on workers and logging
            trainer.fit(self.module, train, validation, ckpt_path=last, weights_only=True)
        return trainer

    def write(self, figures: Mapping[str, Any], training: Mapping[str, Any]) -> Path:
        """Write weights and record, the record last: where it is, all is."""
        settings, clips = self.settings, self.clips
        unread = sorted(self.module.unread)
        record = {
            "format": FORMAT,
            **self.network,
            "seed": settings.seed,
            "command": settings.command(),
            "data": clips.layout,
            "clips": {name: len(part) for name, part in clips.parts.items()},
            "clips missing": len(clips.missing),
            "clips unreadable": unread,
            "held-out": figures,
            **training,
            "versions": {"torch": torch.__version__, "lightning": __version__},
        }
        if unread:
            _say(f"{len(unread)} clips could not be read and were skipped: {_few(unread)}")
        weights = save({k: v.contiguous() for k, v in self.module.network.cpu().state_dict().items()})
        replace_file(settings.out / "model.safetensors", lambda path: path.write_bytes(weights))
        text = json.dumps(record, indent=2) + "\n"
        return replace_file(settings.out / "model.json", lambda path: path.write_text(text, encoding="utf-8"))

    def _check_same(self, last: Path) -> None:
        """Raise InputError where the checkpoint belongs to another network or other classes."""
        try:
            identity = torch.load(last, "cpu", weights_only=True)["identity"]
        except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
            raise InputError(f"`{last}` is damaged ({first_line(error)}); train again in a new folder") from error
        for name, value in self.network.items():
            if identity.get(name) != value:
                other = f"{name} {identity.get(name)}, not {value}"
                raise InputError(f"`{last}` was made with {other}; resume with the same")


def _lessons(parts: Mapping[str, Clips], settings: VideoSettings) -> Any:
    """Return the batches to train on: calm clips first where they are wanted."""
    clips, calm = parts["train"], parts.get(CALM)
    order = Shuffled(len(clips), settings.seed, len(calm) if calm else 0, settings.calm_epochs)
    shown = joined(clips, calm) if calm else clips
    return loader(shown, settings.batch_size, settings.workers, order)


def _clips(settings: VideoSettings, size: int) -> Splits:
    """Find the clips, decode them once where a cache is wanted, and tell what there is."""
    clips = find_clips(settings, size)
    if settings.cache is not None:
        folder = settings.cache
        clips = replace(clips, parts={name: cached(part, folder, _track) for name, part in clips.parts.items()})
    for part in clips.parts.values():
        insist_on_one(part)
    told = ", ".join(f"{len(part)} for {name}" for name, part in clips.parts.items())
    _say(f"{clips.layout}: {len(clips.labels)} classes, clips: {told}")
    if clips.missing:
        _say(f"{len(clips.missing)} clips are listed and missing: {_few(clips.missing)}")
    return clips


def _track(numbers: Iterable[int], what: str) -> Iterable[int]:
    return track(numbers, what, console=_STDERR, transient=True)


def _say(line: str) -> None:
    _STDERR.print(line, soft_wrap=True)


def _few(names: list[str], limit: int = 10) -> str:
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def _trainer(settings: VideoSettings, folder: Path) -> Trainer:
    """Return Lightning's loop: best and last checkpoint, early stopping; progress on stderr."""
    kept: Any = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
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
