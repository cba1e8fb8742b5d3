"""Contact sheets: pictures in rows and columns with their titles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chronocam.media.files import replace_file
from chronocam.render.theme import SEQUENTIAL

CELL, TITLE = 2.6, 0.45  # inches


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[Sequence[str]],
    heading: str | None = None,
    width: float = CELL,
) -> Any:
    """Return a matplotlib Figure with the pictures of `rows` (uint8 RGB, or 2D maps) under their titles.

    width: of a picture, in inches.

    Example:
    >>> figure = cc.render.contact_sheet([[np.zeros((4, 4)), np.ones((4, 4))]], [["before", "after"]])
    >>> len(figure.axes)
    2
    """
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    heights = [width * row[0].shape[0] / row[0].shape[1] + TITLE for row in rows]
    figure = Figure(figsize=(width * columns, sum(heights) + TITLE * bool(heading)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for line, row, names in zip(axes, rows, titles, strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, picture, name in zip(line, row, names, strict=False):
            axis.imshow(picture, cmap=SEQUENTIAL, interpolation="nearest")
            # Labels come from files and models: dollar signs must not be read as formulas.
            axis.set_title(name, fontsize=8, parse_math=False, wrap=True)
    if heading:
        figure.suptitle(heading, fontsize=10, parse_math=False)
    return figure


def save_figure(figure: Any, path: str | Path, dpi: int = 110) -> Path:
    """Write a figure; the suffix decides the format. The file appears only once it is whole.

    Example:
    >>> figure = cc.render.contact_sheet([[np.zeros((4, 4))]], [["nothing"]])
    >>> cc.render.save_figure(figure, "sheet.png").name
    'sheet.png'
    """
    return replace_file(Path(path), lambda temporary: figure.savefig(temporary, dpi=dpi))
