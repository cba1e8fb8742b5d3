"""`chronocam maximise SPEC`: inputs that excite a channel, or a class, as much as they can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import JSON, OUT, QUIET, SPEC, TRUST


@click.command(
    "maximise",
    cls=Command,
    context_settings={"show_default": True},
    examples="""
        chronocam maximise torchvision:vgg16 --channel "tabby" --channel 243
        chronocam maximise torchvision:vgg16 --layer features.28 --channel 7 --steps 256
    """,
)
@click.argument("spec", type=SPEC)
@click.option("--layer", help="Dotted path.  [default: the model's output, whose channels are classes]")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    required=True,
    help="Number of a channel; for the model's output also a label.",
)
@click.option(
    "--size", type=click.IntRange(min=8), help="Height and width in pixels.  [default: the model's]"
)
@click.option("--steps", default=128, help="Steps of gradient ascent.")
@click.option("--rate", default=0.05, help="Length of a step, in units of the input.")
@click.option("--jitter", default=8, help="Pixels by which the input is shifted at most before each step.")
@click.option("--spectrum", default=0.7, help="Power of the frequency by which fine detail is damped.")
@click.option("--variation", default=0.3, help="Weight of the total variation.")
@click.option("--norm", default=0.01, help="Weight of the squared length.")
@click.option("--seed", default=0, help="Seed of the initial noise and of the shifts.")
@OUT
@JSON
@TRUST
@QUIET
def command(
    spec: str,
    layer: str | None,
    channels: Sequence[str],
    size: int | None,
    out: Path,
    as_json: bool,
    trust: bool,
    **settings: float,
) -> None:
    """Draw inputs that maximise channels, or classes, of the model SPEC.

    Gradient ascent from noise raises the mean activation. OUT gets a sheet with the inputs and the curves
    of the activation, and the same numbers as JSON.
    """
    from chronocam.runs.channels import draw_maximised, report_sheets

    sheet = draw_maximised(spec, layer, channels, size, settings, out, trust)
    report_sheets(spec, [sheet], as_json)
