"""What a training run for pictures is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chronocam.errors import InputError
from chronocam.lab.train.settings.video import PRECISIONS, command_of, insist


@dataclass(frozen=True)
class ImageSettings:
    """How a network for pictures is trained; the result depends on nothing else but the data and the machine.

    data: a folder of pictures, see `chronocam.train.images_data`.
    model: a classifier of torchvision, `vgg16` or `torchvision:vgg16`, or of keras.applications,
        `keras:VGG16`; its last layer is a new one.
    weights: to start from: a file, or `published` for those that torchvision or Keras offers; None for random
        ones.
    freeze: train the new layer alone; what is before it stays as it is, BatchNorm's statistics too.
    epochs, batch_size, lr, weight_decay: of AdamW; the rate rises over a tenth of the steps and falls to 0
        (cosine).
    head_lr: how many times faster the new layer learns.
    size: height and width in pixels; None for the architecture's.
    crop: smallest share of the sides that a training picture shows, cut at random; 1 shows it all.
    flip: show half of the training pictures mirrored; leave out where left and right are what classes differ
        in.
    images, held_out: at most so many pictures to train and to measure on (half as many to validate on); None
        for all.
    seed: of weights, order, augmentation and held-out pictures.
    patience: epochs without a better validation loss after which to stop; None to never stop early.
    cache: a folder where pictures are kept decoded; None decodes them in every epoch.
    """

    data: str
    model: str
    out: Path
    weights: str | None = None
    freeze: bool = False
    epochs: int = 10
    batch_size: int = 16
    lr: float | int = 1e-4
    head_lr: float | int = 10
    weight_decay: float | int = 0.02
    size: int | None = None
    crop: float | int = 0.8
    flip: bool = True
    images: int | None = None
    held_out: int | None = None
    seed: int = 0
    patience: int | None = None
    precision: str = "32-true"
    threads: int | None = None
    accelerator: str = "auto"
    workers: int = 0
    cache: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        insist(self, _LEAST, ("lr", "head_lr"), {"precision": PRECISIONS})
        if not 0 < self.crop <= 1:
            raise InputError(
                f"crop is {self.crop}, expected a share above 0 and at most 1; 1 shows whole pictures"
            )

    @property
    def on_keras(self) -> bool:
        """Whether the model is one of Keras."""
        return self.model.startswith(_KERAS)

    @property
    def arch(self) -> str:
        """The name that torchvision, or keras.applications, has for the model."""
        return self.model.removeprefix("torchvision:").removeprefix(_KERAS)

    def command(self) -> str:
        """Return the command line that does this again, whatever the defaults will be."""
        return command_of("images", self)


_KERAS: Final = "keras:"

_LEAST: Final = {
    "epochs": 1,
    "batch_size": 2,
    "weight_decay": 0,
    "size": 8,
    "images": 1,
    "held_out": 2,
    "seed": 0,
    "patience": 1,
    "threads": 1,
    "workers": 0,
}
