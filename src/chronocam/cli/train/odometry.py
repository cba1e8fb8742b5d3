"""`chronocam train odometry`: networks for depth and motion, their record and their figures."""

from __future__ import annotations

import json
from typing import Any

import click

from chronocam.cli._commands import Command
from chronocam.cli.train._options import missing_extra, options_of
from chronocam.lab.train.settings import OdometrySettings
from chronocam.runs.terminal import put


@click.command(
    "odometry",
    cls=Command,
    context_settings={"show_default": True},
    examples="""
        chronocam train odometry --data DIR --out NET
        chronocam explain drive.mp4 --model NET/model.json --target tz --target depth
    """,
)
@options_of(OdometrySettings)
def command(**options: Any) -> None:
    """Train networks for depth and motion, and write OUT/model.safetensors and OUT/model.json.

    DATA is laid out as KITTI's odometry or raw data, or holds folders of frames or videos. No labels are
    needed; figures are measured on drives with known depth or poses.
    """
    settings = OdometrySettings(**options)
    with missing_extra("torch,video,train"):
        from chronocam.lab.train.odometry.run import train_odometry
    path = train_odometry(settings)
    for what, arms in json.loads(path.read_text(encoding="utf-8"))["held-out"].items():
        for arm, figures in arms.items():
            intervals = (
                f"{name} {mean:.3f} [{low:.3f}, {high:.3f}]" for name, (mean, low, high) in figures.items()
            )
            put(f"{what}, {arm}: {', '.join(intervals)}")
    put(f"model: {path}")
