"""Views of a picture, mirrored, nearer, farther and cut, and the way of their maps back to the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError, suggest
from chronocam.maps.arrays import like, namespace
from chronocam.maps.resample import half_pixel_centers, resample

Span: TypeAlias = tuple[float, float]
"""From where to where along a side, in shares of it; beyond 0 and 1 the border is repeated."""

WHOLE: Final[Span] = (0.0, 1.0)
_NEAR, _FAR = (0.1, 0.9), (-0.125, 1.125)  # 0.8 and 1.25 of a side
_FIRST, _LAST = (0.0, 0.8), (0.2, 1.0)
_WINDOWS: Final[dict[str, list[tuple[Span, Span]]]] = {
    "flip": [],
    "scale": [(_NEAR, _NEAR), (_FAR, _FAR)],
    "crop": list(product((_FIRST, _LAST), (_FIRST, _LAST))),
}


@dataclass(frozen=True)
class PictureView:
    """What is shown of a picture, at the picture's own size.

    rows, columns: which part. mirrored: whether left and right are exchanged.
    """

    rows: Span = WHOLE
    columns: Span = WHOLE
    mirrored: bool = False

    def of(self, pictures: Float[Any, "batch channel *grid"]) -> Float[Any, "batch channel *grid"]:
        """Return the view of pictures, or of clips and volumes slice by slice."""
        if (self.rows, self.columns) != (WHOLE, WHOLE):
            pictures = _laid(pictures, [_inside(span) for span in (self.rows, self.columns)])
        return self._turned(pictures)

    def back(self, maps: Float[Any, "batch target *grid"]) -> Float[Any, "batch target *grid"]:
        """Return maps of the view where they lie in the picture; `covers` says which cells the view shows."""
        maps = self._turned(maps)
        if (self.rows, self.columns) == (WHOLE, WHOLE):
            return maps
        return _laid(maps, [self.rows, self.columns])

    def covers(self, rows: int, columns: int) -> Float[np.ndarray, "rows columns"]:
        """Return 1 for the cells of the picture whose centres the view shows, 0 for the others."""
        sides = [
            (low <= at) & (at <= high)
            for (low, high), at in ((self.rows, _middles(rows)), (self.columns, _middles(columns)))
        ]
        return np.logical_and.outer(*sides).astype(np.float64)

    def _turned(self, array: Any) -> Any:
        return namespace(array).flip(array, axis=-1) if self.mirrored else array


def views_named(names: str) -> tuple[PictureView, ...]:
    """Return the views that names stand for, the picture itself first.

    names: `"flip"`, `"scale"` and `"crop"`, joined by `+`. A flip mirrors each of the others too.

    Raises InputError for an unknown name.
    """
    parts = [part.strip() for part in str(names).split("+")]
    for part in parts:
        if part not in _WINDOWS:
            hint = suggest(part, list(_WINDOWS)) or "; choose flip, scale, crop, or several joined by +"
            raise InputError(f"no views `{part}`{hint}")
    windows = [(WHOLE, WHOLE)] + [window for name in _WINDOWS if name in parts for window in _WINDOWS[name]]
    turns = (False, True) if "flip" in parts else (False,)
    return tuple(PictureView(rows, columns, turn) for rows, columns in windows for turn in turns)


def mean_of_views(
    views: Sequence[PictureView], maps: Sequence[Float[Any, "batch target *grid"]]
) -> Float[Any, "batch target *grid"]:
    """Return the mean of the views' maps: at each cell, of the views that show it."""
    covers = [like(view.covers(*maps[0].shape[-2:]), maps[0]) for view in views]
    total = sum(cover * view.back(one) for view, cover, one in zip(views, covers, maps, strict=True))
    return total / sum(covers)


def _laid(array: Any, spans: Sequence[Span]) -> Any:
    """Return an array whose cells along rows and columns lie in these spans of the sides, at its own size."""
    grid = tuple(int(n) for n in array.shape[2:])
    centers: list[tuple[float, ...]] = [half_pixel_centers(n, n) for n in grid[:-2]]
    for n, (low, high) in zip(grid[-2:], spans, strict=True):
        centers.append(tuple(n * (low + (high - low) * _middles(n)) - 0.5))
    return resample(array, grid, "linear", centers)


def _middles(n: int) -> np.ndarray:
    return (np.arange(n) + 0.5) / n


def _inside(span: Span) -> Span:
    """Return where the whole side lies, seen from a span of it."""
    low, high = span
    return -low / (high - low), (1 - low) / (high - low)
