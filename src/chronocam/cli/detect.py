"""`chronocam detect`: the boxes that a detector finds in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import DEVICE, JSON, MODEL, OUT, QUIET, TRUST, wants


@click.command(
    "detect",
    cls=Command,
    examples="""
        chronocam detect photo.jpg --model torchvision:ssdlite320_mobilenet_v3_large
        chronocam detect photos/ --model python:my.nets:yolo --boxes xyxy --json
        chronocam explain photo.jpg --model torchvision:ssdlite320_mobilenet_v3_large --target box:0
    """,
    details="""
    Boxes are numbered from the best: `chronocam explain --target box:0` explains the first. Which detectors
    are known by themselves is listed in the documentation; rows like YOLO's are recognised by their shape,
    or said by --adapter and --boxes.
    """,
)
@click.argument("inputs", nargs=-1, required=True)
@MODEL
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="The least probability of a box.",
)
@OUT
@JSON
@DEVICE
@TRUST
@QUIET
@wants("frames")
def command(
    inputs: Sequence[str],
    spec: str,
    min_score: float,
    out: Path,
    as_json: bool,
    device: str | None,
    trust: bool,
    wants: Mapping[str, str],
) -> None:
    """Find boxes in pictures: OUT gets each picture with its boxes, and the numbers as JSON.

    Inputs that fail are reported; the rest go on.
    """
    from chronocam.runs.detect import detect_all

    detect_all(
        inputs,
        spec,
        out,
        min_score=min_score,
        device=device,
        trust=trust,
        wants=wants,
        as_json=as_json,
    )
