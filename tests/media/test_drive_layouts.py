"""Readers of real drives, on trees small enough to know every number, and on real frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from chronocam.errors import MediaError
from chronocam.lab.data.drives import find_drives, read_drive
from chronocam.media.drives.text import read_poses

K = (60.0, 50.0, 31.5, 15.5)


def save_frames(
    folder: Path, count: int, size: tuple[int, int] = (32, 64), suffix: str = "png"
) -> np.ndarray:
    folder.mkdir(parents=True)
    frames = np.random.default_rng(count).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:06d}.{suffix}")
    return frames


def motions(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.3, (count, 3))).as_matrix()
    poses[:, :3, 3] = rng.normal(0, 2, (count, 3))
    return poses


def rows(matrices: np.ndarray) -> str:
    return "\n".join(" ".join(f"{value:.9e}" for value in matrix.ravel()) for matrix in matrices) + "\n"


def projection(baseline: float) -> np.ndarray:
    fx, fy, cx, cy = K
    return np.array([[fx, 0, cx, fx * baseline], [0, fy, cy, 0], [0, 0, 1, 0]])


def kitti(root: Path, name: str = "07", count: int = 4, poses: np.ndarray | None = None) -> np.ndarray:
    """Write a sequence whose camera 2 is 6 cm to the left of camera 0; return its frames."""
    sequence = root / "sequences" / name
    frames = save_frames(sequence / "image_2", count)
    lines = [
        f"P{number}: {rows(projection(baseline)[None])}"
        for number, baseline in enumerate((0, -0.5, 0.06, -0.4))
    ]
    (sequence / "calib.txt").write_text("".join(lines))
    if poses is not None:
        (root / "poses").mkdir(exist_ok=True)
        (root / "poses" / f"{name}.txt").write_text(rows(poses[:, :3]))
    return frames


def test_a_drive_of_kitti_odometry_has_poses_and_intrinsics(tmp_path: Path) -> None:
    poses = motions(4)
    frames = kitti(tmp_path, poses=poses)
    found = read_drive(tmp_path / "sequences" / "07")
    np.testing.assert_array_equal(found.pixels, frames)
    np.testing.assert_allclose(found.intrinsics, projection(0)[:, :3])
    assert found.depth is None
    assert found.name == "07"
    # a point that projects by P2 from camera 0 projects by K from camera 2
    point = np.array([0.3, -0.2, 5, 1])
    by_p2 = projection(0.06) @ point
    seen = found.intrinsics @ (np.linalg.inv(found.poses[2]) @ poses[2] @ point)[:3]
    np.testing.assert_allclose(seen, by_p2, rtol=1e-6)


def test_kitti_single_camera_and_no_poses(tmp_path: Path) -> None:
    poses = motions(4)
    kitti(tmp_path, poses=poses)
    grey = save_frames(tmp_path / "sequences" / "07" / "image_0", 4)
    found = read_drive(tmp_path / "sequences" / "07" / "image_0")
    np.testing.assert_array_equal(found.pixels, grey)
    np.testing.assert_allclose(found.poses, poses, atol=1e-8)
    (tmp_path / "poses" / "07.txt").unlink()
    assert read_drive(tmp_path / "sequences" / "07").poses is None


def mercator(records: np.ndarray) -> np.ndarray:
    """Return the inertial unit's poses with scipy's rotations and the map's textbook form, in degrees."""
    scale = np.cos(records[0, 0] * np.pi / 180)
    poses = np.tile(np.eye(4), (len(records), 1, 1))
    for pose, (lat, lon, alt, roll, pitch, yaw) in zip(poses, records, strict=True):
        pose[0, 3] = scale * 6378137 * np.pi * lon / 180
        pose[1, 3] = scale * 6378137 * np.log(np.tan((90 + lat) * np.pi / 360))
        pose[2, 3] = alt
        pose[:3, :3] = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix()
    return poses


RECORDS = np.array(
    [
        [49.015, 8.43, 112.8, 0.02, 0.01, -1.2],
        [49.015003, 8.430011, 112.9, 0.03, 0.0, -1.19],
        [49.015007, 8.430021, 112.9, 0.01, -0.02, -1.17],
    ]
)


def raw(root: Path, mounted: bool = True) -> Path:
    drive = root / "2011_09_26" / "2011_09_26_drive_0001_sync"
    save_frames(drive / "image_02" / "data", 3)
    (drive / "oxts" / "data").mkdir(parents=True)
    for number, record in enumerate(RECORDS):
        words = [repr(float(value)) for value in record] + ["0.5"] * 24
        (drive / "oxts" / "data" / f"{number:010d}.txt").write_text(" ".join(words) + "\n")
    level = Rotation.from_rotvec([0.01, -0.02, 0.005]).as_matrix()
    calibration = "calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.950000e-02\n"
    calibration += f"R_rect_00: {rows(level[None])}P_rect_02: {rows(projection(0.06)[None])}"
    (drive.parent / "calib_cam_to_cam.txt").write_text(calibration)
    for number, name in enumerate(("calib_velo_to_cam", "calib_imu_to_velo") if mounted else ()):
        pose = motions(2, seed=7)[number]
        text = f"calib_time: 15-Mar-2012 11:37:16\nR: {rows(pose[None, :3, :3])}T: {rows(pose[None, :3, 3])}"
        (drive.parent / f"{name}.txt").write_text(text)
    return drive


@pytest.mark.parametrize("mounted", [True, False])
def test_a_raw_drive_of_kitti_has_poses_and_intrinsics(tmp_path: Path, mounted: bool) -> None:
    found = read_drive(raw(tmp_path, mounted))
    np.testing.assert_allclose(found.intrinsics, projection(0)[:, :3])
    level, shift = np.eye(4), np.eye(4)
    level[:3, :3] = Rotation.from_rotvec([0.01, -0.02, 0.005]).as_matrix()
    shift[0, 3] = 0.06
    ahead = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    laser_to_camera, unit_to_laser = motions(2, seed=7)
    to_camera = shift @ level @ (laser_to_camera @ unit_to_laser if mounted else ahead)
    world = mercator(RECORDS) @ np.linalg.inv(to_camera)
    np.testing.assert_allclose(found.poses, np.linalg.inv(world[0]) @ world, atol=2e-5)
    assert found.poses.shape == (3, 4, 4)


def test_kitti_raw_ahead_is_z(tmp_path: Path) -> None:
    """A car that drives the way it looks moves along the camera's z."""
    drive = raw(tmp_path, mounted=False)
    (drive.parent / "calib_cam_to_cam.txt").write_text(
        f"R_rect_00: {rows(np.eye(3)[None])}P_rect_02: {rows(projection(0)[None])}"
    )
    for number in range(3):  # 1e-5 degrees of latitude to the north, at a yaw of 90 degrees: north
        record = f"{49 + number * 1e-5} 8.4 100 0 0 {np.pi / 2}"
        (drive / "oxts" / "data" / f"{number:010d}.txt").write_text(record)
    metre = 6378137 * np.radians(1e-5)
    np.testing.assert_allclose(
        read_drive(drive).poses[:, :3, 3], metre * np.outer(range(3), [0, 0, 1]), atol=1e-4
    )


def test_range_reads_no_other_frame(tmp_path: Path) -> None:
    poses = motions(6)
    frames = kitti(tmp_path, count=6, poses=poses)
    folder = tmp_path / "sequences" / "07" / "image_2"
    for number in (0, 1, 5):
        (folder / f"{number:06d}.png").write_bytes(b"no picture")
    found = read_drive(tmp_path / "sequences" / "07", start=2, stop=5)
    np.testing.assert_array_equal(found.pixels, frames[2:5])
    np.testing.assert_allclose(found.poses[:, :3, :3], poses[2:5, :3, :3], atol=1e-8)
    with pytest.raises(MediaError, match=r"000005.png` cannot be read"):
        read_drive(tmp_path / "sequences" / "07", start=2)


def test_frames_with_intrinsics_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    found = read_drive(tmp_path, K)
    assert found.pixels[:, 0, 0, 0].tolist() == [1, 9, 10]
    np.testing.assert_array_equal(found.intrinsics, [[60, 0, 31.5], [0, 50, 15.5], [0, 0, 1]])
    assert found.poses is None
    matrix = read_drive(tmp_path, np.array([[60, 0, 31.5], [0, 50, 15.5], [0, 0, 1]]))
    np.testing.assert_array_equal(matrix.intrinsics, found.intrinsics)


def test_prepared_folder_with_camera_and_poses(tmp_path: Path) -> None:
    save_frames(tmp_path / "scene", 3, suffix="jpg")
    (tmp_path / "scene" / "cam.txt").write_text("60,0,31.5\n0,50,15.5\n0,0,1\n")
    poses = motions(3)
    (tmp_path / "scene" / "poses.txt").write_text(rows(poses[:, :3]))
    found = read_drive(tmp_path / "scene")
    assert found.intrinsics[0].tolist() == [60, 0, 31.5]
    np.testing.assert_allclose(found.poses, poses, atol=1e-8)
    assert read_drive(tmp_path / "scene", (1, 2, 3, 4)).intrinsics[0].tolist() == [1, 0, 3]


def test_size_keeps_directions(tmp_path: Path) -> None:
    """The picture x / z, y / z of a world resizes to the same picture under the resized intrinsics."""
    fx, fy = K[:2]
    y, x = np.mgrid[:64, :128]
    intrinsics = (2 * fx, 2 * fy, 63.0, 30.0)
    picture = 120 + 80 * np.stack([(x - 63) / (2 * fx), (y - 30) / (2 * fy), 0 * x], -1)
    for number in range(2):
        (tmp_path / "rgb").mkdir(exist_ok=True)
        Image.fromarray(np.round(picture).astype(np.uint8)).save(tmp_path / "rgb" / f"{number}.png")
    (tmp_path / "depth").mkdir()
    depth = (np.arange(64)[:, None] * 128 + np.arange(128)).astype(np.float32)
    for number in range(2):
        np.save(tmp_path / "depth" / f"{number}.npy", depth)
    found = read_drive(tmp_path, intrinsics, size=(16, 32))
    np.testing.assert_allclose(found.intrinsics, [[0.5 * fx, 0, 15.375], [0, 0.5 * fy, 7.125], [0, 0, 1]])
    y, x = np.mgrid[2:14, 2:30]
    rays = np.linalg.inv(found.intrinsics) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1).astype(float)
    expected = 120 + 80 * rays[:2].T
    assert np.abs(found.pixels[0, 2:14, 2:30, :2].reshape(-1, 2) - expected).max() < 1.1
    np.testing.assert_array_equal(found.depth[0], depth[2::4, 2::4])


def test_depth_in_millimetres_and_metres(tmp_path: Path) -> None:
    save_frames(tmp_path / "color", 2)
    (tmp_path / "depth").mkdir()
    values = np.random.default_rng(0).integers(0, 60_000, (2, 32, 64)).astype(np.uint16)
    for number, depth in enumerate(values):
        Image.fromarray(depth).save(tmp_path / "depth" / f"{number}.png")
    np.testing.assert_allclose(read_drive(tmp_path, K).depth, values / 1000, rtol=1e-6)
    for number, depth in enumerate(values):
        (tmp_path / "depth" / f"{number}.png").unlink()
        Image.fromarray((depth / 1000).astype(np.float32)).save(tmp_path / "depth" / f"{number}.tiff")
    np.testing.assert_allclose(read_drive(tmp_path, K).depth, values / 1000, rtol=1e-6)


def test_a_video_is_a_drive(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from chronocam.media import read_clip, write_clip

    y, x = np.mgrid[:32, :64]
    frames = np.stack([np.stack([2 * x + 8 * t, 4 * y, 0 * x + 100], -1) for t in range(8)]).astype(np.uint8)
    write_clip(tmp_path / "drive.mp4", frames, 10)
    decoded = read_clip(tmp_path / "drive.mp4", frames=8, sampling="contiguous").pixels
    found = read_drive(tmp_path / "drive.mp4", K, start=2, stop=6)
    np.testing.assert_array_equal(found.pixels, decoded[2:6])
    assert found.name == "drive"
    small = read_drive(tmp_path / "drive.mp4", K, size=(16, 32))
    assert small.pixels.shape == (8, 16, 32, 3)
    np.testing.assert_allclose(small.intrinsics, [[30, 0, 15.5], [0, 25, 7.5], [0, 0, 1]])
    with pytest.raises(MediaError, match=r"stop = 9; expected frame numbers from 0 to 8"):
        read_drive(tmp_path / "drive.mp4", K, stop=9)
    with pytest.raises(MediaError, match="without intrinsics; pass intrinsics="):
        read_drive(tmp_path / "drive.mp4")


def test_pose_files_of_every_form(tmp_path: Path) -> None:
    poses = motions(3)
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    seven = np.concatenate([poses[:, :3, 3], quaternions], 1)
    log = "".join(f"{i} {i} {i + 1}\n" + rows(pose) for i, pose in enumerate(poses))
    forms = {
        "matrix": rows(poses),
        "top": "# header\n\n" + rows(poses[:, :3]),
        "quaternion": rows(seven),
        "stamped": rows(np.concatenate([np.arange(3)[:, None] + 0.1, seven], 1)),
        "log": log,
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        np.testing.assert_allclose(read_poses(tmp_path / name), poses, atol=1e-7)


def test_drives_are_found_below_a_folder(tmp_path: Path) -> None:
    kitti(tmp_path / "odometry", "00", poses=motions(4))
    kitti(tmp_path / "odometry", "11")
    drive = raw(tmp_path / "raw")
    save_frames(tmp_path / "other" / "walk", 2)
    save_frames(tmp_path / "other" / "room" / "color", 2)
    save_frames(tmp_path / "other" / "room" / "depth", 2)
    (tmp_path / "other" / "clip.mp4").write_bytes(b"not looked into")
    (tmp_path / "other" / ".cache").mkdir()
    (tmp_path / "other" / "loop").symlink_to(tmp_path / "other")
    sequences = tmp_path / "odometry" / "sequences"
    expected = [sequences / "00", sequences / "11", tmp_path / "other" / "clip.mp4"]
    expected += [tmp_path / "other" / "room", tmp_path / "other" / "walk", drive]
    assert find_drives(tmp_path) == expected
    assert find_drives(sequences / "11") == [sequences / "11"]
    assert read_drive(find_drives(drive)[0]).name == drive.name


def test_find_drives_finds_none(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no drives in"):
        find_drives(tmp_path)
    with pytest.raises(MediaError, match="does not exist"):
        find_drives(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("intrinsics", "message"),
    [
        ((0, 50, 3, 4), "singular: fx = 0, fy = 50"),
        ((60, -1, 3, 4), "singular"),
        ((60, np.nan, 3, 4), "not finite"),
        ((60, 50, 3), r"shape \(3,\)"),
        (np.ones((3, 3)), "not a camera matrix"),
        (None, "without intrinsics"),
    ],
)
def test_broken_intrinsics_are_refused(tmp_path: Path, intrinsics: object, message: str) -> None:
    save_frames(tmp_path / "walk", 2)
    with pytest.raises(MediaError, match=message) as caught:
        read_drive(tmp_path / "walk", intrinsics)
    assert "\n" not in str(caught.value)


def write(path: str, text: str):
    return lambda root: (root / path).write_text(text)


SEQUENCE = "sequences/07"
GOOD = "1 0 0 0 0 1 0 0 0 0 1 0\n"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (write(f"{SEQUENCE}/calib.txt", "P0: 1 2 3\n"), "calib.txt` has no line `P2:`"),
        (write(f"{SEQUENCE}/calib.txt", "P0: 1\nP2: 1 2 3\n"), "calib.txt` line 2: 3 numbers; expected 12"),
        (write(f"{SEQUENCE}/calib.txt", "P2: 0 0 0 0 0 1 0 0 0 0 1 0"), "calib.txt`: P2 are singular"),
        (write("poses/07.txt", GOOD * 2 + "1 0 0 x 0 1 0 0 0 0 1 0\n"), "07.txt` line 3: could not convert"),
        (write("poses/07.txt", GOOD + "1 0 0 0 0 1 0 0 0 0 1\n" + GOOD), "07.txt` line 2: 11 numbers"),
        (
            write("poses/07.txt", GOOD * 3 + GOOD.replace("1 0\n", "1 inf\n")),
            "07.txt` line 4: a number is not finite",
        ),
        (write("poses/07.txt", "2" + GOOD[1:] * 4), "07.txt` line 1: .* rotation|07.txt` line 1"),
        (write("poses/07.txt", GOOD * 3), "07.txt`: 3 poses for 4 frames"),
        (write("poses/07.txt", "\x00\xff"), "07.txt` line 1"),
        (lambda root: (root / "poses/07.txt").write_bytes(b"\xff\xfe\x00"), "07.txt` is not a text file"),
    ],
)
def test_broken_text_is_refused(tmp_path: Path, spoil: object, message: str) -> None:
    kitti(tmp_path, poses=motions(4))
    spoil(tmp_path)
    with pytest.raises(MediaError, match=message) as caught:
        read_drive(tmp_path / SEQUENCE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 0 0 0 0 2\n", "line 1: a quaternion of length 2"),
        ("0 0 1\n1 0 0 0\n0 1 0 0\n", "line 3: cut off"),
        ("0 0 1\n1 0 0 0\n0 1 0\n0 0 1 0\n0 0 0 1\n", "line 3: 3 numbers"),
        ("-1 0 0 0 0 1 0 0 0 0 1 0\n", "line 1: not a rigid motion"),
        ("1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 2\n", "line 1: not a rigid motion"),
    ],
)
def test_broken_poses_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "poses.txt").write_text(text)
    with pytest.raises(MediaError, match=message):
        read_poses(tmp_path / "poses.txt")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("", "line 1: empty"),
        ("49 8 100 0 0\n", "line 1: 5 numbers; expected 6"),
        ("90 8 100 0 0 0\n", "line 1: latitude 90"),
    ],
)
def test_broken_records_are_refused(tmp_path: Path, record: str, message: str) -> None:
    drive = raw(tmp_path)
    (drive / "oxts" / "data" / "0000000001.txt").write_text(record)
    with pytest.raises(MediaError, match="0000000001.txt` " + message):
        read_drive(drive)
    (drive / "oxts" / "data" / "0000000001.txt").unlink()
    with pytest.raises(MediaError, match="2 records for 3 frames"):
        read_drive(drive)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"intrinsic_matrix": [1, 2]}', '{"intrinsic_matrix": "x"}']
)
def test_a_broken_camera_file_is_refused(tmp_path: Path, text: str) -> None:
    save_frames(tmp_path / "color", 2)
    (tmp_path / "camera.json").write_text(text)
    with pytest.raises(MediaError, match=r"camera.json` holds no `intrinsic_matrix`"):
        read_drive(tmp_path)


def test_camera_of_open3d_is_column_by_column(tmp_path: Path) -> None:
    save_frames(tmp_path / "color", 2)
    (tmp_path / "camera.json").write_text('{"intrinsic_matrix": [60, 0, 0, 0, 50, 0, 31.5, 15.5, 1]}')
    assert read_drive(tmp_path).intrinsics.tolist() == [[60, 0, 31.5], [0, 50, 15.5], [0, 0, 1]]
    poses = "".join(f"{i} {i} {i}\n" + rows(np.eye(4)) for i in range(2))
    (tmp_path / "odometry.log").write_text(poses)
    with pytest.raises(MediaError, match="without intrinsics"):
        read_drive(tmp_path)


def test_frames_of_different_size(tmp_path: Path) -> None:
    save_frames(tmp_path / "walk", 2)
    Image.new("RGB", (65, 32)).save(tmp_path / "walk" / "000002.png")
    for size in (None, (16, 32)):
        with pytest.raises(
            MediaError, match=r"000002.png` is 32 x 65, `000000.png` 32 x 64; expected frames of one"
        ):
            read_drive(tmp_path / "walk", K, size=size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 1, "stop": 2}, r"gives 1 frame\(s\); expected at least two"),
        ({"start": -1}, "start = -1"),
        ({"stop": 5}, "stop = 5; expected frame numbers from 0 to 3"),
        ({"start": 3, "stop": 1}, "start = 3, stop = 1"),
        ({"size": (0, 4)}, r"size = \(0, 4\)"),
    ],
)
def test_ranges_and_sizes_that_do_not_fit_are_refused(tmp_path: Path, arguments: dict, message: str) -> None:
    save_frames(tmp_path / "walk", 3)
    with pytest.raises(MediaError, match=message):
        read_drive(tmp_path / "walk", K, **arguments)


def test_one_frame_is_too_few_for_a_drive(tmp_path: Path) -> None:
    save_frames(tmp_path / "walk", 1)
    with pytest.raises(MediaError, match=r"has 1 frame\(s\); expected at least two"):
        read_drive(tmp_path / "walk", K)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_depth_that_is_none(tmp_path: Path, value: float) -> None:
    save_frames(tmp_path / "color", 2)
    (tmp_path / "depth").mkdir()
    depth = np.ones((32, 64), np.float32)
    np.save(tmp_path / "depth" / "0.npy", depth)
    depth[3, 4] = value
    np.save(tmp_path / "depth" / "1.npy", depth)
    with pytest.raises(MediaError, match=r"1.npy` has negative or non-finite depth"):
        read_drive(tmp_path, K)


def test_depth_of_another_shape_count_or_kind(tmp_path: Path) -> None:
    save_frames(tmp_path / "color", 2)
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "0.npy", np.ones((32, 64)))
    with pytest.raises(MediaError, match="1 depth maps for 2 frames"):
        read_drive(tmp_path, K)
    np.save(tmp_path / "depth" / "1.npy", np.ones((32, 63)))
    with pytest.raises(MediaError, match=r"1.npy` is of shape \(32, 63\)"):
        read_drive(tmp_path, K)
    np.save(tmp_path / "depth" / "1.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(MediaError, match=r"1.npy` cannot be read as depth"):
        read_drive(tmp_path, K)


def test_paths_without_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        read_drive(tmp_path / "nowhere.mp4", K)
    with pytest.raises(MediaError, match="no pictures in"):
        read_drive(tmp_path, K)


@pytest.mark.parametrize(
    ("name", "camera", "least"),
    [("open3d", (525, 525, 319.5, 239.5), 33), ("slambook2", (518, 519, 325.5, 253.5), 20)],
)
def test_real_frames_agree_with_their_depth_and_poses(
    data: Path, name: str, camera: tuple[float, float, float, float], least: int
) -> None:
    if not (data / "rgbd" / name).is_dir():
        pytest.skip(f"rgbd/{name} is absent from the real data")
    found = read_drive(data / "rgbd" / name, camera, size=(240, 320))
    assert found.pixels.shape == (5, 240, 320, 3)
    assert 1 < np.median(found.depth[found.depth > 0]) < 4
    for target in (2, 3):
        z = found.depth[target].astype(float).ravel()
        y, x = np.mgrid[:240, :320].reshape(2, -1)
        points = np.linalg.inv(found.intrinsics) @ np.stack([x * z, y * z, z])
        move = np.linalg.inv(found.poses[target + 1]) @ found.poses[target]
        there = move[:3, :3] @ points + move[:3, 3:]
        u, v = (found.intrinsics @ there)[:2] / np.maximum(there[2], 1e-3)
        depth = map_coordinates(found.depth[target + 1], [v, u], order=0)
        seen = (z > 0) & (depth > 0) & (np.abs(depth - there[2]) < 0.05 * there[2])
        assert seen.mean() > 0.2
        warped = np.stack(
            [map_coordinates(found.pixels[target + 1, ..., c] * 1.0, [v, u], order=1) for c in range(3)], 1
        )
        error = ((warped - found.pixels[target].reshape(-1, 3)) ** 2)[seen].mean()
        assert 10 * np.log10(255**2 / error) > least
