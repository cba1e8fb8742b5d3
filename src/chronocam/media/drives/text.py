"""Numbers in text files of unknown origin: every error names its file and line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from chronocam.errors import MediaError

_LARGEST = 64 * 2**20
"""Bytes of a text file; the poses of 100,000 frames take a quarter of it."""

_SKEW = 0.01
"""How far a rotation may be from one: files round to a few digits."""


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return (number from 1, text) of the lines that are neither empty nor comments (`#`).

    Raises MediaError for what cannot be read as text.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise MediaError(f"`{path}` is larger than {_LARGEST >> 20} MB; expected a text file of numbers")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MediaError(
            f"`{path}` cannot be read ({error.strerror}); expected a text file of numbers"
        ) from error
    except UnicodeDecodeError as error:
        raise MediaError(f"`{path}` is not a text file; expected lines of numbers, check the path") from error
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def parse(path: Path, number: int, text: str, lengths: tuple[int, ...]) -> Float64[np.ndarray, " value"]:
    """Return the finite numbers of a line, as many as one of `lengths`.

    Raises MediaError with file and line.
    """
    try:
        values = np.array([float(word) for word in text.replace(",", " ").split()], np.float64)
    except ValueError as error:
        raise MediaError(f"`{path}` line {number}: {error}; expected {_count(lengths)} numbers") from error
    if len(values) not in lengths:
        raise MediaError(f"`{path}` line {number}: {len(values)} numbers; expected {_count(lengths)}")
    if not np.isfinite(values).all():
        raise MediaError(
            f"`{path}` line {number}: a number is not finite; expected {_count(lengths)} finite numbers"
        )
    return values


def read_table(path: Path, lengths: dict[str, int]) -> dict[str, Float64[np.ndarray, " value"]]:
    """Return the named rows of a file of lines `name: numbers`, so many numbers each; others are skipped.

    Raises MediaError for a broken row, or where one is missing.
    """
    rows = {}
    for number, line in read_lines(path):
        name, _, text = line.partition(":" if ":" in line else " ")
        if name.strip() in lengths:
            rows[name.strip()] = parse(path, number, text, (lengths[name.strip()],))
    for name in lengths:
        if name not in rows:
            raise MediaError(f"`{path}` has no line `{name}:`; expected {lengths[name]} numbers after it")
    return rows


def read_poses(path: Path) -> Float64[np.ndarray, "time 4 4"]:
    """Read camera-to-world poses, one a line: a matrix (12 or 16 numbers), or x y z and a quaternion.

    The quaternion is x, y, z, w; a time stamp may stand before the 7 numbers. A file of blocks, a line of
    three integers before each matrix of four lines, is read too (Open3D's log). Raises MediaError with file
    and line.
    """
    lines = read_lines(path)
    blocks = bool(lines) and len(lines[0][1].split()) == 3
    poses = list(_blocks(path, lines) if blocks else _rows(path, lines))
    return np.stack(poses) if poses else np.zeros((0, 4, 4))


def check_pose(pose: Float64[np.ndarray, "4 4"], where: str) -> Float64[np.ndarray, "4 4"]:
    """Return the pose. Raises MediaError unless it is a rotation and a translation."""
    turn = pose[:3, :3]
    rigid = np.abs(turn @ turn.T - np.eye(3)).max() < _SKEW and np.linalg.det(turn) > 0
    if not (rigid and np.allclose(pose[3], [0, 0, 0, 1])):
        raise MediaError(f"{where}: not a rigid motion; expected a camera-to-world matrix")
    return pose


def _rows(path: Path, lines: list[tuple[int, str]]) -> Iterator[np.ndarray]:
    for number, line in lines:
        values = parse(path, number, line, (7, 8, 12, 16))
        where = f"`{path}` line {number}"
        yield check_pose(_matrix(values) if len(values) > 8 else _from_quaternion(values[-7:], where), where)


def _blocks(path: Path, lines: list[tuple[int, str]]) -> Iterator[np.ndarray]:
    if len(lines) % 5:
        raise MediaError(
            f"`{path}` line {lines[-1][0]}: cut off; expected three integers and four rows for each pose"
        )
    for start in range(0, len(lines), 5):
        parse(path, *lines[start], (3,))
        rows = [parse(path, *line, (4,)) for line in lines[start + 1 : start + 5]]
        yield check_pose(np.stack(rows), f"`{path}` line {lines[start][0]}")


def _matrix(values: np.ndarray) -> np.ndarray:
    rows = values.reshape(-1, 4)
    return rows if len(rows) == 4 else np.append(rows, [[0, 0, 0, 1]], 0)


def _from_quaternion(values: np.ndarray, where: str) -> np.ndarray:
    norm = float(np.linalg.norm(values[3:]))
    if abs(norm - 1) > _SKEW:
        raise MediaError(
            f"{where}: a quaternion of length {norm:g}; expected x y z and a quaternion of length 1"
        )
    x, y, z, w = values[3:] / norm
    pose = np.eye(4)
    pose[:3, :3] = np.eye(3) + 2 * np.array(
        [
            [-y * y - z * z, x * y - z * w, x * z + y * w],
            [x * y + z * w, -x * x - z * z, y * z - x * w],
            [x * z - y * w, y * z + x * w, -x * x - y * y],
        ]
    )
    pose[:3, 3] = values[:3]
    return pose


def _count(lengths: tuple[int, ...]) -> str:
    return " or ".join(str(length) for length in lengths)
