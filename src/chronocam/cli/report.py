"""`chronocam report`: pages of saved explanations, and their index."""

from __future__ import annotations

from pathlib import Path

import click

from chronocam.cli._commands import Command
from chronocam.cli._options import OPEN, QUIET


@click.command(
    "report",
    cls=Command,
    examples="""
        chronocam report chronocam-out --open
        chronocam report chronocam-out --out pages
    """,
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pages.  [default: FOLDER itself]",
)
@OPEN
@QUIET
def command(folder: Path, out: Path | None, opened: bool) -> None:
    """Write a page for each explanation saved in FOLDER, and an index.

    FOLDER is what `chronocam explain --out` wrote, or holds .npz files of explanations. The pages are made
    from these files alone, without the model, and open from disk without a network.
    """
    from chronocam.runs.pages import open_page, write_pages
    from chronocam.runs.terminal import say

    index = write_pages(folder, out)
    say(f"pages: {index}")
    if opened:
        open_page(index)
