"""Clips: a few frames of a video, chosen by time; and pictures back into a video."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from chronocam._repr import ShortRepr
from chronocam.errors import MediaError
from chronocam.media.clips.pictures import is_animation, open_animation, open_folder
from chronocam.media.clips.sample import Sampler, Size, Source, Timeline, check_size
from chronocam.media.clips.video import open_video
from chronocam.media.clips.write import write_clip
from chronocam.media.files import absent, is_file, is_folder
from chronocam.media.limits import check_clip

__all__ = ["VIDEO_SUFFIXES", "Clip", "read_clip", "write_clip"]

VIDEO_SUFFIXES: Final = frozenset(
    [
        ".3gp",
        ".avi",
        ".flv",
        ".gif",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
        ".webm",
    ]
)
"""What counts as a video when a folder or a pattern is searched."""


@dataclass(frozen=True, eq=False)
class Clip(ShortRepr):
    """Frames of a video, and when they are shown.

    pixels: RGB, upright.
    seconds: when each frame is first shown, from the first frame of the source; in a folder without a rate,
        the frame's number.
    rate: frames per second of the source, on average; None for a folder without one.
    indices: which frames of the source these are, counted in order of presentation.
    path: the source.

    Example:
    >>> cc.media.write_clip("a.gif", np.zeros((4, 8, 8, 3), np.uint8), fps=10)
    >>> clip = cc.media.read_clip("a.gif", frames=4)
    >>> clip.pixels.shape, clip.seconds.round(1).tolist(), clip.rate
    ((4, 8, 8, 3), [0.0, 0.1, 0.2, 0.3], 10.0)
    """

    pixels: UInt8[np.ndarray, "time height width 3"]
    seconds: Float64[np.ndarray, " time"]
    rate: float | None
    indices: Int64[np.ndarray, " time"]
    path: Path

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def first(self) -> Int64[np.ndarray, " time"]:
        """Where in the clip the source frame of each frame comes first: itself, unless it is a duplicate."""
        _, places, inverse = np.unique(self.indices, return_index=True, return_inverse=True)
        return places[inverse]

    @property
    def duplicates(self) -> Bool[np.ndarray, " time"]:
        """Which frames repeat an earlier one, since the source has fewer than were asked for."""
        return self.first != np.arange(len(self))

    @property
    def unique(self) -> Int64[np.ndarray, " unique"]:
        """The places of the frames that do not repeat an earlier one."""
        return np.flatnonzero(~self.duplicates)


def read_clip(
    path: str | Path,
    frames: int = 16,
    sampling: str = "uniform",
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    size: Size = None,
) -> Clip:
    """Read some frames of a video file, an animated GIF or WebP, or a folder of frames.

    frames: how many; a shorter source gives some of them several times (`Clip.duplicates`).
    sampling: `uniform`, at equally spaced times from the first frame to the last, both included; `midpoint`,
        in the middles of equally long parts; `contiguous`, the first consecutive ones, over again when too
        short. At each such time the frame that is on the screen is taken.
    fps: frames per second to which the source is resampled first; in a folder, the rate of its frames.
    start: where to begin sampling, in seconds from the first frame.
    end: where to stop, in seconds from the first frame; `end` itself is left out.
    size: the shorter side in pixels, the longer one keeping the aspect, or (height, width).

    Frames are chosen by their time stamps and turned upright as the file says; only those are converted.
    Raises MediaError for bad arguments, for files that cannot be read and for more pixels than fit into
    memory; from a file that is cut off or
    damaged, the whole frames can still be read.

    Example:
    >>> cc.media.write_clip("a.gif", np.zeros((10, 8, 8, 3), np.uint8), fps=10)
    >>> cc.media.read_clip("a.gif", frames=4).indices
    array([0, 3, 6, 9])
    >>> cc.media.read_clip("a.gif", frames=4, start=0.5).indices
    array([5, 6, 7, 9])
    """
    path = Path(path)
    sampler = Sampler(frames, sampling, fps, start, end)
    check_size(size)
    source = _open(path, sampler)
    line = source.timeline
    try:
        indices = sampler.choose(line)
    except MediaError as error:
        raise MediaError(f"`{path}`: {error}") from None
    _check_readable(path, line, indices)
    pixels = _gather(path, source, indices, size)
    return Clip(pixels, line.times[indices], line.rate, indices, path)


def _open(path: Path, sampler: Sampler) -> Source:
    if is_folder(path):
        return open_folder(path, sampler.fps)
    if not is_file(path):
        raise MediaError(f"`{path}` {absent(path)}; expected a video or a folder of frames, check the path")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise MediaError(
            f"`{path}` cannot be read ({error.strerror}); expected a video, check the path"
        ) from error
    if not head:
        raise MediaError(f"`{path}` is empty; expected a video, fetch it again")
    return open_animation(path) if is_animation(head) else open_video(path, sampler.end)


def _check_readable(path: Path, line: Timeline, indices: Int64[np.ndarray, " time"]) -> None:
    unique = np.unique(indices)
    whole = int((unique < line.readable).sum())
    if whole < len(unique):
        raise MediaError(
            f"`{path}` is cut off: {whole} of the {len(unique)} frames wanted can be decoded, "
            f"{line.readable} of about {len(line.times)} are in the file; fetch it again or pass "
            f"end={line.times[line.readable - 1]:.2f}"
        )


def _gather(
    path: Path, source: Source, indices: Int64[np.ndarray, " time"], size: Size
) -> UInt8[np.ndarray, "time height width 3"]:
    """Put each frame at all of its places in the clip."""
    unique, pixels, done = np.unique(indices), None, 0
    for number, picture in source.frames(unique, size):
        if pixels is None:
            check_clip(path, len(indices), picture.shape[1], picture.shape[0])
            pixels = np.empty((len(indices), *picture.shape), np.uint8)
        if picture.shape != pixels.shape[1:]:
            unlike = f"frame {number} is {_size(picture)}, another {_size(pixels[0])}"
            raise MediaError(f"`{path}`: {unlike}; expected frames of one size, pass size=(height, width)")
        pixels[indices == number] = picture
        done += 1
    if pixels is None or done < len(unique):
        count = f"{done} of the {len(unique)} frames wanted can be decoded"
        raise MediaError(
            f"`{path}` is damaged: {count}; fetch it again, or pass start and end around the damage"
        )
    return pixels


def _size(picture: UInt8[np.ndarray, "height width 3"]) -> str:
    return f"{picture.shape[0]} x {picture.shape[1]}"
