"""Folders of frames: plain ones, and those with depth, poses or a camera beside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from chronocam.errors import MediaError
from chronocam.media.drives.intrinsics import check_intrinsics
from chronocam.media.drives.listing import DriveListing, check_count, depth_files, pictures
from chronocam.media.drives.text import parse, read_lines, read_poses

MILLIMETRE = 0.001

_COLOURS = ("color", "rgb", "colour")
_POSES = ("odometry.log", "trajectory.log", "poses.txt", "pose.txt")


def colour_folder(path: Path) -> Path | None:
    """Return the folder of colours in a folder of colours and depth, or None for any other folder."""
    folders = (path / name for name in _COLOURS if (path / name).is_dir())
    return next(folders, None)


def list_frames(path: Path) -> DriveListing:
    """List a folder of frames, or one of `color` (or `rgb`) and `depth`.

    Beside them may lie the camera, as cam.txt (3 x 3) or camera.json (Open3D), and camera-to-world poses, as
    the first of odometry.log, trajectory.log, poses.txt, pose.txt; see `read_poses`. A camera.json beside
    odometry.log is a viewer's and is left alone. Depth in whole numbers is in millimetres, any other in
    metres. Raises MediaError for broken files.
    """
    colours = colour_folder(path)
    frames = pictures(colours or path)
    file = next((path / name for name in _POSES if (path / name).is_file()), None)
    poses = read_poses(file) if file else None
    if file and poses is not None:
        check_count(poses, len(frames), file, "poses")
    depth = depth_files(path / "depth", len(frames)) if colours else None
    return DriveListing(path.name, frames, _camera(path), poses, depth, MILLIMETRE)


def _camera(path: Path) -> Float64[np.ndarray, "3 3"] | None:
    text, json_file = path / "cam.txt", path / "camera.json"
    if text.is_file():
        rows = [parse(text, number, line, (3,)) for number, line in read_lines(text)]
        return check_intrinsics(np.array(rows), f"`{text}`: intrinsics")
    if json_file.is_file() and not (path / "odometry.log").is_file():
        return _from_json(json_file)
    return None


def _from_json(path: Path) -> Float64[np.ndarray, "3 3"]:
    """Read Open3D's camera: a matrix column by column."""
    try:
        values = json.loads("\n".join(line for _, line in read_lines(path)))["intrinsic_matrix"]
        matrix = np.asarray(values, np.float64).reshape(3, 3).T
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MediaError(
            f"`{path}` holds no `intrinsic_matrix` of 9 numbers; expected Open3D's camera"
        ) from error
    return check_intrinsics(matrix, f"`{path}`: intrinsics")
