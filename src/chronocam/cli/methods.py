"""`chronocam methods`: what `--method` takes."""

from __future__ import annotations

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import JSON


@click.command(
    "methods",
    cls=Command,
    examples="""
        chronocam methods
        chronocam explain photo.jpg --model torchvision:resnet50 --method layercam --method gradcam
    """,
)
@JSON
def command(as_json: bool) -> None:
    """List the methods that `--method` takes, each with its formula."""
    from chronocam.runs.lists import method_rows
    from chronocam.runs.terminal import put, put_json

    rows = method_rows()
    if as_json:
        put_json([row.to_json() for row in rows])
        return
    width = max(len(row.name) for row in rows)
    for kind in dict.fromkeys(row.explains for row in rows):
        put(f"{kind}:", *(f"  {row.name:{width}}  {row.about}" for row in rows if row.explains == kind))
