"""Cameras: what a pixel's direction is, also after resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64

from chronocam.errors import MediaError

Intrinsics: TypeAlias = np.ndarray | Sequence[float] | Sequence[Sequence[float]]
"""fx, fy, cx, cy or the matrix, in pixels of the frames as they are stored."""


def check_intrinsics(camera: Intrinsics, where: str = "intrinsics") -> Float64[np.ndarray, "3 3"]:
    """Return (fx, fy, cx, cy), or a matrix, as a matrix. Raises MediaError for a singular or broken one."""
    try:
        values = np.asarray(camera, np.float64)
    except (TypeError, ValueError) as error:
        raise MediaError(f"{where} are not numbers; expected fx, fy, cx, cy or a 3 x 3 matrix") from error
    if values.shape == (4,):
        fx, fy, cx, cy = values
        values = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if values.shape != (3, 3):
        raise MediaError(f"{where} are of shape {values.shape}; expected fx, fy, cx, cy or a 3 x 3 matrix")
    if not np.isfinite(values).all():
        raise MediaError(f"{where} are not finite; expected fx, fy, cx, cy in pixels")
    if min(values[0, 0], values[1, 1]) <= 0:
        lengths = f"fx = {values[0, 0]:g}, fy = {values[1, 1]:g}"
        raise MediaError(f"{where} are singular: {lengths}; expected focal lengths above 0, in pixels")
    if values[1, 0] or not np.array_equal(values[2], [0, 0, 1]):
        raise MediaError(
            f"{where} are not a camera matrix; expected rows (fx, skew, cx), (0, fy, cy) and (0, 0, 1)"
        )
    return values


def resize_intrinsics(
    intrinsics: Float64[np.ndarray, "3 3"], old: tuple[int, int], new: tuple[int, int]
) -> Float64[np.ndarray, "3 3"]:
    """Return the intrinsics of a picture resized from `old` to `new` (height, width).

    Pixel centres are at whole numbers, so borders lie at -1/2 and x' + 1/2 = (x + 1/2) s with s = new / old:
    fx' = s fx, cx' = s (cx + 1/2) - 1/2, and the same for y.
    """
    y, x = (after / before for after, before in zip(new, old, strict=True))
    stretch = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    return np.asarray(stretch @ intrinsics)
