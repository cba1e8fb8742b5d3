"""Time as one of the grid's axes: frames as samples, and which input frames a time slice covers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from chronocam.maps.arrays import namespace, relu, widen


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


def frame_spans(
    slices: int, frames: int, centers: Sequence[float] | None = None
) -> tuple[tuple[int, int], ...]:
    """Return the first and the last input frame of each time slice.

    Slices tile the frames evenly, and a frame that two of them share belongs to both; or a slice covers the
    frames that lie nearest to its centre, where `centers` (in frames) are given, or where there are none the
    one that its centre is nearest to.
    """
    if centers is None:
        return tuple((i * frames // slices, -(-(i + 1) * frames // slices) - 1) for i in range(slices))
    middles = [(a + b) / 2 for a, b in pairwise(centers)]
    first = [0, *(min(max(ceil(m), 0), frames - 1) for m in middles)]
    last = [*(min(max(floor(m), 0), frames - 1) for m in middles), frames - 1]
    own = (min(max(round(center), 0), frames - 1) for center in centers)
    return tuple((a, b) if a <= b else (at, at) for a, b, at in zip(first, last, own, strict=True))


def frame_importance(maps: Float[Any, "*lead time height width"]) -> Float[Any, "*lead time"]:
    """Return the share of the positive evidence in each time slice: Σ⁺ of the slice / Σ⁺ of the map.

    Sums to 1 over time; a map without a positive value has zeros.
    """
    xp = namespace(maps)
    energy = xp.sum(relu(widen(maps)), axis=(-2, -1))
    total = xp.sum(energy, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # of maps that are not finite, which findings say
        return energy / xp.where(total > 0, total, xp.ones_like(total))


def merge_copies(
    maps: Float[np.ndarray, "*lead time height width"], first: Int64[np.ndarray, " time"]
) -> Float[np.ndarray, "*lead unique height width"]:
    """Return one slice for each frame of a looped clip: the mean over its copies.

    first: for each frame, where in the clip its source frame comes first.
    """
    places = np.unique(first)
    if len(places) == len(first):
        return maps
    return np.stack([maps[..., first == place, :, :].mean(axis=-3) for place in places], axis=-3)
