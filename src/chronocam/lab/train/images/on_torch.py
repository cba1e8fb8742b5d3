"""The run on pictures with PyTorch and Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from lightning import __version__
from torch import nn

from chronocam.errors import InputError, first_line
from chronocam.lab.models.images import check_arch, image_net, recipe
from chronocam.lab.models.trained import IMAGES
from chronocam.lab.train.images.module import ImagesModule
from chronocam.lab.train.images.run import ImagesRun
from chronocam.lab.train.run import write
from chronocam.lab.train.settings.images import ImageSettings
from chronocam.lab.train.torch.batches import Shuffled, loader
from chronocam.lab.train.torch.loop import fit, save_weights
from chronocam.lab.train.torch.weights import start_from


class Run(ImagesRun):
    """A network of torchvision, trained on pictures."""

    def __init__(self, settings: ImageSettings) -> None:
        check_arch(settings.arch)
        preprocess = recipe(settings.arch, settings.size)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        super().__init__(settings)
        self.find(preprocess)
        assert preprocess.crop is not None
        self.network = {
            "format": IMAGES,
            "arch": settings.arch,
            "labels": list(self.labels),
            "size": list(preprocess.crop),
            "resize": preprocess.resize,
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
        }
        torch.manual_seed(settings.seed)
        net = image_net(settings.arch, len(self.labels))
        _insist_on_size(net, settings.arch, preprocess.crop)
        if settings.weights is not None:
            start_from(net, settings.weights, settings.arch)
        self.module = ImagesModule(net, settings, preprocess, {**self.network, "freeze": settings.freeze})
        self.module.unread = self.unread

    def fit(self) -> tuple[int, list[dict[str, float | int]]]:
        """Train, from the beginning or from a checkpoint; return the best epoch and the figures of all."""
        settings, parts = self.settings, self.parts
        order = Shuffled(len(parts["train"]), settings.seed)
        lessons = loader(parts["train"], settings.batch_size, settings.workers, order)
        validation = loader(parts["validation"], settings.batch_size, settings.workers)
        return fit(settings, self.module, (lessons, validation), self.last), self.module.history

    def answers(self) -> tuple[Int[np.ndarray, " picture"], Int[np.ndarray, " picture"]]:
        """Return the true class of each held-out picture that can be read, and the one found."""
        truth: list[int] = []
        found: list[int] = []
        self.module.eval()
        with torch.inference_mode():
            batches = loader(self.parts["test"], self.settings.batch_size, self.settings.workers)
            for pixels, numbers, unread in batches:
                self.unread.update(unread)
                if len(numbers):
                    truth += numbers.tolist()
                    found += self.module(pixels.to(self.module.device)).argmax(1).tolist()
        return np.array(truth, int), np.array(found, int)

    def write(self, figures: Mapping[str, Any], training: Mapping[str, Any]) -> Path:
        """Write weights and record."""
        versions = {"torch": torch.__version__, "lightning": __version__}
        record = {**self.record(self.network, figures, training), "versions": versions}
        weights = self.module.network.state_dict()
        return write(self.settings.out, record, "model.safetensors", lambda path: save_weights(path, weights))


def _insist_on_size(net: nn.Module, arch: str, size: tuple[int, int]) -> None:
    """Raise InputError where the network cannot take pictures of this size."""
    net.eval()
    try:
        with torch.inference_mode():
            net(torch.zeros(1, 3, *size))
    except (RuntimeError, AssertionError, ValueError) as error:
        problem = f"{arch} takes no pictures of {size[0]} × {size[1]} ({first_line(error)})"
        raise InputError(f"{problem}; leave out size, or give a larger one") from error
    net.train()
