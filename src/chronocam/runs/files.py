"""Names and JSON files of results."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, SupportsFloat

from chronocam.jsonable import Json
from chronocam.media.files import replace_file, within
from chronocam.records import Box, Result, Written

if TYPE_CHECKING:
    from chronocam.media import ClipPreprocess, Preprocess

_LONGEST: Final = 72  # bytes of a slug

LONGEST_SIDE: Final = 1024  # of the pictures written, in pixels


def write_result(out: Path, name: str, spec: str, result: Result) -> None:
    """Write the result of one input as NAME.json."""
    write_json(out, name, Written(spec, result).to_json())


def write_json(out: Path, name: str, data: Json) -> None:
    """Write a JSON object as NAME.json."""
    text = json.dumps(data, indent=2)
    replace_file(out / f"{name}.json", lambda temporary: temporary.write_text(text))


def slug(text: str) -> str:
    """Return `text` as part of a file name: letters, digits, dots and hyphens, never a path.

    Three of them fit into one name.
    """
    return within(re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "unnamed", _LONGEST)


def rounded(box: tuple[float, float, float, float]) -> Box:
    """Return a box to a hundredth of a pixel, which is more than enough for a picture."""
    x0, y0, x1, y1 = (round(float(side), 2) for side in box)
    return x0, y0, x1, y1


def original(recipe: Preprocess | ClipPreprocess, box: Sequence[float], size: tuple[int, int]) -> Box:
    """Return a box in pixels of the view as one in pixels of the input, whose size is (width, height)."""
    x0, y0, x1, y1 = box
    return rounded(recipe.to_original((x0, y0, x1, y1), size))


def decimals(values: Iterable[SupportsFloat], digits: int) -> tuple[float, ...]:
    """Return numbers with at most so many decimal places."""
    return tuple(round(float(value), digits) for value in values)


def known(values: Iterable[SupportsFloat], digits: int = 6) -> tuple[float | None, ...]:
    """Return numbers with at most so many decimal places, None for NaN, which JSON lacks."""
    return tuple(None if math.isnan(value) else round(float(value), digits) for value in values)
