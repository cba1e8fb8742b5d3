"""Video tokens: one vector per patch of each time slice, after a few prefix tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log2, prod
from typing import ClassVar

from chronocam.errors import LayoutError
from chronocam.layouts.base import Layout, Site, register
from chronocam.layouts.misfit import LONGER_TUBE, MOST_PREFIX_TOKENS
from chronocam.layouts.tokens import patches, sides
from chronocam.maps.arrays import namespace
from chronocam.types import Array

FRAMES_PER_TOKEN = (1, 2)


@register
@dataclass(frozen=True)
class VideoTokens(Layout):
    """`(batch, prefix + tokens + suffix, channel)`, the tokens over `grid`, `(time, height, width)`.

    prefix, suffix: how many other tokens come before and after.
    order: `"time"`, all patches of the first slice before those of the second (VideoMAE, MViT, ViViT), or
        `"patch"`, all slices of the first patch before those of the second (TimeSformer).
        Shapes do not say which.
    batch_axis: 1 for `(tokens, batch, channel)`.

    Example:
    >>> layout = cc.layouts.VideoTokens((8, 14, 14), order="time")
    >>> layout(torch.zeros(2, 8 * 14 * 14, 768)).shape
    torch.Size([2, 768, 8, 14, 14])
    """

    grid: tuple[int, ...]
    prefix: int = 0
    order: str = "time"
    batch_axis: int = 0
    suffix: int = 0
    name: ClassVar[str] = "video_tokens"

    def __post_init__(self) -> None:
        if self.order not in ("time", "patch"):
            raise LayoutError(f"no token order `{self.order}`; choose time or patch")

    def __call__(self, array: Array) -> Array:
        """Drop the other tokens and put the rest on the grid.

        Raises LayoutError where their number does not fit.
        """
        xp, token_axis, last = namespace(array), 1 - self.batch_axis, self.prefix + prod(self.grid)
        if array.ndim != 3 or array.shape[token_axis] != last + self.suffix:
            after = f", and {self.suffix} after them" if self.suffix else ""
            raise LayoutError(
                f"the layer returns {tuple(array.shape)}; expected {self.prefix} prefix tokens and "
                f"{prod(self.grid)} for the grid {self.grid}{after}: give another layout"
            )
        tokens = xp.permute_dims(array, (self.batch_axis, 2, token_axis))[:, :, self.prefix : last]
        time, *space = self.grid
        if self.order == "time":
            return xp.reshape(tokens, (*tokens.shape[:2], *self.grid))
        return xp.moveaxis(xp.reshape(tokens, (*tokens.shape[:2], *space, time)), -1, 2)

    def others(self) -> list[VideoTokens]:
        """Return the same grid with other numbers of tokens before it."""
        left = self.prefix + self.suffix
        return [replace(self, prefix=n, suffix=left - n) for n in sides(left) if n != self.prefix]

    def ordered(self, order: str) -> VideoTokens:
        """Return this layout with its tokens in another order."""
        return replace(self, order=order)

    def settled(self, by_patch: Callable[[int], bool]) -> VideoTokens:
        """Return this layout with its tokens in the order in which the model has them.

        Tokens before the batch are taken to lie slice by slice, as PyTorch flattens volumes.
        """
        if self.batch_axis:
            return self
        return self.ordered("patch" if by_patch(self.prefix) else "time")

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where the number of tokens is a few more than one per square patch of one or two frames."""
        fits = (cls._of(site, batch_axis) for batch_axis in (0, 1))
        return min((fit for fit in fits if fit is not None), key=lambda fit: fit[0], default=None)

    @classmethod
    def _of(cls, site: Site, batch_axis: int) -> tuple[float, VideoTokens] | None:
        if not _holds_tokens(site, batch_axis):
            return None
        frames, *space = site.input_grid
        tokens, fits = site.shape[1 - batch_axis], []
        if tokens - frames in (0, 1):  # a vector per frame, and perhaps a class token
            return None
        for tube in FRAMES_PER_TOKEN:
            time, left = divmod(frames, tube)
            fit = None if left or not time else patches(tokens, tuple(space), slices=time)
            if fit is not None:
                misfit, grid, prefix = fit
                layout = cls((time, *grid), prefix, batch_axis=batch_axis)
                fits.append((misfit + LONGER_TUBE * log2(tube), layout))
        return min(fits, key=lambda fit: fit[0], default=None)

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return what fits by the number of patches or the grid of a layer before, in both orders.

        Tokens that are left over may stand before the patches, after them, or on both sides.
        """
        fits: list[tuple[float, VideoTokens]] = []
        for batch_axis in (0, 1):
            if not _holds_tokens(site, batch_axis):
                continue
            for age, grid in enumerate(reversed(site.grids)):
                left = site.shape[1 - batch_axis] - prod(grid)
                if len(grid) == 3 and 0 <= left <= MOST_PREFIX_TOKENS:
                    fits.append((-1 + age / 1000, cls(grid, left, batch_axis=batch_axis)))
            fit = cls._of(site, batch_axis)
            fits += [] if fit is None else [fit]
        return [
            (misfit + at / 1000 + (order == "patch") / 10000, side.ordered(order))
            for misfit, one in fits
            for at, side in enumerate((one, *one.others()))
            for order in ("time", "patch")
        ]


def _holds_tokens(site: Site, batch_axis: int) -> bool:
    return len(site.shape) == len(site.input_grid) == 3 and site.shape[batch_axis] == site.batch
