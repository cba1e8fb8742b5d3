"""Clips explained: an overlay video per map, a contact sheet with the frame-importance curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from chronocam.errors import InputError
from chronocam.maps.frames import merge_copies
from chronocam.maps.regions import boxes
from chronocam.media.clips.find import find_clips
from chronocam.media.files import distinct, is_file
from chronocam.records import Box, ClipResult, Failure, MapEntry
from chronocam.render.words import under
from chronocam.runs.entries import attention_entry, map_entry
from chronocam.runs.files import LONGEST_SIDE, decimals, original, rounded, slug
from chronocam.runs.inputs import search
from chronocam.runs.job import MapJob

if TYPE_CHECKING:
    from chronocam.explanation import Explanation
    from chronocam.media import Clip, ClipPreprocess

_THRESHOLD: Final = 0.15  # of the clip's maximum, as in Explanation.boxes
_ANIMATIONS: Final = ("GIF", "WEBP")


@dataclass(frozen=True, kw_only=True)
class ClipJob(MapJob):
    """How clips are explained.

    start, end: seconds between which frames are taken.
    frames: how many the network wants, whatever the call asks for.
    """

    preprocess: ClipPreprocess
    start: float | None
    end: float | None
    frames: int

    def inputs(self, arguments: Sequence[str]) -> Iterator[Path | Failure]:
        """Yield every clip once."""
        return search(arguments, find_clips)

    def read(self, path: Path) -> Clip:
        """Return the frames of the clip at `path` that the network takes."""
        if is_file(path) and _is_picture(path):
            todo = f"give a video or a folder of frames, of which {self.preprocess.frames} are taken"
            raise InputError(f"`{path}` is a picture, but `{self.loaded.spec}` takes clips; {todo}")
        return self.preprocess.read(path, self.start, self.end)

    def explain(self, inputs: np.ndarray) -> dict[str, Explanation]:
        """Return the explanations by name; says how many frames a network wants that fails on others."""
        try:
            return super().explain(inputs)
        except InputError as error:
            if self.preprocess.frames == self.frames or not self._takes_its_own(inputs):
                raise
            todo = f"it wants {self.frames}, drop --frames {self.preprocess.frames}"
            raise InputError(f"{error}; {todo}") from error

    def _takes_its_own(self, clips: np.ndarray) -> bool:
        """Say whether the network takes the clips at as many frames as it wants."""
        from chronocam._explain import explain

        axis = 2 if self.preprocess.axes == "channel time" else 1
        places = np.linspace(0, clips.shape[axis] - 1, self.frames).round().astype(int)
        try:
            explain(self.loaded.model, clips[:1].take(places, axis), layers=self.layers)
        except InputError:
            return False
        return True

    def draw(self, medium: Clip, explanations: dict[str, Explanation], path: Path, name: str) -> ClipResult:
        """Write videos and sheet, and return the result of the clip."""
        from chronocam.explanation.drawing import drawing_of
        from chronocam.render import save_figure
        from chronocam.render.sheets.clip import Evidence, clip_sheet

        drawing = _ClipDrawing(self, medium, name)
        rows: list[Evidence] = []
        maps: list[MapEntry] = []
        for key, explanation in explanations.items():
            overlays = drawing.overlays(explanation) if self.draws else []
            entries = drawing.written(key, explanation, overlays)
            limits = drawing_of(explanation).limits()[0]
            for entry, overlay in zip(entries, overlays, strict=False):
                title = under(entry.target, entry.score, entry.confidence)
                title += f"\n{key}" * (len(explanations) > 1)
                importance = np.asarray(entry.frame_importance)
                ends = limits[len(rows)] if len(explanations) == 1 else None
                rows.append(Evidence(title, overlay, importance, list(entry.frame_spans or ()), ends))
            maps.extend(entries)
        only = next(iter(explanations.values()))
        heading = medium.path.name + (f": {only.method} at {only.layer}" if len(explanations) == 1 else "")
        sheet = self.out / f"{name}.sheet.png"
        if self.draws:
            save_figure(clip_sheet([(drawing.small, rows)], heading), sheet)
        return ClipResult(
            input=str(path),
            size=drawing.size,
            seen=rounded(self.preprocess.region(*drawing.size)),
            frames=tuple(medium.indices.tolist()),
            seconds=None if medium.rate is None else decimals(medium.seconds, 4),
            sheet=str(sheet) if self.draws else "",
            maps=tuple(maps),
            diagnostics=self.diagnostics(explanations),
        )


def _is_picture(path: Path) -> bool:
    """Say whether a file, whatever its name, is a still picture."""
    try:
        with Image.open(path) as image:
            return image.format not in _ANIMATIONS
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return False


class _ClipDrawing:
    """The pictures of one clip: maps over the part of the frames that the network saw, the rest dimmed."""

    def __init__(self, job: ClipJob, clip: Clip, name: str) -> None:
        self.job = job
        self.name = name
        self.taken: set[str] = set()
        self.clip = clip
        self.size = clip.pixels.shape[2], clip.pixels.shape[1]
        self.small = replace(clip, pixels=_thumbnails(clip.pixels))
        height, width = self.small.pixels.shape[1:3]
        self.region = [round(v) for v in job.preprocess.region(width, height)]

    def overlays(self, explanation: Explanation) -> list[UInt8[np.ndarray, "unique height width 3"]]:
        """Return the frames, each once, with the map of each target."""
        from chronocam.media.preprocess import placed

        left, top, right, bottom = self.region
        frames = self.small.pixels[self.small.unique]
        height, width = frames.shape[1:3]
        # Where black was added around the frames, the network saw more than there is to draw on: maps are
        # drawn over the whole view first, and what lies outside of the frames is cut off afterwards.
        around = ((max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)))
        padded = np.pad(self.small.pixels, ((0, 0), *around, (0, 0)))
        y, x = max(top, 0), max(left, 0)
        view = replace(self.small, pixels=padded[:, y : y + bottom - top, x : x + right - left])
        dimmed = np.rint(frames * np.float32(0.45)).astype(np.uint8)
        return [placed(dimmed, overlay, self.region) for overlay in explanation.overlay([view])[0]]

    def written(
        self,
        key: str,
        explanation: Explanation,
        overlays: list[UInt8[np.ndarray, "unique height width 3"]],
    ) -> list[MapEntry]:
        """Write the maps and the videos, if any, of one explanation, and return its entries."""
        from chronocam.media import stills, write_clip
        from chronocam.render.clips import pace

        stem = f"{self.name}.{distinct(slug(key), self.taken)}"
        copies = stills(self.small, self.name, self.region)
        file = explanation.with_pictures([copies]).save(self.job.out / f"{stem}.npz")
        importance, fine = explanation.frame_importance()[0], explanation.upsample()[0]
        entries = []
        for k, values in enumerate(fine):
            video = None
            if overlays:
                video = self.job.out / f"{stem}.{k}-{slug(explanation.targets[0][k].name)}.mp4"
                write_clip(video, overlays[k], pace(self.clip))
            entries.append(
                map_entry(
                    explanation,
                    k,
                    file,
                    frame_spans=explanation.frame_spans or (),
                    frame_importance=decimals(importance[k], 4),
                    attention=attention_entry(explanation.attention, k),
                    boxes=self._boxes(values),
                    video=None if video is None else str(video),
                )
            )
        return entries

    def _boxes(self, values: np.ndarray) -> tuple[Box | None, ...]:
        """Return a box in pixels of the source per frame, where it has a share of the clip's maximum."""
        # A looped clip shows a frame several times: its copies share one box, from the mean of their maps.
        merged = merge_copies(values, self.clip.first)
        least = _THRESHOLD * float(merged.max())
        one_each: list[Box | None] = []
        for value in merged:
            peak = float(value.max())
            box = boxes(value, least / peak)[0] if peak >= least > 0 else None
            one_each.append(None if box is None else original(self.job.preprocess, box, self.size))
        return tuple(one_each[place] for place in np.searchsorted(self.clip.unique, self.clip.first))


def _thumbnails(pixels: UInt8[np.ndarray, "time height width 3"]) -> UInt8[np.ndarray, "time _ _ 3"]:
    height, width = pixels.shape[1:3]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size)) for frame in pixels])
