"""Clips explained: an overlay video per map, a contact sheet with the frame-importance curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from chronocam.errors import InputError
from chronocam.maps.frames import merge_copies
from chronocam.maps.regions import boxes
from chronocam.runs.inputs import found
from chronocam.runs.job import LONGEST_SIDE, Job, numbers, rounded, slug

_THRESHOLD = 0.15  # of the clip's maximum, as in Explanation.boxes
_ANIMATIONS = ("GIF", "WEBP")


@dataclass(frozen=True)
class ClipJob(Job):
    """What is done to each clip."""

    start: float | None
    end: float | None
    wanted: int

    def found(self, inputs: Sequence[str]) -> Iterator[tuple[Path, str | None]]:
        """Yield every clip once."""
        return found(inputs, clips=True)

    def read(self, path: Path) -> Any:
        """Return the frames of the clip at `path` that the network takes."""
        if path.is_file() and _is_picture(path):
            todo = f"give a video or a folder of frames, of which {self.loaded.preprocess.frames} are taken"
            raise InputError(f"`{path}` is a picture, but `{self.loaded.spec}` takes clips; {todo}")
        return self.loaded.preprocess.read(path, self.start, self.end)

    def explain(self, medium: Any) -> dict[str, Any]:
        """Return the explanations by name; says how many frames a network wants that fails on others."""
        try:
            return super().explain(medium)
        except InputError as error:
            frames = self.loaded.preprocess.frames
            if frames == self.wanted:
                raise
            raise InputError(f"{error}; it wants {self.wanted}, drop --frames {frames}") from error

    def draw(self, medium: Any, explanations: dict[str, Any], name: str) -> dict[str, Any]:
        """Write videos and sheet, and return the results of the clip."""
        return _Drawing(self, medium, explanations, name).result()


def _is_picture(path: Path) -> bool:
    """Return whether a file, whatever its name, is a still picture."""
    try:
        with Image.open(path) as image:
            return image.format not in _ANIMATIONS
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return False


class _Drawing:
    """The pictures of one clip: maps over the part of the frames that the network saw, the rest dimmed."""

    def __init__(self, job: Job, clip: Any, explanations: dict[str, Any], name: str) -> None:
        from dataclasses import replace

        self.out, self.name, self.clip = job.out, name, clip
        self.preprocess, self.explanations = job.loaded.preprocess, explanations
        self.size = clip.pixels.shape[2], clip.pixels.shape[1]
        self.small = replace(clip, pixels=_thumbnails(clip.pixels))
        self.region = [round(v) for v in self.preprocess.region(*self.small.pixels.shape[2:0:-1])]

    def result(self) -> dict[str, Any]:
        """Write all pictures and return the results of the input."""
        from chronocam.render import Evidence, clip_sheet, save_figure

        shown: list[Any] = []
        maps: list[dict[str, Any]] = []
        for key, explanation in self.explanations.items():
            entries, overlays = self._entries(key, explanation), self._overlays(explanation)
            saved = {"explanation": str(self._saved(key, explanation))}
            for entry, drawn in zip(entries, overlays, strict=True):
                title = f"{entry['target']}\n{entry['score']:.3g}" + f"\n{key}" * (len(self.explanations) > 1)
                spans = [(first, last) for first, last in entry["frame_spans"]]
                shown.append(Evidence(title, drawn, np.asarray(entry["frame_importance"]), spans))
                self._write(Path(entry["video"]), drawn)
            maps.extend({**entry, **saved} for entry in entries)
        sheet = save_figure(
            clip_sheet([(self.small, shown)], self._heading()), self.out / f"{self.name}.sheet.png"
        )
        return {
            "size": list(self.size),
            "seen": rounded(self.preprocess.region(*self.size)),
            "frames": self.clip.indices.tolist(),
            "seconds": None if self.clip.rate is None else [round(float(at), 4) for at in self.clip.seconds],
            "sheet": str(sheet),
            "maps": maps,
        }

    def _saved(self, key: str, explanation: Any) -> Path:
        from chronocam.media import stills

        kept: Path = explanation.with_pictures([stills(self.small, self.name, self.region)]).save(
            self.out / f"{self.name}.{slug(key)}.npz"
        )
        return kept

    def _heading(self) -> str:
        only = next(iter(self.explanations.values()))
        how = f": {only.method} at {only.layer}" if len(self.explanations) == 1 else ""
        return f"{self.clip.path.name}{how}"

    def _write(self, path: Path, drawn: UInt8[np.ndarray, "unique height width 3"]) -> None:
        from chronocam.media import write_clip
        from chronocam.render import pace

        write_clip(path, drawn, pace(self.clip))

    def _overlays(self, explanation: Any) -> list[UInt8[np.ndarray, "unique height width 3"]]:
        from dataclasses import replace

        left, top, right, bottom = self.region
        frames = self.small.pixels[self.small.unique]
        height, width = frames.shape[1:3]
        # Where black was added around the frames, the network saw more than there is to draw on.
        padded = np.pad(
            self.small.pixels,
            ((0, 0), (max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)), (0, 0)),
        )
        y, x = max(top, 0), max(left, 0)
        seen = replace(self.small, pixels=padded[:, y : y + bottom - top, x : x + right - left])
        dimmed = np.rint(frames * np.float32(0.45)).astype(np.uint8)
        return [self._laid_over(dimmed, drawn) for drawn in explanation.overlay([seen])[0]]

    def _laid_over(self, dimmed: np.ndarray, drawn: np.ndarray) -> UInt8[np.ndarray, "unique height width 3"]:
        left, top, right, bottom = self.region
        height, width = dimmed.shape[1:3]
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
        whole = dimmed.copy()
        whole[:, y0:y1, x0:x1] = drawn[:, y0 - top : y1 - top, x0 - left : x1 - left]
        return whole

    def _entries(self, key: str, explanation: Any) -> list[dict[str, Any]]:
        importance, fine = explanation.frame_importance()[0], explanation.upsample()[0]
        return [
            {
                **numbers(explanation, k),
                "frame_spans": [list(span) for span in explanation.frame_spans],
                "frame_importance": [round(float(share), 4) for share in importance[k]],
                **_attention(explanation.attention, k),
                "boxes": self._boxes(fine[k]),
                "video": str(self.out / f"{self.name}.{slug(key)}.{k}-{slug(info.name)}.mp4"),
            }
            for k, info in enumerate(explanation.targets[0])
        ]

    def _boxes(self, values: np.ndarray) -> list[list[float] | None]:
        """Return a box in pixels of the source per frame, where it has a share of the clip's maximum."""
        merged = merge_copies(values, self.clip.first)
        least = _THRESHOLD * float(merged.max())
        one_each: list[list[float] | None] = []
        for value in merged:
            peak = float(value.max())
            box = boxes(value, least / peak)[0] if peak >= least > 0 else None
            one_each.append(None if box is None else rounded(self.preprocess.to_original(box, self.size)))
        return [one_each[place] for place in np.searchsorted(self.clip.unique, self.clip.first)]


def _thumbnails(pixels: UInt8[np.ndarray, "time height width 3"]) -> UInt8[np.ndarray, "time _ _ 3"]:
    height, width = pixels.shape[1:3]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size)) for frame in pixels])


def _attention(attention: Any, k: int) -> dict[str, Any]:
    """Return what the JSON says of attention over frames, for target `k` of the first sample."""
    if attention is None:
        return {}
    agreement = float(attention.agreement[0, k])
    return {
        "attention": {
            "weights": [round(float(weight), 6) for weight in attention.weights[0]],
            "contributions": [round(float(share), 6) for share in attention.contributions[0, k]],
            "rank_correlation": None if np.isnan(agreement) else round(agreement, 4),
        }
    }
