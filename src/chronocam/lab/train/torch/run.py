"""What training runs with PyTorch and Lightning share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from lightning import __version__
from torch import Tensor

from chronocam.jsonable import Json
from chronocam.lab.train.run import Figures, TrainingRun, write_files
from chronocam.lab.train.settings.base import Settings
from chronocam.lab.train.torch.loop import Batches, Learner, fit, save_weights


class TorchRun(TrainingRun):
    """A run by Lightning's loop; module: what it trains."""

    module: Learner

    def __init__(self, settings: Settings) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        super().__init__(settings)

    def batches(self) -> Batches:
        """Return the batches to train on and those to validate on."""
        raise NotImplementedError(f"{type(self).__name__} must define batches()")

    def fit(self) -> tuple[int, list[Figures]]:
        """Train, from the beginning or from a checkpoint; return the best epoch and the figures of all."""
        best = fit(self.settings, self.module, self.batches(), self.last)
        return best, self.module.history

    def weights(self) -> Mapping[str, Tensor]:
        """Return what is written as the network's weights."""
        return self.module.network.state_dict()

    def write(self, record: Json) -> Path:
        """Write weights and record, and return the record's path."""
        record = {**record, "versions": {"torch": torch.__version__, "lightning": __version__}}
        weights = self.weights()
        return write_files(
            self.settings.out, record, "model.safetensors", lambda path: save_weights(path, weights)
        )
