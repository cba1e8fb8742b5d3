"""The run on pictures with PyTorch and Lightning."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import nn

from chronocam.errors import InputError, first_line
from chronocam.lab.models.images import check_arch, image_net, recipe
from chronocam.lab.models.trained import IMAGES
from chronocam.lab.train.images.module import ImagesModule
from chronocam.lab.train.images.run import ImagesRun
from chronocam.lab.train.settings import ImageSettings
from chronocam.lab.train.torch.batches import Shuffled, loader
from chronocam.lab.train.torch.loop import Batches
from chronocam.lab.train.torch.run import TorchRun
from chronocam.lab.train.torch.weights import start_from


class TorchImagesRun(TorchRun, ImagesRun):
    """A network of torchvision, trained on pictures."""

    settings: ImageSettings
    module: ImagesModule

    def __init__(self, settings: ImageSettings) -> None:
        check_arch(settings.arch)
        preprocess = recipe(settings.arch, settings.size)
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

    def batches(self) -> Batches:
        """Return the batches to train on and those to validate on."""
        settings, parts = self.settings, self.parts
        order = Shuffled(len(parts["train"]), settings.seed)
        return (
            loader(parts["train"], settings.batch_size, settings.workers, order),
            loader(parts["validation"], settings.batch_size, settings.workers),
        )

    def answers(self) -> tuple[Int[np.ndarray, " picture"], Int[np.ndarray, " picture"]]:
        """Return the true class of each readable held-out picture, and the class that the network names."""
        truth: list[int] = []
        answers: list[int] = []
        self.module.eval()
        with torch.inference_mode():
            batches = loader(self.parts["test"], self.settings.batch_size, self.settings.workers)
            for pixels, numbers, unread in batches:
                self.unread.update(unread)
                if len(numbers):
                    truth += numbers.tolist()
                    answers += self.module(pixels.to(self.module.device)).argmax(1).tolist()
        return np.array(truth, int), np.array(answers, int)


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
