"""`chronocam report`: pages of a folder of explanations, or of rows of a run."""

from __future__ import annotations

from pathlib import Path

from chronocam.errors import InputError
from chronocam.media.files import expanded, is_folder
from chronocam.runs.dataset.inputs.base import is_url
from chronocam.runs.dataset.place import Place
from chronocam.runs.pages import write_pages


def write_report(folder: str, out: Path | None, where: str | None) -> Path:
    """Write the pages of a folder and their index, which this returns.

    where: which rows of a run; None for all.

    Raises InputError where there is nothing to show, and for a condition on a folder that is not a run.
    """
    from chronocam.runs.dataset.plan import PLAN

    if (is_url(folder) or is_folder(expanded(folder))) and PLAN in Place(folder).names():
        from chronocam.runs.dataset.pages import write_run_pages
        from chronocam.runs.dataset.table import open

        table = open(folder)
        if where is not None and not len(table := table.where(where)):
            raise InputError(f"no row of `{folder}` fits `{where}`; choose others with --where")
        return write_run_pages(table, out)
    if where is not None:
        raise InputError(f"--where chooses rows of a run, and `{folder}` holds none; drop --where")
    return write_pages(expanded(folder), out)
