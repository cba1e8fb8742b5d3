"""`chronocam filters SPEC`: the kernels of a convolution."""

from __future__ import annotations

from pathlib import Path

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import JSON, OUT, QUIET, SPEC, TRUST


@click.command(
    "filters",
    cls=Command,
    examples="""
        chronocam filters torchvision:resnet50
        chronocam filters torchvision:r3d_18 --layer stem.0 --frames middle
    """,
)
@click.argument("spec", type=SPEC)
@click.option("--layer", help="Dotted path of a convolution.  [default: the first one]")
@click.option(
    "--count", type=click.IntRange(min=1), default=64, show_default=True, help="How many filters to draw."
)
@click.option(
    "--frames",
    type=click.Choice(["all", "middle"]),
    default="all",
    show_default=True,
    help="Draw all frames of a kernel over time in a row, or the middle one.",
)
@OUT
@JSON
@TRUST
@QUIET
def command(
    spec: str, layer: str | None, count: int, frames: str, out: Path, as_json: bool, trust: bool
) -> None:
    """Draw the filters of a convolution of the model SPEC.

    Each is scaled by its largest weight; grey is 0. OUT gets a sheet, and the norm of each filter as JSON.
    """
    from chronocam.runs.channels import draw_filters, report_sheets

    report_sheets(spec, [draw_filters(spec, layer, count, frames, out, trust)], as_json)
