"""`chronocam train video`: a network for clips, its record and its figures on held-out clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from chronocam.errors import ChronocamError
from chronocam.lab.train import VideoSettings
from chronocam.lab.train.settings.video import PRECISIONS
from chronocam.media.clips.sample import SAMPLINGS

ARCHS = ("r3d", "cnn-lstm", "cnn-lstm-attention", "cnn-lstm-steps")


@click.command("video", context_settings={"show_default": True})
@click.option("--data", required=True, help="Folder of clips, or gestures for the rendered ones.")
@click.option(
    "--arch", required=True, type=click.Choice(ARCHS), help="Over space and time, or an LSTM over a CNN."
)
@click.option("--backbone", help="Network of torchvision, or small.  [default: r3d_18 or resnet18]")
@click.option("--weights", help="File to start from, or published for torchvision's.")
@click.option("--hidden", default=64, help="Size of the LSTM's state.")
@click.option("--epochs", default=20, help="Times that every clip is seen.")
@click.option("--batch-size", default=16, help="Clips in a step.")
@click.option(
    "--lr", default=5e-4, help="Highest learning rate (AdamW; a tenth of warming up, then a cosine)."
)
@click.option("--head-lr", default=1.0, help="How many times faster the layers after the backbone learn.")
@click.option(
    "--change-first", default=0.5, help="Share of the steps in which an LSTM is led by change alone."
)
@click.option("--calm-epochs", default=0, help="Epochs at the beginning that show calm gestures.")
@click.option("--weight-decay", default=0.02, help="Of AdamW.")
@click.option("--frames", default=16, help="Frames of a clip.")
@click.option("--size", type=int, help="Height and width of the frames in pixels.  [default: the backbone's]")
@click.option("--sampling", type=click.Choice(SAMPLINGS), default="uniform", help="Which frames of a clip.")
@click.option("--crop", default=0.8, help="Smallest share of the sides that a training clip shows.")
@click.option(
    "--flip/--no-flip", default=True, help="Mirror half of the training clips, left and right being alike."
)
@click.option(
    "--clips", type=int, help="At most so many clips to train on.  [default: all, or 8000 gestures]"
)
@click.option(
    "--held-out", type=int, help="At most so many clips to measure on.  [default: all, or 1000 gestures]"
)
@click.option("--split", default=1, help="Number of the split file, where a data set has several.")
@click.option("--seed", default=0, help="Of weights, order, augmentation and held-out clips.")
@click.option("--patience", type=int, help="Epochs without a better validation loss after which to stop.")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="32-true", help="Of the arithmetic in training."
)
@click.option("--threads", type=int, help="Threads of the CPU.")
@click.option("--accelerator", default="auto", help="cpu, gpu, mps or auto.")
@click.option("--workers", default=0, help="Processes that decode clips.")
@click.option(
    "--cache", type=click.Path(file_okay=False, path_type=Path), help="Folder to keep decoded clips in."
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the result."
)
@click.option("--resume", is_flag=True, help="Go on where the run in OUT stopped.")
def command(**options: Any) -> None:
    """Train a network for clips, measure it on held-out ones, and write OUT/model.safetensors and OUT/model.json.

    DATA is laid out as HMDB51, UCF101 or Kinetics are (split files, CSV), or is a folder per class, in
    folders train, val and test or not. `chronocam explain CLIP --model OUT/model.json` explains the result.
    """
    settings = VideoSettings(**options)
    try:
        from chronocam.lab.train.video.run import train_video
    except ImportError as error:
        raise ChronocamError(
            f"training needs {error.name}; pip install 'chronocam[torch,video,train]'"
        ) from error
    path = train_video(settings)
    held_out = json.loads(path.read_text(encoding="utf-8"))["held-out"]
    low, high = held_out["interval"]
    click.echo(
        f"accuracy {held_out['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {held_out['clips']} held-out clips"
    )
    click.echo(f"model: {path}")
