"""Time as one of the grid's axes: frames as samples of their own, and which input frames a time slice covers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor
from typing import Any

from jaxtyping import Float

from chronocam.maps.arrays import namespace


def frames_as_samples(
    array: Float[Any, "batch *middle time height width"],
) -> Float[Any, "frames *middle height width"]:
    """Return every time slice as a sample of its own, those of one clip together."""
    xp = namespace(array)
    moved = xp.moveaxis(array, -3, 1)
    return xp.reshape(moved, (-1, *moved.shape[2:]))


def samples_as_frames(
    maps: Float[Any, "frames target height width"], batch: int
) -> Float[Any, "batch target time height width"]:
    """Return maps of single slices as maps of `batch` clips."""
    xp = namespace(maps)
    return xp.moveaxis(xp.reshape(maps, (batch, -1, *maps.shape[1:])), 1, 2)


def frame_spans(slices: int, frames: int, centers: Sequence[float] | None = None) -> tuple[tuple[int, int], ...]:
    """Return the first and the last input frame of each time slice.

    Slices tile the frames evenly, and a frame that two of them share belongs to both; or a slice covers the frames
    that lie nearest to its centre, where `centers` (in frames) are given.
    """
    if centers is None:
        return tuple((i * frames // slices, -(-(i + 1) * frames // slices) - 1) for i in range(slices))
    middles = [(a + b) / 2 for a, b in pairwise(centers)]
    first = [0, *(min(max(ceil(m), 0), frames - 1) for m in middles)]
    last = [*(min(max(floor(m), 0), frames - 1) for m in middles), frames - 1]
    return tuple(zip(first, last, strict=True))
