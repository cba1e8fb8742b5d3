"""Tokens: one vector per patch, after a few prefix tokens (class, distillation, registers)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from chronocam.layouts.base import Layout, Site, is_grid, register
from chronocam.maps.arrays import namespace
from chronocam.types import Array

MOST_PREFIX_TOKENS = 16


@register
@dataclass(frozen=True)
class Tokens(Layout):
    """`(batch, prefix + tokens, channel)`, the tokens row by row over `grid`.

    `batch_axis=1` is for `(tokens, batch, channel)`, `token_axis=2` for `(batch, channel, tokens)`.
    """

    grid: tuple[int, ...]
    prefix: int = 0
    batch_axis: int = 0
    token_axis: int = 1
    name: ClassVar[str] = "tokens"

    def __call__(self, array: Array) -> Array:
        """Drop the prefix tokens and put the rest on the grid."""
        xp = namespace(array)
        channel_axis = 3 - self.batch_axis - self.token_axis
        array = xp.permute_dims(array, (self.batch_axis, channel_axis, self.token_axis))[:, :, self.prefix :]
        return xp.reshape(array, (*array.shape[:2], *self.grid))

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where the number of tokens is a few more than one per square patch of the input."""
        if len(site.shape) != 3 or len(site.input_grid) != 2:
            return None
        for batch_axis, token_axis in ((0, 1), (1, 0), (0, 2)):
            if site.shape[batch_axis] == site.batch:
                grid = _patch_grid(site.shape[token_axis], site.input_grid)
                if grid is not None:
                    prefix = site.shape[token_axis] - prod(grid)
                    return 0.0, cls(grid, prefix, batch_axis, token_axis)
        return None


def _patch_grid(tokens: int, input_grid: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the grid of square patches with the fewest tokens left over, up to `MOST_PREFIX_TOKENS`."""
    found = []
    for patch in range(1, max(input_grid) + 1):
        for grid in (tuple(n // patch for n in input_grid), tuple(-(-n // patch) for n in input_grid)):
            left = tokens - prod(grid)
            if 0 <= left <= MOST_PREFIX_TOKENS and is_grid(grid, input_grid):
                found.append((left, grid))
    return min(found)[1] if found else None
