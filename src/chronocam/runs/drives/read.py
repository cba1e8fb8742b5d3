"""Consecutive frames of a drive, as networks take them and as pictures are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image

from chronocam.errors import CameraError, InputError, MediaError
from chronocam.runs.files import LONGEST_SIDE

if TYPE_CHECKING:
    from chronocam.media import Preprocess

Camera: TypeAlias = tuple[float, float, float, float]
"""fx, fy, cx and cy in pixels."""

FRAMES: Final = 16  # taken by default
_CHUNK: Final = 32  # frames that are in memory at their full size
_ANY_CAMERA: Final[Camera] = (1.0, 1.0, 0.0, 0.0)  # stands in where no camera is needed


@dataclass(frozen=True, eq=False)
class DriveFrames:
    """Consecutive frames of a drive.

    inputs: as networks take them.
    small: as pictures are drawn, at most 1024 pixels wide or high.
    numbers: of the frames in the source.
    seconds, rate: of a video.
    size: (width, height) as stored.
    intrinsics: of frames as stored; None where nothing needs them.
    poses: camera to world, where known.
    depth: the true one on the network's view, 0 where unknown; None where nothing is known.
    """

    inputs: Float32[np.ndarray, "frame 3 height width"]
    small: UInt8[np.ndarray, "frame _ _ 3"]
    numbers: Int[np.ndarray, " frame"]
    seconds: Float[np.ndarray, " frame"] | None
    rate: float | None
    size: tuple[int, int]
    intrinsics: Float[np.ndarray, "3 3"] | None
    poses: Float[np.ndarray, "frame 4 4"] | None
    depth: Float32[np.ndarray, "frame height width"] | None

    def view_intrinsics(self, preprocess: Preprocess) -> Float[np.ndarray, "3 3"] | None:
        """Return the intrinsics of what the network sees, None where those of the frames are unknown.

        A region from x0 on, scaled by s, moves pixels to x' + 1/2 = (x + 1/2 − x0) s.
        """
        if self.intrinsics is None:
            return None
        # Intrinsics count from the centre of the first pixel, regions from its corner: hence the halves.
        x0, y0, x1, y1 = preprocess.region(*self.size)
        rows, columns = self.inputs.shape[2:]
        x, y = columns / (x1 - x0), rows / (y1 - y0)
        change = np.array([[x, 0, (0.5 - x0) * x - 0.5], [0, y, (0.5 - y0) * y - 0.5], [0, 0, 1]])
        return np.asarray(change @ self.intrinsics)


def read_frames(
    path: Path,
    preprocess: Preprocess,
    frames: int,
    start: float | None,
    intrinsics: Camera | None,
    needs_camera: bool,
) -> DriveFrames:
    """Read `frames` consecutive frames from `start` on, fewer where the drive ends.

    start: seconds into a video, or a frame's number in a folder.

    Frames are in memory at their full size only 32 at a time. Raises MediaError for a drive that cannot be
    read, and where a camera is needed and unknown.
    """
    # Reading a drive asks for intrinsics; where no loss needs them, one without a camera file is fine too.
    span = _span(path, frames, start)
    camera = intrinsics or (None if needs_camera else _ANY_CAMERA)
    parts: list[_Piece] = []
    for low, high in _pieces(span.first, span.stop):
        parts.append(_read(path, low, high, camera, preprocess))
        if parts[-1].size != parts[0].size:
            sizes = " and ".join(f"{width} x {height}" for width, height in (parts[0].size, parts[-1].size))
            raise MediaError(f"`{path}` has frames of {sizes} pixels; expected frames of one size")
    return DriveFrames(
        inputs=np.concatenate([part.inputs for part in parts]),
        small=np.concatenate([part.small for part in parts]),
        numbers=np.arange(span.first, span.stop),
        seconds=span.seconds,
        rate=span.rate,
        size=parts[0].size,
        intrinsics=parts[0].intrinsics if intrinsics is not None or needs_camera else None,
        poses=_joined([part.poses for part in parts]),
        depth=_joined([part.depth for part in parts]),
    )


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return arrays one after the other; None where the source has none."""
    arrays = [part for part in parts if part is not None]
    return np.concatenate(arrays) if arrays else None


@dataclass(frozen=True, eq=False)
class _Span:
    """The numbers of the first frame and of the one past the last; the times and the rate of a video."""

    first: int
    stop: int
    seconds: np.ndarray | None = None
    rate: float | None = None


def _span(path: Path, frames: int, start: float | None) -> _Span:
    from chronocam.media import read_clip
    from chronocam.media.drives import count_frames

    if frames < 2:
        raise InputError(f"{frames} frame has no motion; expected --frames 2 or more")
    if not path.is_dir():
        # Tiny frames: only their numbers and times are needed here.
        clip = read_clip(path, frames, "contiguous", start=start, size=8)
        unique = clip.unique
        first, last = int(clip.indices[unique[0]]), int(clip.indices[unique[-1]])
        return _Span(first, last + 1, clip.seconds[unique], clip.rate)
    if start is not None and start != int(start):
        raise InputError(f"--start {start:g}: `{path}` has no clock; give the number of a frame, from 0")
    count, first = count_frames(path), int(start or 0)
    if first >= count:
        raise InputError(f"--start {first} lies beyond the end of `{path}`; it has {count} frames, from 0")
    return _Span(first, min(first + frames, count))


def _pieces(first: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield where pieces begin and end; none is a single frame, which is not a drive, unless that is all."""
    edges = [*range(first, max(stop - 1, first + 1), _CHUNK), stop]
    yield from pairwise(edges)


@dataclass(frozen=True, eq=False)
class _Piece:
    """A few frames in a row; the fields are those of `DriveFrames`."""

    inputs: np.ndarray
    small: np.ndarray
    size: tuple[int, int]
    intrinsics: np.ndarray
    poses: np.ndarray | None
    depth: np.ndarray | None


def _read(path: Path, first: int, stop: int, intrinsics: Camera | None, preprocess: Preprocess) -> _Piece:
    from chronocam.media.drives import read_drive

    try:
        drive = read_drive(path, intrinsics, start=first, stop=stop)
    except CameraError as error:
        todo = "give --intrinsics fx,fy,cx,cy in pixels of the frames as stored, or targets such as tz"
        raise CameraError(f"`{path}` comes without intrinsics, which the loss needs; {todo}") from error
    pictures = [Image.fromarray(frame) for frame in drive.pixels]
    inputs = np.stack([preprocess(picture) for picture in pictures])
    size = pictures[0].size
    shrunk = min(1.0, LONGEST_SIDE / max(size))
    small = max(1, round(size[0] * shrunk)), max(1, round(size[1] * shrunk))
    return _Piece(
        inputs=inputs,
        small=np.stack([np.asarray(picture.resize(small)) for picture in pictures]),
        size=size,
        intrinsics=drive.intrinsics,
        poses=drive.poses,
        depth=None
        if drive.depth is None
        else _on_view(drive.depth, preprocess.region(*size), inputs.shape[2:]),
    )


def _on_view(
    depth: Float32[np.ndarray, "frame _ _"], region: Sequence[float], shape: tuple[int, ...]
) -> Float32[np.ndarray, "frame height width"]:
    """Return depth at the pixels of the view, from the nearest one; unknown outside of the frames."""
    x0, y0, x1, y1 = region
    spans = ((y0, y1, shape[0], depth.shape[1]), (x0, x1, shape[1], depth.shape[2]))
    rows, columns = (np.floor(a + (np.arange(n) + 0.5) * (b - a) / n).astype(int) for a, b, n, _ in spans)
    inside = np.outer((rows >= 0) & (rows < depth.shape[1]), (columns >= 0) & (columns < depth.shape[2]))
    taken = depth[:, rows.clip(0, depth.shape[1] - 1)][:, :, columns.clip(0, depth.shape[2] - 1)]
    return np.where(inside, taken, np.float32(0))
