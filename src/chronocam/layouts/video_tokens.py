"""Video tokens: one vector per patch of each time slice, after a few prefix tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log2, prod
from typing import ClassVar

from chronocam.errors import LayoutError
from chronocam.layouts.base import Layout, Site, register
from chronocam.layouts.misfit import LONGER_TUBE, MOST_PREFIX_TOKENS
from chronocam.layouts.tokens import patches
from chronocam.maps.arrays import namespace
from chronocam.types import Array

FRAMES_PER_TOKEN = (1, 2)


@register
@dataclass(frozen=True)
class VideoTokens(Layout):
    """`(batch, prefix + tokens, channel)`, the tokens over `grid`, `(time, height, width)`.

    order: `"time"`, all patches of the first slice before those of the second (VideoMAE, MViT, ViViT), or
        `"patch"`, all slices of the first patch before those of the second (TimeSformer).
        Shapes do not say which.

    Example:
    >>> layout = cc.layouts.VideoTokens((8, 14, 14), order="time")
    >>> layout(torch.zeros(2, 8 * 14 * 14, 768)).shape
    torch.Size([2, 768, 8, 14, 14])
    """

    grid: tuple[int, ...]
    prefix: int = 0
    order: str = "time"
    name: ClassVar[str] = "video_tokens"

    def __post_init__(self) -> None:
        if self.order not in ("time", "patch"):
            raise LayoutError(f"no token order `{self.order}`; choose time or patch")

    def __call__(self, array: Array) -> Array:
        """Drop the prefix tokens and put the rest on the grid.

        Raises LayoutError where their number does not fit.
        """
        xp = namespace(array)
        if array.ndim != 3 or array.shape[1] != self.prefix + prod(self.grid):
            raise LayoutError(
                f"the layer returns {tuple(array.shape)}; expected {self.prefix} prefix tokens and "
                f"{prod(self.grid)} for the grid {self.grid}: give another layout"
            )
        tokens = xp.moveaxis(array[:, self.prefix :], 1, 2)
        time, *space = self.grid
        if self.order == "time":
            return xp.reshape(tokens, (*tokens.shape[:2], *self.grid))
        return xp.moveaxis(xp.reshape(tokens, (*tokens.shape[:2], *space, time)), -1, 2)

    def ordered(self, order: str) -> VideoTokens:
        """Return this layout with its tokens in another order."""
        return replace(self, order=order)

    def settled(self, by_patch: Callable[[int], bool]) -> VideoTokens:
        """Return this layout with its tokens in the order in which the model has them."""
        return self.ordered("patch" if by_patch(self.prefix) else "time")

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where the number of tokens is a few more than one per square patch of one or two frames."""
        if len(site.shape) != 3 or len(site.input_grid) != 3 or site.shape[0] != site.batch:
            return None
        frames, *space = site.input_grid
        tokens, fits = site.shape[1], []
        if tokens - frames in (0, 1):  # a vector per frame, and perhaps a class token
            return None
        for tube in FRAMES_PER_TOKEN:
            time, left = divmod(frames, tube)
            fit = None if left or not time else patches(tokens, tuple(space), slices=time)
            if fit is not None:
                misfit, grid, prefix = fit
                fits.append((misfit + LONGER_TUBE * log2(tube), cls((time, *grid), prefix)))
        return min(fits, key=lambda fit: fit[0], default=None)

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return what fits by the number of patches or the grid of a layer before, in both orders."""
        if len(site.shape) != 3 or len(site.input_grid) != 3 or site.shape[0] != site.batch:
            return []
        fits: list[tuple[float, Layout]] = []
        for age, grid in enumerate(reversed(site.grids)):
            left = site.shape[1] - prod(grid)
            if len(grid) == 3 and 0 <= left <= MOST_PREFIX_TOKENS:
                fits.append((-1 + age / 1000, cls(grid, left)))
        fit = cls.match(site)
        fits += [] if fit is None else [fit]
        return [
            (misfit + (order == "patch") / 10000, one.ordered(order))
            for misfit, one in fits
            for order in ("time", "patch")
        ]
