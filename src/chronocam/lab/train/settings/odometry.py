"""What a training run for depth and motion is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chronocam.errors import InputError
from chronocam.lab.train.settings.video import PRECISIONS, command_of, insist

DRIVES: Final = "drives"
"""Stands for the rendered odometry world where a folder of drives is expected."""

CHOICES: Final = {
    "loss": ("monodepth2", "sfmlearner"),
    "photometric": ("l1", "ssim"),
    "smooth": ("second", "edge"),
    "precision": PRECISIONS,
}
"""What settings may be."""


@dataclass(frozen=True)
class OdometrySettings:
    """How networks for depth and motion are trained, by view synthesis alone.

    data: a folder of drives (see `chronocam.data.drives`), or `drives` for the rendered ones.
    intrinsics: fx, fy, cx and cy in pixels of the frames as they are in files; None where the data has them.
    loss: `monodepth2` or `sfmlearner`, see `chronocam.odometry.ViewSynthesis`, whose photometric, auto_mask,
        outside, full_resolution, smooth and smooth_weight are taken from here where they are not None.
    depth_width, pose_width: scale the channels of the networks; 31.6 and 1.6 million parameters at 1.
    masks: learn explainability masks, which the loss `sfmlearner` weighs pixels by.
    height, width: of the frames that the networks see, in pixels.
    epochs, batch_size, lr, weight_decay: of AdamW; the rate rises over a tenth of the steps and falls to 0
        (cosine).
    flip: show half of the snippets mirrored. drives, held_out: at most so many drives to train and to measure
        on
    (half as many to validate on); None for all, and for 1,500 and 150 rendered ones.
    half: write weights in half precision, in half the space; the figures are of those.
    seed: of weights, order, augmentation. patience: epochs without a better validation loss after which to
        stop.
    cache: a folder where frames are kept decoded; None decodes them in every epoch.
    """

    data: str
    out: Path
    intrinsics: tuple[float, float, float, float] | None = None
    loss: str = "monodepth2"
    photometric: str | None = None
    auto_mask: bool | None = None
    outside: bool | None = None
    full_resolution: bool | None = None
    smooth: str | None = None
    smooth_weight: float | int | None = None
    depth_width: float | int = 1
    pose_width: float | int = 1
    masks: bool = False
    height: int = 128
    width: int = 416
    epochs: int = 20
    batch_size: int = 8
    lr: float | int = 2e-4
    weight_decay: float | int = 0.0
    flip: bool = True
    drives: int | None = None
    held_out: int | None = None
    half: bool = False
    seed: int = 0
    patience: int | None = None
    precision: str = "32-true"
    threads: int | None = None
    accelerator: str = "auto"
    workers: int = 0
    cache: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        insist(self, _LEAST, ("lr", "depth_width", "pose_width"), CHOICES)
        if self.masks and self.loss != "sfmlearner":
            raise InputError(f"masks are for the loss sfmlearner, not for {self.loss}; leave out one of them")

    def command(self) -> str:
        """Return the command line that does this again, whatever the defaults will be."""
        return command_of("odometry", self)


_LEAST: Final = {
    "height": 32,
    "width": 32,
    "epochs": 1,
    "batch_size": 1,
    "smooth_weight": 0,
    "weight_decay": 0,
    "drives": 1,
    "held_out": 2,
    "seed": 0,
    "patience": 1,
    "threads": 1,
    "workers": 0,
}
