"""`chronocam layers SPEC`: the layers that can be explained."""

from __future__ import annotations

from collections.abc import Mapping

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import SPEC, TRUST, wants


@click.command(
    "layers",
    cls=Command,
    examples="""
        chronocam layers torchvision:resnet50
        chronocam layers chronocam:digits --json
    """,
)
@click.argument("spec", type=SPEC)
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout instead of the table.")
@TRUST
@wants()
def command(spec: str, as_json: bool, trust: bool, wants: Mapping[str, str]) -> None:
    """List the layers of the model SPEC that can be explained.

    A line has path, type, output shape and grid; `*` marks the default layer. Networks for depth and motion
    have a default layer each.
    """
    from chronocam.runs.device import load_on
    from chronocam.runs.layers import layer_rows
    from chronocam.runs.terminal import put, put_json

    rows = layer_rows(load_on(None, spec, trust, wants))
    if as_json:
        put_json([row.to_json() for row in rows])
        return
    width = max(len(row.path) for row in rows)
    for row in rows:
        grid = " × ".join(map(str, row.grid)) or "-"
        shape = ", ".join(map(str, row.shape))
        put(f"{'*' if row.default else ' '} {row.path:{width}}  {row.type:24}  ({shape})  {grid}")
