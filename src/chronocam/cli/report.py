"""`chronocam report`: pages of saved explanations, and their index."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the pages.  [default: FOLDER itself]",
)
def command(folder: Path, out: Path | None) -> None:
    """Write a page for each explanation saved in FOLDER, and an index of them, index.html.

    FOLDER is what `chronocam explain --out` wrote, or holds .npz files of explanations. The pages are made
    from these files alone, without the model, and open from disk without a network.
    """
    from chronocam.runs.pages import write_pages
    from chronocam.runs.terminal import say

    say(f"pages: {write_pages(folder, out)}")
