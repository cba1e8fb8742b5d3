"""Real drives: KITTI's layouts, folders of frames with or without depth and poses, videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from chronocam.errors import CameraError, MediaError
from chronocam.media.clips.pictures import is_animation, open_animation
from chronocam.media.clips.read import VIDEO_SUFFIXES
from chronocam.media.clips.sample import Source
from chronocam.media.clips.video import open_video
from chronocam.media.drives.frames import colour_folder, list_frames
from chronocam.media.drives.intrinsics import Intrinsics, check_intrinsics, resize_intrinsics
from chronocam.media.drives.kitti import list_odometry, list_raw, odometry_camera, raw_camera
from chronocam.media.drives.listing import DriveListing
from chronocam.media.drives.record import Drive
from chronocam.media.files import contents, expanded, is_file, is_folder
from chronocam.media.images import IMAGE_SUFFIXES, read_image
from chronocam.media.limits import check_clip, check_picture

_LARGEST = 16_384


def read_drive(
    path: str | Path,
    intrinsics: Intrinsics | None = None,
    *,
    start: int | None = None,
    stop: int | None = None,
    size: tuple[int, int] | None = None,
) -> Drive:
    """Read frames of a drive, with its intrinsics and whatever is known of poses and depth.

    path: a sequence of KITTI's odometry benchmark (`sequences/00`, or `sequences/00/image_0` for one camera),
        a raw drive of KITTI (`2011_09_26/2011_09_26_drive_0001_sync`), a folder of frames, alone or in
        `color` beside `depth`, or a video.
    intrinsics: fx, fy, cx, cy or a 3 x 3 matrix, in pixels of the frames as they are stored, the first
        pixel's centre at (0, 0); where given, they replace those of the files.
    start, stop: frames from number `start` (from 0) to `stop`, which is left out; only these are loaded.
    size: (height, width) to resize to, the intrinsics too; colours are averaged, depth is taken from the
        nearest pixel. With s = new / old size: fx' = s fx, cx' = s (cx + 1/2) - 1/2.

    Poses are camera to world; the depth is in metres, 0 where unknown. Raises MediaError for missing or
    singular intrinsics, frames of different size, fewer than two frames, negative or non-finite depth, broken
    lines of text (with file and line), and where poses or depth maps are more or fewer than frames.

    Example:
        >>> folder = cc.data.drives.export("drives", 1, frames=4, size=(32, 48))
        >>> drive = cc.data.drives.read_drive(folder / "sequences" / "00", start=1, stop=3)
        >>> drive.pixels.shape, drive.depth.shape
        ((2, 32, 48, 3), (2, 32, 48))
    """
    path = expanded(path)
    _check_size(size)
    camera = None if intrinsics is None else check_intrinsics(intrinsics)
    if is_folder(path):
        return _read_listing(path, _list(path), camera, start, stop, size)
    return _read_video(path, camera, start, stop, size)


def count_frames(path: str | Path) -> int:
    """Return how many frames the drive at `path` has; no pixel is read. Raises MediaError for anything else.

    Example:
        >>> folder = cc.data.drives.export("drives", 1, frames=4, size=(32, 48))
        >>> cc.data.drives.count_frames(folder / "sequences" / "00")
        4
    """
    path = expanded(path)
    return len(_list(path).frames) if is_folder(path) else _open(path).timeline.readable


def find_drives(folder: str | Path) -> list[Path]:
    """Return every drive in a folder and the folders in it, each fit for `read_drive`; no pixel is read.

    Folders of frames and videos that come without intrinsics are among them. Raises MediaError where there is
    none.

    Example:
        >>> folder = cc.data.drives.export("drives", 2, frames=2, size=(32, 48))
        >>> [path.name for path in cc.data.drives.find_drives(folder)]
        ['00', '01']
    """
    folder = expanded(folder)
    if not is_folder(folder):
        what = "is a file" if is_file(folder) else "does not exist"
        raise MediaError(f"`{folder}` {what}; expected a folder of drives, check the path")
    drives = _find(folder, set())
    if not drives:
        raise MediaError(f"no drives in `{folder}`; expected KITTI's layouts, folders of frames or videos")
    return drives


def _list(path: Path) -> DriveListing:
    """List the drive in a folder by the layout that it has."""
    if place := odometry_camera(path):
        return list_odometry(*place)
    if place := raw_camera(path):
        return list_raw(*place)
    return list_frames(path)


def _find(folder: Path, visited: set[Path]) -> list[Path]:
    if folder.resolve() in visited:  # a link that leads back
        return []
    visited.add(folder.resolve())
    if odometry_camera(folder) or raw_camera(folder) or colour_folder(folder):
        return [folder]
    inside = [path for path in contents(folder) if not path.name.startswith(".")]
    stills = IMAGE_SUFFIXES - VIDEO_SUFFIXES
    if sum(path.suffix.lower() in stills and is_file(path) for path in inside) > 1:
        return [folder]
    videos = [path for path in inside if path.suffix.lower() in VIDEO_SUFFIXES and is_file(path)]
    return videos + [drive for path in inside if is_folder(path) for drive in _find(path, visited)]


def _read_listing(
    path: Path,
    listing: DriveListing,
    camera: Float64[np.ndarray, "3 3"] | None,
    start: int | None,
    stop: int | None,
    size: tuple[int, int] | None,
) -> Drive:
    stored = _known(path, listing.intrinsics if camera is None else camera)
    part = _range(path, len(listing.frames), start, stop)
    pixels, old = _read_frames(listing.frames[part], size)
    new = (int(pixels.shape[1]), int(pixels.shape[2]))
    depth = None if listing.depth is None else _read_depths(listing.depth[part], listing.unit, old, new)
    poses = None if listing.poses is None else listing.poses[part]
    return Drive(pixels, resize_intrinsics(stored, old, new), poses, depth, name=listing.name)


def _read_video(
    path: Path,
    camera: Float64[np.ndarray, "3 3"] | None,
    start: int | None,
    stop: int | None,
    size: tuple[int, int] | None,
) -> Drive:
    source = _open(path)
    stored = _known(path, camera)
    part = _range(path, source.timeline.readable, start, stop)
    first = _decode(path, source, slice(part.start, part.start + 1), None)
    old = (int(first.shape[1]), int(first.shape[2]))
    pixels = _decode(path, source, part, size or old)
    return Drive(pixels, resize_intrinsics(stored, old, size or old), name=path.stem)


def _open(path: Path) -> Source:
    if not is_file(path):
        raise MediaError(f"`{path}` does not exist; expected a video or a folder of frames, check the path")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        hint = "expected a video or a folder of frames, check the path"
        raise MediaError(f"`{path}` cannot be read ({error.strerror}); {hint}") from error
    return open_animation(path) if is_animation(head) else open_video(path, None)


def _decode(
    path: Path, source: Source, part: slice, size: tuple[int, int] | None
) -> UInt8[np.ndarray, "time height width 3"]:
    numbers, pixels, done = np.arange(part.start, part.stop), None, 0
    for number, frame in source.frames(numbers, size):
        if pixels is None:
            check_clip(path, len(numbers), frame.shape[1], frame.shape[0])
            pixels = np.empty((len(numbers), *frame.shape), np.uint8)
        pixels[number - part.start] = frame
        done += 1
    if pixels is None or done < len(numbers):
        count = f"{done} of {len(numbers)} frames can be decoded"
        raise MediaError(
            f"`{path}` is damaged: {count}; fetch it again, or pass start and stop around the damage"
        )
    return pixels


def _known(path: Path, intrinsics: Float64[np.ndarray, "3 3"] | None) -> Float64[np.ndarray, "3 3"]:
    if intrinsics is None:
        raise CameraError(f"`{path}` comes without intrinsics; pass intrinsics=(fx, fy, cx, cy) in pixels")
    return intrinsics


def _range(path: Path, count: int, start: int | None, stop: int | None) -> slice:
    if count < 2:
        raise MediaError(f"`{path}` has {count} frame(s); expected at least two")
    first, last = start or 0, count if stop is None else stop
    if not 0 <= first <= last <= count:
        raise MediaError(
            f"start = {first}, stop = {last}; expected frame numbers from 0 to {count}, the count"
        )
    if last - first < 2:
        raise MediaError(
            f"start = {first}, stop = {last} gives {last - first} frame(s); expected at least two"
        )
    return slice(first, last)


def _check_size(size: tuple[int, int] | None) -> None:
    if size is not None and not (len(size) == 2 and min(size) >= 1 and max(size) <= _LARGEST):
        raise MediaError(f"size = {size}; expected (height, width) in pixels, up to {_LARGEST}")


def _read_frames(
    paths: list[Path], size: tuple[int, int] | None
) -> tuple[UInt8[np.ndarray, "time height width 3"], tuple[int, int]]:
    """Return the frames, resized where asked, and the size (height, width) they had."""
    pixels, old = None, (0, 0)
    for number, path in enumerate(paths):
        image = read_image(path)
        shape = (image.height, image.width)
        if pixels is None:
            check_clip(path, len(paths), *(size or shape))
            pixels, old = np.empty((len(paths), *(size or shape), 3), np.uint8), shape
        if shape != old:
            sizes = f"{shape[0]} x {shape[1]}, `{paths[0].name}` {old[0]} x {old[1]}"
            raise MediaError(f"`{path}` is {sizes}; expected frames of one size")
        pixels[number] = np.asarray(
            image if size is None else image.resize(size[::-1], Image.Resampling.BILINEAR)
        )
    assert pixels is not None
    return pixels, old


def _read_depths(
    paths: list[Path], unit: float, old: tuple[int, int], new: tuple[int, int]
) -> Float32[np.ndarray, "time height width"]:
    rows, columns = (((np.arange(b) + 0.5) * (a / b)).astype(int) for a, b in zip(old, new, strict=True))
    depth = np.empty((len(paths), *new), np.float32)
    for number, path in enumerate(paths):
        values = _read_depth(path, unit)
        if values.shape != old:
            raise MediaError(f"`{path}` is of shape {values.shape}; expected {old} like the frames")
        depth[number] = values[np.ix_(rows, columns)]
    return depth


def _read_depth(path: Path, unit: float) -> Float64[np.ndarray, ...]:
    """Read depth in metres: whole numbers count `unit`, others are metres."""
    try:
        if path.suffix == ".npy":
            # Memory-mapped, a file that is shorter than it says is refused before memory is taken for it.
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with Image.open(path) as image:
                check_picture(path, *image.size)
                values = np.asarray(image)
        scale = unit if np.issubdtype(values.dtype, np.integer) else 1.0
        depth = np.asarray(values, np.float64) * scale
    except MediaError:
        raise
    except Exception as error:  # decoders raise anything
        raise MediaError(
            f"`{path}` cannot be read as depth; expected a 16-bit picture or an array (.npy)"
        ) from error
    if not (np.isfinite(depth).all() and (depth >= 0).all()):
        raise MediaError(f"`{path}` has negative or non-finite depth; expected 0 where it is unknown")
    return depth
