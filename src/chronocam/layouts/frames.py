"""Clips whose frames a 2D network saw one by one: folded into the batch, or one call per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from chronocam.errors import LayoutError
from chronocam.layouts.base import Layout, Site, candidates, infer, register
from chronocam.layouts.misfit import FEWER_FRAMES, OVERLAPPING, WITHOUT_TIME
from chronocam.layouts.plain import ChannelsFirst, ChannelsLast
from chronocam.layouts.tokens import Tokens
from chronocam.maps.arrays import namespace
from chronocam.types import Array


@register
@dataclass(frozen=True)
class Folded(Layout):
    """`(batch·time, …)`, the frames of a clip together; `frame` is the layout of each.

    batch_axis: 1 for `(time·batch, …)`, the first frames of all clips together.

    Example:
    >>> folded = cc.layouts.Folded(time=4, frame=cc.layouts.ChannelsFirst())
    >>> folded(torch.zeros(2 * 4, 16, 7, 7)).shape
    torch.Size([2, 16, 4, 7, 7])
    """

    time: int
    frame: Layout
    batch_axis: int = 0
    name: ClassVar[str] = "folded"
    per_frame: ClassVar[bool] = True

    def __call__(self, array: Array) -> Array:
        """Unfold the frames. Raises LayoutError unless they make a whole number of clips."""
        xp, rows = namespace(array), array.shape[0]
        if rows % self.time:
            raise LayoutError(f"the layer returns {rows} rows, which do not make clips of {self.time} frames")
        frames = self.frame(array)
        if self.batch_axis:
            return xp.moveaxis(xp.reshape(frames, (self.time, rows // self.time, *frames.shape[1:])), 0, 2)
        return xp.moveaxis(xp.reshape(frames, (rows // self.time, self.time, *frames.shape[1:])), 1, 2)

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where the rows are frames of the batch's clips, all or an even part, each with a grid.

        Or two or three frames in a row, as networks for motion take them: each with the one before it.
        """
        if len(site.input_grid) != 3:
            return None
        frames = site.input_grid[0]
        time, left = divmod(site.shape[0], site.batch)
        if left or time < 2 or (frames % time and not _overlap(frames, time)):
            return None
        inner = _of_frame(site, site.shape[0])
        misfit = 0.0 if time == frames else FEWER_FRAMES if frames % time == 0 else OVERLAPPING
        return None if inner is None else (misfit, cls(time, inner))

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return the layouts with every one that fits a frame."""
        fit = cls.match(site)
        if fit is None:
            return []
        time, misfit = site.shape[0] // site.batch, fit[0]
        return [
            (misfit + i / 100, cls(time, one)) for i, one in enumerate(_all_of_frame(site, site.shape[0]))
        ]


@register
@dataclass(frozen=True)
class Stepped(Layout):
    """One call per frame, each `(batch, …)`; where a frame takes several calls, its last one counts.

    Example:
    >>> stepped = cc.layouts.Stepped(time=4, frame=cc.layouts.ChannelsFirst())
    >>> calls = [torch.zeros(2, 16, 7, 7) for _ in range(4)]
    >>> stepped(stepped.gather(calls)).shape
    torch.Size([2, 16, 4, 7, 7])
    """

    time: int
    frame: Layout
    name: ClassVar[str] = "stepped"
    per_frame: ClassVar[bool] = True
    takes_all_calls: ClassVar[bool] = True

    def gather(self, calls: Sequence[Array]) -> Array:
        """Stack the last call of each frame on a new first axis.

        Raises LayoutError unless each frame has equally many calls.
        """
        per_frame, left = divmod(len(calls), self.time)
        if left or not per_frame:
            raise LayoutError(
                f"the layer is called {len(calls)} times, which does not fit {self.time} frames"
            )
        # Where a block runs its ReLU twice per frame, the second is what the block returns.
        return namespace(calls[0]).stack(list(calls[per_frame - 1 :: per_frame]), axis=0)

    def __call__(self, array: Array) -> Array:
        """Put `(time, batch, …)` on the grid."""
        xp = namespace(array)
        grids = self.frame(xp.reshape(array, (-1, *array.shape[2:])))
        grids = xp.reshape(grids, (self.time, -1, *grids.shape[1:]))
        return xp.moveaxis(grids, 0, 2)

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where the layer is called as often as there are frames, or a multiple, on the whole batch.

        Or once for every two or three frames in a row, or for an even part of the frames.
        """
        frames = site.input_grid[0]
        if len(site.input_grid) != 3 or frames < 2 or site.shape[0] != site.batch:
            return None
        inner = _of_frame(site, site.batch)
        fit = _steps(frames, site.calls)
        return None if inner is None or fit is None else (fit[0], cls(fit[1], inner))

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return the layouts with every one that fits a frame."""
        fit = cls.match(site)
        if fit is None:
            return []
        _, time = _steps(site.input_grid[0], site.calls) or (0.0, site.calls)
        return [(fit[0] + i / 100, cls(time, one)) for i, one in enumerate(_all_of_frame(site, site.batch))]


@register
@dataclass(frozen=True)
class TokensByFrame(Layout):
    """`(batch, time, tokens, channel)`; `frame` is the layout of the tokens of each slice.

    Example:
    >>> layout = cc.layouts.TokensByFrame(cc.layouts.Tokens((7, 7), prefix=1))
    >>> layout(torch.zeros(2, 4, 1 + 49, 16)).shape
    torch.Size([2, 16, 4, 7, 7])
    """

    frame: Layout
    name: ClassVar[str] = "tokens_by_frame"

    def __call__(self, array: Array) -> Array:
        """Put the tokens of each slice on the grid. Raises LayoutError where their number does not fit."""
        xp = namespace(array)
        grids = self.frame(xp.reshape(array, (-1, *array.shape[2:])))
        return xp.moveaxis(xp.reshape(grids, (*array.shape[:2], *grids.shape[1:])), 1, 2)

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where the second axis is an even part of the frames, and the third one tokens of a frame."""
        fits = cls.fits(site)
        return fits[0] if fits else None

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return the layouts with every one that fits the tokens of a slice."""
        if len(site.input_grid) != 3 or len(site.shape) != 4 or site.shape[0] != site.batch:
            return []
        rows = site.shape[0] * site.shape[1]
        if site.input_grid[0] % site.shape[1]:
            return []
        each = _all_of_frame(replace(site, shape=(rows, *site.shape[2:])), rows)
        return [(i / 100, cls(one)) for i, one in enumerate(each) if isinstance(one, Tokens)]


@register
@dataclass(frozen=True)
class OneSlice(Layout):
    """`(batch, …)` of clips whose time was summed up before: one slice for all frames, laid out as `frame`.

    Example:
    >>> one = cc.layouts.OneSlice(cc.layouts.ChannelsFirst())
    >>> one(torch.zeros(2, 16, 7, 7)).shape
    torch.Size([2, 16, 1, 7, 7])
    """

    frame: Layout
    name: ClassVar[str] = "one_slice"

    def __call__(self, array: Array) -> Array:
        """Add the axis of time."""
        return self.frame(array)[:, :, None]

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where a layer is called once on the clips and has rows and columns, but no time."""
        fits = cls.fits(site)
        return fits[0] if fits else None

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return the layouts with every plain one that fits a frame."""
        if len(site.input_grid) != 3 or len(site.shape) != 4 or site.calls > 1:
            return []
        plain = [
            one for one in _all_of_frame(site, site.batch) if isinstance(one, (ChannelsFirst, ChannelsLast))
        ]
        return [(WITHOUT_TIME + i / 100, cls(one)) for i, one in enumerate(plain)]


def _steps(frames: int, calls: int) -> tuple[float, int] | None:
    """Return how badly calls fit the frames of a clip, and how many slices they are; None for no fit."""
    if calls % frames == 0:
        return 0.0, frames
    if _overlap(frames, calls):
        return OVERLAPPING, calls
    return (FEWER_FRAMES, calls) if calls > 1 and frames % calls == 0 else None


def _overlap(frames: int, slices: int) -> bool:
    """Say whether there are as many slices as pairs of frames in a row, or as threes of them."""
    return slices >= 2 and frames - slices in (1, 2)


def _of_frame(site: Site, rows: int) -> Layout | None:
    """Return the layout of single frames, or None where they have no grid."""
    try:
        return infer(_frame_site(site, rows))
    except LayoutError:
        return None


def _all_of_frame(site: Site, rows: int) -> list[Layout]:
    return candidates(_frame_site(site, rows))


def _frame_site(site: Site, rows: int) -> Site:
    grids = tuple(grid[1:] if len(grid) == 3 else grid for grid in site.grids)
    return replace(site, batch=rows, input_grid=site.input_grid[1:], calls=1, grids=grids)
