"""Patches of pictures as rows, without a batch axis."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from chronocam.errors import LayoutError
from chronocam.layouts.base import Layout, Site, register
from chronocam.maps.arrays import namespace
from chronocam.types import Array


@register
@dataclass(frozen=True)
class TokenRows(Layout):
    """`(picture·patch, channel)`, the patches row by row over `grid`, `(…, height, width)`.

    block: how many patches of each side follow each other, block by block (Qwen2-VL: 2); 1 is none.

    Example:
    >>> cc.layouts.TokenRows((4, 6), block=2)(torch.zeros(2 * 24, 8)).shape
    torch.Size([2, 8, 4, 6])
    """

    grid: tuple[int, ...]
    block: int = 1
    name: ClassVar[str] = "token_rows"

    def __call__(self, array: Array) -> Array:
        """Put the patches on the grid. Raises LayoutError where they make no whole pictures."""
        if array.ndim != 2 or array.shape[0] % prod(self.grid):
            raise LayoutError(
                f"the layer returns {tuple(array.shape)}; expected rows of pictures of {self.grid} patches: "
                "give another layout"
            )
        xp, (*time, height, width), m = namespace(array), self.grid, self.block
        blocks = xp.reshape(array, (-1, prod(time), height // m, width // m, m, m, array.shape[1]))
        whole = xp.permute_dims(blocks, (0, 6, 1, 2, 4, 3, 5))
        return xp.reshape(whole, (whole.shape[0], array.shape[1], *self.grid))

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return the layouts of as many rows: patches in blocks, and blocks that became one.

        They fit where there is a row for each patch, or for each block of them, of every picture.
        """
        if len(site.shape) != 2 or len(site.input_grid) not in (2, 3):
            return []
        *time, height, width = site.input_grid
        merged = (*time, height // site.block, width // site.block)
        grids = {site.input_grid: site.block, merged: 1} if site.block > 1 else {site.input_grid: 1}
        return [
            (0.1, cls(grid, block))
            for grid, block in grids.items()
            if prod(grid) > 1 and site.shape[0] == site.batch * prod(grid)
        ]
