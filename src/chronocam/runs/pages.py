"""Pages of a folder of explanations, with progress on stderr."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from chronocam.runs.terminal import track, warn


def write_pages(folder: Path, out: Path | None = None, title: str | None = None) -> Path:
    """Write the pages of a folder and their index, which this returns; unreadable files are reported."""
    from chronocam.report import write_folder

    return write_folder(
        folder,
        out,
        title=title,
        track=lambda sources: track(sources, "Writing pages"),
        say=lambda problem: warn(f"error: {problem}"),
    )


def open_page(path: Path) -> None:
    """Open a page in the browser; says where it is where there is no browser."""
    if not webbrowser.open(path.resolve().as_uri()):
        warn(f"no browser could be opened; open {path}")
