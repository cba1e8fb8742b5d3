"""Labelled clips for training: in files, rendered, or kept decoded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from chronocam.errors import ChronocamError, MediaError
from chronocam.lab.data import gestures
from chronocam.lab.data.gestures.world import Conditions, labels_of, render
from chronocam.lab.train.folders import list_clips
from chronocam.lab.train.run import Track
from chronocam.lab.train.settings.video import GESTURES, VideoSettings
from chronocam.lab.train.splits import LabelledFile, limits, thin
from chronocam.media import read_clip
from chronocam.media.files import replace_file

Pixels: TypeAlias = UInt8[np.ndarray, "time height width 3"]

_RENDERED: Final = {"train": 8000, "validation": 500, "test": 1000}

CALM: Final = "calm"
"""The part that holds training clips without shake, noise, changing light, restlessness and passers-by."""

_CALM_SHARE: Final = 3 / 8  # of the training clips that have a calm version


@runtime_checkable
class ClipSource(Protocol):
    """Clips that are read or rendered one by one."""

    def __len__(self) -> int:
        """Return how many there are."""

    def pixels(self, index: int) -> Pixels:
        """Return the clip; raises ChronocamError where it cannot be read."""

    def label(self, index: int) -> int:
        """Return the number of the clip's class."""

    def name(self, index: int) -> str:
        """Return what a message calls the clip."""

    def digest(self) -> str:
        """Return a name for all that the pixels depend on."""


@dataclass(frozen=True)
class ClipSplits:
    """Clips to train, validate and test on, by the name of the split.

    labels: the names of the classes.
    layout: where the clips come from, in words.
    missing: clips that are listed but not there.
    """

    parts: dict[str, ClipSource]
    labels: tuple[str, ...]
    layout: str
    missing: list[str]


def find_clips(settings: VideoSettings, size: int) -> ClipSplits:
    """Return the clips that the settings name, with frames of `size` x `size`.

    Raises InputError without any.
    """
    most = limits(settings.clips, settings.held_out)
    parts: dict[str, ClipSource]
    if settings.data == GESTURES:
        counts = {name: limit or _RENDERED[name] for name, limit in most.items()}
        parts = {name: _Rendered(name, count, settings.frames, size) for name, count in counts.items()}
        if settings.calm_epochs:
            count = max(1, round(_CALM_SHARE * counts["train"]))
            parts[CALM] = _Rendered("train", count, settings.frames, size, calm=True)
        return ClipSplits(parts, tuple(gestures.LABELS), "gesture world", [])
    listing = list_clips(Path(settings.data), settings.split, settings.seed)
    parts = {}
    for name, items in listing.parts.items():
        chosen = [items[place] for place in thin(len(items), most[name], settings.seed)]
        parts[name] = _Files(chosen, listing.labels, settings.frames, settings.sampling, size)
    return ClipSplits(parts, listing.labels, listing.layout, listing.missing)


@dataclass(frozen=True)
class _Files:
    """Clips in files, whole frames resized to a square."""

    items: list[LabelledFile]
    labels: tuple[str, ...]
    frames: int
    sampling: str
    size: int

    def __len__(self) -> int:
        return len(self.items)

    def pixels(self, index: int) -> Pixels:
        return read_clip(
            self.items[index].path, self.frames, self.sampling, size=(self.size, self.size)
        ).pixels

    def label(self, index: int) -> int:
        return self.labels.index(self.items[index].label)

    def name(self, index: int) -> str:
        return self.items[index].path.name

    def digest(self) -> str:
        files = [
            (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path, _ in self.items
        ]
        return _digest(repr((files, self.frames, self.sampling, self.size)).encode())


@dataclass(frozen=True)
class _Rendered:
    """Clips of the gesture world with one actor each."""

    split: str
    count: int
    frames: int
    size: int
    calm: bool = False

    def __len__(self) -> int:
        return self.count

    def pixels(self, index: int) -> Pixels:
        conditions = Conditions(0, 0, 0, 0, busy=False) if self.calm else Conditions()
        return render(index, 0, self.split, self.frames, self.size, 1, conditions).pixels

    def label(self, index: int) -> int:
        return labels_of(index, 0, self.split, 1)[0]

    def name(self, index: int) -> str:
        return f"{self.split} {index}"

    def digest(self) -> str:
        """Name the renderer by its first clip, too: another renderer, another name."""
        return _digest(self.pixels(0).tobytes() + repr(self).encode())


@dataclass(frozen=True)
class _Cached:
    """Clips decoded into one array on disk."""

    clips: ClipSource
    path: Path
    array: UInt8[np.ndarray, "clip time height width 3"]
    failed: dict[str, str]

    def __len__(self) -> int:
        return len(self.clips)

    def pixels(self, index: int) -> Pixels:
        if str(index) in self.failed:
            raise MediaError(self.failed[str(index)])
        return np.asarray(self.array[index])

    def label(self, index: int) -> int:
        return self.clips.label(index)

    def name(self, index: int) -> str:
        return self.clips.name(index)

    def digest(self) -> str:
        return self.clips.digest()


@dataclass(frozen=True)
class _Joined:
    """Clips after other clips."""

    first: ClipSource
    then: ClipSource

    def __len__(self) -> int:
        return len(self.first) + len(self.then)

    def _find(self, index: int) -> tuple[ClipSource, int]:
        beyond = index - len(self.first)
        return (self.then, beyond) if beyond >= 0 else (self.first, index)

    def pixels(self, index: int) -> Pixels:
        clips, place = self._find(index)
        return clips.pixels(place)

    def label(self, index: int) -> int:
        clips, place = self._find(index)
        return clips.label(place)

    def name(self, index: int) -> str:
        clips, place = self._find(index)
        return clips.name(place)

    def digest(self) -> str:
        return self.first.digest() + self.then.digest()


def joined(first: ClipSource, then: ClipSource) -> ClipSource:
    """Return clips after other clips."""
    return _Joined(first, then)


def insist_on_one(clips: ClipSource) -> None:
    """Raise MediaError where not a single clip can be read."""
    problem = "no clips at all"
    for index in range(len(clips)):
        try:
            clips.pixels(index)
            return
        except ChronocamError as error:
            problem = str(error)
    raise MediaError(f"none of {len(clips)} clips can be read; the last: {problem}")


def cached(clips: ClipSource, folder: Path, track: Track) -> ClipSource:
    """Decode clips into a file in `folder`, unless it is there already, and return them from it."""
    path = folder / f"clips-{clips.digest()}.npy"
    errors = path.with_suffix(".json")
    if not path.is_file():
        failed: dict[str, str] = {}
        replace_file(path, lambda temporary: _decode(clips, temporary, failed, track))
        replace_file(errors, lambda temporary: temporary.write_text(json.dumps(failed)))
    return _Cached(clips, path, np.load(path, mmap_mode="r"), json.loads(errors.read_text()))


def _decode(clips: ClipSource, path: Path, failed: dict[str, str], track: Track) -> None:
    array: np.memmap | None = None
    for index in track(range(len(clips)), "Decoding"):
        try:
            pixels = clips.pixels(index)
        except ChronocamError as error:
            failed[str(index)] = str(error)
            continue
        if array is None:
            array = np.lib.format.open_memmap(path, "w+", np.uint8, (len(clips), *pixels.shape))
        array[index] = pixels
    if array is None:
        raise MediaError(f"none of {len(clips)} clips can be read; the first: {next(iter(failed.values()))}")
    array.flush()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
