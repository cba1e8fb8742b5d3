"""Contact sheets of clips: frames, maps over them, and when the evidence is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8

from chronocam.media.clips.read import Clip
from chronocam.render.sheets._page import Cells, Page, colour_bar
from chronocam.render.theme import DIVERGING, WARM

COLUMNS: Final = 8
CELL: Final = (1.5, 1.9)  # the most width and height, in inches
GAP, LABEL, HEADER, CURVE, AXIS, HEADING = 0.04, 1.55, 0.24, 0.95, 0.5, 0.35  # inches


@dataclass(frozen=True, eq=False)
class Evidence:
    """One map of a clip, as it is drawn.

    name: what it explains.
    drawn: the clip's frames, each once, with the map.
    importance: the share of the evidence in each time slice.
    spans: the first and last frame of the clip that each slice covers.
    limits: the raw values at the ends of its colours, which all maps of a clip share; None draws no bar.
    """

    name: str
    drawn: UInt8[np.ndarray, "unique height width 3"]
    importance: Float[np.ndarray, " slice"]
    spans: Sequence[tuple[int, int]]
    limits: tuple[float, float] | None = None


Block: TypeAlias = tuple[Clip, Sequence[Evidence]]


def clip_sheet(
    blocks: Sequence[Block], heading: str | None = None, *, plain: bool = True, unit: str = "frame"
) -> Any:
    """Return a matplotlib Figure with a block per clip.

    A block has at most eight frames of the clip, evenly chosen, under their times; the same frames with each
    map; and the curves of frame importance, a step per time slice over the frames that it covers.
    `plain=False` leaves the frames without a map out. `unit` is what a frame is called.
    """
    layouts = [_Block(clip, maps, plain, unit) for clip, maps in blocks]
    top = HEADING * bool(heading)
    page = Page(max(layout.width for layout in layouts), sum(layout.height for layout in layouts) + top)
    if heading:
        page.text(GAP * 3, HEADING / 2, heading, size=10, weight="bold", ha="left")
    for layout in layouts:
        layout.draw(page, top)
        top += layout.height
    return page.figure


class _Block:
    """Where the parts of one clip go."""

    def __init__(self, clip: Clip, maps: Sequence[Evidence], plain: bool, unit: str) -> None:
        self.clip = clip
        self.maps = maps
        self.plain = plain
        self.unit = unit
        unique = len(clip.unique)
        self.places: Int64[np.ndarray, " column"] = np.rint(
            np.linspace(0, unique - 1, min(COLUMNS, unique))
        ).astype(int)
        self.cells = Cells(clip.pixels.shape[1:3], CELL, LABEL, GAP, wrap=(20, 4))
        self.across = max(self.cells.across(len(self.places)), 2 * CELL[0])
        self.step = self.cells.height + GAP
        self.width = LABEL + self.across + 4 * GAP
        self.height = HEADER + self.step * (len(maps) + plain) + 2 * GAP + CURVE + AXIS

    def draw(self, page: Page, top: float) -> None:
        from matplotlib import colormaps

        colours = [colormaps["tab10"](k % 10) for k in range(len(self.maps))]
        times = Times(self.clip, self.unit)
        self.cells.header(page, top + HEADER / 2, times.labels(self.places))
        top += HEADER
        if self.plain:
            self._row(page, top, f"{self.unit}s", self.clip.pixels[self.clip.unique], "0.3")
            top += self.step
        for evidence, colour in zip(self.maps, colours, strict=True):
            self._row(page, top, evidence.name, evidence.drawn, colour)
            top += self.step
        axis = page.axes(LABEL, top + 2 * GAP, self.across, CURVE)
        _curves(axis, times, self.maps, colours, self.places)
        self._bar(axis)
        page.text(LABEL - 0.4, top + 2 * GAP + CURVE / 2, "share of the\nevidence", ha="right", color="0.3")

    def _bar(self, axis: Any) -> None:
        """Draw the colours with their raw values to the left of the curves' axis."""
        ends = [evidence.limits for evidence in self.maps if evidence.limits is not None]
        if len({high for _, high in ends}) != 1:
            return
        limits = min(low for low, _ in ends), ends[0][1]
        left, width = (inches / self.across for inches in (LABEL - 0.15, LABEL - 0.65))
        colour_bar(
            axis, limits, DIVERGING if limits[0] < 0 else WARM, (-left, -AXIS / CURVE * 0.6, width, 0.07)
        )

    def _row(self, page: Page, top: float, name: str, frames: np.ndarray, colour: Any) -> None:
        self.cells.row(page, top, name, frames[self.places], color=colour)


class Times:
    """The time axis of a clip: seconds, or frame numbers where it has no clock or repeats its source."""

    def __init__(self, clip: Clip, unit: str = "frame") -> None:
        in_order = bool((np.diff(clip.indices) >= 0).all())
        self.timed: bool = clip.rate is not None and in_order
        begins = clip.seconds[clip.unique] if self.timed else np.arange(len(clip.unique), dtype=float)
        step = 1 / (clip.rate or 1) if self.timed else 1.0
        if len(begins) > 1:
            step = float(np.median(np.diff(begins)))
        self.begins: Float64[np.ndarray, " unique"] = begins
        self.ends: Float64[np.ndarray, " unique"] = np.append(begins[1:], begins[-1] + step)
        self.number: Int64[np.ndarray, " frame"] = np.searchsorted(clip.unique, clip.first)
        self.unit = unit
        self.word: str = "seconds" if self.timed else unit

    def labels(self, places: Int64[np.ndarray, " place"]) -> list[str]:
        """Return when each of these frames, counted without copies, is shown."""
        return [f"{self.begins[place]:.2f} s" if self.timed else f"{self.unit} {place}" for place in places]

    def interval(self, first: int, last: int) -> tuple[float, float]:
        """Return when the frames from `first` to `last` begin and end, copies at their source's time."""
        numbers = self.number[first : last + 1]
        return float(self.begins[numbers].min()), float(self.ends[numbers].max())


def _curves(
    axis: Any, times: Times, maps: Sequence[Evidence], colours: Sequence[Any], places: np.ndarray
) -> None:
    for evidence, colour in zip(maps, colours, strict=True):
        for share, span in zip(evidence.importance, evidence.spans, strict=True):
            begin, end = times.interval(*span)
            axis.fill_between((begin, end), 0, share, color=colour, alpha=0.12, lw=0)
            axis.plot(
                (begin, begin, end, end), (0, share, share, 0), color=colour, lw=1.4, solid_joinstyle="miter"
            )
    peak = max((float(evidence.importance.max()) for evidence in maps), default=0.0)
    axis.set_xlim(times.begins[0], times.ends[-1])
    axis.set_ylim(0, 1.08 * peak if peak > 0 else 1)
    axis.set_xticks(
        times.begins[places], [f"{at:.2f}" if times.timed else f"{at:.0f}" for at in times.begins[places]]
    )
    axis.set_xlabel(times.word, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
