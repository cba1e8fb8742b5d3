"""The drives that the arguments of a command name, and some of their frames as networks and pictures want them."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from PIL import Image

from chronocam.errors import CameraError, ChronocamError, InputError, MediaError
from chronocam.runs.inputs import VIDEO_SUFFIXES
from chronocam.runs.job import LONGEST_SIDE

FRAMES: Final = 16  # that are taken where their number is not given
_CHUNK: Final = 32  # frames held at their full size
_ANY_CAMERA: Final = (1.0, 1.0, 0.0, 0.0)  # stands in where no camera is needed


def found_drives(inputs: Sequence[str]) -> Iterator[tuple[Path, str | None]]:
    """Yield every drive once; for an argument that names none, what is wrong with it."""
    seen: set[Path] = set()
    for given in inputs:
        try:
            paths = _named(given)
        except ChronocamError as error:
            yield Path(given), str(error)
            continue
        yield from ((path, None) for path in paths if path not in seen)
        seen.update(paths)


def _named(given: str) -> list[Path]:
    from chronocam.media.drives import find_drives

    path = Path(given).expanduser()
    if path.is_dir():
        return _one_or_more(path)
    if path.is_file():
        return [path]
    matches = [Path(one) for one in sorted(glob.iglob(str(path), recursive=True))]  # noqa: PTH207 (absolute ones)
    drives = [one for match in matches if match.is_dir() for one in find_drives(match)]
    drives += [match for match in matches if match.suffix.lower() in VIDEO_SUFFIXES and match.is_file()]
    if not drives:
        what = "nothing matches" if glob.has_magic(str(path)) else "there is no"
        raise MediaError(
            f"{what} `{given}`; expected a video, a folder of frames, or a sequence as KITTI has them"
        )
    return drives


def _one_or_more(folder: Path) -> list[Path]:
    """Return the drives in a folder; the folder where it has a single picture, which reading it then tells."""
    from chronocam.media.drives import count_frames, find_drives

    try:
        return find_drives(folder)
    except MediaError:
        try:
            count_frames(folder)
        except MediaError:
            pass
        else:
            return [folder]
        raise


@dataclass(frozen=True, eq=False)
class Footage:
    """Consecutive frames of a drive.

    frames: as networks take them. small: as pictures are drawn, at most 1024 pixels wide or high. numbers: of
        the
    frames in the source. seconds, rate: of a video. size: (width, height) as stored. intrinsics: of frames as
    stored, None where nothing needed them. poses: camera to world, where known. depth: the true one on the
    network's view, 0 where unknown; None where nothing is known.
    """

    frames: Float32[np.ndarray, "frame 3 height width"]
    small: UInt8[np.ndarray, "frame _ _ 3"]
    numbers: Int[np.ndarray, " frame"]
    seconds: Float[np.ndarray, " frame"] | None
    rate: float | None
    size: tuple[int, int]
    intrinsics: Float[np.ndarray, "3 3"] | None
    poses: Float[np.ndarray, "frame 4 4"] | None
    depth: Float32[np.ndarray, "frame height width"] | None

    def view_intrinsics(self, preprocess: Any) -> Float[np.ndarray, "3 3"] | None:
        """Return the intrinsics of what the network sees: x' + 1/2 = (x + 1/2 − x0) s, of the region from x0 on."""
        if self.intrinsics is None:
            return None
        x0, y0, x1, y1 = preprocess.region(*self.size)
        rows, columns = self.frames.shape[2:]
        x, y = columns / (x1 - x0), rows / (y1 - y0)
        change = np.array([[x, 0, (0.5 - x0) * x - 0.5], [0, y, (0.5 - y0) * y - 0.5], [0, 0, 1]])
        return np.asarray(change @ self.intrinsics)


def read_footage(
    path: Path,
    preprocess: Any,
    frames: int,
    start: float | None,
    intrinsics: Sequence[float] | None,
    needs_camera: bool,
) -> Footage:
    """Read `frames` consecutive frames from `start` on, fewer where the drive ends: seconds of a video, else a number.

    Frames are held at their full size only 32 at a time. Raises MediaError for what cannot be read, and where
    a camera is needed and unknown.
    """
    first, stop, seconds, rate = _span(path, frames, start)
    given = intrinsics or (None if needs_camera else _ANY_CAMERA)
    parts: list[dict[str, Any]] = []
    for low, high in _pieces(first, stop):
        parts.append(_read(path, low, high, given, preprocess))
        if parts[-1]["size"] != parts[0]["size"]:
            sizes = " and ".join(
                f"{width} x {height}" for width, height in (parts[0]["size"], parts[-1]["size"])
            )
            raise MediaError(f"`{path}` has frames of {sizes} pixels; expected frames of one size")
    whole: dict[str, Any] = {
        name: None if parts[0][name] is None else np.concatenate([part[name] for part in parts])
        for name in ("frames", "small", "poses", "depth")
    }
    known = intrinsics is not None or needs_camera
    size, camera = parts[0]["size"], parts[0]["intrinsics"] if known else None
    return Footage(
        **whole, numbers=np.arange(first, stop), seconds=seconds, rate=rate, size=size, intrinsics=camera
    )


def _span(path: Path, frames: int, start: float | None) -> tuple[int, int, np.ndarray | None, float | None]:
    """Return the first frame's number and that past the last one; of a video when they are shown, and its rate."""
    from chronocam.media import read_clip
    from chronocam.media.drives import count_frames

    if frames < 2:
        raise InputError(f"{frames} frame has no motion; expected --frames 2 or more")
    if not path.is_dir():
        clip = read_clip(path, frames, "contiguous", start=start, size=8)
        kept = clip.unique
        return int(clip.indices[kept[0]]), int(clip.indices[kept[-1]]) + 1, clip.seconds[kept], clip.rate
    if start is not None and start != int(start):
        raise InputError(f"--start {start:g}: `{path}` has no clock; give the number of a frame, from 0")
    count, first = count_frames(path), int(start or 0)
    if first >= count:
        raise InputError(f"--start {first} lies beyond the end of `{path}`; it has {count} frames, from 0")
    return first, min(first + frames, count), None, None


def _pieces(first: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield where pieces begin and end, none of them a single frame unless all is."""
    edges = [*range(first, max(stop - 1, first + 1), _CHUNK), stop]
    yield from pairwise(edges)


def _read(path: Path, first: int, stop: int, intrinsics: Any, preprocess: Any) -> dict[str, Any]:
    from chronocam.media.drives import read_drive

    try:
        drive = read_drive(path, intrinsics, start=first, stop=stop)
    except CameraError as error:
        todo = "give --intrinsics fx,fy,cx,cy in pixels of the frames as stored, or targets without a loss, such as tz"
        raise CameraError(f"`{path}` comes without intrinsics, which the loss needs; {todo}") from error
    pictures = [Image.fromarray(frame) for frame in drive.pixels]
    frames = np.stack([preprocess(picture) for picture in pictures])
    size = pictures[0].size
    shrunk = min(1.0, LONGEST_SIDE / max(size))
    small = [picture.resize([max(1, round(side * shrunk)) for side in size]) for picture in pictures]
    depth = None if drive.depth is None else _on_view(drive.depth, preprocess.region(*size), frames.shape[2:])
    return {
        "frames": frames,
        "small": np.stack([np.asarray(picture) for picture in small]),
        "size": size,
        "intrinsics": drive.intrinsics,
        "poses": drive.poses,
        "depth": depth,
    }


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
