"""Networks for depth and motion from drives to files: trained, measured, written with a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from chronocam.errors import few
from chronocam.jsonable import Json
from chronocam.lab.models.odometry import MEAN, STD, Odometry
from chronocam.lab.models.trained import ODOMETRY
from chronocam.lab.train.odometry.footage import Footage, find_footage
from chronocam.lab.train.odometry.measure import measure
from chronocam.lab.train.odometry.module import OdometryModule, loss_of
from chronocam.lab.train.run import Figures, track
from chronocam.lab.train.settings import OdometrySettings
from chronocam.lab.train.torch.batches import Shuffled
from chronocam.lab.train.torch.loop import Batches
from chronocam.lab.train.torch.run import TorchRun
from chronocam.runs.terminal import say


def train_odometry(settings: OdometrySettings) -> Path:
    """Train networks for depth and motion and return the path of their record, `OUT/model.json`.

    `OUT/model.safetensors` holds the weights of the epoch with the lowest validation loss. `OUT/checkpoints`
    holds what a later run with `resume` continues from; it ends where an uninterrupted one would have. The
    record holds what `chronocam.models.load` needs, the command, and the figures on held-out drives with
    known depth or poses. Raises ChronocamError for settings that do not fit the data or the machine.

    Example:
        >>> small = {"epochs": 1, "drives": 2, "held_out": 2, "height": 32, "width": 48, "depth_width": 0.125}
        >>> cc.train.train_odometry(cc.train.OdometrySettings("drives", Path("net"), **small)).name
        'model.json'
    """
    return OdometryRun(settings).completed()


class OdometryRun(TorchRun):
    """A run on drives."""

    settings: OdometrySettings
    module: OdometryModule

    def __init__(self, settings: OdometrySettings) -> None:
        super().__init__(settings)
        self.drives = find_footage(settings)
        counts = ", ".join(f"{len(part)} for {name}" for name, part in self.drives.parts.items())
        say(f"{self.drives.source}: drives: {counts}")
        if unread := self.drives.unread:
            say(f"{len(unread)} drives could not be read and were skipped: {few(unread, 10)}")
        network = {
            "depth_width": settings.depth_width,
            "pose_width": settings.pose_width,
            "masks": settings.masks,
            "size": [settings.height, settings.width],
            "mean": list(MEAN),
            "std": list(STD),
            "view synthesis": asdict(loss_of(settings)),
        }
        self.network = {"format": ODOMETRY, **network}
        torch.manual_seed(settings.seed)
        net = Odometry(settings.depth_width, settings.pose_width, settings.masks)
        self.module = OdometryModule(net, settings, network)

    def batches(self) -> Batches:
        """Return the batches to train on and those to validate on."""
        return self._batches("train", shuffled=True), self._batches("validation", shuffled=False)

    def _batches(self, part: str, *, shuffled: bool) -> DataLoader[Any]:
        settings = self.settings
        footage = Footage(self.drives.parts[part])
        if settings.cache is not None:
            footage = footage.cached(settings.cache, (settings.height, settings.width), track)
        order = Shuffled(len(footage), settings.seed) if shuffled else None
        return DataLoader(
            _Snippets(footage), settings.batch_size, sampler=order, num_workers=settings.workers
        )

    def fit(self) -> tuple[int, list[Figures]]:
        """Train, and round the weights as they are written: the figures are those of the written weights."""
        best, history = super().fit()
        self.module.network.load_state_dict(self.weights())
        return best, history

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights in the precision in which they are written."""
        weights = self.module.network.state_dict()
        return {name: w.half() for name, w in weights.items()} if self.settings.half else weights

    def measure(self) -> Json:
        """Return the figures on held-out drives."""
        return measure(self.module.network, self.drives.parts["test"], self.module.device)

    def data(self) -> Json:
        """Return what the record says of the drives."""
        return {
            "data": self.drives.source,
            "drives": {name: len(part) for name, part in self.drives.parts.items()},
            "drives unreadable": self.drives.unread,
        }


class _Snippets(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, footage: Footage) -> None:
        self.footage = footage

    def __len__(self) -> int:
        return len(self.footage)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels, intrinsics = self.footage.snippet(index)
        return torch.tensor(pixels), torch.tensor(intrinsics, dtype=torch.float32)
