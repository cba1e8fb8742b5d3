"""Pictures whose patches or tiles a network saw one by one: rows of a batch, each with a grid of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, TypeAlias

from chronocam.errors import LayoutError
from chronocam.layouts.base import Layout, Site, candidates, infer, is_grid, register
from chronocam.layouts.misfit import PATCH_ROWS
from chronocam.maps.arrays import namespace
from chronocam.types import Array

Cut: TypeAlias = tuple[tuple[int, int], int, int]
"""Rows and columns of patches, and how many rows of the batch come before and after them."""


@register
@dataclass(frozen=True)
class PatchRows(Layout):
    """`(batch·patches, …)`, the patches of a picture together, row by row over `patches`.

    patches: how many lie below and beside each other.
    frame: the layout of each.
    batch_axis: 1 for `(patches·batch, …)`, the first patches of all pictures together.
    before, after: how many other rows each picture has, such as one of the whole picture made smaller.

    Example:
    >>> rows = cc.layouts.PatchRows((4, 4), cc.layouts.ChannelsFirst())
    >>> rows(torch.zeros(2 * 16, 8, 7, 7)).shape
    torch.Size([2, 8, 28, 28])
    """

    patches: tuple[int, int]
    frame: Layout
    batch_axis: int = 0
    before: int = 0
    after: int = 0
    name: ClassVar[str] = "patch_rows"

    def __call__(self, array: Array) -> Array:
        """Put the patches beside each other. Raises LayoutError unless they make whole pictures."""
        xp, (rows, columns) = namespace(array), self.patches
        last = self.before + rows * columns
        every = last + self.after
        if array.shape[0] % every:
            more = f" and {every - rows * columns} more" if every > rows * columns else ""
            raise LayoutError(
                f"the layer returns {array.shape[0]} rows, which do not make pictures of {rows} × {columns} "
                f"patches{more}"
            )
        cells = self.frame(array)
        channels, height, width = cells.shape[1:]
        if self.batch_axis:
            apart = xp.moveaxis(xp.reshape(cells, (every, -1, channels, height, width)), 1, 0)
        else:
            apart = xp.reshape(cells, (-1, every, channels, height, width))
        apart = xp.reshape(apart[:, self.before : last], (-1, rows, columns, channels, height, width))
        beside = xp.permute_dims(apart, (0, 3, 1, 4, 2, 5))
        return xp.reshape(beside, (-1, channels, rows * height, columns * width))

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Fit where the rows are square patches that tile the batch's pictures, each with a grid.

        Or the tiles that the model is known to take a picture as.
        """
        for (patches, before, after), one in _patches(site):
            try:
                return PATCH_ROWS, cls(patches, infer(one), before=before, after=after)
            except LayoutError:
                continue
        return None

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return the layouts with every one that fits a patch."""
        return [
            (PATCH_ROWS + i / 100, cls(patches, layout, before=before, after=after))
            for (patches, before, after), one in _patches(site)
            for i, layout in enumerate(candidates(one))
        ]


def _patches(site: Site) -> Iterator[tuple[Cut, Site]]:
    """Yield how square patches, or tiles that are known, lie below and beside each other; the site of one.

    Tokens within patches are left out: networks that have them have tokens of patches too.
    """
    if len(site.input_grid) != 2 or not (3 if site.tiles else 4) <= len(site.shape) <= 4:
        return
    count, left = divmod(site.shape[0], site.batch)
    if left or count < 2:
        return
    height, width = site.input_grid
    for (rows, columns), before, after in _square(site, count) if site.tiles is None else [site.tiles]:
        if before + rows * columns + after == count:
            within = (height // rows, width // columns)
            grids = tuple(grid for grid in site.grids if is_grid(grid, within) and prod(grid) > 1)
            one = replace(site, batch=site.shape[0], input_grid=within, grids=grids, tiles=None)
            yield ((rows, columns), before, after), one


def _square(site: Site, count: int) -> Iterator[Cut]:
    """Yield how so many square patches tile a picture."""
    height, width = site.input_grid
    for rows in range(1, count + 1):
        columns = count // rows
        if rows * columns == count and height * columns == width * rows and not height % rows:
            yield (rows, columns), 0, 0
