"""Drives for training: rendered or in files, cut into snippets of a frame and its two neighbours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float64, UInt8

from chronocam.errors import ChronocamError, MediaError
from chronocam.lab.data.drives import Drive, count_frames, drive, find_drives, read_drive
from chronocam.lab.train.run import Track
from chronocam.lab.train.settings.odometry import DRIVES, OdometrySettings
from chronocam.lab.train.splits import SPLITS, limits
from chronocam.media.files import replace_file

Snippet: TypeAlias = tuple[UInt8[np.ndarray, "3 height width 3"], Float64[np.ndarray, "3 3"]]
"""A frame between the one before and the one after, and the intrinsics."""

_RENDERED: Final = {"train": 1500, "validation": 75, "test": 150}
_RENDERED_FRAMES: Final = 5
_SHARES: Final = (0.8, 0.1, 0.1)  # of the frames, where a single drive must serve for everything
_SHORTEST: Final = 30  # frames of a drive, so that each part has a snippet where it is divided


@runtime_checkable
class Reel(Protocol):
    """Consecutive frames of one camera."""

    def __len__(self) -> int:
        """Return how many frames there are."""

    def read(self, start: int, stop: int) -> Drive:
        """Return some of them; raises ChronocamError where they cannot be read."""

    def name(self) -> str:
        """Return what a message calls it, and all that the pixels depend on."""


@dataclass(frozen=True)
class Rendered:
    """A drive of the rendered world."""

    index: int
    split: str
    size: tuple[int, int]

    def __len__(self) -> int:
        return _RENDERED_FRAMES

    def read(self, start: int, stop: int) -> Drive:
        """Render the drive and return a part of it."""
        return _part(drive(self.index, split=self.split, frames=len(self), size=self.size), start, stop)

    def name(self) -> str:
        """Return the arguments of the drive."""
        return f"{self.split} {self.index} {self.size}"


@dataclass(frozen=True)
class Filed:
    """Frames `first` to `last`, the latter left out, of a drive in files."""

    path: Path
    first: int
    last: int
    intrinsics: tuple[float, float, float, float] | None
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.last - self.first

    def read(self, start: int, stop: int) -> Drive:
        """Read a part of the drive."""
        span = {"start": self.first + start, "stop": self.first + stop}
        return read_drive(self.path, self.intrinsics, **span, size=self.size)

    def name(self) -> str:
        """Return the path and what was asked of it."""
        return repr(self)


def _part(whole: Drive, start: int, stop: int) -> Drive:
    def cut(values: Any) -> Any:
        return None if values is None else values[start:stop]

    names = ("pixels", "poses", "depth", "moving", "plain")
    return replace(whole, **{name: cut(getattr(whole, name)) for name in names})


class Footage:
    """Snippets of several reels.

    frames: all frames of all reels in a row, where they are kept decoded; None reads them as they are needed.
    """

    def __init__(
        self,
        reels: Sequence[Reel],
        frames: UInt8[np.ndarray, "frame height width 3"] | None = None,
        intrinsics: Sequence[np.ndarray] = (),
    ) -> None:
        self.reels = reels
        self.frames = frames
        self.intrinsics = intrinsics
        self.starts: np.ndarray = np.cumsum([0, *(len(reel) for reel in reels)])
        self.places: list[tuple[int, int]] = [
            (k, t) for k, reel in enumerate(reels) for t in range(1, len(reel) - 1)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def snippet(self, index: int) -> Snippet:
        """Return a snippet; raises ChronocamError where it cannot be read."""
        reel, time = self.places[index]
        if self.frames is None:
            part = self.reels[reel].read(time - 1, time + 2)
            return part.pixels, part.intrinsics
        middle = int(self.starts[reel]) + time
        return np.asarray(self.frames[middle - 1 : middle + 2]), self.intrinsics[reel]

    def cached(self, folder: Path, size: tuple[int, int], track: Track) -> Footage:
        """Decode all frames into a file in `folder`, unless it exists, and return snippets from it."""
        # The name depends on the first frames too: another renderer, or another version, is another name.
        first = self.reels[0].read(0, 2).pixels
        words = "|".join([first.tobytes().hex(), *(reel.name() for reel in self.reels)])
        path = folder / f"frames-{hashlib.sha256(words.encode()).hexdigest()[:16]}.npy"
        matrices = path.with_suffix(".json")
        if not (path.is_file() and matrices.is_file()):
            rows: list[list[list[float]]] = []
            replace_file(path, lambda temporary: self._decode(temporary, size, rows, track))
            replace_file(matrices, lambda temporary: temporary.write_text(json.dumps(rows)))
        intrinsics = [np.array(matrix) for matrix in json.loads(matrices.read_text())]
        return Footage(self.reels, np.load(path, mmap_mode="r"), intrinsics)

    def _decode(self, path: Path, size: tuple[int, int], intrinsics: list[Any], track: Track) -> None:
        frames = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.uint8, shape=(int(self.starts[-1]), *size, 3)
        )
        for number in track(range(len(self.reels)), "Decoding"):
            reel, begin = self.reels[number], int(self.starts[number])
            for start, stop in pieces(len(reel)):
                part = reel.read(start, stop)
                frames[begin + start : begin + stop] = part.pixels
            intrinsics.append(part.intrinsics.tolist())
        frames.flush()


def pieces(count: int, length: int = 64) -> Iterator[tuple[int, int]]:
    """Yield ranges that cover `count` frames, of `length` or a few more; no range is of a single frame."""
    # Drives need two frames: a last range of a single one would begin at count - 1, which is left out.
    starts = list(range(0, max(1, count - 1), length))
    yield from zip(starts, [*starts[1:], count], strict=True)


@dataclass(frozen=True)
class ReelSplits:
    """Reels to train, validate and test on, and in words where they come from; `unread` could not be read."""

    parts: dict[str, Sequence[Reel]]
    source: str
    unread: list[str]


def find_footage(settings: OdometrySettings) -> ReelSplits:
    """Return the drives that the settings name; raises InputError where there are too few frames."""
    size = (settings.height, settings.width)
    most = limits(settings.drives, settings.held_out)
    if settings.data == DRIVES:
        counts = {name: limit or _RENDERED[name] for name, limit in most.items()}
        parts = {name: [Rendered(i, name, size) for i in range(count)] for name, count in counts.items()}
        return ReelSplits(dict(parts), "odometry world", [])
    paths = find_drives(settings.data)
    reels, unread = _readable(paths, settings, size)
    if len(reels) < len(SPLITS):
        return ReelSplits(_along(reels), f"{len(reels)} of {len(paths)} drives, divided in time", unread)
    return ReelSplits(_apart(reels, most, settings.seed), f"{len(reels)} of {len(paths)} drives", unread)


def _readable(
    paths: Sequence[Path], settings: OdometrySettings, size: tuple[int, int]
) -> tuple[list[Filed], list[str]]:
    """Return the drives with a readable snippet, and the names of the others.

    Raises MediaError without any.
    """
    reels: list[Filed] = []
    unread: list[str] = []
    problems: list[str] = []
    for path in paths:
        try:
            reel = Filed(path, 0, count_frames(path), settings.intrinsics, size)
            if len(reel) < _SHORTEST:
                raise MediaError(f"`{path}` has {len(reel)} frames; expected at least {_SHORTEST}")
            reel.read(0, 2)
            reels.append(reel)
        except ChronocamError as error:
            unread.append(path.name)
            problems.append(str(error))
    if not reels:
        raise MediaError(f"none of {len(paths)} drives can be read; the first: {problems[0]}")
    return reels, unread


def _along(reels: Sequence[Filed]) -> dict[str, Sequence[Reel]]:
    """Divide each of a few drives in time: its end is measured on."""
    ends = np.cumsum([0, *_SHARES])
    parts: dict[str, Sequence[Reel]] = {}
    for name, low, high in zip(SPLITS, ends, ends[1:], strict=False):
        spans = [(round(low * len(reel)), round(high * len(reel))) for reel in reels]
        parts[name] = [
            replace(reel, first=first, last=last) for reel, (first, last) in zip(reels, spans, strict=True)
        ]
    return parts


def _apart(reels: Sequence[Filed], most: dict[str, int | None], seed: int) -> dict[str, Sequence[Reel]]:
    """Divide drives, chosen by the seed; every part has at least one."""
    order = np.random.default_rng(seed).permutation(len(reels))
    count = max(1, round(_SHARES[1] * len(reels)))
    places = {"validation": order[:count], "test": order[count : 2 * count], "train": order[2 * count :]}
    return {name: [reels[k] for k in sorted(places[name])[: most[name]]] for name in SPLITS}
