"""The rendered odometry world: what is claimed about depth, poses and masks must hold to the pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, map_coordinates

pytest.importorskip("skimage")

from chronocam.errors import InputError
from chronocam.lab.data.drives import SCENES, Drive, drive, drives, export, read_drive, world
from chronocam.lab.data.drives.caster import Quads, cast, look
from chronocam.lab.data.drives.path import FOCAL, STEPS, camera_matrix, draw_path
from chronocam.lab.data.drives.scenes import draw_mover, draw_scene
from chronocam.lab.data.drives.textures import TILE, Atlas, draw_atlas
from chronocam.lab.data.gestures.world import PHOTOS

SQUARE = np.ones((3, 3), bool)


def warp(made: Drive, target: int, source: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the source frame as seen from the target, and which pixels are seen in both (by depth)."""
    height, width = made.depth.shape[1:]
    y, x = np.mgrid[:height, :width].astype(float)
    z = made.depth[target].astype(float)
    points = np.linalg.inv(made.intrinsics) @ np.stack([x * z, y * z, z]).reshape(3, -1)
    move = np.linalg.inv(made.poses[source]) @ made.poses[target]
    there = move[:3, :3] @ points + move[:3, 3:]
    known = (z.ravel() > 0) & (there[2] > 0.01)
    u, v = (made.intrinsics @ there)[:2] / np.where(known, there[2], 1)
    inside = known & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    left, top = (np.clip(np.floor(c), 0, n - 2).astype(int) for c, n in ((u, width), (v, height)))
    around = np.stack([made.depth[source][top + i, left + j] for i in (0, 1) for j in (0, 1)])
    seen = inside & (np.abs(around - there[2]) <= 0.02 * there[2]).all(0)
    colours = [map_coordinates(made.pixels[source, ..., c].astype(float), [v, u], order=1) for c in range(3)]
    return np.stack(colours, -1).reshape(height, width, 3), seen.reshape(height, width)


def psnr(made: Drive, target: int, source: int) -> float:
    warped, seen = warp(made, target, source)
    assert seen.mean() > 0.15
    error = ((warped - made.pixels[target]) ** 2)[seen].mean()
    return float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("split", PHOTOS)
def test_true_depth_and_pose_reproduce_the_frame(scene: str, split: str) -> None:
    for index in range(4):
        made = drive(index, split=split, scene=scene, moving=False, exposure=False)
        for target in range(4):
            assert psnr(made, target, target + 1) > 30
            assert psnr(made, target + 1, target) > 30


@pytest.mark.parametrize("scene", SCENES)
def test_wrong_pose_or_intrinsics_do_not(scene: str) -> None:
    for index in range(3):
        made = drive(index, scene=scene, moving=False, plain=False, exposure=False)
        right = psnr(made, 0, 2)
        still = replace(made, poses=np.tile(np.eye(4), (5, 1, 1)))
        shifted = replace(made, intrinsics=made.intrinsics + np.array([[0, 0, 60], [0, 0, 0], [0, 0, 0]]))
        error = ((made.pixels[0].astype(float) - made.pixels[2]) ** 2).mean()
        assert 10 * np.log10(255**2 / error) < right - 4
        for wrong in (still, shifted):
            warped, _ = warp(wrong, 0, 2)
            assert 10 * np.log10(255**2 / ((warped - made.pixels[0]) ** 2).mean()) < right - 4


def brute_force(
    quads: Quads, pose: np.ndarray, intrinsics: np.ndarray, x: float, y: float
) -> tuple[int, float]:
    """Meet every rectangle by solving origin + a right + b down = eye + z direction."""
    direction = pose[:3, :3] @ np.linalg.inv(intrinsics) @ [x, y, 1]
    nearest, depth = -1, np.inf
    for number, (origin, right, down) in enumerate(zip(quads.origin, quads.right, quads.down, strict=True)):
        if np.dot(np.cross(right, down), direction) <= 0:
            continue
        a, b, z = np.linalg.solve(np.stack([right, down, -direction], 1), pose[:3, 3] - origin)
        if 0 <= a <= 1 and 0 <= b <= 1 and 0 < z < depth:
            nearest, depth = number, z
    return nearest, depth


@pytest.mark.parametrize("scene", SCENES)
def test_caster_agrees_with_equations_solved_one_by_one(scene: str) -> None:
    rng = np.random.default_rng(3)
    path = draw_path(rng, 4, scene)
    mover = draw_mover(rng, path, scene)
    quads = draw_scene(rng, path, mover, scene, moving=True).quads
    intrinsics = camera_matrix(48, 96)
    for pose in path.poses[[0, 3]]:
        sight = cast(look(quads, pose, intrinsics), np.arange(96), np.arange(48))
        for x, y in zip(rng.integers(96, size=60), rng.integers(48, size=60), strict=True):
            number, depth = brute_force(quads, pose, intrinsics, x, y)
            assert sight.index[y, x] == number
            assert (
                sight.nearness[y, x] * depth == pytest.approx(1, abs=1e-4)
                if number >= 0
                else not sight.nearness[y, x]
            )


def facing(z: float, left: float, right: float, top: float, bottom: float) -> np.ndarray:
    return np.array([[left, top, z], [right - left, 0, 0], [0, bottom - top, 0]], float)


def test_caster_by_hand() -> None:
    rows = [facing(4, -1, 1, -1, 1), facing(2, 0, 0.25, 0, 0.25), facing(-3, -9, 9, -9, 9)]
    rows.append(np.array([[-1, -1, 1], [0, 2, 0], [2, 0, 0]], float))  # before all others, but turned away
    quads = Quads(*np.stack(rows, 1))
    intrinsics = np.array([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]])
    sight = cast(look(quads, np.eye(4), intrinsics), np.arange(9), np.arange(9))
    expected = np.full((9, 9), -1)
    expected[2:7, 2:7] = 0  # half a width of 1 m at 4 m is 2 pixels at a focal length of 8
    expected[4:6, 4:6] = 1  # 0.25 m at 2 m: one pixel
    np.testing.assert_array_equal(sight.index, expected)
    np.testing.assert_allclose(sight.nearness, np.choose(expected + 1, [0, 1 / 4, 1 / 2]), rtol=1e-6)


def test_floor_that_reaches_behind_the_camera() -> None:
    quads = Quads(*np.array([[[-50, 1.5, 50.0]], [[100, 0, 0.0]], [[0, 0, -100.0]]]))
    sight = cast(look(quads, np.eye(4), camera_matrix(64, 208)), np.arange(208), np.arange(64))
    y = np.arange(64) - 31.5
    depth = np.where(y > 0, 1.5 * FOCAL * 208 / np.where(y > 0, y, 1), np.inf)
    np.testing.assert_allclose(sight.nearness[:, 100], np.where(depth <= 50, 1 / depth, 0), rtol=1e-5)


def atlas_of(fine: np.ndarray) -> Atlas:
    levels = [fine]
    while len(levels) < 7:
        last = levels[-1]
        levels.append((last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2]) / 4)
    return Atlas(np.concatenate([level.reshape(-1, 3) for level in levels]).astype(np.float32))


def sample(atlas: Atlas, u: float, v: float, level: float) -> np.ndarray:
    u_, v_, level_ = (np.array([value], np.float32) for value in (u, v, level))
    return atlas.sample(np.array([0]), u_, v_, level_)[0]


def test_texture_lookup_by_hand() -> None:
    fine = np.random.default_rng(0).random((2 * TILE, 2 * TILE, 3)).astype(np.float32)
    atlas, coarse = atlas_of(fine), (fine[2:4, 4:6]).mean((0, 1))
    np.testing.assert_allclose(sample(atlas, 7.5, 3.5, 0), fine[3, 7], atol=1e-6)
    np.testing.assert_allclose(sample(atlas, 7.75, 3.5, 0), 0.75 * fine[3, 7] + 0.25 * fine[3, 8], atol=1e-6)
    np.testing.assert_allclose(sample(atlas, 7.5, 4.25, 0), 0.25 * fine[3, 7] + 0.75 * fine[4, 7], atol=1e-6)
    np.testing.assert_allclose(sample(atlas, 5, 3, 1), coarse, atol=1e-6)
    between = 0.5 * fine[2:4, 4:6].mean((0, 1)) + 0.5 * coarse
    np.testing.assert_allclose(sample(atlas, 5, 3, 0.5), between, atol=1e-6)
    np.testing.assert_allclose(sample(atlas, 0, 0.5, 0), (fine[0, 0] + fine[0, -1]) / 2, atol=1e-6)
    np.testing.assert_allclose(sample(atlas, 7.5 - 2 * TILE, 3.5 + 2 * TILE, 0), fine[3, 7], atol=1e-6)


def test_drawn_textures_repeat_without_a_seam() -> None:
    atlas = draw_atlas(np.random.default_rng(0), world._photos("validation"), 1)
    side = 2 * TILE
    fine = atlas.texels[-len(atlas.texels) // 2 :][: side * side].reshape(side, side, 3)
    np.testing.assert_array_equal(fine, fine[::-1])
    np.testing.assert_array_equal(fine, fine[:, ::-1])
    assert fine.std() > 0.08
    mean = fine[:2, :2].mean((0, 1))
    coarse = atlas.texels[-len(atlas.texels) // 2 :][side * side]
    np.testing.assert_allclose(coarse, mean, atol=1e-6)


def test_a_drive_depends_on_its_arguments_alone() -> None:
    first, again = drive(5, frames=3), drive(5, frames=3)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.depth, again.depth)
    for other in (drive(6, frames=3), drive(5, frames=3, seed=1), drive(5, frames=3, split="train")):
        assert (other.pixels != first.pixels).mean() > 0.5
    assert drive(5, frames=3, size=(40, 72)).pixels.shape == (3, 40, 72, 3)
    many = list(drives(3, frames=2, size=(32, 48)))
    np.testing.assert_array_equal(many[2].pixels, drive(2, frames=2, size=(32, 48)).pixels)
    assert [made.name for made in many] == [f"test-0-0000{index}" for index in range(3)]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_switches_change_nothing_else(scene: str, index: int) -> None:
    off = drive(index, scene=scene, frames=3, moving=False, plain=False, exposure=False)
    assert not off.moving.any()
    assert not off.plain.any()
    with_mover = drive(index, scene=scene, frames=3, moving=True, plain=False, exposure=False)
    assert with_mover.moving.any((1, 2)).all()
    assert (with_mover.depth[with_mover.moving] <= off.depth[with_mover.moving]).all() or scene == "street"
    bare = drive(index, scene=scene, frames=3, moving=False, plain=True, exposure=False)
    assert 0.01 < bare.plain.mean() < 0.65
    np.testing.assert_array_equal(bare.depth, off.depth)
    for made, mask in ((with_mover, with_mover.moving), (bare, bare.plain)):
        np.testing.assert_array_equal(made.depth[~made.moving], off.depth[~made.moving])
        away = ~np.stack([binary_dilation(frame, SQUARE) for frame in mask])
        np.testing.assert_array_equal(made.pixels[away], off.pixels[away])
        assert (made.pixels != off.pixels)[mask].mean() > 0.5


@pytest.mark.parametrize("scene", SCENES)
def test_the_same_wall_is_plain_beside_a_mover(scene: str) -> None:
    for index in range(4):
        alone, both = (
            drive(index, scene=scene, frames=2, plain=True, moving=moving) for moving in (False, True)
        )
        np.testing.assert_array_equal(both.plain, alone.plain & ~both.moving)


def test_a_plain_wall_has_no_texture() -> None:
    made = drive(3, scene="room", plain=True, exposure=False)
    for mask, pixels in zip(made.plain, made.pixels, strict=True):
        inner = binary_erosion(mask, SQUARE)
        assert inner.sum() > 100
        assert np.ptp(pixels[inner], 0).max() == 0


def test_exposure_is_a_gain_and_a_bias_per_frame() -> None:
    off, on = (drive(1, exposure=exposure) for exposure in (False, True))
    lines = []
    for before, after in zip(off.pixels, on.pixels, strict=True):
        free = (before > 20) & (before < 235) & (after > 5) & (after < 250)
        gain, bias = np.polyfit(before[free].astype(float), after[free].astype(float), 1)
        assert np.abs(gain * before[free] + bias - after[free]).max() < 2
        lines.append((gain, bias))
    assert np.std(lines, 0)[0] > 0.03
    np.testing.assert_array_equal(on.depth, off.depth)


def test_the_mover_moves_in_the_world() -> None:
    ways = []
    for index in range(6):
        made = drive(index, scene="street", moving=True)
        centres = []
        for time in (0, 4):
            y, x = np.nonzero(made.moving[time])
            z = made.depth[time][y, x]
            points = np.linalg.inv(made.intrinsics) @ np.stack([x * z, y * z, z])
            centres.append((made.poses[time][:3, :3] @ points + made.poses[time][:3, 3:]).mean(1))
        ways.append(np.linalg.norm(centres[1] - centres[0]))
    assert np.median(ways) > 0.5


@pytest.mark.parametrize("scene", SCENES)
def test_motion_is_smooth_and_as_long_as_documented(scene: str) -> None:
    low, high = STEPS[scene]
    for index in range(8):
        poses = drive(index, scene=scene, frames=12, size=(32, 32)).poses
        np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-12)
        moves = np.linalg.inv(poses[:-1]) @ poses[1:]
        np.testing.assert_allclose(
            moves[:, :3, :3] @ moves[:, :3, :3].swapaxes(1, 2), np.tile(np.eye(3), (11, 1, 1)), atol=1e-12
        )
        lengths = np.linalg.norm(moves[:, :3, 3], axis=1)
        assert (lengths > 0.75 * low).all()
        assert (lengths < 1.25 * high).all()
        assert np.abs(np.diff(moves[:, :3, 3], axis=0)).max() < 0.35 * high
        turns = np.degrees(np.arccos(np.clip((np.trace(moves[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
        assert turns.max() < 3
        if scene == "street":
            assert (moves[:, 2, 3] > 0.9 * lengths).all()


def test_rooms_are_closed_and_streets_have_a_sky() -> None:
    assert all((drive(index, scene="room", frames=2).depth > 0).all() for index in range(6))
    skies = np.array([(made.depth == 0) for made in (drive(i, scene="street", frames=2) for i in range(6))])
    assert 0 < skies.mean() < 0.25
    assert not skies[:, :, 40:].any()


def test_scenes_and_switches_are_drawn_as_often_as_documented() -> None:
    made = [drive(index, frames=2, size=(32, 64)) for index in range(40)]
    assert 0.1 < np.mean([one.moving.any() for one in made]) < 0.5
    assert 0.5 < np.mean([one.plain.any() for one in made]) < 0.9
    assert 0.25 < np.mean([one.depth.max() > 15 for one in made]) < 0.75


def test_each_split_draws_from_its_own_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = world.load_photos
    monkeypatch.setattr(world, "load_photos", lambda names: asked.append(names) or real(names))
    world._photos.cache_clear()
    for split in PHOTOS:
        drive(0, split=split, frames=2, size=(32, 32))
    assert asked == list(PHOTOS.values())


def test_the_camera_is_centred_and_as_wide_as_documented() -> None:
    made = drive(0, frames=2, size=(40, 100))
    np.testing.assert_allclose(made.intrinsics, [[58, 0, 49.5], [0, 58, 19.5], [0, 0, 1]])
    assert len(made) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tests"}, "no split `tests`.*did you mean `test`"),
        ({"scene": "rooms"}, "no scene `rooms`.*did you mean `room`"),
        ({"frames": 1}, "frames is 1, expected at least 2"),
        ({"seed": -1}, "seed is -1"),
        ({"index": -2}, "index is -2"),
        ({"size": (64, 16)}, r"size is \(64, 16\)"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        drive(**{"index": 0, **arguments})


def test_a_count_below_one_drive_is_refused() -> None:
    with pytest.raises(InputError, match="count is 0"):
        next(drives(0))


def test_export_and_read_back(tmp_path: Path) -> None:
    arguments = {"split": "test", "frames": 3, "size": (48, 96), "scene": "street", "moving": True}
    assert export(tmp_path / "kitti", 2, **arguments) == tmp_path / "kitti"
    for index, made in enumerate(drives(2, **arguments)):
        back = read_drive(tmp_path / "kitti" / "sequences" / f"{index:02d}")
        np.testing.assert_array_equal(back.pixels, made.pixels)
        np.testing.assert_allclose(back.poses, made.poses, atol=1e-9)
        np.testing.assert_allclose(back.intrinsics, made.intrinsics, rtol=1e-9)
        np.testing.assert_allclose(back.depth, made.depth, atol=1 / 512 + 1e-5)
        np.testing.assert_array_equal(back.depth == 0, made.depth == 0)
    lines = (tmp_path / "kitti" / "sequences" / "01" / "times.txt").read_text().splitlines()
    np.testing.assert_allclose([float(line) for line in lines], [0, 0.1, 0.2])
