"""Sheets of many small pictures with their numbers: feature maps, filters, inputs that excite a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from chronocam.render.sheets._page import DPI
from chronocam.render.theme import DIVERGING, SEQUENTIAL

SMALL, LARGE, DENSE = 1.5, 2.4, 100  # inches of a tile, and pixels in each where that leaves it between them
LINE, HEADING, CURVES, BAR = 0.15, 0.4, 2.0, 0.6  # inches
_ROW: Final = 4  # tiles that stand in one row, however few there are
_BAND: Final = 8  # how many times longer than high a signal is drawn


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a sheet and what stands over it.

    values: numbers `(height, width)`, or uint8 RGB `(height, width, 3)`.
    limits: the values that get the first and the last colour; below 0 they make the colours diverge.
    """

    values: np.ndarray
    name: str
    limits: tuple[float, float] = (0.0, 1.0)


def flat(values: Float[np.ndarray, "*grid"], slices: int | None = None) -> Float[np.ndarray, "height width"]:
    """Lay a grid of any rank out flat: a signal as a band, clips and volumes as slices in a row.

    slices: at most so many, evenly chosen from the first to the last; the middle one of 1. Between them is
        NaN, which is drawn as nothing.
    """
    if values.ndim == 1:
        return np.repeat(values[None], max(1, len(values) // _BAND), axis=0)
    if values.ndim == 2:
        return values
    stack = values.reshape(-1, *values.shape[-2:])
    bordered = np.pad(stack[chosen(len(stack), slices)], ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
    return np.concatenate(list(bordered), axis=1)[:, :-1]


def chosen(count: int, most: int | None) -> list[int]:
    """Return the places of at most `most` of `count` slices, evenly chosen; the middle one of 1."""
    if most is None or count <= most:
        return list(range(count))
    return [count // 2] if most == 1 else [round(place) for place in np.linspace(0, count - 1, most)]


def feature_sheet(tiles: Sequence[Tile], heading: str, curves: Mapping[str, np.ndarray] | None = None) -> Any:
    """Return a matplotlib Figure with the tiles in a grid, row by row, and curves over steps below them.

    A colour bar shows the scale where all tiles share one.
    """
    from matplotlib.figure import Figure

    # Tiles stand in about as many columns as make the sheet square, but few of them stand in one row; a tile
    # grows with its picture, between two sizes that can be looked at.
    height, width = tiles[0].values.shape[:2]
    row = _ROW if width <= 2 * height else 1
    columns = min(len(tiles), max(row, ceil(sqrt(len(tiles) * height / width))))
    rows = ceil(len(tiles) / columns)
    wide = min(max(height / DENSE, SMALL), LARGE) * max(1.0, width / height)
    lines = 0.5 + max(tile.name.count("\n") + 1 for tile in tiles)
    sizes = [rows * (wide * height / width + LINE * lines) + HEADING, CURVES][: 1 + bool(curves)]
    figure = Figure(
        figsize=(max(columns * wide + BAR * _one_scale(tiles), 4.5), sum(sizes)), layout="constrained"
    )
    # Labels come from files and models: dollar signs must not be read as formulas.
    figure.suptitle(heading, fontsize=9, parse_math=False, wrap=True)
    parts = figure.subfigures(len(sizes), 1, height_ratios=sizes, squeeze=False)[:, 0]
    _draw(parts[0], tiles, rows, columns)
    if curves:
        _curves(parts[1].subplots(), curves)
    return figure


def rasterised(figure: Any) -> UInt8[np.ndarray, "height width 3"]:
    """Return a figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _one_scale(tiles: Sequence[Tile]) -> bool:
    return all(tile.values.ndim == 2 for tile in tiles) and len({tile.limits for tile in tiles}) == 1


def _draw(figure: Any, tiles: Sequence[Tile], rows: int, columns: int) -> None:
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    image = None
    for axis, tile in zip(axes.flat, tiles, strict=False):
        colours = DIVERGING if tile.limits[0] < 0 else SEQUENTIAL
        low, high = tile.limits
        image = axis.imshow(tile.values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(tile.name, fontsize=7, pad=2, parse_math=False)
    if _one_scale(tiles):
        bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01)
        bar.ax.tick_params(labelsize=6)


def _curves(axis: Any, curves: Mapping[str, np.ndarray]) -> None:
    for name, values in curves.items():
        axis.plot(values, linewidth=1, label=name.replace("$", r"\$"))
    axis.set_xlabel("step", fontsize=7)
    axis.set_ylabel("activation", fontsize=7)
    axis.tick_params(labelsize=6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
