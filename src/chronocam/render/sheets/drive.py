"""Sheets of drives: frames, maps over them, depth, the path from above, and the outputs over time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from chronocam.errors import InputError
from chronocam.render._overlay import colour_map
from chronocam.render.sheets._page import Cells, Page
from chronocam.render.theme import BLUE, DEPTH, VERMILION

CELL: Final = (2.1, 1.6)  # the most width and height of a picture, in inches
GAP, LABEL, HEADER, HEADING, FOOT = 0.05, 1.6, 0.26, 0.6, 0.1  # inches
PATH, CURVE, BETWEEN, ACROSS = 2.5, 1.05, 0.9, 3  # inches, and curves in a row
LETTERS: Final = 16  # of a title to an inch
FEWEST: Final = 4  # columns that the plots below have room in


@dataclass(frozen=True, eq=False)
class Strip:
    """A row of pictures under the columns of a sheet."""

    name: str
    pictures: Sequence[UInt8[np.ndarray, "height width 3"]]


@dataclass(frozen=True, eq=False)
class OutputCurve:
    """An output over time, and the truth on the same scale, NaN or None where it is unknown."""

    name: str
    values: Float[np.ndarray, " moment"]
    truth: Float[np.ndarray, " moment"] | None = None


@dataclass(frozen=True, eq=False)
class PathTrack:
    """Where a camera was, `(x, y, z)` from its first place: by the network and, where known, in truth."""

    positions: Float[np.ndarray, "camera 3"]
    truth: Float[np.ndarray, "camera 3"] | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class DriveSheet:
    """What is drawn of a drive.

    columns: the label above each column.
    rows: rows of pictures, one per column.
    moments: the time axis of the curves.
    clock: the name of that axis.
    curves: outputs over time.
    path: the camera's path, where there is one.
    notes: a line under the heading.
    """

    columns: Sequence[str]
    rows: Sequence[Strip]
    moments: Float[np.ndarray, " moment"]
    clock: str
    curves: Sequence[OutputCurve] = ()
    path: PathTrack | None = None
    notes: str = ""


def drive_sheet(sheet: DriveSheet, heading: str) -> Any:
    """Return a matplotlib Figure: the rows of pictures, below them the path from above and a plot per curve.

    Raises InputError where a row has not one picture per column, or there is none.
    """
    for row in sheet.rows:
        if len(row.pictures) != len(sheet.columns):
            raise InputError(
                f"row `{row.name}` has {len(row.pictures)} pictures for {len(sheet.columns)} columns"
            )
    if not sheet.rows or not sheet.columns:
        raise InputError("there is nothing to draw; give a row and a column at least")
    layout = _Layout(sheet)
    page = Page(layout.width, layout.height)
    layout.draw(page, heading)
    return page.figure


def depth_pictures(
    depth: Float[np.ndarray, "time height width"], limits: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "time height width 3"]:
    """Return depth as colours, near ones bright, by its logarithm; unknown depth (0 or not finite) is grey.

    limits: the nearest and the farthest depth that have a colour of their own; None is the middle 96% of all
        frames, which share one scale.

    Example:
    >>> depth = np.array([[[1.0, 10.0, 0.0]]])
    >>> cc.render.depth_pictures(depth, limits=(1, 10))[0, 0].tolist()
    [[252, 253, 191], [0, 0, 4], [128, 128, 128]]
    """
    known = np.isfinite(depth) & (depth > 0)
    logs = np.log(np.where(known, depth, 1.0))
    if limits is not None:
        near, far = np.log(limits)
    else:
        near, far = np.quantile(logs[known], (0.02, 0.98)) if known.any() else (0.0, 1.0)
    share = np.clip((far - logs) / max(far - near, 1e-9), 0, 1)
    colours = np.rint(255 * colour_map(DEPTH)(share)[..., :3])
    return np.where(known[..., None], colours, 128).astype(np.uint8)


class _Layout:
    """Where the parts of a sheet go."""

    def __init__(self, sheet: DriveSheet) -> None:
        self.sheet = sheet
        self.cells = Cells(sheet.rows[0].pictures[0].shape[:2], CELL, LABEL, GAP, wrap=(22, 3))
        self.across = max(self.cells.across(len(sheet.columns)), FEWEST * CELL[0])
        self.width = LABEL + self.across + 4 * GAP
        self.pictures = HEADER + len(sheet.rows) * (self.cells.height + GAP)
        lines = -(-len(sheet.curves) // ACROSS)
        self.plots = max(PATH * (sheet.path is not None), lines * (CURVE + BETWEEN) - 0.3 * bool(lines))
        self.height = HEADING + self.pictures + (self.plots + BETWEEN) * bool(self.plots) + FOOT

    def draw(self, page: Page, heading: str) -> None:
        page.text(GAP * 3, HEADING * 0.3, heading, size=10, weight="bold", ha="left")
        page.text(GAP * 3, HEADING * 0.72, self.sheet.notes, size=7.5, color="0.3", ha="left")
        self.cells.header(page, HEADING + HEADER / 2, self.sheet.columns)
        for number, row in enumerate(self.sheet.rows):
            top = HEADING + HEADER + number * (self.cells.height + GAP)
            self.cells.row(page, top, row.name, row.pictures)
        top, left = HEADING + self.pictures + 0.55, 0.75
        if self.sheet.path is not None:
            _path(page.axes(left, top, PATH, PATH - 0.35), self.sheet.path)
            left += PATH + 0.85
        room = (self.width - left - 0.15) / ACROSS
        for number, curve in enumerate(self.sheet.curves):
            line, column = divmod(number, ACROSS)
            axis = page.axes(left + column * room, top + line * (CURVE + BETWEEN), room - 0.65, CURVE)
            _curve(axis, self.sheet.moments, curve, self.sheet.clock)


def _path(axis: Any, track: PathTrack) -> None:
    """Draw x to the right and z, ahead, upwards, both on one scale."""
    lines = [(track.positions, BLUE, "-", "network")]
    if track.truth is not None:
        lines.append((track.truth, VERMILION, "--", "truth"))
    for positions, colour, dashes, name in lines:
        axis.plot(
            positions[:, 0], positions[:, 2], dashes, marker=".", ms=4, lw=1.3, color=colour, label=name
        )
    axis.plot(0, 0, "o", ms=5, mfc="none", color="0.2")
    _square(axis, np.concatenate([positions[:, [0, 2]] for positions, *_ in lines]))
    axis.set_title("path from above", fontsize=8, loc="left", pad=12)
    axis.set_xlabel("\n".join(["x, to the right", *textwrap.wrap(track.note, 46)]), fontsize=7)
    axis.set_ylabel("z, ahead", fontsize=7)
    axis.legend(fontsize=6.5, frameon=False)
    _plain(axis)


def _square(axis: Any, points: np.ndarray) -> None:
    """Show all points, both axes to the same scale."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.55 * max(float((high - low).max()), 1e-9)
    middle = (low + high) / 2
    axis.set_xlim(middle[0] - half, middle[0] + half)
    axis.set_ylim(middle[1] - half, middle[1] + half)
    axis.set_aspect("equal", adjustable="box")


def _curve(axis: Any, moments: np.ndarray, curve: OutputCurve, clock: str) -> None:
    axis.plot(moments, curve.values, color=BLUE, marker=".", ms=3, lw=1.3, label="network")
    if curve.truth is not None:
        axis.plot(moments, curve.truth, "--", color=VERMILION, marker=".", ms=3, lw=1.1, label="truth")
    low, high = axis.get_ylim()
    if low < 0 < high:
        axis.axhline(0, color="0.8", lw=0.8, zorder=0)
    letters = int(LETTERS * axis.get_position().width * axis.figure.get_figwidth())
    title = "\n".join(textwrap.wrap(curve.name, letters))
    axis.set_title(title, fontsize=8, loc="left", parse_math=False, pad=12)
    axis.set_xlabel(clock, fontsize=7)
    _plain(axis)


def _plain(axis: Any) -> None:
    axis.tick_params(labelsize=6.5)
    axis.ticklabel_format(scilimits=(-2, 4))  # what is common to the numbers stands once, under the title
    for side in (axis.xaxis, axis.yaxis):
        side.get_offset_text().set_fontsize(6.5)
        side.get_major_locator().set_params(nbins=5)
    axis.spines[["top", "right"]].set_visible(False)
