"""`chronocam train odometry`: networks for depth and motion, their record and their figures on held-out drives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from chronocam.cli._options import INTRINSICS
from chronocam.errors import ChronocamError
from chronocam.lab.train import OdometrySettings
from chronocam.lab.train.settings.odometry import CHOICES


@click.command("odometry", context_settings={"show_default": True})
@click.option("--data", required=True, help="Folder of drives, or drives for the rendered ones.")
@click.option(
    "--intrinsics", type=INTRINSICS, help="fx,fy,cx,cy in pixels of the files, where the data has none."
)
@click.option(
    "--loss", type=click.Choice(CHOICES["loss"]), default="monodepth2", help="Of the view synthesis."
)
@click.option(
    "--photometric", type=click.Choice(CHOICES["photometric"]), help="Error of pixels.  [default: the loss's]"
)
@click.option(
    "--auto-mask/--no-auto-mask", default=None, help="Leave out what stands still.  [default: the loss's]"
)
@click.option(
    "--outside/--no-outside", default=None, help="Count what leaves the view.  [default: the loss's]"
)
@click.option(
    "--full-resolution/--no-full-resolution", default=None, help="Of coarse scales.  [default: the loss's]"
)
@click.option(
    "--smooth", type=click.Choice(CHOICES["smooth"]), help="Of the disparity.  [default: the loss's]"
)
@click.option("--smooth-weight", type=float, help="Of the smoothness.  [default: the loss's]")
@click.option(
    "--depth-width", default=1.0, help="Scales the channels of the DepthNet (31.6 million parameters at 1)."
)
@click.option(
    "--pose-width", default=1.0, help="Scales the channels of the PoseNet (1.6 million parameters at 1)."
)
@click.option(
    "--masks/--no-masks", default=False, help="Learn explainability masks, with the loss sfmlearner."
)
@click.option("--height", default=128, help="Of the frames that the networks see, in pixels.")
@click.option("--width", default=416, help="Of the frames that the networks see, in pixels.")
@click.option("--epochs", default=20, help="Times that every snippet is seen.")
@click.option("--batch-size", default=8, help="Snippets in a step.")
@click.option(
    "--lr", default=2e-4, help="Highest learning rate (AdamW; a tenth of warming up, then a cosine)."
)
@click.option("--weight-decay", default=0.0, help="Of AdamW.")
@click.option("--flip/--no-flip", default=True, help="Mirror half of the training snippets.")
@click.option(
    "--drives", type=int, help="At most so many drives to train on.  [default: all, or 1500 rendered ones]"
)
@click.option(
    "--held-out", type=int, help="At most so many to measure on.  [default: all, or 150 rendered ones]"
)
@click.option("--half/--no-half", default=False, help="Write the weights in half precision.")
@click.option("--seed", default=0, help="Of weights, order, augmentation and held-out drives.")
@click.option("--patience", type=int, help="Epochs without a better validation loss after which to stop.")
@click.option(
    "--precision",
    type=click.Choice(CHOICES["precision"]),
    default="32-true",
    help="Of the arithmetic in training.",
)
@click.option("--threads", type=int, help="Threads of the CPU.")
@click.option("--accelerator", default="auto", help="cpu, gpu, mps or auto.")
@click.option("--workers", default=0, help="Processes that decode frames.")
@click.option(
    "--cache", type=click.Path(file_okay=False, path_type=Path), help="Folder to keep decoded frames in."
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the result."
)
@click.option("--resume", is_flag=True, help="Go on where the run in OUT stopped.")
def command(**options: Any) -> None:
    """Train networks for depth and motion by view synthesis, and write OUT/model.safetensors and OUT/model.json.

    DATA is laid out as KITTI's odometry or raw data, or holds folders of frames or videos. No labels are
    needed; where depth or poses are there, they are measured against.
    """
    settings = OdometrySettings(**options)
    try:
        from chronocam.lab.train.odometry.run import train_odometry
    except ImportError as error:
        raise ChronocamError(
            f"training needs {error.name}; pip install 'chronocam[torch,video,train]'"
        ) from error
    path = train_odometry(settings)
    for what, arms in json.loads(path.read_text(encoding="utf-8"))["held-out"].items():
        for arm, figures in arms.items():
            told = ", ".join(
                f"{name} {mean:.3f} [{low:.3f}, {high:.3f}]" for name, (mean, low, high) in figures.items()
            )
            click.echo(f"{what}, {arm}: {told}")
    click.echo(f"model: {path}")
