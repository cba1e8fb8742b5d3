"""Where an object is, in whatever form it is given, on the grid of the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from chronocam.errors import InputError
from chronocam.maps.regions import Box, boxes

Region: TypeAlias = tuple[float, float, float, float]
"""x0, y0, x1, y1 of what the model sees, in pixels of the picture."""


_EXPECTED: Final = (
    "expected a mask of truth values, boxes [(x0, y0, x1, y1), …] or points [(x, y), …]; of clips also "
    "a truth value for each frame"
)

_ROUNDING: Final = 0.5
"""Pixels by which a box may reach beyond a picture, as one of rounded numbers does."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Where an object is.

    mask: bool on the input's grid; None where only times are known.
    boxes: `(x0, y0, x1, y1)` in input pixels.
    frames: for clips, bool `(time,)`: in which the object is; None where that is not known.

    Example:
    >>> cc.evaluation.Truth(np.eye(4, dtype=bool)).boxes
    ()
    """

    mask: np.ndarray | None
    boxes: tuple[Box, ...] = ()
    frames: np.ndarray | None = None


def truth_of(
    given: Any, grid: Sequence[int], size: tuple[int, int] | None = None, region: Region | None = None
) -> Truth | None:
    """Return a truth on the input's grid.

    given: a mask `(height, width)`, for clips also `(time, height, width)` or frames `(time,)`; boxes
        `[(x0, y0, x1, y1), …]` or one, points `[(x, y), …]` or one, as lists or numbers of an array; None or
        an empty list where it is not known.
    size: (width, height) of the picture that it is in; None where it is in pixels of the input.
    region: which part of that picture the model sees.

    Raises InputError for another form or size. Where nothing of it lies in what the model sees, None.
    """
    if given is None or (isinstance(given, (list, tuple)) and not given):
        return None
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise InputError(f"truth is a {type(given).__name__} of several shapes; {_EXPECTED}") from error
    if array.ndim > len(grid) and array.dtype.kind in "bui":
        # A mask with an axis for a channel, or a batch, of one.
        array = array.reshape([n for k, n in enumerate(array.shape) if n > 1 or k >= array.ndim - len(grid)])
    if _are_places(given, array, tuple(grid), size):
        places = np.atleast_2d(array).astype(float)
        return _of_places(places, tuple(grid), size, region) if len(places) else None
    if array.dtype != bool and not (array.dtype.kind in "iuf" and np.isin(array, (0, 1, 255)).all()):
        what = type(given).__name__ if array.dtype == object else f"{array.dtype} {array.shape}"
        raise InputError(f"truth is {what}; {_EXPECTED}")
    return _of_mask(array.astype(bool), tuple(grid), size, region)


def _are_places(given: Any, array: np.ndarray, grid: tuple[int, ...], size: tuple[int, int] | None) -> bool:
    """Say whether a truth is boxes or points, and no mask as small as these."""
    if len(grid) < 2 or array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        return False
    if array.shape[-1] not in (2, 4):
        return False
    listed = isinstance(given, (list, tuple)) and array.ndim == 2
    masks = [grid[-2:] if size is None else (size[1], size[0]), *([grid[:1]] if len(grid) == 3 else [])]
    return listed or array.shape not in masks or not np.isin(array, (0, 1, 255)).all()


def _of_mask(
    mask: np.ndarray, grid: tuple[int, ...], size: tuple[int, int] | None, region: Region | None
) -> Truth | None:
    if len(grid) == 3 and mask.shape == grid[:1]:
        return Truth(None, frames=mask) if mask.any() else None
    places = grid[-2:]
    expected = places if size is None else (size[1], size[0])
    if mask.shape[-2:] != expected or mask.ndim not in (len(places), len(grid)):
        of = "the model's input" if size is None else "its picture"
        raise InputError(f"a mask of the truth has shape {mask.shape}; expected {expected}, that of {of}")
    if region is not None:
        mask = seen(mask, places, region)
    mask = np.array(np.broadcast_to(mask, grid) if mask.ndim < len(grid) else mask, dtype=bool)
    if mask.shape != grid:
        raise InputError(f"a mask of the truth has shape {mask.shape}; expected {grid}")
    if not mask.any():
        return None
    flat = mask if len(grid) < 3 else np.asarray(mask.any(axis=0))
    frames = np.asarray(mask.any(axis=(1, 2))) if len(grid) == 3 else None
    return Truth(mask, _boxes(flat), frames)


def seen(values: np.ndarray, places: tuple[int, ...], region: Region) -> np.ndarray:
    """Return the part of a mask or map that the model sees, at its resolution: the nearest pixel's value.

    Beside the picture it is 0.
    """
    height, width = values.shape[-2:]
    rows = _nearest(region[1], region[3], places[0])
    columns = _nearest(region[0], region[2], places[1])
    inside = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
    nearest = values[..., rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    return np.where(inside, nearest, np.zeros(1, values.dtype))


def _nearest(low: float, high: float, count: int) -> np.ndarray:
    return np.floor(low + (np.arange(count) + 0.5) * (high - low) / count).astype(int)


def _boxes(mask: np.ndarray) -> tuple[Box, ...]:
    """Return the box of each connected part."""
    return tuple(boxes(mask.astype(np.float32), 1.0, largest=False)) if mask.ndim == 2 else ()


def _of_places(
    places: np.ndarray, grid: tuple[int, ...], size: tuple[int, int] | None, region: Region | None
) -> Truth | None:
    height, width = grid[-2:]
    limits = np.tile(np.array([width, height] if size is None else size, float), places.shape[1] // 2)
    outside = ~((places >= -_ROUNDING) & (places <= limits + _ROUNDING))
    if outside.any() or (places.shape[1] == 4 and (places[:, 2:] <= places[:, :2]).any()):
        at = tuple(map(float, places[outside.any(axis=1) if outside.any() else slice(0, 1)][0]))
        raise InputError(f"{at} is empty, or outside a picture of {limits[0]:g} × {limits[1]:g} pixels")
    if region is not None:
        x0, y0, x1, y1 = region
        scale = np.tile([width / (x1 - x0), height / (y1 - y0)], places.shape[1] // 2)
        places = (places - np.tile([x0, y0], places.shape[1] // 2)) * scale
    mask = np.zeros((height, width), bool)
    shown: list[Box] = []
    for place in places:
        low, high = (place[:2], place[2:]) if len(place) == 4 else (np.floor(place), np.floor(place) + 1)
        low, high = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
        (left, top), (right, bottom) = np.floor(low).astype(int), np.ceil(high).astype(int)
        if right > left and bottom > top:
            mask[top:bottom, left:right] = True
            shown.append((int(left), int(top), int(right), int(bottom)))
    return Truth(np.broadcast_to(mask, grid), tuple(shown)) if shown else None
