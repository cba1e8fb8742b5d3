"""Occlusion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import ClassVar

import numpy as np

from chronocam.maps.arrays import like, to_numpy
from chronocam.masks.regions.base import Pieces, numbers_of
from chronocam.masks.replacements import Fill
from chronocam.methods._base import Maps
from chronocam.methods._masks import InputMasks, rounding
from chronocam.types import Array, Change, View


@dataclass(kw_only=True, eq=False)
class Occlusion(InputMasks):
    """Occlusion: by how much the score falls where a window is hidden, the mean over the windows of a place.

    window: its size in pixels (and frames), a number or one per axis; None is a seventh of each axis, rounded
        up.
    stride: how far windows lie apart, likewise; None is half a window, rounded up. A last window is cut at
        the border.

    Nothing is drawn: `Explanation.interval` is zero.

    Source: Zeiler and Fergus 2014 (arXiv:1311.2901), section 4.2.

    Example:
    >>> cc.Occlusion(model, window=8, stride=8, baseline="zero").explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    window: Pieces = None
    stride: Pieces = None
    name: ClassVar[str] = "occlusion"

    def maps(self, view: View) -> Maps:
        """Hide one window after the other."""
        x = view.captures[0].activations
        grid = tuple(int(n) for n in x.shape[2:])
        window = numbers_of(
            "window", [-(-n // 7) for n in grid] if self.window is None else self.window, grid
        )
        stride = numbers_of(
            "stride", [-(-n // 2) for n in window] if self.stride is None else self.stride, grid
        )
        places = list(_windows(grid, window, stride))
        fill = self.filled(view)
        scores = to_numpy(view.scores(_changes(view, fill, grid, places)))
        falls = scores[0].astype(np.float64) - scores[1:]
        total, times = np.zeros((*falls.shape[1:], *grid)), np.zeros(grid)
        for place, fall in zip(places, falls, strict=True):
            total[:, :, *place] += fall[(...,) + (None,) * len(grid)]
            times[place] += 1
        if not times.all():
            view.note(
                f"stride={stride} leaves gaps between windows of {window}: {np.mean(times == 0):.0%} of the "
                "places were never hidden, and are zero"
            )
        mean = self.without_rounding(view, total / np.maximum(times, 1), rounding(scores))
        view.interval = like(np.zeros_like(mean), x)
        return like(mean, x)


def _windows(
    grid: Sequence[int], window: Sequence[int], stride: Sequence[int]
) -> Iterator[tuple[slice, ...]]:
    """Yield windows until each axis is covered."""
    axes = []
    for size, wide, step in zip(grid, window, stride, strict=True):
        last = max(size - wide, 0)
        starts = range(0, last + step, step)
        axes.append([slice(start, min(start + wide, size)) for start in starts if start < size])
    yield from product(*axes)


def _changes(
    view: View, fill: Fill, grid: Sequence[int], places: Sequence[tuple[slice, ...]]
) -> Iterator[Change]:
    for place in [None, *places]:
        yield view.on_main(partial(_hidden, fill, grid, place))


def _hidden(fill: Fill, grid: Sequence[int], place: tuple[slice, ...] | None, x: Array) -> Array:
    if place is None:
        return x
    mask = np.ones(grid)
    mask[place] = 0
    return fill(mask[None, None])
