"""Settings of `chronocam train video`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from chronocam.errors import InputError
from chronocam.lab.models.video import ARCHITECTURES
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
from chronocam.media.clips.sample import SAMPLINGS

GESTURES: Final = "gestures"
"""Stands for the rendered gesture world where a folder of clips is expected."""


@documented
@dataclass(frozen=True)
class VideoSettings(Settings):
    """How a network for clips is trained.

    Example:
        >>> settings = cc.train.VideoSettings("clips", "cnn-lstm", Path("net"), epochs=3)
        >>> settings.frames, settings.sampling
        (16, 'uniform')

    `arch`: `cnn-lstm-steps` gives logits after every frame and learns from clips laid end to end, two and
    two.
    `change_first`: an LSTM is shown less and less the change of the features alone, at first without their
    mean over the clip, because a still background tells clips apart more easily than what moves.
    `calm_epochs` shows gestures without shake, noise, changing light and passers-by. On half as many clips as
    are held out the run is validated.
    """

    data: Annotated[str, TrainOption("Folder of clips, or `gestures` for the rendered ones")]
    arch: Annotated[
        str,
        TrainOption("Convolutions over space and time, or an LSTM over a CNN", choices=tuple(ARCHITECTURES)),
    ]
    out: Out
    backbone: Annotated[
        str | None,
        TrainOption("Network of torchvision, or `small`", "r3d_18 or resnet18, as the architecture is"),
    ] = None
    weights: Weights = None
    hidden: Annotated[int, TrainOption("Size of the LSTM's state", least=1)] = 64
    epochs: Annotated[int, TrainOption("How often every clip is seen", least=1)] = 20
    batch_size: Annotated[int, TrainOption("Clips in a step", least=2)] = 16
    lr: LearningRate = 5e-4
    head_lr: Annotated[
        float, TrainOption("How many times faster the layers after the backbone learn", above=0, rare=True)
    ] = 1.0
    change_first: Annotated[
        float,
        TrainOption(
            "Share of the steps in which an LSTM is led by change alone",
            least=0,
            most=1,
            hint="0 is never",
            rare=True,
        ),
    ] = 0.5
    calm_epochs: Annotated[
        int, TrainOption("Epochs at the beginning that show calm gestures", least=0, rare=True)
    ] = 0
    weight_decay: WeightDecay = 0.02
    frames: Annotated[int, TrainOption("Frames of a clip", least=1)] = 16
    size: Annotated[
        int | None, TrainOption("Height and width of the frames in pixels", "the backbone's", least=8)
    ] = None
    sampling: Annotated[str, TrainOption("Which frames of a clip to take", choices=SAMPLINGS)] = "uniform"
    crop: Annotated[
        float,
        TrainOption(
            "Smallest share of the sides that a training clip shows, cut at random",
            above=0,
            most=1,
            hint="1 shows whole frames",
        ),
    ] = 0.8
    flip: Annotated[
        bool,
        TrainOption("Mirror half of the training clips; not where left and right are what classes differ in"),
    ] = True
    clips: Annotated[int | None, TrainOption("Most clips to train on", "all, or 8000 gestures", least=1)] = (
        None
    )
    held_out: Annotated[
        int | None, TrainOption("Most clips to measure on", "all, or 1000 gestures", least=2)
    ] = None
    split: Annotated[int, TrainOption("Number of the split file, where a data set has several", least=1)] = 1
    seed: Seed = 0
    patience: Patience = None
    precision: Precision = "32-true"
    threads: Threads = None
    accelerator: Accelerator = "auto"
    workers: Workers = 0
    cache: Cache = None
    resume: Resume = False

    def insist(self) -> None:
        """Raise InputError where other data than gestures are to be calm."""
        if self.calm_epochs and self.data != GESTURES:
            raise InputError(
                f"calm_epochs is {self.calm_epochs} for `{self.data}`, expected 0: only gestures are calm"
            )

    def what(self) -> str:
        """Return the command's name after `chronocam train`."""
        return "video"
