"""Rigid motion against SciPy, cameras and the warp by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.autograd import gradcheck

from chronocam import odometry as odo
from chronocam.errors import InputError
from chronocam.odometry.geometry import checked_intrinsics

PI = math.pi
K = torch.tensor([[50.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]], dtype=torch.float64)


def some_angles(count: int = 200) -> np.ndarray:
    """Angles at all magnitudes, from 1e-9 to π."""
    draw = np.random.default_rng(0)
    return draw.uniform(-1, 1, (count, 3)) * 10 ** draw.uniform(-9, 0.49, (count, 1))


def tensor(x: np.ndarray) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def random_pose(seed: int = 0, count: int = 5) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Rotations


def test_euler_is_scipys_intrinsic_xyz() -> None:
    angles = some_angles()
    expected = Rotation.from_euler("XYZ", angles).as_matrix()
    np.testing.assert_allclose(odo.euler_to_matrix(tensor(angles)), expected, atol=1e-12)
    inside = angles[np.abs(angles[:, 1]) < 1.5]
    found = odo.matrix_to_euler(odo.euler_to_matrix(tensor(inside))).numpy()
    np.testing.assert_allclose(found, Rotation.from_euler("XYZ", inside).as_euler("XYZ"), atol=1e-9)
    np.testing.assert_allclose(
        odo.euler_to_matrix(odo.matrix_to_euler(tensor(expected))), expected, atol=1e-12
    )


def test_axis_angle_is_scipys_rotation_vector() -> None:
    vectors = some_angles()
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(odo.axis_angle_to_matrix(tensor(vectors)), expected, atol=1e-12)
    found = odo.matrix_to_axis_angle(tensor(expected)).numpy()
    np.testing.assert_allclose(found, Rotation.from_rotvec(vectors).as_rotvec(), atol=1e-9)


def test_tiny_rotations_keep_their_digits() -> None:
    tiny = np.array([[3e-9, -2e-9, 1e-9], [1e-5, 2e-5, -3e-5]])
    for to, back in (
        (odo.euler_to_matrix, odo.matrix_to_euler),
        (odo.axis_angle_to_matrix, odo.matrix_to_axis_angle),
    ):
        np.testing.assert_allclose(back(to(tensor(tiny))), tiny, rtol=1e-6)


def test_float32_is_near_float64() -> None:
    vectors = some_angles()
    for to, back in (
        (odo.euler_to_matrix, odo.matrix_to_euler),
        (odo.axis_angle_to_matrix, odo.matrix_to_axis_angle),
    ):
        matrix = to(torch.tensor(vectors, dtype=torch.float32))
        assert matrix.dtype == torch.float32
        np.testing.assert_allclose(matrix, to(tensor(vectors)), atol=1e-6)
        np.testing.assert_allclose(to(back(matrix)), matrix, atol=2e-6)


@pytest.mark.parametrize("ry", [PI / 2, -PI / 2, PI / 2 - 1e-7, -PI / 2 + 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gimbal_lock_still_makes_the_rotation(ry: float, dtype: torch.dtype) -> None:
    matrix = torch.tensor(Rotation.from_euler("XYZ", [0.7, ry, -0.4]).as_matrix(), dtype=dtype)
    euler = odo.matrix_to_euler(matrix.requires_grad_())
    np.testing.assert_allclose(
        odo.euler_to_matrix(euler).detach(), matrix.detach(), atol=1e-6 if dtype == torch.float32 else 1e-12
    )
    (gradient,) = torch.autograd.grad(euler.sum(), matrix)
    assert gradient.isfinite().all()


def test_exact_gimbal_lock_puts_all_in_rz() -> None:
    matrix = torch.tensor(
        [[0.0, 0, 1], [math.sin(0.3), math.cos(0.3), 0], [-math.cos(0.3), math.sin(0.3), 0]]
    )
    np.testing.assert_allclose(odo.matrix_to_euler(matrix), [0, PI / 2, 0.3], atol=1e-6)


@pytest.mark.parametrize(
    "axis", [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.6, 0, -0.8], [-1, 2, 2], [-2, 1, -2]]
)
@pytest.mark.parametrize("short_of_pi", [0, 1e-8, 1e-3])
def test_axis_angle_at_half_a_turn(axis: list[float], short_of_pi: float) -> None:
    vector = np.array(axis) / np.linalg.norm(axis) * (PI - short_of_pi)
    matrix = tensor(Rotation.from_rotvec(vector).as_matrix()).requires_grad_()
    found = odo.matrix_to_axis_angle(matrix)
    np.testing.assert_allclose(odo.axis_angle_to_matrix(found).detach(), matrix.detach(), atol=1e-12)
    np.testing.assert_allclose(found.detach().norm(), PI - short_of_pi, atol=1e-12)
    assert torch.autograd.grad(found.sum(), matrix)[0].isfinite().all()


def test_gradients_at_the_identity_are_those_of_small_angles() -> None:
    """d of the entry R[2, 1] is d of rx, and so on; back and forth is the identity."""
    zero = torch.zeros(3, dtype=torch.float64)
    for to, back in (
        (odo.euler_to_matrix, odo.matrix_to_euler),
        (odo.axis_angle_to_matrix, odo.matrix_to_axis_angle),
    ):
        jacobian = torch.autograd.functional.jacobian(to, zero)
        for i, j, k in ((2, 1, 0), (0, 2, 1), (1, 0, 2)):
            expected = np.eye(3)[k]
            np.testing.assert_allclose(jacobian[i, j], expected, atol=1e-12)
            np.testing.assert_allclose(jacobian[j, i], -expected, atol=1e-12)
        round_trip = torch.autograd.functional.jacobian(lambda v, to=to, back=back: back(to(v)), zero)
        np.testing.assert_allclose(round_trip, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-4, 0.099, 0.101, 1.0, 2.5])
def test_rotations_by_finite_differences(scale: float) -> None:
    v = (scale * tensor(np.array([[0.6, -0.48, 0.64]]))).requires_grad_()
    assert gradcheck(odo.euler_to_matrix, v)
    assert gradcheck(odo.axis_angle_to_matrix, v)
    assert gradcheck(lambda v: odo.matrix_to_euler(odo.axis_angle_to_matrix(v)), v)
    assert gradcheck(lambda v: odo.matrix_to_axis_angle(odo.axis_angle_to_matrix(v)), v)
    assert gradcheck(lambda v: odo.rotation_angle(odo.axis_angle_to_matrix(v)), v)


def test_rotation_angle_is_the_length_of_the_vector() -> None:
    vectors = some_angles()
    expected = Rotation.from_rotvec(vectors).magnitude()
    np.testing.assert_allclose(
        odo.rotation_angle(odo.axis_angle_to_matrix(tensor(vectors))), expected, rtol=1e-6
    )
    identity = torch.eye(3, requires_grad=True)
    angle = odo.rotation_angle(identity)
    assert angle.item() == 0
    np.testing.assert_array_equal(torch.autograd.grad(angle, identity)[0], np.zeros((3, 3)))
    half_turn = torch.diag(torch.tensor([1.0, -1, -1]))
    np.testing.assert_allclose(odo.rotation_angle(half_turn), PI, rtol=1e-6)


# Poses


@pytest.mark.parametrize("rotation", ["euler", "axis-angle"])
def test_poses_become_matrices_and_come_back(rotation: str) -> None:
    pose = random_pose()
    matrix = odo.pose_to_matrix(pose, rotation)
    for p, m in zip(pose.numpy(), matrix.numpy(), strict=True):
        turned = Rotation.from_euler("XYZ", p[3:]) if rotation == "euler" else Rotation.from_rotvec(p[3:])
        np.testing.assert_allclose(m[:3], np.hstack([turned.as_matrix(), p[:3, None]]))
        np.testing.assert_array_equal(m[3], [0, 0, 0, 1])
    again = odo.pose_to_matrix(odo.matrix_to_pose(matrix, rotation), rotation)
    np.testing.assert_allclose(again, matrix, atol=1e-12)
    small = (0.3 * pose).requires_grad_()
    assert gradcheck(lambda p: odo.matrix_to_pose(odo.pose_to_matrix(p, rotation), rotation), small)


def test_poses_are_euler_unless_told_otherwise() -> None:
    pose = random_pose()
    matrix = odo.pose_to_matrix(pose)
    np.testing.assert_array_equal(matrix, odo.pose_to_matrix(pose, "euler"))
    np.testing.assert_array_equal(odo.matrix_to_pose(matrix), odo.matrix_to_pose(matrix, "euler"))


def test_an_unknown_rotation_is_refused() -> None:
    with pytest.raises(InputError, match="no rotation `eular`; did you mean `euler`"):
        odo.pose_to_matrix(random_pose(), "eular")
    with pytest.raises(InputError, match="no rotation `quaternion`"):
        odo.matrix_to_pose(torch.eye(4), "quaternion")


def test_inverse_and_relative_pose() -> None:
    a, b = odo.pose_to_matrix(random_pose(1)), odo.pose_to_matrix(random_pose(2))
    np.testing.assert_allclose(odo.invert(a), torch.linalg.inv(a), atol=1e-12)
    point = torch.tensor([0.3, -0.2, 4.0, 1.0], dtype=torch.float64)
    in_source = odo.relative_pose(a, b) @ point
    np.testing.assert_allclose(
        b @ in_source[..., None], (a @ point)[..., None], atol=1e-12
    )  # the same in the world


def test_a_camera_that_moves_forward_brings_points_nearer() -> None:
    target, source = torch.eye(4), torch.eye(4)
    source[2, 3] = 1.5
    point = torch.tensor([0.0, 0, 10, 1])
    np.testing.assert_allclose(odo.relative_pose(target, source) @ point, [0, 0, 8.5, 1])


def test_rotations_equal_those_of_kornia() -> None:
    kornia = pytest.importorskip("kornia")
    vectors = tensor(some_angles())
    matrix = odo.axis_angle_to_matrix(vectors)
    np.testing.assert_allclose(matrix, kornia.geometry.axis_angle_to_rotation_matrix(vectors), atol=1e-6)


# Cameras


def test_intrinsics_of_a_resized_image_by_hand() -> None:
    k = torch.tensor([[100.0, 2, 31.5], [0, 80, 20.0], [0, 0, 1]])
    found = odo.resized_intrinsics(k, (48, 64), (24, 16))
    np.testing.assert_allclose(found, [[25, 0.5, 7.5], [0, 40, 9.75], [0, 0, 1]])
    np.testing.assert_allclose(odo.resized_intrinsics(found, (24, 16), (48, 64)), k)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "intrinsics are missing"),
        (np.eye(4), r"shape \(4, 4\); expected \(3, 3\) or \(2, 3, 3\)"),
        (np.ones((3, 3, 3)), r"shape \(3, 3, 3\)"),
        (np.diag([0.0, 50, 1]), "singular"),
        (np.diag([50.0, -50, 1]), "singular"),
        (np.diag([50.0, 50, 0]), "singular"),
        (np.diag([np.nan, 50, 1]), "singular"),
        (np.array([[50.0, 0, 9], [0, 50, 9], [1, 0, 1]]), "singular or not"),
    ],
)
def test_wrong_intrinsics_are_refused(wrong: np.ndarray | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        checked_intrinsics(wrong, torch.zeros(2, 3, 4, 4))


def test_intrinsics_take_the_type_of_the_images() -> None:
    assert checked_intrinsics(K.numpy(), torch.zeros(2, 1)).dtype == torch.float32
    assert checked_intrinsics(K[None].repeat(2, 1, 1), torch.zeros(2, 1)).shape == (2, 3, 3)


def test_backprojection_by_hand() -> None:
    depth = torch.full((1, 1, 24, 32), 4.0, dtype=torch.float64)
    depth[0, 0, 3, 5] = 2
    points = odo.backproject(depth, K)
    np.testing.assert_allclose(points[0, :, 3, 5], [(5 - 15.5) / 50 * 2, (3 - 11.5) / 40 * 2, 2])
    np.testing.assert_allclose(points[0, :, 0, 31], [(31 - 15.5) / 50 * 4, -11.5 / 40 * 4, 4])


def test_projection_undoes_backprojection() -> None:
    depth = torch.rand(2, 1, 24, 32, dtype=torch.float64) + 0.5
    k = torch.stack([K, odo.resized_intrinsics(K, (24, 32), (12, 48))])
    pixels, in_front = odo.project(odo.backproject(depth, k), k)
    y, x = np.mgrid[:24, :32]
    np.testing.assert_allclose(pixels, np.stack([x, y])[None].repeat(2, 0), atol=1e-12)
    assert in_front.all()


def test_points_behind_are_not_in_front() -> None:
    points = torch.tensor([[0.1, 0.2, -3.0], [0.1, 0.2, 3.0], [0, 0, 1e-3], [0, 0, 2e-3]]).T.reshape(
        1, 3, 1, 4
    )
    pixels, in_front = odo.project(points, K.float())
    assert in_front.flatten().tolist() == [False, True, False, True]
    assert pixels.isfinite().all()


# The warp


def test_no_motion_gives_the_source_back() -> None:
    source = torch.rand(2, 3, 24, 32, dtype=torch.float64)
    image, valid = odo.warp(
        source, torch.rand(2, 1, 24, 32).double() + 1, torch.eye(4).double().expand(2, 4, 4), K
    )
    np.testing.assert_allclose(image, source, atol=1e-12)
    assert valid.all()


def test_no_motion_is_valid_to_the_edges_in_float32() -> None:
    k = torch.tensor([[231.7, 0, 207.9], [0, 233.1, 63.2], [0, 0, 1]])
    depth = torch.rand(1, 1, 128, 416) * 80 + 0.2
    assert odo.warp(torch.rand(1, 3, 128, 416), depth, torch.eye(4)[None], k)[1].all()


def test_a_shift_by_one_pixel_by_hand() -> None:
    """f = 2 and z = 4: points that are 2 further to the right are seen 1 pixel further to the right."""
    source = torch.arange(12.0).reshape(1, 1, 3, 4)
    k = torch.tensor([[2.0, 0, 1.5], [0, 2, 1], [0, 0, 1]])
    transform = torch.eye(4)[None].clone()
    transform[0, 0, 3] = 2  # x of every point grows by 2: by f·2/z = 1 pixel
    image, valid = odo.warp(source, torch.full((1, 1, 3, 4), 4.0), transform, k)
    np.testing.assert_allclose(image[0, 0, :, :3], source[0, 0, :, 1:], atol=1e-6)
    np.testing.assert_array_equal(valid[0, 0], [[True, True, True, False]] * 3)
    np.testing.assert_allclose(image[0, 0, :, 3], source[0, 0, :, 3], atol=1e-6)  # the edge's colour
    transform[0, :2, 3] = torch.tensor([0.0, -2])
    image, valid = odo.warp(source, torch.full((1, 1, 3, 4), 4.0), transform, k)
    np.testing.assert_allclose(image[0, 0, 1:], source[0, 0, :2], atol=1e-6)
    np.testing.assert_array_equal(valid[0, 0], [[False] * 4, [True] * 4, [True] * 4])


def test_half_a_pixel_is_the_mean_of_two() -> None:
    source = torch.tensor([[0.0, 1, 4], [9, 16, 25]]).reshape(1, 1, 2, 3)
    transform = torch.eye(4)[None].clone()
    transform[0, 0, 3] = 0.5
    image, valid = odo.warp(source, torch.ones(1, 1, 2, 3), transform, torch.eye(3))
    np.testing.assert_allclose(image[0, 0, :, :2], [[0.5, 2.5], [12.5, 20.5]], atol=1e-6)
    np.testing.assert_array_equal(valid[0, 0], [[True, True, False]] * 2)


def test_a_fronto_parallel_plane_is_scaled_about_the_principal_point() -> None:
    """Plane at z in the target; the source is d nearer: u_s = c + (u − c)·z/(z − d)."""
    z, d = 5.0, 1.0
    y, x = np.mgrid[:24, :32].astype(float)

    def ramp(x: np.ndarray, y: np.ndarray) -> np.ndarray:  # linear, so that bilinear sampling is exact
        return np.stack([0.03 * x, 0.02 * y, 0.01 * x + 0.02 * y])

    transform = torch.eye(4, dtype=torch.float64)[None].clone()
    transform[0, 2, 3] = -d
    image, valid = odo.warp(tensor(ramp(x, y))[None], torch.full((1, 1, 24, 32), z).double(), transform, K)
    u, v = 15.5 + (x - 15.5) * z / (z - d), 11.5 + (y - 11.5) * z / (z - d)
    inside = (u >= 0) & (u <= 31) & (v >= 0) & (v <= 23)
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(valid[0, 0], inside)
    np.testing.assert_allclose(image[0].numpy()[:, inside], ramp(u, v)[:, inside], atol=1e-12)


def test_a_plane_under_any_motion_moves_by_its_homography() -> None:
    """H = K·(R + t·nᵀ/z)·K⁻¹ for the plane n = (0, 0, 1) at z."""
    pose = tensor(np.array([0.2, -0.1, 0.15, 0.03, -0.05, 0.08]))
    transform = odo.pose_to_matrix(pose)
    z, k = 4.0, K.numpy()
    r, t = transform[:3, :3].numpy(), transform[:3, 3:].numpy()
    homography = k @ (r + t @ np.array([[0, 0, 1.0]]) / z) @ np.linalg.inv(k)
    y, x = np.mgrid[:24, :32].astype(float)
    moved = np.einsum("ij,jhw->ihw", homography, np.stack([x, y, np.ones_like(x)]))
    u, v = moved[:2] / moved[2]
    source = tensor(np.stack([x, y, x - y]))[None]
    image, valid = odo.warp(source, torch.full((1, 1, 24, 32), z).double(), transform[None], K)
    inside = valid[0, 0].numpy()
    assert 100 < inside.sum() < inside.size
    np.testing.assert_allclose(image[0, :2].numpy()[:, inside], np.stack([u, v])[:, inside], atol=1e-9)


def test_what_is_behind_or_unknown_is_not_valid() -> None:
    depth = torch.full((1, 1, 4, 4), 2.0)
    depth[0, 0, 1, 1] = 0
    depth[0, 0, 2, 2] = -1
    k = torch.tensor([[1.0, 0, 1.5], [0, 1, 1.5], [0, 0, 1]])
    _, valid = odo.warp(torch.rand(1, 3, 4, 4), depth, torch.eye(4)[None], k)
    expected = np.ones((4, 4), dtype=bool)
    expected[1, 1] = expected[2, 2] = False
    np.testing.assert_array_equal(valid[0, 0], expected)
    behind = torch.eye(4)[None].clone()
    behind[0, 2, 3] = -5
    image, valid = odo.warp(torch.rand(1, 3, 4, 4), depth, behind, k)
    assert not valid.any()
    assert image.isfinite().all()


def test_each_sample_has_its_own_camera_and_motion() -> None:
    g = torch.Generator().manual_seed(0)
    source = torch.rand(2, 3, 6, 8, generator=g, dtype=torch.float64)
    depth = torch.rand(2, 1, 6, 8, generator=g, dtype=torch.float64) + 1
    transforms = odo.pose_to_matrix(0.1 * random_pose(3, 2))
    ks = torch.stack([odo.resized_intrinsics(K, (24, 32), size) for size in ((6, 8), (5, 9))])
    image, valid = odo.warp(source, depth, transforms, ks)
    for i in range(2):
        one, seen = odo.warp(source[i : i + 1], depth[i : i + 1], transforms[i : i + 1], ks[i])
        np.testing.assert_allclose(image[i : i + 1], one)
        np.testing.assert_array_equal(valid[i : i + 1], seen)
    assert not torch.equal(odo.warp(source, depth, transforms, ks[0])[0][1], image[1])


def test_the_warp_by_finite_differences() -> None:
    g = torch.Generator().manual_seed(1)
    source = torch.rand(1, 2, 5, 6, generator=g, dtype=torch.float64).requires_grad_()
    depth = (torch.rand(1, 1, 5, 6, generator=g, dtype=torch.float64) + 1).requires_grad_()
    pose = tensor(np.array([[0.11, -0.07, 0.05, 0.02, -0.03, 0.04]])).requires_grad_()
    k = odo.resized_intrinsics(K, (24, 32), (5, 6))
    assert gradcheck(lambda s, d, p: odo.warp(s, d, odo.pose_to_matrix(p), k)[0], (source, depth, pose))


@pytest.mark.parametrize(
    ("depth", "transform", "words"),
    [
        (
            torch.ones(2, 1, 4, 4),
            torch.eye(4)[None],
            r"depth has shape \(2, 1, 4, 4\); expected \(1, 1, 4, 4\)",
        ),
        (torch.ones(1, 1, 4, 5), torch.eye(4)[None], r"depth has shape \(1, 1, 4, 5\)"),
        (torch.ones(1, 1, 4, 4), torch.eye(4)[None].expand(2, 4, 4), r"transforms have shape \(2, 4, 4\)"),
        (torch.full((1, 1, 4, 4), math.nan), torch.eye(4)[None], "depth is not finite"),
        (torch.full((1, 1, 4, 4), math.inf), torch.eye(4)[None], "depth is not finite"),
    ],
)
def test_warps_that_do_not_fit_are_refused(depth: Tensor, transform: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        odo.warp(torch.rand(1, 3, 4, 4), depth, transform, torch.eye(3))


def test_a_line_of_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="4 × 1; expected at least 2 × 2"):
        odo.warp(torch.rand(1, 3, 1, 4), torch.ones(1, 1, 1, 4), torch.eye(4)[None], torch.eye(3))
