"""Rays against rectangles in space, exactly.

The ray through pixel (x, y) meets a plane at depth z, and 1/z is affine in x and y. So are a/z and b/z,
where (a, b) is the place on the plane: a rectangle is three affine functions of the pixel, and the nearest
rectangle is found without a division.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Real

_CLOSEST = 0.05
"""What is nearer than this is not looked for, in metres."""


@dataclass(frozen=True)
class Quads:
    """Rectangles, each seen from one side only: from there its edges lead to the right and down."""

    origin: Float64[np.ndarray, "quad 3"]
    right: Float64[np.ndarray, "quad 3"]
    down: Float64[np.ndarray, "quad 3"]


@dataclass(frozen=True)
class CameraView:
    """Rectangles as a camera sees them.

    planes: coefficients (of x, of y, constant) of a/z, b/z and 1/z; a and b are 0 to 1 on the rectangle.
    low, high: corners of a box around each in the picture, in pixels; empty (low > high) if it is invisible.
    """

    planes: Float64[np.ndarray, "quad 3 3"]
    low: Float64[np.ndarray, "quad 2"]
    high: Float64[np.ndarray, "quad 2"]


@dataclass(frozen=True)
class Sight:
    """What each ray meets first.

    index: which rectangle, -1 for none.
    nearness: 1/z, 0 for none.
    """

    index: Int[np.ndarray, "height width"]
    nearness: Float32[np.ndarray, "height width"]


def look(
    quads: Quads, pose: Float64[np.ndarray, "4 4"], intrinsics: Float64[np.ndarray, "3 3"]
) -> CameraView:
    """Bring rectangles into a camera's picture."""
    # A ray d meets the plane n·(p − o) = 0 at z with 1/z = n·d / n·o, o as the camera sees it. The place on
    # it along an edge e is e·(z d − o) / e·e; divided by z, that is linear in d too.
    offset = quads.origin - pose[:3, 3]
    normal = np.cross(quads.right, quads.down)
    distance = (normal * offset).sum(1)
    plane = normal / np.where(distance > 0, distance, 1)[:, None]
    edges = [edge / (edge * edge).sum(1, keepdims=True) for edge in (quads.right, quads.down)]
    sides = [edge - (edge * offset).sum(1, keepdims=True) * plane for edge in edges]
    planes = np.stack([*sides, plane], 1) @ pose[:3, :3] @ np.linalg.inv(intrinsics)
    low, high = _bounds(quads, pose, intrinsics)
    low[distance <= 0] = np.inf  # seen from behind
    return CameraView(planes, low, high)


def cast(view: CameraView, xs: Real[np.ndarray, " width"], ys: Real[np.ndarray, " height"]) -> Sight:
    """Follow the rays through a grid of points of the picture."""
    index = np.full((len(ys), len(xs)), -1, np.int16 if len(view.low) < 2**15 else np.int32)
    nearness = np.zeros(index.shape, np.float32)
    starts = np.stack([np.searchsorted(axis, view.low[:, i]) for i, axis in enumerate((xs, ys))], 1)
    stops = np.stack([np.searchsorted(axis, view.high[:, i], "right") for i, axis in enumerate((xs, ys))], 1)
    planes, across, down = (
        view.planes.astype(np.float32),
        xs.astype(np.float32),
        ys.astype(np.float32)[:, None],
    )
    for quad in np.flatnonzero((starts < stops).all(1)):
        columns, rows = (slice(*span) for span in zip(starts[quad], stops[quad], strict=True))
        x, y = across[columns], down[rows]
        first, second, near = (plane[0] * x + (plane[1] * y + plane[2]) for plane in planes[quad])
        nearest = nearness[rows, columns]
        # 0 ≤ a ≤ 1 and 0 ≤ b ≤ 1, all multiplied by 1/z, which is positive before the camera.
        hit = (near > nearest) & (first >= 0) & (first <= near) & (second >= 0) & (second <= near)
        np.copyto(nearest, near, where=hit)
        np.copyto(index[rows, columns], quad, where=hit, casting="unsafe")
    return Sight(index, nearness)


def _bounds(
    quads: Quads, pose: Float64[np.ndarray, "4 4"], intrinsics: Float64[np.ndarray, "3 3"]
) -> tuple[Float64[np.ndarray, "quad 2"], Float64[np.ndarray, "quad 2"]]:
    """Return boxes around the rectangles in the picture, of what lies before the camera."""
    ring = [
        quads.origin,
        quads.origin + quads.right,
        quads.origin + quads.right + quads.down,
        quads.origin + quads.down,
    ]
    corners = (np.stack(ring, 1) - pose[:3, 3]) @ pose[:3, :3] @ intrinsics.T
    following = np.roll(corners, -1, 1)
    # A rectangle that reaches behind the camera is cut at the closest depth: the projections of its corners
    # alone would not bound what is visible.
    z, z_next = corners[..., 2], following[..., 2]
    crosses = (z > _CLOSEST) != (z_next > _CLOSEST)
    share = (_CLOSEST - z) / np.where(crosses, z_next - z, 1)
    cuts = corners + share[..., None] * (following - corners)
    points, known = np.concatenate([corners, cuts], 1), np.concatenate([z > _CLOSEST, crosses], 1)
    flat = points[..., :2] / np.where(known, points[..., 2], 1)[..., None]
    low = np.where(known[..., None], flat, np.inf).min(1)
    high = np.where(known[..., None], flat, -np.inf).max(1)
    return low - 1e-3, high + 1e-3


def whole(known: Bool[np.ndarray, " quad"], sight: Sight) -> Bool[np.ndarray, "height width"]:
    """Return where one of the rectangles that `known` marks is met."""
    return np.append(known, False)[sight.index]
