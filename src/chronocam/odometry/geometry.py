"""Rigid motion, pinhole cameras, and the inverse warp that joins them; differentiable.

Camera axes are x right, y down, z forward. The centre of the pixel at row 0 and column 0 is at (x, y) = (0,
0), and intrinsics are in these coordinates. A transform is a matrix `(…, 4, 4)` that maps points of one
camera to another. Everything is float32 or float64, on any device.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

from chronocam.errors import InputError, suggest

NEAREST = 1e-3
"""The smallest depth: nearer depths count as this, and points that land nearer are invisible."""

_ROTATIONS = ("euler", "axis-angle")
_SMALL = 1e-2  # squared angle below which series are used
_EDGE = 1e-3  # pixels beyond the outermost pixel centres to which rounding may move a point that is visible


def euler_to_matrix(angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return R = Rx·Ry·Rz for angles (rx, ry, rz) in radians.

    Example:
        >>> quarter = cc.odometry.euler_to_matrix(torch.tensor([0.0, 0.0, np.pi / 2]))
        >>> (quarter @ torch.tensor([2.0, 1.0, 0.0])).round()  # about z, from x to y
        tensor([-1.,  2.,  0.])
    """
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = (
        (cy * cz, -cy * sz, sy),
        (cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy),
        (sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_euler(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Return (rx, ry, rz) in radians with Rx·Ry·Rz = R, |ry| ≤ π/2.

    At ry = ±π/2 only a sum of rx and rz is determined; rx is 0 there where both its sine and cosine vanish.
    rz is read from what Rx leaves of R, so that near that point the three still make R.

    Example:
        >>> angles = torch.tensor([0.1, 0.2, 0.3])
        >>> cc.odometry.matrix_to_euler(cc.odometry.euler_to_matrix(angles))
        tensor([0.1000, 0.2000, 0.3000])
    """
    r = rotation
    rx = _angle(-r[..., 1, 2], r[..., 2, 2])
    ry = torch.atan2(r[..., 0, 2], safe_norm(r[..., 0, :2]))
    sin, cos = rx.sin(), rx.cos()
    rz = _angle(cos * r[..., 1, 0] + sin * r[..., 2, 0], cos * r[..., 1, 1] + sin * r[..., 2, 1])
    return torch.stack([rx, ry, rz], dim=-1)


def axis_angle_to_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return R = I + (sin θ/θ)·[v]× + ((1 − cos θ)/θ²)·[v]×² for v of length θ radians (Rodrigues).

    Example:
        >>> matrix = cc.odometry.axis_angle_to_matrix(torch.tensor([0.0, 0.0, np.pi / 2]))
        >>> (matrix @ torch.tensor([1.0, 0.0, 0.0])).round().tolist()
        [-0.0, 1.0, 0.0]
    """
    squared = (vector * vector).sum(-1)[..., None, None]
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*x.shape, 3, 3)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + _sinc(squared) * cross + 0.5 * _sinc(squared / 4) ** 2 * (cross @ cross)


def matrix_to_axis_angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Return the vector along the axis, as long as the angle in [0, π] radians; at π either sign is right.

    Example:
        >>> vector = torch.tensor([0.1, 0.2, 0.3])
        >>> cc.odometry.matrix_to_axis_angle(cc.odometry.axis_angle_to_matrix(vector))
        tensor([0.1000, 0.2000, 0.3000])
    """
    unit = _quaternion(rotation)
    w, vector = unit[..., :1], unit[..., 1:]
    squared = (vector * vector).sum(-1, keepdim=True)
    # Inner where: an unused branch still has a gradient, and NaN · 0 is NaN; so no branch may divide by 0.
    small = squared < _SMALL
    norm = torch.where(small, 1.0, squared).sqrt()
    ratio = squared / torch.where(small, w * w, 1.0)
    # atan(u)/u at u = |q_v|/w, which is small
    series = (
        1 - ratio * (1 / 3 - ratio * (1 / 5 - ratio * (1 / 7 - ratio * (1 / 9 - ratio / 11))))
    ) / w.clamp_min(0.5)
    return 2 * torch.where(small, series, torch.atan2(norm, w) / norm) * vector


def pose_to_matrix(pose: Float[Tensor, "*batch 6"], rotation: str = "euler") -> Float[Tensor, "*batch 4 4"]:
    """Return the transform of a pose vector (tx, ty, tz, rx, ry, rz).

    rotation: what the last three numbers are, `"euler"` (R = Rx·Ry·Rz) or `"axis-angle"`, in radians.
    Raises InputError for another one.

    Example:
        >>> cc.odometry.pose_to_matrix(torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0, 0.0]))[:3, 3]
        tensor([1., 2., 3.])
    """
    to_matrix = euler_to_matrix if _known(rotation) == "euler" else axis_angle_to_matrix
    return _joined(to_matrix(pose[..., 3:]), pose[..., :3])


def matrix_to_pose(
    transform: Float[Tensor, "*batch 4 4"], rotation: str = "euler"
) -> Float[Tensor, "*batch 6"]:
    """Return the pose vector of a transform; the inverse of `pose_to_matrix`, with the same errors.

    Example:
        >>> pose = torch.tensor([1.0, 2.0, 3.0, 0.1, 0.2, 0.3])
        >>> cc.odometry.matrix_to_pose(cc.odometry.pose_to_matrix(pose))
        tensor([1.0000, 2.0000, 3.0000, 0.1000, 0.2000, 0.3000])
    """
    from_matrix = matrix_to_euler if _known(rotation) == "euler" else matrix_to_axis_angle
    return torch.cat([transform[..., :3, 3], from_matrix(transform[..., :3, :3])], dim=-1)


def invert(transform: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Return the inverse of a rigid transform: rotation Rᵀ, translation −Rᵀ·t.

    Example:
        >>> step = cc.odometry.pose_to_matrix(torch.tensor([1.0, 0.0, 0.0, 0.1, 0.2, 0.3]))
        >>> torch.allclose(cc.odometry.invert(step) @ step, torch.eye(4), atol=1e-6)
        True
    """
    back = transform[..., :3, :3].mT
    return _joined(back, -(back @ transform[..., :3, 3:])[..., 0])


def relative_pose(
    target: Float[Tensor, "*batch 4 4"], source: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch 4 4"]:
    """Return the transform from the target's camera to the source's, both poses given camera-to-world.

    Example:
        >>> target, source = torch.eye(4), cc.odometry.pose_to_matrix(torch.tensor([1.0, 0, 0, 0, 0, 0]))
        >>> cc.odometry.relative_pose(target, source)[:3, 3]
        tensor([-1.,  0.,  0.])
    """
    return invert(source) @ target


def rotation_angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Return the angle of a rotation, in [0, π] radians.

    By sine and cosine both, which is exact at either end; the gradient is 0 at the identity, where the angle
    has none.

    Example:
        >>> matrix = cc.odometry.axis_angle_to_matrix(torch.tensor([0.0, 0.5, 0.0]))
        >>> cc.odometry.rotation_angle(matrix)
        tensor(0.5000)
    """
    r = rotation
    double_sine = torch.stack(
        [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], dim=-1
    )
    return torch.atan2(safe_norm(double_sine), r.diagonal(dim1=-2, dim2=-1).sum(-1) - 1)


def safe_norm(vector: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Return the Euclidean norm, whose gradient is taken as 0 at the zero vector."""
    # The root's slope is infinite at 0: it is taken of 1 there, and its result is thrown away.
    squared = (vector * vector).sum(-1)
    zero = squared == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


def checked_intrinsics(intrinsics: Any, like: Tensor) -> Float[Tensor, "*batch 3 3"]:
    """Return intrinsics as a tensor of the type and on the device of `like`.

    intrinsics: `(3, 3)`, or `(batch, 3, 3)` where `like` is `(batch, …)`; a tensor or an array.
    Raises InputError where they are missing, of another shape, not finite, or not those of a pinhole camera:
    focal lengths above 0, and the last row 0 0 1.
    """
    if intrinsics is None:
        raise InputError("intrinsics are missing; give the 3 × 3 matrix with fx, fy, cx, cy in pixels")
    matrix = torch.as_tensor(intrinsics).to(like)
    if matrix.shape not in ((3, 3), (len(like), 3, 3)):
        raise InputError(
            f"intrinsics have shape {tuple(matrix.shape)}; expected (3, 3) or ({len(like)}, 3, 3)"
        )
    below = torch.stack(
        [matrix[..., 1, 0], matrix[..., 2, 0], matrix[..., 2, 1], matrix[..., 2, 2] - 1], dim=-1
    )
    focal = torch.stack([matrix[..., 0, 0], matrix[..., 1, 1]], dim=-1)
    if not (matrix.isfinite().all() and (focal > 0).all() and (below == 0).all()):
        wrong = [[round(float(v), 4) for v in row] for row in matrix.reshape(-1, 3, 3)[0]]
        raise InputError(
            f"intrinsics {wrong} are singular or not those of a pinhole camera; expected rows "
            "fx s cx, 0 fy cy, 0 0 1 with fx, fy > 0"
        )
    return matrix


def resized_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], size: tuple[int, int], new_size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Return the intrinsics of images resized from `size` to `new_size`, each (height, width).

    The edges of the image stay where they are, and so x' = (x + 0.5)·s − 0.5: focal lengths (and a skew) are
    scaled, principal points by the same rule as x.

    Example:
        >>> camera = torch.tensor([[100.0, 0, 49.5], [0, 100, 49.5], [0, 0, 1]])
        >>> cc.odometry.resized_intrinsics(camera, (100, 100), (50, 50))[0]
        tensor([50.0000,  0.0000, 24.5000])
    """
    sx, sy = new_size[1] / size[1], new_size[0] / size[0]
    resize = intrinsics.new_tensor([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    return resize @ intrinsics


def backproject(
    depth: Float[Tensor, "batch 1 height width"], intrinsics: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "batch 3 height width"]:
    """Return the points D(p)·K⁻¹·p of all pixels p, in the units of depth; depths below 1e-3 count as 1e-3.

    Example:
        >>> camera = torch.tensor([[2.0, 0, 1], [0, 2, 1], [0, 0, 1]])
        >>> cc.odometry.backproject(torch.full((1, 1, 3, 3), 4.0), camera)[0, :, 1, 2]
        tensor([2., 0., 4.])
    """
    height, width = depth.shape[-2:]
    rows, columns = torch.arange(height).to(depth), torch.arange(width).to(depth)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    rays = torch.linalg.inv(intrinsics) @ pixels
    return rays.reshape(*rays.shape[:-1], height, width) * depth.clamp_min(NEAREST)


def project(
    points: Float[Tensor, "batch 3 height width"], intrinsics: Float[Tensor, "*batch 3 3"]
) -> tuple[Float[Tensor, "batch 2 height width"], Bool[Tensor, "batch 1 height width"]]:
    """Return the pixels (x, y) where points are seen, and whether they are in front of the camera (z > 1e-3).

    Example:
        >>> camera = torch.tensor([[2.0, 0, 1], [0, 2, 1], [0, 0, 1]])
        >>> pixels, in_front = cc.odometry.project(torch.tensor([2.0, 0, 4]).reshape(1, 3, 1, 1), camera)
        >>> pixels.flatten(), in_front.item()
        (tensor([2., 1.]), True)
    """
    pixels = (intrinsics @ points.flatten(2)).reshape(points.shape)
    z = points[:, 2:]
    return pixels[:, :2] / z.clamp_min(NEAREST), z > NEAREST


def warp(
    source: Float[Tensor, "batch channel height width"],
    depth: Tensor,
    transform: Tensor,
    intrinsics: Any,
) -> tuple[Float[Tensor, "batch channel height width"], Bool[Tensor, "batch 1 height width"]]:
    """Return the source as the target's camera would see it, and which of its pixels are valid.

    depth: `(batch, 1, height, width)`, of the target.
    transform: `(batch, 4, 4)`, maps points of the target's camera to the source's.
    intrinsics: `(3, 3)` or `(batch, 3, 3)`, of both cameras.

    A target pixel p takes the source's colour at K·T·D(p)·K⁻¹·p, bilinearly (`align_corners=True`,
    coordinates divided by width − 1 and height − 1, which is what intrinsics at pixel centres ask for). It is
    valid where that is between the centres of the source's outermost pixels and in front of the camera, and
    where the depth is known (above 0). Elsewhere the image has the colour of the nearest edge.
    Raises InputError for shapes that do not match, a depth that is not finite, images below 2 × 2, wrong
    intrinsics.
    Source: Zhou et al. 2017 (arXiv:1704.07813), equation 2.

    Example:
        >>> depth, camera = torch.ones(2, 1, 32, 32), torch.tensor([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]])
        >>> image, valid = cc.odometry.warp(images, depth, torch.eye(4).expand(2, 4, 4), camera)
        >>> torch.allclose(image, images, atol=1e-5), valid.all().item()
        (True, True)
    """
    _same_size(source, depth, transform)
    k = checked_intrinsics(intrinsics, depth)
    points = backproject(depth, k)
    moved = transform[:, :3, :3] @ points.flatten(2) + transform[:, :3, 3:]
    pixels, in_front = project(moved.reshape(points.shape), k)
    # A point exactly on the outermost pixel centre must stay visible after rounding to single precision.
    last = pixels.new_tensor([source.shape[-1] - 1, source.shape[-2] - 1]).reshape(2, 1, 1)
    inside = ((pixels >= -_EDGE) & (pixels <= last + _EDGE)).all(1, keepdim=True)
    grid = (2 * pixels / last - 1).movedim(1, -1)
    image = grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return image, inside & in_front & (depth > 0)


def _same_size(source: Tensor, depth: Tensor, transform: Tensor) -> None:
    batch, _, height, width = source.shape
    if depth.shape != (batch, 1, height, width):
        raise InputError(
            f"depth has shape {tuple(depth.shape)}; expected {(batch, 1, height, width)}, as the source"
        )
    if transform.shape != (batch, 4, 4):
        raise InputError(f"transforms have shape {tuple(transform.shape)}; expected {(batch, 4, 4)}")
    if min(height, width) < 2:
        raise InputError(f"images are {width} × {height}; expected at least 2 × 2 pixels to warp between")
    if not depth.isfinite().all():
        raise InputError("depth is not finite; give depths in scene units, 0 where they are unknown")


def _joined(rotation: Tensor, translation: Tensor) -> Tensor:
    upper = torch.cat([rotation, translation[..., None]], dim=-1)
    last = upper.new_tensor([0, 0, 0, 1]).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, last], dim=-2)


def _known(rotation: str) -> str:
    if rotation not in _ROTATIONS:
        raise InputError(
            f"no rotation `{rotation}`{suggest(rotation, list(_ROTATIONS))}; choose euler or axis-angle"
        )
    return rotation


def _angle(sine: Tensor, cosine: Tensor) -> Tensor:
    """Return atan2, 0 without a gradient where both are 0."""
    return torch.atan2(sine, torch.where((sine == 0) & (cosine == 0), 1.0, cosine))


def _sinc(squared: Tensor) -> Tensor:
    """Return sin θ/θ of θ², smooth at 0."""
    small = squared < _SMALL
    angle = torch.where(small, 1.0, squared).sqrt()
    t = squared
    series = 1 - t / 6 * (1 - t / 20 * (1 - t / 42 * (1 - t / 72 * (1 - t / 110))))
    return torch.where(small, series, angle.sin() / angle)


def _quaternion(rotation: Tensor) -> Tensor:
    """Return the unit quaternion (w, x, y, z) of a rotation, w ≥ 0."""
    # Every entry of 4·q·qᵀ is a sum of entries of R, and each of its rows is q times 4·q_i. The usual formula
    # takes the first row and divides by w, which is 0 at half a turn: value and gradient are lost there. The
    # row with the largest 4·q_i² is always safe: the four q_i² add up to 1, so the largest is at least 1/4.
    r = rotation
    m = {(i, j): r[..., i, j] for i in range(3) for j in range(3)}
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    diagonal = torch.stack(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ],
        dim=-1,
    )
    ww, xx, yy, zz = diagonal.unbind(-1)
    entries = (ww, wx, wy, wz, wx, xx, xy, xz, wy, xy, yy, yz, wz, xz, yz, zz)
    product = torch.stack(entries, dim=-1).reshape(*ww.shape, 4, 4)
    largest = diagonal.argmax(-1)[..., None, None].expand(*diagonal.shape[:-1], 1, 4)
    row = product.gather(-2, largest)[..., 0, :]
    unit = row / row.norm(dim=-1, keepdim=True)
    return torch.where(unit[..., :1] < 0, -unit, unit)
