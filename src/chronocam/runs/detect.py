"""`chronocam detect`: boxes in pictures, as pictures, JSON and lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chronocam.errors import ChronocamError, InputError
from chronocam.jsonable import JsonRecord
from chronocam.media.files import distinct, replace_file
from chronocam.records import Box, Failure
from chronocam.render.boxes import outline
from chronocam.render.words import percent
from chronocam.runs.device import load_on
from chronocam.runs.files import original, slug
from chronocam.runs.inputs import find_pictures, search
from chronocam.runs.terminal import put_json, say, track, warn

if TYPE_CHECKING:
    from PIL.Image import Image

    from chronocam.media import Preprocess
    from chronocam.models import Loaded


@dataclass(frozen=True, kw_only=True)
class Found(JsonRecord):
    """A box in a picture: x0, y0, x1, y1 in its pixels; see `chronocam.Detection`."""

    label: str
    index: int
    score: float
    box: Box
    row: int
    level: int


@dataclass(frozen=True, kw_only=True)
class DetectResult(JsonRecord):
    """What was found in a picture, the best first. picture: the file with the boxes drawn."""

    input: str
    size: tuple[int, int]
    boxes: tuple[Found, ...]
    picture: str


def detect_all(
    inputs: Sequence[str],
    spec: str,
    out: Path,
    *,
    min_score: float,
    device: str | None,
    trust: bool,
    wants: Mapping[str, str],
    as_json: bool,
) -> None:
    """Find boxes in every picture that the arguments name; those that fail are reported, and the rest go on.

    Raises ChronocamError where the model takes no pictures, and at the end where inputs failed.
    """
    from chronocam.media import Preprocess

    loaded = load_on(device, spec, trust, wants)
    if not isinstance(loaded.preprocess, Preprocess):
        raise InputError(f"`{spec}` takes no pictures; `chronocam detect` finds boxes in pictures")
    names, results = set[str](), list[DetectResult | Failure]()
    for path in track(list(search(inputs, find_pictures)), "Detecting"):
        try:
            if isinstance(path, Failure):
                raise InputError(path.error)
            name = distinct(slug(path.resolve().stem), names)
            result = _detected(loaded, loaded.preprocess, path, out / name, min_score)
            say(f"{path}: {_words(result)} → {result.picture}")
            results.append(result)
        except ChronocamError as error:
            warn(f"error: {error}")
            failure = path if isinstance(path, Failure) else Failure(input=str(path), error=str(error))
            results.append(failure)
    if as_json:
        put_json({"model": spec, "inputs": [result.to_json() for result in results]})
    count = sum(isinstance(result, Failure) for result in results)
    if count:
        raise ChronocamError(
            f"boxes of {count} of {len(results)} inputs could not be found; see the lines above"
        )


def _detected(
    loaded: Loaded,
    recipe: Preprocess,
    path: Path,
    stem: Path,
    min_score: float,
) -> DetectResult:
    from PIL import Image

    from chronocam._detect import detect
    from chronocam.media import read_image

    picture = read_image(path)
    found = detect(loaded.model, recipe(picture)[None], min_score, labels=loaded.labels)
    rows = tuple(
        Found(
            label=one.label,
            index=one.index,
            score=round(one.score, 6),
            box=original(recipe, one.box, picture.size),
            row=one.row,
            level=one.level,
        )
        for one in found
    )
    drawn = picture.convert("RGB")
    for row in reversed(rows):
        outline(drawn, row.box, (picture.height, picture.width))
        _named(drawn, row)
    file = Path(f"{stem}.boxes.png")
    replace_file(file, lambda temporary: Image.Image.save(drawn, temporary))
    result = DetectResult(input=str(path), size=picture.size, boxes=rows, picture=str(file))
    text = json.dumps({"model": loaded.spec, **result.to_json()}, indent=2)
    replace_file(Path(f"{stem}.boxes.json"), lambda temporary: temporary.write_text(text))
    return result


def _named(picture: Image, row: Found) -> None:
    """Write what a box is into its upper left corner."""
    from PIL import ImageDraw, ImageFont

    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(max(10, round(max(picture.size) / 45)))
    at, words = (row.box[0] + 2, row.box[1] + 2), f"{row.label} {percent(row.score)}"
    draw.rectangle(draw.textbbox(at, words, font=font), fill=(0, 0, 0))
    draw.text(at, words, fill=(255, 255, 255), font=font)


def _words(result: DetectResult) -> str:
    few = ", ".join(f"{one.label} {percent(one.score)}" for one in result.boxes[:4])
    more = f" and {len(result.boxes) - 4} more" if len(result.boxes) > 4 else ""
    return f"{few}{more}" if few else "nothing found"
