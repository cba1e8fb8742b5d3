"""What sheets with rows of pictures share: places in inches, and cells that keep the pictures' shape."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from chronocam.render._overlay import colour_map

DPI: Final = 110
"""Pixels to an inch, where a figure becomes a picture."""


class Page:
    """A figure whose places are given in inches from the upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(width, height))
        self.width = width
        self.height = height

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Return axes that fill a rectangle."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write text at a place, centred in height."""
        # Labels come from files and models: dollar signs must not be read as formulas.
        self.figure.text(
            x / self.width, 1 - y / self.height, text, va="center", parse_math=False, **{"size": 8, **style}
        )


class Cells:
    """Columns of pictures of one shape, to the right of a row's label.

    shape: height and width of the pictures in pixels.
    largest: the most width and height of a cell, in inches.
    label: inches that labels have.
    gap: inches between pictures.
    """

    def __init__(
        self,
        shape: Sequence[int],
        largest: tuple[float, float],
        label: float,
        gap: float,
        wrap: tuple[int, int],
    ) -> None:
        rows, columns = shape
        scale = min(largest[0] / columns, largest[1] / rows)
        self.width = columns * scale
        self.height = rows * scale
        self.label = label
        self.gap = gap
        self.wrap = wrap

    def left(self, column: int) -> float:
        """Return where a column begins."""
        return self.label + column * (self.width + self.gap)

    def across(self, columns: int) -> float:
        """Return how wide so many columns are."""
        return columns * (self.width + self.gap) - self.gap

    def header(self, page: Page, middle: float, labels: Sequence[str]) -> None:
        """Write a label over each column."""
        for column, label in enumerate(labels):
            page.text(self.left(column) + self.width / 2, middle, label, ha="center")

    def row(self, page: Page, top: float, name: str, pictures: Sequence[np.ndarray], **style: Any) -> None:
        """Draw a picture in each column, and the row's name before them."""
        letters, lines = self.wrap
        parts = [line for part in name.split("\n") for line in textwrap.wrap(part, letters)[:lines]]
        page.text(self.label - 0.12, top + self.height / 2, "\n".join(parts), ha="right", **style)
        for column, picture in enumerate(pictures):
            axis = page.axes(self.left(column), top, self.width, self.height)
            axis.imshow(picture, interpolation="antialiased", aspect="auto")
            axis.set_axis_off()


def colour_bar(
    axis: Any, limits: tuple[float, float], colours: str, place: tuple[float, float, float, float]
) -> None:
    """Draw a bar of colours with the raw values at its ends.

    place: left, bottom, width and height in shares of the axes, outside of which it may lie.
    """
    bar = axis.inset_axes(place)
    low, high = limits
    bar.imshow(
        np.linspace(low, high, 256)[None], cmap=colour_map(colours), aspect="auto", extent=(low, high, 0, 1)
    )
    bar.set_yticks([])
    bar.set_xticks([low, 0, high] if low < 0 else [low, high])
    bar.set_xticklabels([f"{value:.2g}".replace("-", "−") for value in bar.get_xticks()])
    bar.tick_params(labelsize=6, length=0, pad=2)
    for side in bar.spines.values():
        side.set_visible(False)
