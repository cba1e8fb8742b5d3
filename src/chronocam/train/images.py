"""A network for pictures from data to files: fine-tuned, measured on held-out pictures, written with its record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import __version__
from torch import nn

from chronocam.errors import InputError
from chronocam.models.image_nets import check_arch, image_net, recipe
from chronocam.models.sources.trained import IMAGES
from chronocam.models.specs import first_line
from chronocam.train.batches import Shuffled, loader
from chronocam.train.clips import Clips, Splits
from chronocam.train.images_data import find_pictures
from chronocam.train.images_module import ImagesModule
from chronocam.train.loop import check_same, checkpoint, few, fit, say, track, write
from chronocam.train.measure import accuracy
from chronocam.train.settings_images import ImageSettings
from chronocam.train.weights import start_from


def train_images(settings: ImageSettings) -> Path:
    """Train a network for pictures and return the path of its record, `OUT/model.json`.

    `OUT/model.safetensors` holds the weights of the epoch with the lowest validation loss, `OUT/checkpoints` what a
    later run with `resume` goes on from: it ends where an uninterrupted one would have. The record holds what
    `chronocam.models.load` needs, the command, and the figures on held-out pictures. A picture that cannot be read is
    skipped and named. Raises ChronocamError for settings that do not fit the data, the network or the machine.
    """
    last = checkpoint(settings)
    run = _Run(settings)
    begin = time.perf_counter()
    best = run.fit(last)
    minutes = round((time.perf_counter() - begin) / 60, 1)
    figures = measure(run.module, run.pictures.parts["test"], run.pictures.labels)
    return run.write(figures, {"training minutes": minutes, "epochs": run.module.history, "best epoch": best})


class _Run:
    """The parts of one training run."""

    def __init__(self, settings: ImageSettings) -> None:
        self.settings = settings
        check_arch(settings.arch)
        preprocess = recipe(settings.arch, settings.size)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.pictures = find_pictures(settings, preprocess, track)
        _tell(self.pictures)
        assert preprocess.crop is not None
        self.network = {
            "arch": settings.arch,
            "labels": list(self.pictures.labels),
            "size": list(preprocess.crop),
            "resize": preprocess.resize,
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
        }
        torch.manual_seed(settings.seed)
        net = image_net(settings.arch, len(self.pictures.labels))
        _insist_on_size(net, settings.arch, preprocess.crop)
        if settings.weights is not None:
            start_from(net, settings.weights, settings.arch)
        self.module = ImagesModule(net, settings, preprocess, {**self.network, "freeze": settings.freeze}, say)

    def fit(self, last: Path | None) -> int:
        """Train from the beginning, or from a checkpoint; return the best epoch."""
        settings, parts = self.settings, self.pictures.parts
        if last is not None:
            check_same(last, self.module.identity)
        order = Shuffled(len(parts["train"]), settings.seed)
        lessons = loader(parts["train"], settings.batch_size, settings.workers, order)
        validation = loader(parts["validation"], settings.batch_size, settings.workers)
        return fit(settings, self.module, (lessons, validation), last)

    def write(self, figures: Mapping[str, Any], training: Mapping[str, Any]) -> Path:
        """Write weights and record."""
        settings, pictures = self.settings, self.pictures
        unread = sorted(self.module.unread)
        record = {
            "format": IMAGES,
            **self.network,
            "seed": settings.seed,
            "command": settings.command(),
            "data": pictures.layout,
            "pictures": {name: len(part) for name, part in pictures.parts.items()},
            "pictures unreadable": unread,
            "held-out": figures,
            **training,
            "versions": {"torch": torch.__version__, "lightning": __version__},
        }
        if unread:
            say(f"{len(unread)} pictures could not be read and were skipped: {few(unread)}")
        return write(settings.out, record, self.module.network.state_dict())


def measure(module: ImagesModule, pictures: Clips, labels: Sequence[str]) -> dict[str, Any]:
    """Return accuracy with its 95 % interval, recall by class and the confusion matrix, rows being the truth.

    Raises InputError where no picture can be read.
    """
    truth: list[int] = []
    found: list[int] = []
    module.eval()
    with torch.inference_mode():
        for pixels, numbers, unread in loader(pictures, module.settings.batch_size, module.settings.workers):
            module.unread.update(unread)
            if len(numbers):
                truth += numbers.tolist()
                found += module(pixels.to(module.device)).argmax(1).tolist()
    if not truth:
        raise InputError("none of the held-out pictures can be read; check the files")
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (truth, found), 1)
    return {
        "pictures": len(truth),
        **accuracy(np.asarray(truth), np.asarray(found), labels),
        "confusion": confusion.tolist(),
    }


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


def _tell(pictures: Splits) -> None:
    told = ", ".join(f"{len(part)} for {name}" for name, part in pictures.parts.items())
    say(f"{pictures.layout}: {len(pictures.labels)} classes, pictures: {told}")
