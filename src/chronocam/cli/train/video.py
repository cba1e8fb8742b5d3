"""`chronocam train video`: a network for clips, its record and its figures on held-out clips."""

from __future__ import annotations

import json
from typing import Any

import click

from chronocam.cli._commands import Command
from chronocam.cli.train._options import missing_extra, options_of
from chronocam.lab.train.settings import VideoSettings
from chronocam.runs.terminal import put


@click.command(
    "video",
    cls=Command,
    context_settings={"show_default": True},
    examples="""
        chronocam train video --data DIR --arch cnn-lstm-attention --out NET
        chronocam train video --data DIR --arch r3d --out NET
        chronocam explain clip.mp4 --model NET/model.json
    """,
)
@options_of(VideoSettings)
def command(**options: Any) -> None:
    """Train a network for clips, measure it, and write OUT/model.safetensors and OUT/model.json.

    DATA is laid out as HMDB51, UCF101 or Kinetics are (split files, CSV), or is a folder per class, with or
    without folders train, val and test above them. `chronocam explain CLIP --model OUT/model.json` explains
    the result.
    """
    settings = VideoSettings(**options)
    with missing_extra("torch,video,train"):
        from chronocam.lab.train.video.run import train_video
    path = train_video(settings)
    held_out = json.loads(path.read_text(encoding="utf-8"))["held-out"]
    low, high = held_out["interval"]
    accuracy = f"accuracy {held_out['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
    put(f"{accuracy} on {held_out['clips']} held-out clips")
    put(f"model: {path}")
