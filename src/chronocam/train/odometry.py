"""Networks for depth and motion from drives to files: trained by view synthesis, measured, written with a record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import __version__
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from chronocam.models.odometry import MEAN, STD, Odometry
from chronocam.models.sources.trained import ODOMETRY
from chronocam.train.batches import Shuffled
from chronocam.train.footage import Footage, Splits, find_footage
from chronocam.train.loop import check_same, checkpoint, few, fit, say, track, write
from chronocam.train.odometry_measure import measure
from chronocam.train.odometry_module import OdometryModule, loss_of
from chronocam.train.settings_odometry import OdometrySettings


def train_odometry(settings: OdometrySettings) -> Path:
    """Train networks for depth and motion and return the path of their record, `OUT/model.json`.

    `OUT/model.safetensors` holds the weights of the epoch with the lowest validation loss, `OUT/checkpoints` what a
    later run with `resume` goes on from: it ends where an uninterrupted one would have. The record holds what
    `chronocam.models.load` needs, the command, and the figures on held-out drives that know depth or poses. Raises
    ChronocamError for settings that do not fit the data or the machine.
    """
    last = checkpoint(settings)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    drives = _found(settings)
    description = _description(settings)
    if last is not None:
        check_same(last, description)
    torch.manual_seed(settings.seed)
    network = Odometry(settings.depth_width, settings.pose_width, settings.masks)
    module = OdometryModule(network, settings, description, say)
    begin = time.perf_counter()
    best = fit(settings, module, (_batches(settings, drives, "train"), _batches(settings, drives, "validation")), last)
    minutes = round((time.perf_counter() - begin) / 60, 1)
    weights = {name: w.half() if settings.half else w for name, w in network.state_dict().items()}
    network.load_state_dict(weights)
    figures = measure(network, drives.parts["test"], module.device)
    training = {"training minutes": minutes, "epochs": module.history, "best epoch": best}
    return write(settings.out, _record(settings, drives, description, figures, training), weights)


def _found(settings: OdometrySettings) -> Splits:
    drives = find_footage(settings)
    told = ", ".join(f"{len(part)} for {name}" for name, part in drives.parts.items())
    say(f"{drives.source}: drives: {told}")
    if drives.unread:
        say(f"{len(drives.unread)} drives could not be read and were skipped: {few(drives.unread)}")
    return drives


def _description(settings: OdometrySettings) -> dict[str, Any]:
    return {
        "depth_width": settings.depth_width,
        "pose_width": settings.pose_width,
        "masks": settings.masks,
        "size": [settings.height, settings.width],
        "mean": list(MEAN),
        "std": list(STD),
        "view synthesis": asdict(loss_of(settings)),
    }


def _record(
    settings: OdometrySettings,
    drives: Splits,
    description: Mapping[str, Any],
    figures: Mapping[str, Any],
    training: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "format": ODOMETRY,
        **description,
        "seed": settings.seed,
        "command": settings.command(),
        "data": drives.source,
        "drives": {name: len(part) for name, part in drives.parts.items()},
        "drives unreadable": drives.unread,
        "held-out": figures,
        **training,
        "versions": {"torch": torch.__version__, "lightning": __version__},
    }


def _batches(settings: OdometrySettings, drives: Splits, part: str) -> Any:
    footage = Footage(drives.parts[part])
    if settings.cache is not None:
        footage = footage.cached(settings.cache, (settings.height, settings.width), track)
    order = Shuffled(len(footage), settings.seed) if part == "train" else None
    return DataLoader(_Snippets(footage), settings.batch_size, sampler=order, num_workers=settings.workers)


class _Snippets(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, footage: Footage) -> None:
        self.footage = footage

    def __len__(self) -> int:
        return len(self.footage)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels, intrinsics = self.footage.snippet(index)
        return torch.tensor(pixels), torch.tensor(intrinsics, dtype=torch.float32)
