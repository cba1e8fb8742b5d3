"""Pages of rows of a run, made when they are asked for: the pictures are read again where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import numpy as np

from chronocam.errors import ChronocamError, InputError
from chronocam.explanation import Explanation
from chronocam.media.files import distinct
from chronocam.models import Loaded
from chronocam.runs.clips import ClipJob
from chronocam.runs.dataset.inputs.base import is_url
from chronocam.runs.dataset.table import Table
from chronocam.runs.files import slug
from chronocam.runs.job import MapJob
from chronocam.runs.pages import write_pages
from chronocam.runs.pictures import PictureJob
from chronocam.runs.terminal import say, track, warn

MOST: Final = 200
"""Pages are made for at most so many inputs at once."""


def write_run_pages(table: Table, out: str | Path | None = None) -> Path:
    """Write a page for each input of a table's rows, and an index, which this returns.

    out: a folder; None for `pages` in that of the run, which is made anew.

    Inputs that failed, or that can no longer be read, are said. Raises InputError where no page is left, and
    for more than 200 inputs.
    """
    place = table.plan.place
    if out is None and is_url(place.url):
        raise InputError(f"`{place.url}` is not a local folder; say with --out where the pages go")
    folder = Path(place.path("pages") if out is None else out)
    inputs = _by_input(table)
    if len(inputs) > MOST:
        raise InputError(f"{len(inputs)} inputs are too many for pages; choose at most {MOST} with --where")
    if out is None:  # what another condition chose is not what this one does
        rmtree(folder, ignore_errors=True)
    job, names, count = _job(table, folder), set[str](), 0
    for rows in track(inputs, "Reading inputs"):
        key = str(table.column("key", rows[0]))
        try:
            medium = table.input(rows[0])
            name = distinct(slug(Path(key).stem), names)
            job.written(name, job.drawn(medium, _joined([table[row] for row in rows]), Path(key), name))
            count += 1
        except ChronocamError as error:
            warn(f"error: {error}")
    if not count:
        raise InputError(f"none of {len(inputs)} inputs has a page; choose others with --where")
    say(f"{count} of {len(inputs)} inputs have pages")
    return write_pages(folder, title=Path(place.url).name)


def _by_input(table: Table) -> list[list[int]]:
    """Return the rows of each input."""
    samples: dict[int, list[int]] = {}
    for row, sample in enumerate(table.to_pandas(["sample"])["sample"].tolist()):
        samples.setdefault(sample, []).append(row)
    return list(samples.values())


def _job(table: Table, out: Path) -> MapJob:
    """Return the job that writes explanations which are there: it has no model."""
    header = table.plan.header
    recipe: Any = header.recipe()
    common: dict[str, Any] = {
        "loaded": Loaded(None, recipe, None, header.settings.model),
        "out": out,
        "draws": False,
        "preprocess": recipe,
        "targets": None,
        "methods": header.settings.methods,
        "layers": None,
        "align": header.settings.align,
    }
    if header.settings.clips:
        return ClipJob(**common, start=None, end=None, frames=recipe.frames)
    return PictureJob(**common)


def _joined(rows: Sequence[Explanation]) -> dict[str, Explanation]:
    """Return the rows of one input by method, and by layer where there are several, their targets in one."""
    several = len({one.layer for one in rows}) > 1
    groups: dict[str, list[Explanation]] = {}
    for one in rows:
        groups.setdefault(f"{one.method}@{one.layer}" if several else one.method, []).append(one)
    return {name: _side_by_side(ones) for name, ones in groups.items()}


def _side_by_side(ones: Sequence[Explanation]) -> Explanation:
    sure = [np.full((1, 1), np.nan) if one.confidences is None else one.confidences for one in ones]
    return replace(
        ones[0],
        maps=np.concatenate([one.maps for one in ones], axis=1),
        scores=np.concatenate([one.scores for one in ones], axis=1),
        targets=(tuple(info for one in ones for info in one.targets[0]),),
        confidences=np.concatenate(sure, axis=1),
        findings=tuple(dict.fromkeys(finding for one in ones for finding in one.findings)),
    )
