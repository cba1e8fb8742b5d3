"""Sheets of captions: a bar for each word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from chronocam.errors import printable
from chronocam.render.sheets.pictures import legible
from chronocam.render.theme import BLUE

WIDTH, LINE, TITLE = 3.6, 0.26, 0.7  # inches


def words_sheet(
    values: Float[np.ndarray, "sample target word"],
    words: Sequence[Sequence[Sequence[str]]],
    titles: Sequence[Sequence[str]],
    heading: str,
) -> Any:
    """Return a matplotlib Figure with a row per sample and the words of each target as bars, on one scale."""
    from matplotlib.figure import Figure

    samples, targets, longest = values.shape
    size = WIDTH * targets, samples * (LINE * longest + TITLE) + TITLE
    figure = Figure(figsize=size, layout="constrained")
    axes: Any = figure.subplots(samples, targets, squeeze=False, sharex=True)
    for i, k in np.ndindex(samples, targets):
        axis, own = axes[i, k], [printable(word) for word in words[i][k]]
        places = np.arange(len(own))
        axis.barh(places, values[i, k, : len(own)], color=BLUE)
        axis.set_yticks(places, own, parse_math=False)
        axis.invert_yaxis()
        axis.set_title(legible(titles[i][k]), fontsize=9, parse_math=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(printable(heading), fontsize=10, parse_math=False)
    return figure
