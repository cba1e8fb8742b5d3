"""Parts of a signal that a network saw one by one, its windows or its channels: rows of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from chronocam.errors import LayoutError
from chronocam.layouts.base import Layout, Site, candidates, register
from chronocam.layouts.misfit import CHANNEL_ROWS, WINDOW_ROWS
from chronocam.maps.arrays import namespace
from chronocam.types import Array


@register
@dataclass(frozen=True)
class WindowRows(Layout):
    """`(batch·window, …)`, the windows of a signal together, one after the other in time.

    windows: how many a signal has.
    part: the layout of each.
    batch_axis: 1 for `(window·batch, …)`, the first windows of all signals together.

    Example:
    >>> rows = cc.layouts.WindowRows(5, cc.layouts.ChannelsFirst())
    >>> rows(torch.zeros(2 * 5, 16, 20)).shape
    torch.Size([2, 16, 100])
    """

    windows: int
    part: Layout
    batch_axis: int = 0
    name: ClassVar[str] = "window_rows"

    def __call__(self, array: Array) -> Array:
        """Put the windows after each other. Raises LayoutError unless rows make whole signals."""
        xp, parts = namespace(array), _apart(self.part(array), self.windows, self.batch_axis)
        parts = xp.moveaxis(parts, 1, 2)
        return xp.reshape(parts, (*parts.shape[:2], -1))

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return the layouts with every one that fits a window.

        They fit where there are several rows for every signal, each with steps.
        """
        windows, left = divmod(site.shape[0], site.batch)
        if left or windows < 2:
            return []
        fits = ((misfit, part, windows * steps) for misfit, part, steps in _of_part(site))
        return [
            (WINDOW_ROWS + misfit, cls(windows, part)) for misfit, part, n in fits if n <= site.input_grid[0]
        ]


@register
@dataclass(frozen=True)
class ChannelRows(Layout):
    """`(batch·channel, …)`, the channels of a signal together; what the layer makes of each is a channel.

    channels: how many a signal has.
    part: the layout of each.
    batch_axis: 1 for `(channel·batch, …)`, the first channels of all signals together.

    Example:
    >>> rows = cc.layouts.ChannelRows(7, cc.layouts.ChannelsLast())
    >>> rows(torch.zeros(2 * 7, 11, 16)).shape
    torch.Size([2, 112, 11])
    """

    channels: int
    part: Layout
    batch_axis: int = 0
    name: ClassVar[str] = "channel_rows"

    def __call__(self, array: Array) -> Array:
        """Put what is made of all channels together. Raises LayoutError unless rows make whole signals."""
        parts = _apart(self.part(array), self.channels, self.batch_axis)
        return namespace(array).reshape(parts, (parts.shape[0], -1, parts.shape[3]))

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return the layouts with every one that fits a channel.

        They fit where there is a row for every channel of the batch's signals, each with steps.
        """
        channels = site.channels or 1
        if channels < 2 or site.shape[0] != site.batch * channels:
            return []
        return [(CHANNEL_ROWS + misfit, cls(channels, part)) for misfit, part, _ in _of_part(site)]


def _apart(rows: Array, parts: int, batch_axis: int) -> Array:
    """Return rows `(row, channel, step)` as `(batch, part, channel, step)`."""
    xp = namespace(rows)
    samples, left = divmod(rows.shape[0], parts)
    if left:
        raise LayoutError(
            f"the layer returns {rows.shape[0]} rows, which do not make signals of {parts} parts"
        )
    if batch_axis:
        return xp.moveaxis(xp.reshape(rows, (parts, samples, *rows.shape[1:])), 0, 1)
    return xp.reshape(rows, (samples, parts, *rows.shape[1:]))


def _of_part(site: Site) -> Iterator[tuple[float, Layout, int]]:
    """Yield how badly a layout fits a part that is a row, the layout, and how many steps the part has."""
    if len(site.input_grid) == 1 and len(site.shape) == 3:
        for at, part in enumerate(candidates(replace(site, batch=site.shape[0], channels=None))):
            yield at / 100, part, part(np.broadcast_to(np.int8(0), site.shape)).shape[2]
