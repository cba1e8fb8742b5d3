"""`chronocam filters SPEC`: the kernels of a convolution."""

from __future__ import annotations

from pathlib import Path

import click

from chronocam.runs.job import slug
from chronocam.runs.sheets import JSON, OUT, TRUST, tell, write_sheet


@click.command("filters")
@click.argument("spec")
@click.option("--layer", help="Dotted path of a convolution; the first one if none is given.")
@click.option(
    "--count", type=click.IntRange(min=1), default=64, show_default=True, help="Filters that are drawn."
)
@click.option(
    "--frames",
    type=click.Choice(["all", "middle"]),
    default="all",
    show_default=True,
    help="Of kernels over time: all frames in a row, or the middle one.",
)
@OUT
@JSON
@TRUST
def command(
    spec: str, layer: str | None, count: int, frames: str, out: Path, as_json: bool, trust: bool
) -> None:
    """Draw the filters of a convolution of the model SPEC, each scaled by its largest weight; grey is 0.

    OUT gets a sheet and the norm of each filter as JSON.
    """
    import numpy as np

    from chronocam.features import filters
    from chronocam.media import Preprocess
    from chronocam.models import load

    loaded = load(spec, trust=trust)
    preprocess = (
        loaded.preprocess if isinstance(loaded.preprocess, Preprocess) else None
    )  # frames of clips are RGB
    found = filters(loaded.model, layer, preprocess=preprocess)
    norms = np.sqrt((found.kernels**2).reshape(len(found.kernels), -1).sum(axis=1))
    numbers = {"layer": found.layer, "shape": list(found.kernels.shape), "norms": norms.tolist()}
    name = f"filters.{slug(found.layer)}"
    tell(spec, [write_sheet(found, out, name, spec, numbers, count=count, frames=frames)], as_json)
