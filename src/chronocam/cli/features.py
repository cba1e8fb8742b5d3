"""`chronocam features PHOTO`: what the channels of a layer respond to in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import JSON, MODEL, OUT, QUIET, TRUST


@click.command(
    "features",
    cls=Command,
    examples="""
        chronocam features photo.jpg --model torchvision:vgg16 --layer features.28
        chronocam features photo.jpg --model chronocam:efficientnet-lite0 --layer bn2 --channel 3 --channel 5
    """,
)
@click.argument("photo", type=click.Path(path_type=Path))
@MODEL
@click.option("--layer", "layers", multiple=True, required=True, help="Dotted path; one sheet per layer.")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    type=int,
    help="Number of a channel.  [default: the strongest ones]",
)
@click.option(
    "--count", type=click.IntRange(min=1), default=16, show_default=True, help="How many channels to draw."
)
@click.option(
    "--scale",
    type=click.Choice(["all", "channel"]),
    default="all",
    show_default=True,
    help="One colour scale for all channels, or one for each.",
)
@OUT
@JSON
@TRUST
@QUIET
def command(
    photo: Path,
    spec: str,
    layers: Sequence[str],
    channels: Sequence[int],
    count: int,
    scale: str,
    out: Path,
    as_json: bool,
    trust: bool,
) -> None:
    """Draw the feature maps of PHOTO, a picture for each channel of a layer.

    Each picture has the number of its channel. OUT gets a sheet per layer, and the strength (mean
    |activation|) and maximum of each channel as JSON; for a clip, frames are drawn in a row. `chronocam
    layers SPEC` lists the layers.
    """
    from chronocam.runs.channels import draw_features, report_sheets

    report_sheets(spec, draw_features(spec, photo, layers, channels, count, scale, out, trust), as_json)
