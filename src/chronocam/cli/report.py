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
        chronocam report maps --where "confidence < 0.3 and target = 'dog'"
    """,
)
@click.argument("folder")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pages.  [default: FOLDER itself; of a run FOLDER/pages, made anew]",
)
@click.option("--where", help="Of a run: SQL on its columns that chooses rows.")
@OPEN
@QUIET
def command(folder: str, out: Path | None, where: str | None, opened: bool) -> None:
    """Write a page for each explanation saved in FOLDER, and an index.

    FOLDER is what `chronocam explain --out` wrote, or holds .npz files of explanations. The pages are made
    from these files alone, without the model, and open from disk without a network.

    Of a folder that `chronocam run` wrote, pages are made of the rows that --where chooses; the inputs are
    read again for them.
    """
    from chronocam.runs.pages import open_page
    from chronocam.runs.reports import write_report
    from chronocam.runs.terminal import say

    index = write_report(folder, out, where)
    say(f"pages: {index}")
    if opened:
        open_page(index)
