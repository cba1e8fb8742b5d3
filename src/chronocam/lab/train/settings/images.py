"""Settings of `chronocam train images`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from chronocam.lab.train.settings.base import (
    Accelerator,
    Cache,
    LearningRate,
    Out,
    Patience,
    Precision,
    Resume,
    Seed,
    Settings,
    Threads,
    TrainOption,
    WeightDecay,
    Weights,
    Workers,
    documented,
)

_KERAS: Final = "keras:"


@documented
@dataclass(frozen=True)
class ImageSettings(Settings):
    """How a classifier of pictures is fine-tuned; its last layer is a new one.

    Example:
        >>> settings = cc.train.ImageSettings("pets", "keras:VGG16", Path("net"))
        >>> settings.on_keras, settings.arch
        (True, 'VGG16')

    On half as many pictures as are held out the run is validated. What is frozen keeps BatchNorm's statistics
    too.
    """

    data: Annotated[str, TrainOption("Folder of pictures")]
    model: Annotated[str, TrainOption("Classifier of torchvision, such as vgg16, or of Keras: keras:VGG16")]
    out: Out
    weights: Weights = None
    freeze: Annotated[bool, TrainOption("Train the new last layer alone")] = False
    epochs: Annotated[int, TrainOption("How often every picture is seen", least=1)] = 10
    batch_size: Annotated[int, TrainOption("Pictures in a step", least=2)] = 16
    lr: LearningRate = 1e-4
    head_lr: Annotated[float, TrainOption("How many times faster the new last layer learns", above=0)] = 10.0
    weight_decay: WeightDecay = 0.02
    size: Annotated[
        int | None, TrainOption("Height and width of the pictures in pixels", "the model's", least=8)
    ] = None
    crop: Annotated[
        float,
        TrainOption(
            "Smallest share of the sides that a training picture shows, cut at random",
            above=0,
            most=1,
            hint="1 shows whole pictures",
        ),
    ] = 0.8
    flip: Annotated[
        bool,
        TrainOption(
            "Mirror half of the training pictures; not where left and right are what classes differ in"
        ),
    ] = True
    images: Annotated[int | None, TrainOption("Most pictures to train on", "all", least=1)] = None
    held_out: Annotated[int | None, TrainOption("Most pictures to measure on", "all", least=2)] = None
    seed: Seed = 0
    patience: Patience = None
    precision: Precision = "32-true"
    threads: Threads = None
    accelerator: Accelerator = "auto"
    workers: Workers = 0
    cache: Cache = None
    resume: Resume = False

    @property
    def on_keras(self) -> bool:
        """Whether the model is one of Keras."""
        return self.model.startswith(_KERAS)

    @property
    def arch(self) -> str:
        """The name that torchvision, or keras.applications, has for the model."""
        return self.model.removeprefix("torchvision:").removeprefix(_KERAS)

    def what(self) -> str:
        """Return the command's name after `chronocam train`."""
        return "images"
