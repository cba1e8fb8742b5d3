"""Signals whose layers have an axis beside time: the bands of a spectrum that the model makes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from chronocam.layouts.base import Layout, Site, register
from chronocam.layouts.misfit import BESIDE_TIME, MOST_PREFIX_TOKENS
from chronocam.layouts.plain import ChannelsFirst, ChannelsLast
from chronocam.layouts.tokens import Tokens, sides
from chronocam.maps.arrays import namespace
from chronocam.types import Array


@register
@dataclass(frozen=True)
class Bands(Layout):
    """Steps in time with several bands each, which join the channels: the grid is time alone.

    plane: the layout of steps and bands, `(batch, channel, rows, columns)`.
    time: whether rows (0) or columns (1) are the steps.

    Example:
    >>> spectra = cc.layouts.Bands(cc.layouts.ChannelsFirst(), time=1)
    >>> spectra(torch.zeros(2, 16, 8, 50)).shape
    torch.Size([2, 128, 50])
    """

    plane: Layout
    time: int = 1
    name: ClassVar[str] = "bands"

    def __call__(self, array: Array) -> Array:
        """Put bands beside the channels."""
        xp = namespace(array)
        plane = xp.moveaxis(self.plane(array), 2 + self.time, 3)
        return xp.reshape(plane, (plane.shape[0], -1, plane.shape[3]))

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return the layouts with each axis as time that has several steps, columns first.

        They fit where the layer of a signal has two axes beside batch and channels, or tokens of a plane.
        """
        if len(site.input_grid) != 1 or site.shape[0] != site.batch:
            return []
        rank = len(site.shape)
        planes = _of_maps(site) if rank == 4 else _of_tokens(site) if rank == 3 else []
        return [(BESIDE_TIME + i / 100, cls(plane, time)) for i, (plane, time) in enumerate(planes)]


def _of_maps(site: Site) -> list[tuple[Layout, int]]:
    axes = {3: (ChannelsFirst(), 1), 2: (ChannelsFirst(), 0), 1: (ChannelsLast(), 0)}
    return [plane for axis, plane in axes.items() if site.shape[axis] > 1]


def _of_tokens(site: Site) -> list[tuple[Layout, int]]:
    planes: list[tuple[Layout, int]] = []
    for grid in reversed(site.grids):
        left = site.shape[1] - prod(grid)
        if len(grid) == 2 and 0 <= left <= MOST_PREFIX_TOKENS:
            tokens = [Tokens(grid, before, suffix=left - before) for before in sides(left)]
            planes += [(one, time) for time in (1, 0) if grid[time] > 1 for one in tokens]
    return planes
