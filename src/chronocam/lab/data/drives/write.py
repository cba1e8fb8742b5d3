"""The rendered world as files, in the layout of KITTI's odometry benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from chronocam.lab.data.drives.world import DriveOptions, rendered
from chronocam.media.drives.kitti import DEPTH_UNIT
from chronocam.media.drives.record import Drive
from chronocam.media.files import replace_file
from chronocam.media.images import write_image

_SECONDS = 0.1
"""Between frames, as in KITTI."""


def export(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    split: str = "train",
    frames: int = 5,
    size: tuple[int, int] = (64, 208),
    scene: str | None = None,
    moving: bool | None = None,
    plain: bool | None = None,
    exposure: bool | None = None,
) -> Path:
    """Write the first `count` drives as `sequences/NN` and `poses/NN.txt`, and return `folder`.

    A sequence has its frames in `image_2`, `calib.txt`, `times.txt`, and the depth in `depth`: 16-bit PNG,
    metres times 256, 0 where it is unknown or 256 m and more. `read_drive` reads it. The arguments are those
    of `drive`.

    Raises `InputError` for an argument out of range, `MediaError` where a file cannot be written, and
    `ChronocamError` where scikit-image is not installed.

    Example:
        >>> cc.data.drives.export("drives", 1, frames=3, size=(32, 48)).name
        'drives'
        >>> len(cc.data.drives.read_drive("drives/sequences/00"))
        3
    """
    options = DriveOptions(seed, split, frames, size, scene, moving, plain, exposure)
    for index, drive in enumerate(rendered(count, options)):
        _write(Path(folder), f"{index:02d}", drive)
    return Path(folder)


def _write(folder: Path, name: str, drive: Drive) -> None:
    sequence = folder / "sequences" / name
    assert drive.poses is not None
    assert drive.depth is not None
    for number, (pixels, depth) in enumerate(zip(drive.pixels, drive.depth, strict=True)):
        write_image(sequence / "image_2" / f"{number:06d}.png", pixels)
        write_image(sequence / "depth" / f"{number:06d}.png", _to_16_bits(depth))
    projection = _row(np.concatenate([drive.intrinsics, np.zeros((3, 1))], 1))
    _write_text(sequence / "calib.txt", [f"P{camera}: {projection}" for camera in range(4)])
    _write_text(sequence / "times.txt", [f"{number * _SECONDS:e}" for number in range(len(drive))])
    _write_text(folder / "poses" / f"{name}.txt", [_row(pose[:3]) for pose in drive.poses])


def _to_16_bits(depth: Float32[np.ndarray, "height width"]) -> Image.Image:
    values = np.round(depth.astype(np.float64) / DEPTH_UNIT)
    return Image.fromarray(np.where(values < 2**16, values, 0).astype(np.uint16))


def _row(matrix: np.ndarray) -> str:
    return " ".join(f"{value:.12e}" for value in matrix.ravel())


def _write_text(path: Path, lines: list[str]) -> None:
    replace_file(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n"))
