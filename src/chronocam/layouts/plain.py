"""Plain grids: an axis per dimension, with the channels first (convolutions) or last (Swin, Keras)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, prod
from typing import ClassVar

from chronocam.layouts.base import Layout, Site, is_grid, register
from chronocam.layouts.misfit import OTHER_ORDER, UNKNOWN_LENGTH
from chronocam.maps.arrays import namespace
from chronocam.types import Array


def _misfit(grid: tuple[int, ...], within: tuple[int, ...]) -> float:
    """Return how unevenly `grid` shrinks the last two axes of the input: 0 where both by the same factor."""
    if not is_grid(grid, within):
        return inf
    strides = [log(w / g) for g, w in zip(grid[-2:], within[-2:], strict=True)]
    return max(strides) - min(strides)


def _fit(site: Site, grid: tuple[int, ...], layout: Layout) -> tuple[float, Layout] | None:
    """Return `layout` with its misfit, or None where `grid` does not fit the site."""
    pooled = prod(site.shape[2:]) == 1  # (batch, channel, 1, 1): not a grid of one channel
    if len(site.shape) != len(site.input_grid) + 2 or site.shape[0] != site.batch or pooled:
        return None
    if site.order not in (None, layout.name):
        return None
    # Both orders often fit: (1, 8, 8, 8) is 8 channels of 8 × 8 either way. Strides shrink height and width
    # alike, so that the order which does is the likelier one.
    if site.order is not None:  # such a grid may be finer, as where the model enlarges or pads its input
        return (0.0, layout) if len(grid) == len(site.input_grid) and prod(grid) > 1 else None
    misfit = _misfit(grid, site.input_grid)
    if site.channels_last and not isinstance(layout, ChannelsLast):
        misfit += OTHER_ORDER
    if len(grid) == 1 and grid not in (site.input_grid, *site.grids):
        misfit += UNKNOWN_LENGTH
    return (misfit, layout) if misfit < inf else None


@register
@dataclass(frozen=True)
class ChannelsFirst(Layout):
    """`(batch, channel, *grid)`, as it is.

    Example:
    >>> cc.GradCAM(model, "conv2", layout="channels_first").explain(images).maps.shape
    (2, 1, 8, 8)
    """

    name: ClassVar[str] = "channels_first"

    def __call__(self, array: Array) -> Array:
        """Return `array` as it is."""
        return array

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where all axes but the second are a grid of the input's rank."""
        return _fit(site, site.shape[2:], cls())


@register
@dataclass(frozen=True)
class ChannelsLast(Layout):
    """`(batch, *grid, channel)`.

    Example:
    >>> cc.layouts.ChannelsLast()(torch.zeros(2, 7, 7, 16)).shape
    torch.Size([2, 16, 7, 7])
    """

    name: ClassVar[str] = "channels_last"

    def __call__(self, array: Array) -> Array:
        """Move the channels to axis 1."""
        return namespace(array).moveaxis(array, -1, 1)

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where all axes but the last are a grid of the input's rank."""
        return _fit(site, site.shape[1:-1], cls())


@register
@dataclass(frozen=True)
class FramesFirst(Layout):
    """`(batch, time, channel, height, width)`.

    Example:
    >>> cc.layouts.FramesFirst()(torch.zeros(2, 4, 16, 7, 7)).shape
    torch.Size([2, 16, 4, 7, 7])
    """

    name: ClassVar[str] = "frames_first"

    def __call__(self, array: Array) -> Array:
        """Move the channels to axis 1."""
        return namespace(array).moveaxis(array, 2, 1)

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where all axes but the third are the grid of a clip."""
        return _fit(site, (site.shape[1], *site.shape[3:]), cls()) if len(site.shape) == 5 else None
