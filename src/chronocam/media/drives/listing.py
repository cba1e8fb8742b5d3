"""What a folder of a drive holds, before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from chronocam._repr import ShortRepr
from chronocam.errors import MediaError
from chronocam.media.clips.pictures import open_folder
from chronocam.media.files import is_folder


@dataclass(frozen=True, eq=False)
class DriveListing(ShortRepr):
    """The files of a drive, frame by frame, and what its text files say."""

    name: str
    frames: list[Path]
    intrinsics: Float64[np.ndarray, "3 3"] | None = None
    poses: Float64[np.ndarray, "time 4 4"] | None = None
    depth: list[Path] | None = None
    unit: float = 1.0
    """What a depth of 1 in a file of whole numbers is, in metres."""


def pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of their numbers.

    Raises MediaError for an empty folder.
    """
    return open_folder(folder, None).paths


def depth_files(folder: Path, count: int) -> list[Path] | None:
    """Return the depth files of a drive with `count` frames, or None without any.

    Raises MediaError where there are more or fewer.
    """
    if not is_folder(folder):
        return None
    paths = sorted(folder.glob("*.npy")) or pictures(folder)
    check_count(paths, count, folder, "depth maps")
    return paths


def check_count(found: np.ndarray | list[Path], count: int, path: Path, what: str) -> None:
    """Raise MediaError where there is not one for each frame."""
    if len(found) != count:
        raise MediaError(f"`{path}`: {len(found)} {what} for {count} frames; expected one for each frame")
