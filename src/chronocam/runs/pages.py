"""Pages of a folder of explanations, with progress, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import click


def tell_pages(folder: Path, out: Path | None = None, quiet: bool = False) -> Path:
    """Write the pages of a folder and their index, and say where it is unless `quiet`.

    Files that cannot be read are reported.
    """
    from rich.console import Console
    from rich.progress import track

    from chronocam.report import write_folder

    console = Console(stderr=True, highlight=False, markup=False)
    index = write_folder(
        folder,
        out,
        track=lambda sources: track(sources, "Writing pages", console=console, transient=True),
        say=lambda line: console.print(f"error: {line}", soft_wrap=True),
    )
    if not quiet:
        click.echo(f"pages: {index}", err=True)
    return index
