"""`chronocam models`: where models come from, and which there are."""

from __future__ import annotations

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import JSON


@click.command(
    "models",
    cls=Command,
    examples="""
        chronocam models             # every form of a spec, and the networks that come with chronocam
        chronocam models convnext    # every spec with convnext in it, of all libraries that are installed
    """,
)
@click.argument("text", required=False)
@JSON
def command(text: str | None, as_json: bool) -> None:
    """List the specs of models; with TEXT, every one that has it in it."""
    from chronocam.runs.lists import source_rows, specs_with
    from chronocam.runs.terminal import put, put_json

    if text is not None:
        specs = specs_with(text)
        put_json(specs) if as_json else put(*specs)
        return
    rows = source_rows()
    if as_json:
        put_json([row.to_json() for row in rows])
        return
    width = max(len(row.form) for row in rows)
    for row in rows:
        put(f"{row.form:{width}}  {row.about}", *(f"  {spec}" for spec in row.specs))
