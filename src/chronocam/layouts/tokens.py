"""Tokens: one vector per patch, after a few prefix tokens (class, distillation, registers)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import ClassVar

from chronocam.errors import LayoutError
from chronocam.layouts.base import Layout, Site, is_grid, register
from chronocam.layouts.misfit import MOST_PREFIX_TOKENS, RAGGED, TOKENS_LAST
from chronocam.maps.arrays import namespace
from chronocam.types import Array


@register
@dataclass(frozen=True)
class Tokens(Layout):
    """`(batch, prefix + tokens + suffix, channel)`, the tokens row by row over `grid`.

    grid: the tokens' grid, row by row.
    prefix, suffix: how many tokens come before and after.
    middle: how many others stand behind the first half of the tokens, rounded down, as in Vision Mamba.
    batch_axis: 1 for `(tokens, batch, channel)`.
    token_axis: 2 for `(batch, channel, tokens)`.

    Example:
    >>> cc.layouts.Tokens((14, 14), prefix=1)(torch.zeros(2, 1 + 14 * 14, 768)).shape
    torch.Size([2, 768, 14, 14])
    """

    grid: tuple[int, ...]
    prefix: int = 0
    batch_axis: int = 0
    token_axis: int = 1
    suffix: int = 0
    middle: int = 0
    name: ClassVar[str] = "tokens"

    @property
    def length(self) -> int:
        """How many tokens there are, with those beside the grid's."""
        return self.prefix + prod(self.grid) + self.middle + self.suffix

    def __call__(self, array: Array) -> Array:
        """Drop the other tokens and put the rest on the grid.

        Raises LayoutError where their number does not fit.
        """
        xp = namespace(array)
        if array.ndim != 3 or array.shape[self.token_axis] != self.length:
            after = f", {self.middle} in their middle" if self.middle else ""
            after += f", and {self.suffix} after them" if self.suffix else ""
            raise LayoutError(
                f"the layer returns {tuple(array.shape)}; expected {self.prefix} prefix tokens and "
                f"{prod(self.grid)} for the grid {self.grid}{after} on axis {self.token_axis}: give another "
                "layout"
            )
        channel_axis = 3 - self.batch_axis - self.token_axis
        array = xp.permute_dims(array, (self.batch_axis, channel_axis, self.token_axis))
        tokens = array[:, :, self.prefix : self.length - self.suffix]
        if self.middle:
            half = prod(self.grid) // 2
            tokens = xp.concat([tokens[:, :, :half], tokens[:, :, half + self.middle :]], axis=2)
        return xp.reshape(tokens, (*array.shape[:2], *self.grid))

    def others(self) -> list[Tokens]:
        """Return the same grid with the other tokens elsewhere: before, after or amid those of the grid."""
        left = self.prefix + self.suffix + self.middle
        every = [replace(self, prefix=n, suffix=left - n, middle=0) for n in sides(left)]
        if left:
            every.append(replace(self, prefix=0, suffix=0, middle=left))
        return [one for one in every if one != self]

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where the picture's tokens are known, or the tokens are about one per square patch."""
        if site.picture is not None and len(site.shape) == 3 and len(site.input_grid) == 2:
            return next(iter(cls._in_prompt(site, *site.picture)), None)
        return min((*cls._by_patches(site), *cls._by_steps(site)), key=lambda fit: fit[0], default=None)

    @classmethod
    def _by_steps(cls, site: Site) -> list[tuple[float, Tokens]]:
        """Return the layouts of a signal's steps, or of patches that a convolution cut from it.

        They are for tokens that have others beside them, or that come before the batch: the rest is a plain
        grid.
        """
        fits: list[tuple[float, Tokens]] = []
        if len(site.shape) != 3 or len(site.input_grid) != 1:
            return fits
        lengths = [grid[0] for grid in reversed((site.input_grid, *site.grids)) if len(grid) == 1]
        for batch_axis, token_axis in ((0, 1), (1, 0)):
            tokens = site.shape[token_axis]
            if site.shape[batch_axis] != site.batch or (tokens in lengths and not batch_axis):
                continue
            for age, length in enumerate(dict.fromkeys(lengths)):
                left = tokens - length
                if length > 1 and 0 <= left <= MOST_PREFIX_TOKENS:
                    misfit = -1 + age / 1000 + left / 50
                    fits += [
                        (misfit, cls((length,), n, batch_axis, token_axis, left - n)) for n in sides(left)
                    ]
        return fits

    @classmethod
    def _by_patches(cls, site: Site) -> list[tuple[float, Tokens]]:
        if len(site.shape) != 3 or len(site.input_grid) != 2 or site.tiles is not None:
            return []
        fits = []
        # As PyTorch's layers have them with and without `batch_first`, and as a flattened convolution does.
        for batch_axis, token_axis in ((0, 1), (1, 0), (0, 2)):
            fit = patches(site.shape[token_axis], site.input_grid)
            if fit is not None and site.shape[batch_axis] == site.batch:
                misfit, grid, prefix = fit
                if token_axis == 2:  # a flattened grid of channels: no token was put before it
                    if prefix or site.shape[1] == 1:
                        continue
                    misfit += TOKENS_LAST
                fits.append((misfit, cls(grid, prefix, batch_axis, token_axis)))
        return fits

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return what fits by the number of patches and, first, by the grid of a layer before.

        Tokens that are left over may stand before the patches, after them, or on both sides.
        """
        fits: list[tuple[float, Layout]] = []
        if len(site.input_grid) == 1:
            return list(cls._by_steps(site))
        if len(site.shape) != 3 or len(site.input_grid) != 2 or site.tiles is not None:
            return fits
        if site.picture is not None:
            return cls._in_prompt(site, *site.picture)
        for batch_axis, token_axis in ((0, 1), (1, 0), (0, 2)):
            if site.shape[batch_axis] != site.batch or (token_axis == 2 and site.shape[1] == 1):
                continue
            for age, grid in enumerate(reversed(site.grids)):
                left = site.shape[token_axis] - prod(grid)
                if token_axis == 2 and left:  # a flattened grid of channels: no token was put before it
                    continue
                if left >= 0 and len(grid) == 2 and is_grid(grid, site.input_grid):
                    misfit = -1 + age / 1000 + (token_axis == 2) / 2 + left / 50
                    fits += [(misfit, cls(grid, n, batch_axis, token_axis, left - n)) for n in sides(left)]
        for misfit, one in cls._by_patches(site):
            fits += [(misfit, replace(one, prefix=n, suffix=one.prefix - n)) for n in sides(one.prefix)]
        return fits

    @classmethod
    def _in_prompt(cls, site: Site, start: int, count: int) -> list[tuple[float, Layout]]:
        """Return the layout of a picture's tokens in a prompt, whose ids say where they are."""
        height, width = site.input_grid
        grids = dict.fromkeys((height // k, width // k) for k in range(1, max(height, width) + 1))
        after = site.shape[1] - start - count
        return [(0.0, cls(grid, start, suffix=after)) for grid in grids if prod(grid) == count]


def sides(left: int) -> tuple[int, ...]:
    """Return how many of the tokens that are not patches may stand before them, the likeliest first.

    All, none, or one or two on either side: class and distillation tokens, with registers on the other.
    """
    likely = (left, 0, 1, left - 1, 2, left - 2)
    return tuple(dict.fromkeys(n for n in likely if 0 <= n <= left))


@lru_cache(maxsize=4096)  # asked of every layer, of which many have the same tokens
def patches(
    tokens: int, input_grid: tuple[int, ...], slices: int = 1
) -> tuple[float, tuple[int, ...], int] | None:
    """Return the misfit, the grid of square patches in each of `slices`, and the length of the prefix.

    The fewer left over the better, and patches that tile the input are preferred.
    """
    fits = []
    for patch in range(1, max(input_grid) + 1):
        ragged = RAGGED if any(n % patch for n in input_grid) else 0.0
        # Convolutions with a stride leave a ragged border out; padded ones take it in.
        for grid in (tuple(n // patch for n in input_grid), tuple(-(-n // patch) for n in input_grid)):
            cells = slices * prod(grid)
            prefix = tokens - cells
            # Fewer tokens precede the cells than there are: 8 channels are not 4 tokens and a grid of 2 × 2.
            # Where patches do not tile the input, a long prefix is rather a part of something else.
            most = min(MOST_PREFIX_TOKENS, cells // 4 if ragged else cells - 1)
            if 0 <= prefix <= most and is_grid(grid, input_grid):
                fits.append((ragged + prefix, grid, prefix))
    return min(fits, default=None)
