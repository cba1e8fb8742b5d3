"""Results of the demo: written as `chronocam explain` writes them, under titles that say what is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from chronocam.records import Result
from chronocam.runs.job import Job

R = TypeVar("R", bound=Result)


def titled(job: Job, path: Path, name: str, title: str, kind: type[R]) -> R:
    """Explain one input, write all of its files, and return its result, which is of a kind.

    name: of the files.
    title: what the page is called.
    """
    result = replace(job.explained(path, name), input=title)
    assert isinstance(result, kind)
    job.written(name, result)
    return result
