"""Measures of depth and motion against loops, and what trivial predictions reach."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from chronocam import odometry as odo
from chronocam.errors import InputError


def drive(time: int = 9, seed: int = 0, turn: float = 0.05) -> np.ndarray:
    """A camera that moves about, `(time, 4, 4)` camera-to-world, not starting at the origin."""
    draw = np.random.default_rng(seed)
    poses = [np.eye(4)]
    poses[0][:3, 3] = [5, -2, 7]
    poses[0][:3, :3] = Rotation.from_euler("XYZ", [0.3, 1.0, -0.2]).as_matrix()
    for _ in range(time - 1):
        step = np.eye(4)
        step[:3, :3] = Rotation.from_rotvec(draw.normal(0, turn, 3)).as_matrix()
        step[:3, 3] = draw.normal(0, 0.1, 3) + np.array([0, 0, 0.5])
        poses.append(poses[-1] @ step)
    return np.stack(poses)


# Depth


def test_depth_errors_by_hand() -> None:
    truth = np.array([[[2.0, 4.0], [0.0, 10.0]]])
    predicted = np.array([[[3.0, 4.0], [7.0, 8.0]]])
    found = odo.depth_errors(predicted, truth, median_scaling=False)
    np.testing.assert_allclose(found.abs_rel, [(1 / 2 + 0 + 2 / 10) / 3])
    np.testing.assert_allclose(found.sq_rel, [(1 / 2 + 0 + 4 / 10) / 3])
    np.testing.assert_allclose(found.rmse, [math.sqrt((1 + 0 + 4) / 3)])
    np.testing.assert_allclose(found.rmse_log, [math.sqrt((math.log(1.5) ** 2 + math.log(0.8) ** 2) / 3)])
    np.testing.assert_allclose(found.within, [[1 / 3, 1, 1]])  # 10/8 is 1.25, which is not below it
    np.testing.assert_array_equal(found.scale, [1])


def test_depth_errors_against_loops() -> None:
    draw = np.random.default_rng(0)
    truth = draw.uniform(0.5, 100, (3, 6, 7)) * (draw.uniform(size=(3, 6, 7)) > 0.3)
    predicted = np.abs(truth * draw.lognormal(0.5, 0.4, truth.shape)) + 0.01
    found = odo.depth_errors(predicted, truth, nearest=1, farthest=60)
    for i in range(3):
        pairs = [(p, t) for p, t in zip(predicted[i].flat, truth[i].flat, strict=True) if 1 < t < 60]
        scale = float(np.median([t for _, t in pairs]) / np.median([p for p, _ in pairs]))
        pairs = [(min(max(scale * p, 1), 60), t) for p, t in pairs]
        n = len(pairs)
        assert found.scale[i] == pytest.approx(scale)
        assert found.abs_rel[i] == pytest.approx(sum(abs(p - t) / t for p, t in pairs) / n)
        assert found.sq_rel[i] == pytest.approx(sum((p - t) ** 2 / t for p, t in pairs) / n)
        assert found.rmse[i] == pytest.approx(math.sqrt(sum((p - t) ** 2 for p, t in pairs) / n))
        assert found.rmse_log[i] == pytest.approx(math.sqrt(sum(math.log(p / t) ** 2 for p, t in pairs) / n))
        for k in (1, 2, 3):
            assert found.within[i, k - 1] == sum(max(p / t, t / p) < 1.25**k for p, t in pairs) / n
    assert np.all(found.within < 1)


def test_median_scaling_forgives_the_scale_alone() -> None:
    truth = np.random.default_rng(1).uniform(1, 50, (2, 5, 5))
    scaled = odo.depth_errors(truth * np.array([0.1, 3])[:, None, None], truth)
    np.testing.assert_allclose(scaled.scale, [10, 1 / 3])
    np.testing.assert_allclose(scaled.abs_rel, 0, atol=1e-12)
    assert (odo.depth_errors(3 * truth, truth, median_scaling=False).abs_rel > 0.5).all()


def test_mean_depth_is_of_what_is_known() -> None:
    depths = np.array([[[2.0, 0, 0]], [[4.0, 6, np.nan]]])
    np.testing.assert_allclose(odo.mean_depth(depths), [[3, 6, 4]])
    assert odo.depth_errors(odo.mean_depth(depths), np.nan_to_num(depths)).abs_rel.shape == (2,)


@pytest.mark.parametrize(
    ("predicted", "truth", "options", "words"),
    [
        (np.ones((1, 2, 2)), np.ones((2, 2)), {}, r"true depth has shape \(2, 2\)"),
        (np.ones((1, 2, 2)), np.ones((0, 2, 2)), {}, "with a picture or more"),
        (
            np.ones((1, 2, 3)),
            np.ones((1, 2, 2)),
            {},
            r"shape \(1, 2, 3\); expected that of the truth, \(1, 2, 2\)",
        ),
        (np.zeros((1, 2, 2)), np.ones((1, 2, 2)), {}, "not positive and finite"),
        (np.full((1, 2, 2), np.nan), np.ones((1, 2, 2)), {}, "not positive and finite"),
        (np.ones((2, 1, 2)), np.array([[[1.0, 2]], [[0, 90]]]), {}, "picture 1 has no true depth"),
        (
            np.ones((1, 1, 2)),
            np.ones((1, 1, 2)),
            {"nearest": 5, "farthest": 2},
            "nearest is 5 and farthest 2",
        ),
    ],
)
def test_depths_that_do_not_fit_are_refused(
    predicted: np.ndarray, truth: np.ndarray, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        odo.depth_errors(predicted, truth, **options)


def test_mean_of_no_depth() -> None:
    with pytest.raises(InputError, match="some depth known"):
        odo.mean_depth(np.zeros((2, 3, 3)))


# Motion


def test_steps_and_trajectory_are_inverses() -> None:
    poses = drive()
    steps = odo.steps_of(poses)
    expected = [np.linalg.inv(a) @ b for a, b in pairwise(poses)]
    np.testing.assert_allclose(steps, expected, atol=1e-12)
    np.testing.assert_allclose(poses[0] @ odo.accumulate(steps), poses, atol=1e-12)


def test_a_step_is_the_inverse_of_what_a_network_predicts() -> None:
    poses = torch.from_numpy(drive(3))
    predicted = odo.relative_pose(poses[:-1], poses[1:])  # target i to source i + 1
    np.testing.assert_allclose(odo.steps_of(poses.numpy()), odo.invert(predicted), atol=1e-12)


def test_snippet_errors_by_hand() -> None:
    truth, predicted = odo.zero_motion(3), odo.zero_motion(3)
    truth[:, :3, 3] = [[0, 0, 0], [0, 0, 1], [0, 1, 2]]
    predicted[:, :3, 3] = [[9, 0, 0], [9, 0, 2], [10, 0, 4]]  # from its first: (0, 0, 2), (1, 0, 4)
    scale = (2 * 1 + 4 * 2) / (4 + 1 + 16)
    squares = (2 * scale - 1) ** 2 + scale**2 + 1 + (4 * scale - 2) ** 2
    np.testing.assert_allclose(odo.snippet_errors(predicted, truth, 3), [math.sqrt(squares) / 3])


def test_snippet_errors_against_loops() -> None:
    truth, predicted = drive(9), drive(9, seed=4)
    found = odo.snippet_errors(predicted, truth)
    assert found.shape == (5,)
    for start in range(5):
        p, t = [], []
        for i in range(5):
            for poses, out in ((predicted, p), (truth, t)):
                turn = poses[start, :3, :3]
                out.extend(turn.T @ (poses[start + i, :3, 3] - poses[start, :3, 3]))
        (scale,), *_ = np.linalg.lstsq(np.array(p)[:, None], np.array(t), rcond=None)
        assert found[start] == pytest.approx(np.linalg.norm(scale * np.array(p) - np.array(t)) / 5)
    assert odo.snippet_errors(predicted, truth, 3).shape == (7,)


def test_snippets_forgive_scale_and_where_the_world_is() -> None:
    truth = drive()
    steps = odo.steps_of(truth)
    steps[:, :3, 3] *= 0.37
    np.testing.assert_allclose(odo.snippet_errors(odo.accumulate(steps), truth), 0, atol=1e-12)


def test_standing_still_is_wrong_by_the_way_gone() -> None:
    truth = odo.zero_motion(5)
    truth[:, 2, 3] = np.arange(5)
    np.testing.assert_allclose(odo.snippet_errors(odo.zero_motion(5), truth), [math.sqrt(1 + 4 + 9 + 16) / 5])
    np.testing.assert_array_equal(odo.rotation_errors(odo.zero_motion(5), truth), np.zeros(5))


def test_rotation_errors_are_scipys() -> None:
    a, b = odo.steps_of(drive()), odo.steps_of(drive(seed=3, turn=1.0))
    turns = Rotation.from_matrix(a[:, :3, :3]).inv() * Rotation.from_matrix(b[:, :3, :3])
    np.testing.assert_allclose(odo.rotation_errors(a, b), np.degrees(turns.magnitude()))
    np.testing.assert_allclose(odo.rotation_errors(a[:, :3, :3], b[:, :3, :3]), odo.rotation_errors(a, b))
    tiny = Rotation.from_rotvec([[1e-8, 0, 0]]).as_matrix()
    np.testing.assert_allclose(odo.rotation_errors(tiny, np.eye(3)[None]), np.degrees([1e-8]))
    np.testing.assert_allclose(odo.rotation_errors(np.diag([1.0, -1, -1])[None], np.eye(3)[None]), [180])


def test_motion_that_does_not_fit_is_refused() -> None:
    poses = odo.zero_motion(6)
    for wrong, words in (
        (lambda: odo.snippet_errors(poses[:5], poses), "5 predicted poses for 6 true ones"),
        (lambda: odo.snippet_errors(poses[:4], poses[:4]), "4 frames for snippets of 5"),
        (lambda: odo.snippet_errors(poses, poses, 1), "6 frames for snippets of 1"),
        (lambda: odo.snippet_errors(poses[:, :3], poses), r"predicted poses have shape \(6, 3, 4\)"),
        (lambda: odo.snippet_errors(poses, np.nan * poses), "true poses are not finite"),
        (lambda: odo.accumulate(poses[0]), r"steps have shape \(4, 4\)"),
        (lambda: odo.rotation_errors(poses, poses[:5]), r"shapes \(6, 4, 4\) and \(5, 4, 4\)"),
        (lambda: odo.rotation_errors(poses[:, 0], poses[:, 0]), r"expected \(pair, 3, 3\)"),
    ):
        with pytest.raises(InputError, match=words):
            wrong()
