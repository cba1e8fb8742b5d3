"""Several maps of a clip in one video: side by side, each under its name and over its own time line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from chronocam.media.clips.read import Clip
from chronocam.render.sheets.clip import Evidence, Times

WIDEST: Final = 3840  # pixels, beyond which players give up
GAP: Final = 6
PAPER, INK, FAINT, BAR, HEAD = "#101014", "#f4f4f4", "#3a3a44", "#f5a623", "#ffffff"


def side_by_side(clip: Clip, maps: Sequence[Evidence]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Yield the clip's frames, each once, with every map side by side.

    The name of a map stands above it, frame importance and the moment below.
    """
    tiles = [_Tile(clip, evidence, WIDEST // len(maps) - GAP) for evidence in maps]
    width = sum(tile.width for tile in tiles) + GAP * (len(tiles) - 1)
    for place in range(len(clip.unique)):
        canvas = Image.new("RGB", (width, tiles[0].height), PAPER)
        left = 0
        for tile in tiles:
            canvas.paste(tile.at(place), (left, 0))
            left += tile.width + GAP
        yield np.asarray(canvas)


class _Tile:
    """One map through time."""

    def __init__(self, clip: Clip, evidence: Evidence, widest: int) -> None:
        self.evidence = evidence
        self.times = Times(clip)
        rows, columns = evidence.drawn.shape[1:3]
        self.width = min(max(columns, 160), widest)
        self.picture = self.width, round(rows * self.width / columns)
        self.band = max(18, round(self.width / 16))
        self.height = self.picture[1] + 2 * self.band
        self.name = _fitted(evidence.name.replace("\n", "  "), self.width - 8, round(self.band * 0.62))

    def at(self, place: int) -> Image.Image:
        """Return the tile while the frame at `place`, counted without copies, is shown."""
        tile = Image.new("RGB", (self.width, self.height), PAPER)
        frame = Image.fromarray(self.evidence.drawn[place])
        tile.paste(frame if frame.size == self.picture else frame.resize(self.picture), (0, self.band))
        pen = ImageDraw.Draw(tile)
        text, font = self.name
        pen.text((self.width / 2, self.band / 2), text, INK, font, anchor="mm")
        self._time_line(pen, place)
        return tile

    def _time_line(self, pen: Any, place: int) -> None:
        foot, peak = self.height - 2, float(self.evidence.importance.max()) or 1.0
        pen.line((0, foot, self.width, foot), FAINT)
        for share, span in zip(self.evidence.importance, self.evidence.spans, strict=True):
            begin, end = (self._x(at) for at in self.times.interval(*span))
            top = foot - (self.band - 6) * float(share) / peak
            pen.rectangle((begin, min(top, foot - 1), max(begin, end - 2), foot - 1), BAR)
        x = self._x((self.times.begins[place] + self.times.ends[place]) / 2)
        pen.line((x, self.height - self.band + 2, x, self.height), HEAD, max(2, self.width // 200))

    def _x(self, at: float) -> float:
        first, last = self.times.begins[0], self.times.ends[-1]
        return float((at - first) / (last - first) * (self.width - 1))


def _fitted(text: str, width: int, size: int) -> tuple[str, Any]:
    """Return the text, cut where it is too wide, and a font that knows most of the world's letters."""
    import matplotlib

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)
    if font.getlength(text) <= width:
        return text, font
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…", font
