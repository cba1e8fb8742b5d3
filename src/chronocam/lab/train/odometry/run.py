"""Networks for depth and motion from drives to files: trained by view synthesis, measured, written with a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import __version__
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from chronocam.lab.models.odometry import MEAN, STD, Odometry
from chronocam.lab.models.trained import ODOMETRY
from chronocam.lab.train.odometry.footage import Footage, Splits, find_footage
from chronocam.lab.train.odometry.measure import measure
from chronocam.lab.train.odometry.module import OdometryModule, loss_of
from chronocam.lab.train.run import checkpoint, completed, few, say, track, write
from chronocam.lab.train.settings.odometry import OdometrySettings
from chronocam.lab.train.torch.batches import Shuffled
from chronocam.lab.train.torch.loop import fit, save_weights


def train_odometry(settings: OdometrySettings) -> Path:
    """Train networks for depth and motion and return the path of their record, `OUT/model.json`.

    `OUT/model.safetensors` holds the weights of the epoch with the lowest validation loss, `OUT/checkpoints`
    what a
    later run with `resume` goes on from: it ends where an uninterrupted one would have. The record holds what
    `chronocam.models.load` needs, the command, and the figures on held-out drives that know depth or poses.
    Raises ChronocamError for settings that do not fit the data or the machine.
    """
    return completed(_Run(settings))


class _Run:
    """The parts of one training run."""

    def __init__(self, settings: OdometrySettings) -> None:
        self.settings, self.last = settings, checkpoint(settings)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.drives, self.description = _found(settings), _description(settings)
        torch.manual_seed(settings.seed)
        network = Odometry(settings.depth_width, settings.pose_width, settings.masks)
        self.module = OdometryModule(network, settings, self.description)

    def fit(self) -> tuple[int, list[dict[str, float | int]]]:
        """Train, from the beginning or from a checkpoint, and round the weights where half of the bits are kept."""
        lessons, validation = (_batches(self.settings, self.drives, part) for part in ("train", "validation"))
        best = fit(self.settings, self.module, (lessons, validation), self.last)
        self.weights = {
            name: w.half() if self.settings.half else w for name, w in self.network.state_dict().items()
        }
        self.network.load_state_dict(self.weights)
        return best, self.module.history

    @property
    def network(self) -> Odometry:
        """The networks that are trained."""
        return self.module.network

    def measure(self) -> dict[str, Any]:
        """Return the figures on held-out drives."""
        return measure(self.network, self.drives.parts["test"], self.module.device)

    def write(self, figures: Mapping[str, Any], training: Mapping[str, Any]) -> Path:
        """Write weights and record."""
        record = _record(self.settings, self.drives, self.description, figures, training)
        return write(
            self.settings.out, record, "model.safetensors", lambda path: save_weights(path, self.weights)
        )


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
