"""Settings of `chronocam train odometry`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from chronocam.errors import InputError
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
    Workers,
    documented,
)

DRIVES: Final = "drives"
"""Stands for the rendered odometry world where a folder of drives is expected."""

_THE_LOSS: Final = "the loss's"


@documented
@dataclass(frozen=True)
class OdometrySettings(Settings):
    """How networks for depth and motion are trained, by view synthesis alone.

    Example:
        >>> settings = cc.train.OdometrySettings("kitti", Path("net"), loss="sfmlearner", masks=True)
        >>> settings.height, settings.width
        (128, 416)

    The options of the loss are those of `chronocam.odometry.ViewSynthesis`. Half as many drives as are held
    out serve for validation. Figures are of the weights as they are written, in half precision too.
    """

    data: Annotated[str, TrainOption("Folder of drives, or `drives` for the rendered ones")]
    out: Out
    intrinsics: Annotated[
        tuple[float, float, float, float] | None,
        TrainOption("Camera fx,fy,cx,cy in pixels of the files", "what the data holds"),
    ] = None
    loss: Annotated[str, TrainOption("View-synthesis loss", choices=("monodepth2", "sfmlearner"))] = (
        "monodepth2"
    )
    photometric: Annotated[
        str | None, TrainOption("Photometric error of a pixel", _THE_LOSS, choices=("l1", "ssim"), rare=True)
    ] = None
    auto_mask: Annotated[
        bool | None, TrainOption("Leave out pixels that stand still", _THE_LOSS, rare=True)
    ] = None
    outside: Annotated[bool | None, TrainOption("Count pixels that leave the view", _THE_LOSS, rare=True)] = (
        None
    )
    full_resolution: Annotated[
        bool | None, TrainOption("Compare coarse scales at full resolution", _THE_LOSS, rare=True)
    ] = None
    smooth: Annotated[
        str | None,
        TrainOption("Smoothness term of the disparity", _THE_LOSS, choices=("second", "edge"), rare=True),
    ] = None
    smooth_weight: Annotated[
        float | None, TrainOption("Weight of the smoothness term", _THE_LOSS, least=0, rare=True)
    ] = None
    depth_width: Annotated[
        float, TrainOption("Scale of the DepthNet's channels (31.6 million parameters at 1)", above=0)
    ] = 1.0
    pose_width: Annotated[
        float, TrainOption("Scale of the PoseNet's channels (1.6 million parameters at 1)", above=0)
    ] = 1.0
    masks: Annotated[bool, TrainOption("Learn explainability masks, with the loss sfmlearner")] = False
    height: Annotated[int, TrainOption("Height of the frames that the networks see, in pixels", least=32)] = (
        128
    )
    width: Annotated[int, TrainOption("Width of the frames that the networks see, in pixels", least=32)] = 416
    epochs: Annotated[int, TrainOption("How often every snippet is seen", least=1)] = 20
    batch_size: Annotated[int, TrainOption("Snippets in a step", least=1)] = 8
    lr: LearningRate = 2e-4
    weight_decay: WeightDecay = 0.0
    flip: Annotated[bool, TrainOption("Mirror half of the training snippets")] = True
    drives: Annotated[
        int | None, TrainOption("Most drives to train on", "all, or 1500 rendered ones", least=1)
    ] = None
    held_out: Annotated[
        int | None, TrainOption("Most drives to measure on", "all, or 150 rendered ones", least=2)
    ] = None
    half: Annotated[bool, TrainOption("Write the weights in half precision, in half the space")] = False
    seed: Seed = 0
    patience: Patience = None
    precision: Precision = "32-true"
    threads: Threads = None
    accelerator: Accelerator = "auto"
    workers: Workers = 0
    cache: Cache = None
    resume: Resume = False

    def insist(self) -> None:
        """Raise InputError where masks are to be learned by a loss that has none."""
        if self.masks and self.loss != "sfmlearner":
            raise InputError(f"masks are for the loss sfmlearner, not for {self.loss}; leave out one of them")

    def what(self) -> str:
        """Return the command's name after `chronocam train`."""
        return "odometry"
