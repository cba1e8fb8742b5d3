"""`chronocam report`: pages of a folder of explanations, or of rows of a run."""

from __future__ import annotations

from pathlib import Path

from chronocam.errors import InputError
from chronocam.runs.dataset.place import Place
from chronocam.runs.pages import write_pages


def write_report(folder: str, out: Path | None, where: str | None) -> Path:
    """Write the pages of a folder and their index, which this returns.

    where: which rows of a run; None for all.

    Raises InputError where there is nothing to show, and for a condition on a folder that is not a run.
    """
    from chronocam.runs.dataset.plan import PLAN

    if PLAN in Place(folder).names():
        from chronocam.runs.dataset.pages import write_run_pages
        from chronocam.runs.dataset.table import open

        table = open(folder)
        return write_run_pages(table if where is None else table.where(where), out)
    if where is not None:
        raise InputError(f"--where chooses rows of a run, and `{folder}` holds none; drop --where")
    return write_pages(Path(folder), out)
