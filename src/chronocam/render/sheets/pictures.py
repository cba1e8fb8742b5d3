"""Contact sheets: pictures in rows and columns with their titles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias
from warnings import catch_warnings, filterwarnings

import numpy as np

from chronocam.errors import printable
from chronocam.media.files import replace_file
from chronocam.render.sheets._page import DPI, colour_bar
from chronocam.render.theme import DIVERGING, SEQUENTIAL, WARM

CELL, TITLE, BAR = 3.2, 0.45, 0.3  # inches

Limits: TypeAlias = tuple[float, float] | None
"""The raw values at the ends of a picture's colours; None for a picture without a map."""


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[Sequence[str]],
    heading: str | None = None,
    width: float = CELL,
    limits: Sequence[Sequence[Limits]] | None = None,
) -> Any:
    """Return a matplotlib Figure with the pictures of `rows` (uint8 RGB, or 2D maps) under their titles.

    width: of a picture, in inches.
    limits: for each picture, the raw values at the ends of its colours, which stand on a bar below it, or
        None; blue and red where the lower one is negative. 2D maps have these colours over them, too.

    Example:
    >>> figure = cc.render.contact_sheet([[np.zeros((4, 4)), np.ones((4, 4))]], [["before", "after"]])
    >>> len(figure.axes)
    2
    """
    from matplotlib.figure import Figure

    columns, bar = max(len(row) for row in rows), BAR * (limits is not None)
    heights = [width * row[0].shape[0] / row[0].shape[1] + TITLE + bar for row in rows]
    figure = Figure(figsize=(width * columns, sum(heights) + TITLE * bool(heading)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    ends = limits or [[None] * len(row) for row in rows]
    for line, row, names, among in zip(axes, rows, titles, ends, strict=True):
        for axis in line[len(row) :]:
            axis.remove()
        for axis, picture, name, between in zip(line, row, names, among, strict=False):
            _tile(axis, picture, name, between, width)
    if heading:
        figure.suptitle(legible(heading), fontsize=10, parse_math=False, wrap=True)
    return figure


def legible(title: str) -> str:
    """Return a title of lines without what no font can draw, such as bytes of a file's name."""
    return "\n".join(map(printable, title.split("\n")))


def _tile(axis: Any, picture: np.ndarray, name: str, limits: Limits, width: float) -> None:
    low, high = limits or (None, None)
    signed = low is not None and low < 0
    bare = DIVERGING if signed else SEQUENTIAL
    axis.set_axis_off()
    axis.imshow(picture, cmap=bare, vmin=low, vmax=high, interpolation="nearest")
    # Labels come from files and models: dollar signs must not be read as formulas.
    axis.set_title(legible(name), fontsize=8, parse_math=False, wrap=True)
    if limits is not None:
        height = 0.07 * picture.shape[1] / picture.shape[0] / width
        place = (0.05, -1.6 * height, 0.9, height)
        colour_bar(axis, limits, bare if picture.ndim == 2 or signed else WARM, place)


def save_figure(figure: Any, path: str | Path, dpi: int = DPI) -> Path:
    """Write a figure; the suffix decides the format. The file appears only once it is whole.

    dpi: pixels to an inch, in formats that have pixels.

    Example:
    >>> figure = cc.render.contact_sheet([[np.zeros((4, 4))]], [["nothing"]])
    >>> cc.render.save_figure(figure, "sheet.png").name
    'sheet.png'
    """
    with catch_warnings():
        filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it; pages have other fonts
        return replace_file(Path(path), lambda temporary: figure.savefig(temporary, dpi=dpi))
