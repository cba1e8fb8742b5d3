"""Pages of a folder of explanations, with progress on stderr."""

from __future__ import annotations

from pathlib import Path

from chronocam.runs.terminal import console, say


def write_pages(folder: Path, out: Path | None = None) -> Path:
    """Write the pages of a folder and their index, which this returns; unreadable files are reported."""
    from rich.progress import track

    from chronocam.report import write_folder

    return write_folder(
        folder,
        out,
        track=lambda sources: track(sources, "Writing pages", console=console(), transient=True),
        say=lambda problem: say(f"error: {problem}"),
    )
