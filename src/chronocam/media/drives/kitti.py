"""The layouts of KITTI: its odometry benchmark and its raw recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from chronocam.errors import MediaError
from chronocam.media.drives.intrinsics import check_intrinsics
from chronocam.media.drives.listing import DriveListing, check_count, depth_files, pictures
from chronocam.media.drives.text import check_pose, parse, read_lines, read_poses, read_table

DEPTH_UNIT = 1 / 256
"""Metres of a depth of 1 in KITTI's 16-bit pictures."""

_CAMERAS = ("2", "0", "3", "1")  # colour left, grey left, colour right, grey right
_EARTH = 6378137.0  # equatorial radius in metres, of WGS 84
_AHEAD = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # from forward, left, up to right, down, forward


def odometry_camera(path: Path) -> tuple[Path, str] | None:
    """Return (sequence, camera) for a sequence of the odometry benchmark or a camera's folder in it."""
    return _camera(path, "image_{}", lambda folder: (folder / "calib.txt").is_file())


def raw_camera(path: Path) -> tuple[Path, str] | None:
    """Return (drive, camera) where `path` is a raw drive or one camera's folder in it."""
    return _camera(path, "image_0{}/data", lambda folder: True)


def _camera(path: Path, pattern: str, fits: Callable[[Path], bool]) -> tuple[Path, str] | None:
    for camera in _CAMERAS:
        inner = Path(pattern.format(camera))
        if (path / inner).is_dir() and fits(path):
            return path, camera
    for camera in _CAMERAS:
        first = Path(pattern.format(camera)).parts[0]
        if path.name == first and (path.parent / pattern.format(camera)).is_dir() and fits(path.parent):
            return path.parent, camera
    return None


def list_odometry(path: Path, camera: str) -> DriveListing:
    """List `sequences/NN`: image_N, calib.txt, ../../poses/NN.txt (missing for tests), exported depth.

    The poses in the file are those of camera 0; another one stands beside it. Raises MediaError for broken
    files.
    """
    frames = pictures(path / f"image_{camera}")
    projection = read_table(path / "calib.txt", {f"P{camera}": 12})[f"P{camera}"]
    intrinsics, shift = _split(projection, f"`{path / 'calib.txt'}`: P{camera}")
    file, poses = path.parent.parent / "poses" / f"{path.name}.txt", None
    if file.is_file():
        poses = read_poses(file)
        check_count(poses, len(frames), file, "poses")
        poses = poses @ np.linalg.inv(shift)
    depth = depth_files(path / "depth", len(frames))
    return DriveListing(path.name, frames, intrinsics, poses, depth, DEPTH_UNIT)


def list_raw(path: Path, camera: str) -> DriveListing:
    """List `DATE/DATE_drive_NNNN_sync`: image_0N/data, oxts/data, and the calibration in `DATE`.

    The world is the first camera. Poses come from the GPS and inertial unit; without calib_imu_to_velo.txt
    and calib_velo_to_cam.txt the camera is taken to sit in the unit and to look ahead. Raises MediaError for
    broken files.
    """
    frames = pictures(path / f"image_0{camera}" / "data")
    file, key = path.parent / "calib_cam_to_cam.txt", f"P_rect_0{camera}"
    table = read_table(file, {key: 12, "R_rect_00": 9})
    intrinsics, shift = _split(table[key], f"`{file}`: {key}")
    units, poses = path / "oxts" / "data", None
    if units.is_dir():
        files = sorted(units.glob("*.txt"))
        check_count(files, len(frames), units, "records")
        level = _rigid(table["R_rect_00"], np.zeros(3), f"`{file}`: R_rect_00")
        poses = _drive(files) @ np.linalg.inv(shift @ level @ _mounting(path.parent))
        poses = np.linalg.inv(poses[0]) @ poses
    return DriveListing(path.name, frames, intrinsics, poses)


def _split(projection: Float64[np.ndarray, " 12"], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Split K [I | t] into K and the matrix that brings points of camera 0 into this camera."""
    matrix = projection.reshape(3, 4)
    intrinsics, shift = check_intrinsics(matrix[:, :3], where), np.eye(4)
    shift[:3, 3] = np.linalg.solve(intrinsics, matrix[:, 3])
    return intrinsics, shift


def _mounting(folder: Path) -> Float64[np.ndarray, "4 4"]:
    """Return what brings points of the inertial unit into camera 0, not yet rectified."""
    files = [folder / "calib_velo_to_cam.txt", folder / "calib_imu_to_velo.txt"]
    if not all(file.is_file() for file in files):
        return _rigid(_AHEAD, np.zeros(3), "axes")
    tables = [read_table(file, {"R": 9, "T": 3}) for file in files]
    camera, laser = (
        _rigid(table["R"], table["T"], f"`{file}`") for file, table in zip(files, tables, strict=True)
    )
    return np.asarray(camera @ laser)


def _drive(files: list[Path]) -> Float64[np.ndarray, "time 4 4"]:
    """Return where the inertial unit is (x east, y north, z up, in metres) and how it is turned.

    On the Mercator map of a sphere, x = s r lon and y = s r ln tan(pi/4 + lat/2), with s = cos lat of the
    first record, so that metres on the map are metres on the ground there.
    """
    records = np.stack([_record(file) for file in files])
    latitude, longitude, altitude, roll, pitch, yaw = records.T
    latitude, longitude = np.radians(latitude), np.radians(longitude)
    scale = np.cos(latitude[0]) * _EARTH
    poses = np.tile(np.eye(4), (len(files), 1, 1))
    north = np.log(np.tan(np.pi / 4 + latitude / 2))
    poses[:, :3, 3] = np.stack([scale * longitude, scale * north, altitude], 1)
    poses[:, :3, :3] = _about(yaw, 2) @ _about(pitch, 1) @ _about(roll, 0)
    return poses


def _record(file: Path) -> Float64[np.ndarray, " 6"]:
    """Return latitude, longitude, altitude, roll, pitch, yaw."""
    lines = read_lines(file)
    if not lines:
        raise MediaError(
            f"`{file}` line 1: empty; expected latitude, longitude, altitude, roll, pitch, yaw, ..."
        )
    number, text = lines[0]
    values = parse(file, number, " ".join(text.split()[:6]), (6,))
    if abs(values[0]) >= 90:
        raise MediaError(
            f"`{file}` line {number}: latitude {values[0]:g}; expected between -90 and 90 degrees"
        )
    return values


def _about(angles: Float64[np.ndarray, " time"], axis: int) -> Float64[np.ndarray, "time 3 3"]:
    """Return rotations about one axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turns = np.tile(np.eye(3), (len(angles), 1, 1))
    turns[:, first, first] = turns[:, second, second] = np.cos(angles)
    turns[:, second, first] = np.sin(angles)
    turns[:, first, second] = -np.sin(angles)
    return turns


def _rigid(turn: np.ndarray, shift: np.ndarray, where: str) -> Float64[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn.reshape(3, 3), shift
    return check_pose(matrix, where)
