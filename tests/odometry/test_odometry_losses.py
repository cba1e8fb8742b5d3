"""The view-synthesis loss: each term by hand on the smallest pictures, the whole against loops in NumPy."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from chronocam.errors import InputError
from chronocam.odometry import MONODEPTH2, SFMLEARNER, Terms, ViewSynthesis, pose_to_matrix, warp

EYE = torch.eye(3, dtype=torch.float64)
PLAIN = ViewSynthesis(scales=1, smooth_weight=0, mask_weight=0)


def picture(*rows: list[float]) -> Tensor:
    """The same values in all three channels, `(3, height, width)`."""
    return torch.tensor(rows, dtype=torch.float64).expand(3, -1, -1).clone()


def plane(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]


def shifts(*moves: tuple[float, float]) -> Tensor:
    """Poses that move every point at depth 1 by (x, y) pixels of a camera with f = 1."""
    return torch.tensor([[[x, y, 0, 0, 0, 0] for x, y in moves]], dtype=torch.float64)


def example(
    batch: int = 2, sources: int = 2, seed: int = 0, size: tuple[int, int] = (16, 24)
) -> dict[str, Any]:
    """A random call at four scales with small motion."""
    g = torch.Generator().manual_seed(seed)
    h, w = size

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    sizes = [(math.ceil(h / 2**s), math.ceil(w / 2**s)) for s in range(4)]
    return {
        "target": rand(batch, 3, h, w),
        "sources": rand(batch, sources, 3, h, w),
        "disparities": tuple(0.3 + rand(batch, 1, *s) for s in sizes),
        "poses": 0.2 * (rand(batch, sources, 6) - 0.5),
        "intrinsics": torch.tensor([[20.0, 0, 11.5], [0, 18, 7.5], [0, 0, 1]], dtype=torch.float64),
        "masks": tuple(0.05 + 0.9 * rand(batch, sources, *s) for s in sizes),
    }


# The photometric term by hand


def test_absolute_error_of_2_by_2() -> None:
    target, source = picture([0.1, 0.5], [0.9, 0.3]), picture([0.2, 0.2], [1.0, 0.7])
    source[0, 1, 1] = 0.4  # |0.3 − 0.4| in one channel, 0.4 in two
    found = PLAIN(target[None], source[None, None], plane([1, 1], [1, 1]), shifts((0, 0)), EYE)
    last = (0.1 + 0.4 + 0.4) / 3
    np.testing.assert_allclose(found.photometric, [(0.1 + 0.3 + 0.1 + last) / 4])
    np.testing.assert_allclose(found.total, found.photometric)


def test_pixels_that_look_outside_count_nothing_unless_told() -> None:
    target, source = picture([0.1, 0.5], [0.9, 0.3]), picture([0.2, 0.7], [1.0, 0.4])
    call = (target[None], source[None, None], plane([1, 1], [1, 1]), shifts((1, 0)), EYE)
    inside = abs(0.1 - 0.7) + abs(0.9 - 0.4)
    np.testing.assert_allclose(PLAIN(*call).photometric, [inside / 4])
    beyond = abs(0.5 - 0.7) + abs(0.3 - 0.4)  # the edge's colour
    np.testing.assert_allclose(replace(PLAIN, outside=True)(*call).photometric, [(inside + beyond) / 4])


def test_unknown_depth_counts_nothing() -> None:
    target, source = picture([0.1, 0.5], [0.9, 0.3]), picture([0.2, 0.7], [1.0, 0.7])
    call = (target[None], source[None, None], plane([1, 0], [1, 1]), shifts((0, 0)), EYE)
    for loss in (PLAIN, replace(PLAIN, outside=True), replace(PLAIN, reduce="minimum")):
        np.testing.assert_allclose(loss(*call).photometric, [(0.1 + 0.1 + 0.4) / 4])


def test_sources_are_summed_or_the_best_taken() -> None:
    target = picture([0.1, 0.5], [0.9, 0.3])
    sources = torch.stack([picture([0.2, 0.9], [0.9, 0.0]), picture([0.5, 0.6], [0.7, 0.5])])[None]
    call = (target[None], sources, plane([1, 1], [1, 1]), shifts((0, 0), (0, 0)), EYE)
    found = PLAIN(*call)
    np.testing.assert_allclose(found.photometric_parts, [[[0.8 / 4, 0.9 / 4]]])
    np.testing.assert_allclose(found.photometric, [1.7 / 4])
    best = replace(PLAIN, reduce="minimum")(*call)
    np.testing.assert_allclose(best.photometric_parts, [[[(0.1 + 0.0) / 4, (0.1 + 0.2) / 4]]])
    np.testing.assert_allclose(best.photometric, [0.4 / 4])


def test_the_best_source_is_one_that_sees_the_pixel() -> None:
    target = picture([0.5, 0.5], [0.5, 0.5])
    sources = torch.stack([picture([0.5, 0.5], [0.5, 0.5]), picture([0.9, 0.9], [0.9, 0.9])])[None]
    call = (target[None], sources, plane([1, 1], [1, 1]), shifts((1, 0), (0, 0)), EYE)
    best = replace(PLAIN, reduce="minimum")
    np.testing.assert_allclose(
        best(*call).photometric_parts, [[[0, 0.8 / 4]]]
    )  # the first sees the left column alone
    np.testing.assert_allclose(replace(best, outside=True)(*call).photometric_parts, [[[0, 0]]])


def test_auto_mask_leaves_out_what_standing_still_explains() -> None:
    """The source moves by one pixel.

    Left and right pixel of the upper row, warped: |0.2 − 0.6| and |0.9 − 0.6|.
    """
    target, source = picture([0.2, 0.9, 0.6], [0.6, 0.5, 0.4]), picture([0.8, 0.6, 0.6], [0.6, 0.6, 0.4])
    call = (target[None], source[None, None], plane([1, 1, 1], [1, 1, 1]), shifts((1, 0)), EYE)
    # warped error: 0.4 0.3 – | 0.0 0.1 –;  as it is: 0.6 0.3 0 | 0.0 0.1 0: equal ones are left out
    np.testing.assert_allclose(PLAIN(*call).photometric, [(0.4 + 0.3 + 0.0 + 0.1) / 6])
    np.testing.assert_allclose(replace(PLAIN, auto_mask=True)(*call).photometric, [0.4 / 6])


def test_auto_mask_of_the_minimum_asks_any_source() -> None:
    """Warped, source 2 is best (0.1).

    As it is, source 1 is better than that (0.05), source 2 is not (0.3).
    """
    target = picture([0.5, 0.5], [0.5, 0.5])
    one, two = picture([0.55, 0.9], [0.9, 0.9]), picture([0.8, 0.4], [0.5, 0.6])
    call = (target[None], torch.stack([one, two])[None], plane([1, 1], [1, 1]), shifts((1, 0), (1, 0)), EYE)
    best = replace(PLAIN, reduce="minimum")
    # left column: warped source 1: 0.4 0.4, source 2: 0.1 0.1; as they are: 0.05 0.3 above, 0.4 0.0 below
    np.testing.assert_allclose(best(*call).photometric, [0.2 / 4])
    np.testing.assert_allclose(replace(best, auto_mask=True)(*call).photometric, [0])
    np.testing.assert_allclose(replace(PLAIN, auto_mask=True)(*call).photometric_parts, [[[0, 0.1 / 4]]])


def test_masks_weigh_pixels_and_are_drawn_to_one() -> None:
    target, source = picture([0.1, 0.5], [0.9, 0.3]), picture([0.2, 0.2], [1.0, 0.7])
    mask = plane([1, 0.5], [0.25, 0.1])
    call = (target[None], source[None, None], plane([1, 1], [1, 1]), shifts((0, 0)), EYE, (mask,))
    found = replace(PLAIN, mask_weight=0.2)(*call)
    np.testing.assert_allclose(found.photometric, [(0.1 + 0.3 * 0.5 + 0.1 * 0.25 + 0.4 * 0.1) / 4])
    np.testing.assert_allclose(found.mask, [-0.2 * math.log(0.5 * 0.25 * 0.1) / 4])
    np.testing.assert_allclose(found.total, found.photometric + found.mask)
    assert float(PLAIN(*call[:-1], None).mask) == 0


def test_a_mask_of_zero_is_finite() -> None:
    mask = plane([0, 1], [1, 1]).requires_grad_()
    call = (
        picture([0, 1], [1, 0])[None],
        picture([1, 1], [1, 0])[None, None],
        plane([1, 1], [1, 1]),
        shifts((0, 0)),
    )
    found = ViewSynthesis(scales=1)(*call, EYE, (mask,))
    assert found.total.isfinite().all()
    assert torch.autograd.grad(found.total.sum(), mask)[0].isfinite().all()


# Smoothness by hand


def test_second_differences_of_3_by_3() -> None:
    disparity = plane([1, 2, 4], [2, 3, 8], [7, 5, 1])
    along_x = [4 - 2 * 2 + 1, 8 - 2 * 3 + 2, 1 - 2 * 5 + 7]
    along_y = [7 - 2 * 2 + 1, 5 - 2 * 3 + 2, 1 - 2 * 8 + 4]
    mixed = [(3 - 2) - (2 - 1), (8 - 3) - (4 - 2), (5 - 7) - (3 - 2), (1 - 5) - (8 - 3)]
    expected = np.abs(along_x).mean() + np.abs(along_y).mean() + 2 * np.abs(mixed).mean()
    images = torch.rand(1, 3, 3, 3, dtype=torch.float64)
    found = replace(PLAIN, smooth_weight=0.5)(images, images[None], (disparity,), shifts((0, 0)), EYE)
    np.testing.assert_allclose(found.smoothness, [0.5 * expected])


def test_a_depth_is_smoothed_as_its_inverse_and_unknown_as_far() -> None:
    depth = plane([1, 0.5, 0.25], [0.5, 1 / 3, 1 / 8], [1 / 7, 0.2, 0])
    images = torch.rand(1, 3, 3, 3, dtype=torch.float64)
    loss = replace(PLAIN, smooth_weight=1)
    as_disparity = loss(
        images, images[None], (plane([1, 2, 4], [2, 3, 8], [7, 5, 1e-9]),), shifts((0, 0)), EYE
    )
    found = loss(images, images[None], depth.requires_grad_(), shifts((0, 0)), EYE)
    np.testing.assert_allclose(found.smoothness.detach(), as_disparity.smoothness, rtol=1e-8)
    assert torch.autograd.grad(found.smoothness.sum(), depth)[0].isfinite().all()


def test_edge_aware_smoothness_of_2_by_2() -> None:
    target = picture([0.1, 0.5], [0.9, 0.3])
    target[0, 0, 1] = 0.8  # steps along the upper row: 0.7, 0.4, 0.4; down the right column: 0.5, 0.2, 0.2
    disparity = plane([1, 3], [2, 6])  # mean 3
    along_x = (2 / 3) * math.exp(-(0.7 + 0.4 + 0.4) / 3) + (4 / 3) * math.exp(-0.6)
    along_y = (1 / 3) * math.exp(-0.8) + (3 / 3) * math.exp(-(0.5 + 0.2 + 0.2) / 3)
    loss = replace(PLAIN, smooth="edge", smooth_weight=2)
    found = loss(target[None], target[None, None], (disparity,), shifts((0, 0)), EYE)
    np.testing.assert_allclose(found.smoothness, [2 * (along_x / 2 + along_y / 2)])
    scaled = loss(target[None], target[None, None], (7 * disparity,), shifts((0, 0)), EYE)
    np.testing.assert_allclose(scaled.smoothness, found.smoothness)  # whatever the scale of the scene


# SSIM, scales and the total against loops


def naive_ssim_error(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """0.85·(1 − SSIM)/2 + 0.15·|x − y| of pictures (3, h, w), by loops over pixels and windows."""
    _, h, w = x.shape
    out = np.zeros((h, w))

    def mirrored(i: int, n: int) -> int:
        return -i if i < 0 else 2 * (n - 1) - i if i >= n else i

    for r in range(h):
        for c in range(w):
            for k in range(3):
                at = [(mirrored(r + i, h), mirrored(c + j, w)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
                a, b = np.array([x[k][p] for p in at]), np.array([y[k][p] for p in at])
                covariance = ((a - a.mean()) * (b - b.mean())).mean()
                ssim = (2 * a.mean() * b.mean() + 0.0001) * (2 * covariance + 0.0009)
                ssim /= (a.mean() ** 2 + b.mean() ** 2 + 0.0001) * (a.var() + b.var() + 0.0009)
                out[r, c] += (0.85 * np.clip((1 - ssim) / 2, 0, 1) + 0.15 * abs(x[k, r, c] - y[k, r, c])) / 3
    return out


def naive_area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    h, w = image.shape[-2] // size[0], image.shape[-1] // size[1]
    return image.reshape(*image.shape[:-2], size[0], h, size[1], w).mean((-3, -1))


def naive_enlarged(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, at half-pixel positions, clamped at the edges."""
    out = np.zeros(size)
    for r in range(size[0]):
        for c in range(size[1]):
            y = min(max((r + 0.5) * image.shape[0] / size[0] - 0.5, 0), image.shape[0] - 1)
            x = min(max((c + 0.5) * image.shape[1] / size[1] - 0.5, 0), image.shape[1] - 1)
            i, j = min(int(y), image.shape[0] - 2), min(int(x), image.shape[1] - 2)
            a, b = y - i, x - j
            out[r, c] = (1 - a) * ((1 - b) * image[i, j] + b * image[i, j + 1])
            out[r, c] += a * ((1 - b) * image[i + 1, j] + b * image[i + 1, j + 1])
    return out


def naive_warp(
    source: np.ndarray, depth: np.ndarray, pose: np.ndarray, k: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial.transform import Rotation

    _, h, w = source.shape
    turn = Rotation.from_euler("XYZ", pose[3:]).as_matrix()
    image, valid = np.zeros_like(source), np.zeros((h, w), dtype=bool)
    for r in range(h):
        for c in range(w):
            point = turn @ (depth[r, c] * np.linalg.solve(k, [c, r, 1.0])) + pose[:3]
            x, y = (k @ point)[:2] / point[2]
            valid[r, c] = 0 <= x <= w - 1 and 0 <= y <= h - 1 and point[2] > 1e-3
            x, y = min(max(x, 0), w - 1), min(max(y, 0), h - 1)
            i, j = min(int(y), h - 2), min(int(x), w - 2)
            a, b = y - i, x - j
            image[:, r, c] = (1 - a) * ((1 - b) * source[:, i, j] + b * source[:, i, j + 1])
            image[:, r, c] += a * ((1 - b) * source[:, i + 1, j] + b * source[:, i + 1, j + 1])
    return image, valid


def naive_k(k: np.ndarray, step: int) -> np.ndarray:
    out = k / step
    out[:2, 2] = (k[:2, 2] + 0.5) / step - 0.5
    out[2] = [0, 0, 1]
    return out


def test_ssim_against_loops() -> None:
    g = torch.Generator().manual_seed(3)
    target = torch.rand(1, 3, 5, 6, generator=g, dtype=torch.float64)
    source = (0.7 * target + 0.3 * torch.rand(1, 3, 5, 6, generator=g, dtype=torch.float64))[:, None]
    call = (target, source, torch.ones(1, 1, 5, 6, dtype=torch.float64), shifts((0, 0)), EYE)
    expected = naive_ssim_error(target[0].numpy(), source[0, 0].numpy()).mean()
    np.testing.assert_allclose(replace(PLAIN, photometric="ssim")(*call).photometric, [expected], rtol=1e-9)


def test_ssim_error_is_between_0_and_1() -> None:
    checks = torch.tensor([[0.0, 1], [1, 0]], dtype=torch.float64).repeat(3, 3).expand(1, 3, 6, 6)
    call = (torch.ones(1, 1, 6, 6, dtype=torch.float64), shifts((0, 0)), EYE)
    ssim = replace(PLAIN, photometric="ssim")
    np.testing.assert_allclose(ssim(checks, checks[None], *call).photometric, [0], atol=1e-12)
    opposite = float(ssim(checks, 1 - checks[None], *call).photometric)
    assert 0.95 < opposite <= 1


def test_sfmlearner_against_loops() -> None:
    given = example()
    found = SFMLEARNER(**given)
    k = given["intrinsics"].numpy()
    expected = np.zeros((3, 2, 4, 2))
    for b in range(2):
        for s in range(4):
            disparity, step = given["disparities"][s][b, 0].numpy(), 2**s
            target = naive_area(given["target"][b].numpy(), disparity.shape)
            dx, dy = np.diff(disparity, axis=1), np.diff(disparity, axis=0)
            rough = [np.abs(v).mean() if v.size else 0 for v in (np.diff(dx, axis=1), np.diff(dy, axis=0))]
            expected[1, b, s, 0] = 0.5 / step * (sum(rough) + 2 * np.abs(np.diff(dx, axis=0)).mean())
            for i in range(2):
                source = naive_area(given["sources"][b, i].numpy(), disparity.shape)
                image, valid = naive_warp(
                    source, 1 / disparity, given["poses"][b, i].numpy(), naive_k(k, step)
                )
                mask = given["masks"][s][b, i].numpy()
                expected[0, b, s, i] = (np.abs(target - image).mean(0) * valid * mask).mean()
                expected[2, b, s, i] = -0.2 * np.log(mask).mean()
    np.testing.assert_allclose(found.photometric_parts, expected[0], rtol=1e-9)
    np.testing.assert_allclose(found.smoothness_parts, expected[1, :, :, 0], rtol=1e-9)
    np.testing.assert_allclose(found.mask_parts, expected[2], rtol=1e-9)
    np.testing.assert_allclose(found.total, expected.sum((0, 2, 3)), rtol=1e-9)


def test_monodepth2_against_loops() -> None:
    given = example(seed=1)
    transforms = pose_to_matrix(given["poses"][:, 0])
    seen, _ = warp(given["sources"][:, 0], 1 / given["disparities"][0], transforms, given["intrinsics"])
    given["target"] = (
        0.75 * given["target"] + 0.25 * seen
    )  # so that some pixels are left out, and some are not
    found = MONODEPTH2(**{**given, "masks": None})
    k = given["intrinsics"].numpy()
    photometric, smoothness = np.zeros((2, 4)), np.zeros((2, 4))
    share = []
    for b in range(2):
        target, sources = given["target"][b].numpy(), given["sources"][b].numpy()
        still = np.min([naive_ssim_error(target, source) for source in sources], axis=0)
        for s in range(4):
            disparity = given["disparities"][s][b, 0].numpy()
            depth = 1 / naive_enlarged(disparity, (16, 24))
            warped = [naive_warp(sources[i], depth, given["poses"][b, i].numpy(), k)[0] for i in range(2)]
            best = np.min([naive_ssim_error(target, image) for image in warped], axis=0)
            photometric[b, s] = np.where(best < still, best, 0).mean() / 4
            share.append((best < still).mean())
            small, d = naive_area(target, disparity.shape), disparity / disparity.mean()
            edges = [
                np.abs(np.diff(d, axis=a)) * np.exp(-np.abs(np.diff(small, axis=a + 1)).mean(0))
                for a in (0, 1)
            ]
            smoothness[b, s] = 1e-3 / 2**s * sum(e.mean() for e in edges) / 4
    assert 0.02 < np.mean(share) < 0.98
    np.testing.assert_allclose(found.photometric_parts.sum(2), photometric, rtol=1e-9)
    np.testing.assert_allclose(found.smoothness_parts, smoothness, rtol=1e-9)
    np.testing.assert_allclose(found.total, photometric.sum(1) + smoothness.sum(1), rtol=1e-9)


# Known answers


def textured_plane(z: float, motion: Tensor, k: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A plane z = const under a smooth texture, as seen by the target and by a source.

    Both rendered exactly.
    """
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)

    def colours(points: Tensor) -> Tensor:
        return torch.stack(
            [(0.5 + 0.4 * torch.sin(a * points[0] + b * points[1])) for a, b in ((1, 2), (2, -1), (0, 3))]
        )

    seen = colours(torch.linalg.inv(k) @ pixels * z)
    transform = pose_to_matrix(motion)
    rays = transform[:3, :3].T @ torch.linalg.inv(k) @ pixels  # of the source, in the target's axes
    origin = -transform[:3, :3].T @ transform[:3, 3]
    from_source = colours(origin[:, None] + rays * (z - origin[2]) / rays[2])
    return seen.reshape(1, 3, *size), from_source.reshape(1, 1, 3, *size)


@pytest.mark.parametrize("name", ["SFMLEARNER", "MONODEPTH2"])
def test_true_depth_and_motion_explain_the_target(name: str) -> None:
    loss = {"SFMLEARNER": SFMLEARNER, "MONODEPTH2": MONODEPTH2}[name]
    k = torch.tensor([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]], dtype=torch.float64)
    motion = torch.tensor([0.08, -0.05, -0.1, 0.01, -0.02, 0.03], dtype=torch.float64)
    target, source = textured_plane(3.0, motion, k, (48, 64))
    depth = torch.full((1, 1, 48, 64), 3.0, dtype=torch.float64)
    plain = replace(loss, outside=False, auto_mask=False)  # all that is seen counts
    true = float(plain(target, source, depth, motion[None, None], k).photometric)
    wrong = [
        float(plain(target, source, d, m[None, None], k).photometric)
        for d, m in ((depth, 0 * motion), (depth, -motion), (1.5 * depth, motion), (depth / 1.5, motion))
    ]
    assert true < 1e-3  # what bilinear sampling leaves
    assert min(wrong) > 5 * true
    image, valid = warp(source[:, 0], depth, pose_to_matrix(motion)[None], k)
    error = (image - target).abs().amax(1, keepdim=True)[valid]
    assert float(error.max()) < 1e-2
    assert 20 * math.log10(1 / float(error.square().mean().sqrt())) > 40  # PSNR, dB


def test_disparities_at_every_scale_of_a_plane() -> None:
    """Intrinsics follow the size of the pictures: the true depth explains the target at each scale."""
    k = torch.tensor([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]], dtype=torch.float64)
    motion = torch.tensor([0.3, 0, 0, 0, 0, 0], dtype=torch.float64)
    target, source = textured_plane(3.0, motion, k, (48, 64))
    disparities = tuple(torch.full((1, 1, 48 >> s, 64 >> s), 1 / 3, dtype=torch.float64) for s in range(4))
    true = SFMLEARNER(target, source, disparities, motion[None, None], k).photometric_parts[0, :, 0]
    still = SFMLEARNER(target, source, disparities, 0 * motion[None, None], k).photometric_parts[0, :, 0]
    assert (true < 0.1 * still).all()
    full = replace(SFMLEARNER, full_resolution=True)(target, source, disparities, motion[None, None], k)
    np.testing.assert_allclose(
        full.photometric_parts[0, :, 0], full.photometric_parts[0, 0, 0].expand(4), atol=1e-12
    )


# Parts, options, gradients


def test_parts_add_up_and_terms_pick_them() -> None:
    found = SFMLEARNER(**example())
    p, r, m = found.photometric_parts, found.smoothness_parts, found.mask_parts
    assert [t.shape for t in (p, r, m)] == [(2, 4, 2), (2, 4), (2, 4, 2)]
    np.testing.assert_allclose(found.term("total"), found.total)
    np.testing.assert_allclose(found.term("total", scale=2), p[:, 2].sum(1) + r[:, 2] + m[:, 2].sum(1))
    np.testing.assert_allclose(found.term("photometric"), found.photometric)
    np.testing.assert_allclose(found.term("photometric", source=1), p[:, :, 1].sum(1))
    np.testing.assert_allclose(found.term("photometric", scale=3, source=0), p[:, 3, 0])
    np.testing.assert_allclose(found.term("smoothness", scale=1), r[:, 1])
    np.testing.assert_allclose(found.term("mask", scale=0, source=1), m[:, 0, 1])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("photometrik",), "no term `photometrik`; did you mean `photometric`"),
        (("total", 4), "no scale 4; the loss has 4, 0 to 3"),
        (("mask", -1), "no scale -1"),
        (("photometric", None, 2), "no source 2; the loss has 2, 0 to 1"),
        (("smoothness", None, 0), "the smoothness of one source"),
        (("total", None, 0), "the total of one source"),
    ],
)
def test_terms_that_are_not_there(asked: tuple[Any, ...], words: str) -> None:
    terms = Terms(torch.rand(1, 4, 2), torch.rand(1, 4), torch.rand(1, 4, 2))
    with pytest.raises(InputError, match=words):
        terms.term(*asked)


def test_every_option_changes_the_loss() -> None:
    given = example()
    base = float(SFMLEARNER(**given).total.sum())
    options: list[dict[str, Any]] = [
        {"photometric": "ssim"},
        {"reduce": "minimum"},
        {"auto_mask": True},
        {"outside": True},
        {"smooth": "edge"},
        {"smooth_weight": 1},
        {"mask_weight": 1},
        {"scales": 3},
        {"full_resolution": True},
        {"average_scales": True},
        {"rotation": "axis-angle"},
    ]
    assert len(options) == len(ViewSynthesis.__dataclass_fields__)
    found = [float(replace(SFMLEARNER, **option)(**given).total.sum()) for option in options]
    assert len({round(value, 9) for value in [base, *found]}) == 1 + len(options)


def test_samples_do_not_mix() -> None:
    given = example(batch=3)
    for loss in (SFMLEARNER, MONODEPTH2):
        whole = loss(**given).total
        for i in range(3):
            one = {
                name: tuple(v[i : i + 1] for v in value) if isinstance(value, tuple) else value[i : i + 1]
                for name, value in given.items()
                if name != "intrinsics"
            }
            np.testing.assert_allclose(loss(**one, intrinsics=given["intrinsics"]).total, whole[i : i + 1])


def test_intrinsics_per_sample_and_transforms_for_poses() -> None:
    given = example()
    ks = torch.stack([given["intrinsics"], given["intrinsics"] * torch.tensor([[2.0], [2], [1]])])
    whole = SFMLEARNER(**{**given, "intrinsics": ks}).photometric_parts
    for i in range(2):
        expected = SFMLEARNER(**{**given, "intrinsics": ks[i]}).photometric_parts
        np.testing.assert_allclose(whole[i], expected[i])
        assert not torch.allclose(whole[1 - i], expected[1 - i])
    matrices = SFMLEARNER(**{**given, "poses": pose_to_matrix(given["poses"])})
    np.testing.assert_allclose(matrices.total, SFMLEARNER(**given).total)


def test_odd_sizes_have_a_finite_loss() -> None:
    given = example(size=(13, 19))
    for loss in (SFMLEARNER, MONODEPTH2):
        assert loss(**given).total.isfinite().all()


def test_losses_of_float32_are_float32() -> None:
    given = {
        name: tuple(v.float() for v in value) if isinstance(value, tuple) else value.float()
        for name, value in example().items()
    }
    found = SFMLEARNER(**given)
    assert found.total.dtype == torch.float32
    np.testing.assert_allclose(found.total, SFMLEARNER(**example()).total, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"photometric": "ssim"}, {"reduce": "minimum", "smooth": "edge"}])
def test_gradients_by_finite_differences(options: dict[str, Any]) -> None:
    given = example(batch=1, size=(6, 8), seed=5)
    loss = replace(SFMLEARNER, scales=2, outside=True, **options)
    inputs = [
        given["target"],
        given["sources"],
        *given["disparities"][:2],
        given["poses"],
        *given["masks"][:2],
    ]

    def total(t: Tensor, s: Tensor, d0: Tensor, d1: Tensor, p: Tensor, m0: Tensor, m1: Tensor) -> Tensor:
        return loss(t, s, (d0, d1), p, given["intrinsics"], (m0, m1)).total

    assert gradcheck(total, [x.clone().requires_grad_() for x in inputs], eps=1e-7, atol=1e-5, fast_mode=True)


# Errors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": torch.rand(2, 1, 16, 24)}, r"target has shape \(2, 1, 16, 24\)"),
        ({"sources": torch.rand(2, 0, 3, 16, 24)}, "at least one source: one frame alone has no motion"),
        ({"sources": torch.rand(2, 3, 16, 24)}, r"sources have shape \(2, 3, 16, 24\)"),
        ({"sources": torch.rand(2, 2, 3, 16, 20)}, "frames of the target's size"),
        ({"sources": torch.rand(1, 2, 3, 16, 24)}, r"expected \(2, 2, 3, 16, 24\)"),
        ({"poses": torch.zeros(2, 1, 6)}, r"poses have shape \(2, 1, 6\); expected \(2, 2, 6\)"),
        ({"poses": torch.full((2, 2, 6), math.nan)}, "the poses hold values that are not finite"),
        ({"target": torch.full((2, 3, 16, 24), math.inf)}, "the target hold"),
        ({"sources": torch.full((2, 2, 3, 16, 24), math.nan)}, "the sources hold"),
        ({"disparities": ()}, "0 disparities for 4 scales"),
        ({"disparities": (torch.ones(2, 1, 16, 24),) * 3}, "3 disparities for 4 scales"),
        ({"disparities": (torch.ones(2, 16, 24),) * 4}, r"a disparity has shape \(2, 16, 24\)"),
        ({"disparities": (torch.ones(1, 1, 16, 24),) * 4}, r"expected \(2, 1, height, width\)"),
        ({"disparities": (torch.zeros(2, 1, 16, 24),) * 4}, "not positive and finite"),
        ({"disparities": (torch.full((2, 1, 16, 24), math.nan),) * 4}, "not positive and finite"),
        (
            {"disparities": torch.ones(2, 1, 8, 12)},
            r"depth has shape \(2, 1, 8, 12\); expected \(2, 1, 16, 24\)",
        ),
        ({"disparities": torch.full((2, 1, 16, 24), math.nan)}, "depth is not finite"),
        ({"intrinsics": None}, "intrinsics are missing"),
        ({"intrinsics": torch.zeros(3, 3)}, "singular"),
        ({"masks": (torch.ones(2, 2, 16, 24),)}, "1 masks for 4 scales"),
        ({"masks": (torch.ones(2, 1, 16, 24),) * 4}, r"a mask has shape \(2, 1, 16, 24\)"),
        ({"masks": (torch.full((2, 2, 16, 24), 1.5),) * 4}, r"values outside \[0, 1\]"),
    ],
)
def test_losses_refuse_arguments_that_do_not_fit(change: dict[str, Any], words: str) -> None:
    given = {**example(), **change}
    with pytest.raises(InputError, match=words):
        SFMLEARNER(**{name: _double(value) for name, value in given.items()})


def _double(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(v.double() for v in value)
    return None if value is None else value.double()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"photometric": "sim"}, "photometric is `sim`; did you mean `ssim`"),
        ({"reduce": "min"}, "reduce is `min`.*choose mean or minimum"),
        ({"smooth": "edges"}, "smooth is `edges`; did you mean `edge`"),
        ({"scales": 0}, "expected at least 1, 0 and 0"),
        ({"smooth_weight": -1}, "expected at least 1, 0 and 0"),
        ({"mask_weight": -0.1}, "expected at least 1, 0 and 0"),
    ],
)
def test_losses_refuse_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ViewSynthesis(**options)


def test_unknown_rotation_is_refused_where_it_is_used() -> None:
    with pytest.raises(InputError, match="no rotation `quaternion`"):
        replace(SFMLEARNER, rotation="quaternion")(**example())
