"""The command line on drives: numbers against the networks themselves, files, and one line for errors."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from helpers import run
from PIL import Image

import chronocam as cc
from chronocam.lab.data.drives import export, read_drive
from chronocam.media import Preprocess, read_clip, write_clip
from chronocam.media.drives.intrinsics import resize_intrinsics
from chronocam.odometry import SFMLEARNER, pose_to_matrix, rotation_angle
from chronocam.records import NoiseAgreement
from chronocam.runs.drives import read
from chronocam.runs.drives.job import common_findings, unsteady
from chronocam.runs.drives.networks import Networks, Windows, networks_of
from chronocam.runs.drives.read import read_frames
from chronocam.runs.drives.study import NetworkMaps
from chronocam.runs.drives.targets import DriveScene, drive_targets
from chronocam.types import Finding, TargetInfo
from chronocam.types.findings import note

FACTORY = """
import torch
from torch import nn
from chronocam.media import Preprocess
from chronocam.lab.models.odometry import Odometry
from chronocam.models.odometry.nets import DepthNet, PoseNet

FRAME = Preprocess((64, 96), None, (0.5,) * 3, (0.5,) * 3)

def louder(net):
    with torch.no_grad():
        net.pose_pred.weight *= 30
    return net

def both():
    torch.manual_seed(0)
    net = Odometry(0.125, 0.25)
    louder(net.pose)
    return net.eval(), FRAME, None

def pose():
    torch.manual_seed(0)
    return louder(PoseNet(2, 0.25)).eval(), FRAME, None

def depth():
    torch.manual_seed(0)
    return DepthNet(0.125).eval(), FRAME, None

def broken():
    net, *rest = both()
    nn.init.constant_(net.depth.predict_disp1[0].bias, float("nan"))
    return net, *rest

def clips():
    from chronocam.media import ClipPreprocess
    net, frame, _ = both()
    return net, ClipPreprocess(frame, 8), None

class Five(PoseNet):
    def poses(self, x):
        return super().poses(x)[..., :5]

def five():
    net, *rest = both()
    net.pose = Five(1, 0.25)
    return net, *rest
"""
SIZE = (48, 72)


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("kitti"), 1, frames=7, size=SIZE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drive_cli_factory.py").write_text(FACTORY)
    yield tmp_path
    sys.modules.pop("drive_cli_factory", None)
    torch.set_num_threads(threads)


def explain(*args: Any, net: str = "both") -> Result:
    return run("explain", *args, "--model", f"python:drive_cli_factory:{net}", "--out", "out")


def explained(*args: Any, net: str = "both") -> dict[str, Any]:
    done = explain(*args, "--json", net=net)
    assert done.exit_code == 0, done.stderr
    (result,) = json.loads(done.stdout)["inputs"]
    return dict(result)


def sequence(drives: Path) -> Path:
    return drives / "sequences" / "00"


def seen(path: Path, net: str = "both") -> tuple[Any, torch.Tensor]:
    """Return the model and the frames of a drive as it takes them."""
    loaded = cc.models.load(f"python:drive_cli_factory:{net}")
    pictures = [Image.fromarray(frame) for frame in read_drive(path).pixels]
    return loaded.model, torch.from_numpy(np.stack([loaded.preprocess(one) for one in pictures]))


# Numbers


def test_outputs_are_those_of_pairs_and_losses_those_of_the_library(folder: Path, drives: Path) -> None:
    asked = (
        "tz",
        "-tz",
        "ry",
        "translation",
        "-rotation",
        "loss",
        "photometric",
        "depth-loss",
        "depth-smoothness",
    )
    result = explained(sequence(drives), *(f"--target={one}" for one in asked), "--method", "gradcam")
    model, frames = seen(sequence(drives))
    with torch.no_grad():
        poses = torch.cat([model.pose(torch.cat([a, b])[None]) for a, b in pairwise(frames)])
        levels = model.depth.disparities(frames[:-1])
        matrix = resize_intrinsics(read_drive(sequence(drives)).intrinsics, SIZE, (64, 96))
        pictures = 0.5 * frames + 0.5
        inputs = pictures[:-1], pictures[1:, None]
        terms = SFMLEARNER(*inputs, levels, poses[:, None], matrix)
        finest = SFMLEARNER(*inputs, 1 / levels[0], poses[:, None], matrix)
        angle = rotation_angle(pose_to_matrix(poses)[:, :3, :3])
    assert result["frames"] == [0, 1, 2, 3, 4, 5]
    assert result["sources"] == [[1, 2, 3, 4, 5, 6]]
    np.testing.assert_allclose(np.array(result["outputs"]["poses"])[:, 0], poses, rtol=1e-4, atol=1e-8)
    expected = {
        "tz": poses[:, 2],
        "-tz": -poses[:, 2],
        "ry": poses[:, 4],
        "translation": poses[:, :3].norm(dim=1),
        "-rotation": -angle,
        "loss": -terms.total,
        "photometric": -terms.photometric,
        "depth-loss": -finest.total,
        "depth-smoothness": -finest.smoothness,
    }
    scores = {entry["target"]: entry["scores"] for entry in result["maps"]}
    assert list(scores) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=2e-4, atol=1e-8, err_msg=name)
    for name in ("total", "photometric", "smoothness"):
        np.testing.assert_allclose(result["losses"][name], getattr(terms, name), rtol=2e-4)
    np.testing.assert_allclose(
        result["depth"]["median"], (1 / levels[0]).flatten(1).quantile(0.5, dim=1), rtol=1e-3
    )
    agreement = {entry["target"]: entry["noise_agreement"] for entry in result["maps"]}
    assert {name for name, found in agreement.items() if found} == {
        name for name in expected if "o" in name
    } - {
        "translation",
        "-rotation",
    }
    assert -1 <= agreement["loss"]["spearman"] <= 1
    assert agreement["loss"]["moments"] == 6


def test_maps_are_those_of_the_library_and_are_kept(folder: Path, drives: Path) -> None:
    asked = ("--target", "tz", "--target=-tz", "--layer", "pose.conv4", "--target", "depth@30,20")
    result = explained(sequence(drives), *asked)
    model, frames = seen(sequence(drives))
    pairs = torch.cat([frames[:-1], frames[1:]], dim=1)
    expected = cc.GradCAM(model.pose, "conv4").explain(pairs, cc.targets.Regression(2)).maps[:, 0]
    kept = cc.load(result["maps"][0]["maps"])
    np.testing.assert_allclose(kept.maps[:, 0], expected, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(kept.maps[:, 1], -expected, rtol=1e-4, atol=1e-9)
    assert [info.name for info in kept.targets[0]] == ["tz", "-tz"]
    assert result["maps"][0]["layer"] == "pose.conv4"
    # Depth at a pixel: cell by cell, at a layer of the decoder.
    entry = result["maps"][2]
    assert (entry["method"], entry["layer"], entry["grid"]) == ("hirescam", "depth.iconv4", [8, 12])
    with torch.no_grad():
        depth = model.depth(frames[:-1])[:, 0]
    row, column = int(20.5 * 64 / 48), int(30.5 * 96 / 72)
    np.testing.assert_allclose(entry["scores"], depth[:, row, column], rtol=1e-4)
    where = cc.targets.Region((column, row))
    maps = cc.HiResCAM(model.depth, "iconv4").explain(frames[:-1], where).maps
    np.testing.assert_allclose(cc.load(entry["maps"]).maps, maps, rtol=1e-3, atol=1e-7)


def test_truth_is_told_and_the_path_scaled_by_least_squares(folder: Path, drives: Path) -> None:
    result = explained(
        sequence(drives), "--target", "tz", "--target", "rotation", "--target", "depth@10,10,50,30"
    )
    drive = read_drive(sequence(drives))
    assert drive.poses is not None
    assert drive.depth is not None
    backward = np.linalg.inv(drive.poses[1:]) @ drive.poses[:-1]
    truth = {entry["target"]: entry["truth"] for entry in result["maps"]}
    np.testing.assert_allclose(truth["tz"], backward[:, 2, 3], atol=1e-5)
    cosine = (np.trace(backward[:, :3, :3], axis1=1, axis2=2) - 1) / 2
    np.testing.assert_allclose(np.cos(truth["rotation"]), cosine, atol=1e-6)
    boxes = [one[10:30, 10:50] for one in drive.depth[:-1]]
    np.testing.assert_allclose(truth["depth@10,10,50,30"], [box[box > 0].mean() for box in boxes], rtol=0.03)
    # The path: poses of the network, each inverted, one after the other.
    here, places = np.eye(4), [np.zeros(3)]
    for pose in torch.tensor(result["outputs"]["poses"], dtype=torch.float64)[:, 0]:
        here = here @ np.linalg.inv(pose_to_matrix(pose).numpy())
        places.append(here[:3, 3])
    np.testing.assert_allclose(result["path"]["positions"], places, atol=1e-6)
    true = (np.linalg.inv(drive.poses[0]) @ drive.poses)[:, :3, 3]
    np.testing.assert_allclose(result["path"]["truth"], true, atol=1e-6)
    (scale,), *_ = np.linalg.lstsq(np.ravel(places)[:, None], true.ravel(), rcond=None)
    assert result["path"]["scale"] == pytest.approx(scale, rel=1e-4)
    assert "losses" not in result  # which need a camera, and nothing else here does


def test_a_network_of_two_sources_sees_its_target_in_the_middle(folder: Path, drives: Path) -> None:
    asked = ("--target", "tz", "--target", "tz of source 1", "--target", "translation")
    result = explained(sequence(drives), *asked, net="pose")
    model, frames = seen(sequence(drives), "pose")
    with torch.no_grad():
        out = model(torch.cat([frames[1:-1], frames[:-2], frames[2:]], dim=1))
    assert result["frames"] == [1, 2, 3, 4, 5]
    assert result["sources"] == [[0, 1, 2, 3, 4], [2, 3, 4, 5, 6]]
    after, before, length = (entry["scores"] for entry in result["maps"])
    np.testing.assert_allclose(before, out[:, 2], rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(after, out[:, 8], rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(length, out[:, 6:9].norm(dim=1), rtol=1e-4)
    assert result["maps"][0]["layer"].startswith("conv")


def test_a_depth_network_alone_explains_every_frame(folder: Path, drives: Path) -> None:
    result = explained(sequence(drives), net="depth")
    model, frames = seen(sequence(drives), "depth")
    with torch.no_grad():
        np.testing.assert_allclose(result["maps"][0]["scores"], model(frames).mean(dim=(1, 2, 3)), rtol=1e-4)
    assert result["frames"] == list(range(7))
    assert "path" not in result


# Frames


def test_start_is_seconds_of_a_video_and_a_number_in_a_folder(folder: Path, drives: Path) -> None:
    write_clip("drive.mp4", read_drive(sequence(drives)).pixels, 10)
    video = explained("drive.mp4", "--target", "tz", "--start", "0.2", "--frames", "4")
    assert video["frames"] == [2, 3, 4]
    np.testing.assert_allclose(video["seconds"], [0.2, 0.3, 0.4], atol=1e-3)
    assert video["intrinsics"] is None
    still = explained(sequence(drives), "--target", "tz", "--start", "2", "--frames", "4")
    assert still["frames"] == [2, 3, 4]
    assert still["seconds"] is None
    played = read_clip(video["maps"][0]["video"], 3)
    assert len(played.unique) == 3
    np.testing.assert_allclose(np.diff(played.seconds), 0.1, atol=1e-3)


def test_reading_in_pieces_changes_nothing(
    folder: Path, drives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Preprocess((64, 96), None, (0.5,) * 3, (0.5,) * 3)
    whole = read_frames(sequence(drives), recipe, 7, None, None, True)
    monkeypatch.setattr(read, "_CHUNK", 3)  # 3 and 4: a single frame is no piece
    pieces = read_frames(sequence(drives), recipe, 7, None, None, True)
    for name in ("inputs", "small", "numbers", "poses", "depth", "intrinsics"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))
    assert len(whole.inputs) == 7


def test_the_camera_of_the_view_follows_resize_and_crop(drives: Path) -> None:
    plain = read_frames(
        sequence(drives), Preprocess((64, 90), None, (0.5,) * 3, (0.5,) * 3), 2, None, None, True
    )
    known = read_drive(sequence(drives)).intrinsics
    recipe = Preprocess((64, 90), None, (0.5,) * 3, (0.5,) * 3)
    np.testing.assert_allclose(
        plain.view_intrinsics(recipe), resize_intrinsics(known, SIZE, (64, 90)), rtol=1e-12
    )
    recipe = Preprocess(
        96, (64, 90), (0.5,) * 3, (0.5,) * 3
    )  # 96 × 144, then 16 and 27 off at the top and left
    cut = read_frames(sequence(drives), recipe, 2, None, None, True)
    expected = resize_intrinsics(known, SIZE, (96, 144)) - [[0, 0, 27], [0, 0, 16], [0, 0, 0]]
    np.testing.assert_allclose(cut.view_intrinsics(recipe), expected, rtol=1e-12)


def test_windows_hold_the_frames_that_a_network_sees() -> None:
    frames = np.arange(6, dtype=np.float32)[:, None, None, None] * np.ones((6, 3, 1, 1), np.float32)
    windows = Windows(frames, (-1, 1))
    assert windows[0:4][:, ::3, 0, 0].tolist() == [[1, 0, 2], [2, 1, 3], [3, 2, 4], [4, 3, 5]]
    assert windows[[3, 0]][:, 0, 0, 0].tolist() == [4, 1]
    assert np.concatenate(list(windows.batches("depth"))).shape == (4, 3, 1, 1)


def test_a_box_in_the_frames_is_one_in_the_depth(folder: Path) -> None:
    networks = networks_of(cc.models.load("python:drive_cli_factory:both").model)
    assert networks is not None
    recipe = Preprocess((64, 96), None, (0.5,) * 3, (0.5,) * 3)
    scene = DriveScene(networks, recipe, (192, 128), None)  # twice the network's size
    inside, pixel = drive_targets(["depth@20,10,40,32", "depth@191,127"], networks, "mine")
    expected = np.zeros((64, 96), bool)
    expected[5:16, 10:20] = True
    np.testing.assert_array_equal(scene.mask(inside, (64, 96)), expected)
    assert np.argwhere(scene.mask(pixel, (64, 96))).tolist() == [[63, 95]]


def test_findings_that_moments_share_are_told_once() -> None:
    info = (TargetInfo("tz"),)
    weak = "the gradient is next to nothing: `conv4` moves the score"
    findings = (
        note("a note"),
        Finding("small gradient", 3, "tz", f"sample 3, tz: {weak} of 1"),
        Finding("small gradient", 4, "tz", f"sample 4, tz: {weak} of 2: look: again"),
        Finding("zero map", 4, "ry", "sample 4, ry: the map is zero"),
    )
    maps = np.zeros((1, 1, 2, 2), np.float32)
    explanation = cc.Explanation(maps, np.zeros((1, 1), np.float32), (info,), "gradcam", "conv4", (4, 4))
    one = NetworkMaps("pose", "gradcam", replace(explanation, findings=findings), [], at_default=False)
    told = common_findings([one, one], Networks(None, None, joint=True))
    assert told[1:] == [
        "pose, gradcam: a note",
        f"pose, gradcam: moment 3, tz: {weak} of 1 (and 1 more moments like it)",
        "pose, gradcam: moment 4, ry: the map is zero",
    ]


def agreement(spearman: float) -> NoiseAgreement:
    return NoiseAgreement(spearman=spearman, cosine=0.5, moments=8, draws=4)


def test_maps_that_noise_changes_are_told() -> None:
    (told,) = unsteady({"loss": agreement(0.31), "photometric": agreement(0.9)})
    assert told.startswith("loss: ")
    assert "0.31" in told


# Files


def test_a_drive_gives_videos_maps_a_sheet_and_json(folder: Path, drives: Path) -> None:
    done = explain(sequence(drives), "--json")
    assert done.exit_code == 0, done.stderr
    (result,) = json.loads(done.stdout)["inputs"]
    videos = {f"00.gradcam.{name}.mp4" for name in ("0-tz", "1-ry", "2-loss")}
    others = {"00.depth.mp4", "00.depth.npz", "00.pose.gradcam.npz", "00.sheet.png", "00.json"}
    assert {path.name for path in (folder / "out").iterdir()} == videos | others
    assert json.loads((folder / "out" / "00.json").read_text())["maps"] == result["maps"]
    assert Image.open(result["sheet"]).width > 1000
    assert any("no scale" in finding for finding in result["diagnostics"])
    assert read_clip(result["depth_video"], 6).pixels.shape == (6, *SIZE, 3)
    tz = result["maps"][0]
    video = read_clip(tz["video"], 6)
    assert video.pixels.shape == (6, *SIZE, 3)
    # One scale over all frames: the more a map holds, the more a frame is changed.
    pixels = read_drive(sequence(drives)).pixels[:-1].astype(float)
    changed = np.abs(video.pixels - pixels).mean(axis=(1, 2, 3))
    held = np.abs(cc.load(tz["maps"]).maps[:, 0]).mean(axis=(1, 2))
    assert changed[held.argmax()] > changed[held.argmin()]
    for box in tz["boxes"]:
        assert box is None or (0 <= box[0] < box[2] <= SIZE[1] and 0 <= box[1] < box[3] <= SIZE[0])


def test_layers_and_methods_are_explained_one_by_one(folder: Path, drives: Path) -> None:
    layers = ("--layer", "pose.conv3", "--layer", "pose.conv4", "--layer", "depth.iconv3")
    asked = ("--target", "tz", "--target", "depth", "--method", "gradcam", "--method", "layercam")
    result = explained(sequence(drives), *asked, *layers, "--frames", "3")
    found = {(entry["target"], entry["method"], entry["layer"]) for entry in result["maps"]}
    of_pose = {
        ("tz", method, layer) for method in ("gradcam", "layercam") for layer in ("pose.conv3", "pose.conv4")
    }
    assert found == of_pose | {("depth", method, "depth.iconv3") for method in ("gradcam", "layercam")}
    assert len({entry["video"] for entry in result["maps"]}) == 6


def test_layers_of_both_networks_are_listed(folder: Path) -> None:
    done = run("layers", "python:drive_cli_factory:both", "--json")
    rows = {row["path"]: row for row in json.loads(done.stdout)}
    assert rows["pose.conv4"]["grid"] == [4, 6]
    assert rows["depth.iconv4"]["grid"] == [8, 12]
    assert [path for path, row in rows.items() if row["default"]] == ["pose.conv5", "depth.iconv4"]
    done = run("layers", "python:drive_cli_factory:pose", "--json")
    assert "conv4" in {row["path"] for row in json.loads(done.stdout)}


# What is wrong


@pytest.mark.parametrize(
    ("args", "net", "told"),
    [
        (["frames", "--target", "loss"], "both", "--intrinsics fx,fy,cx,cy"),
        (["uneven", "--target", "tz"], "both", "frames of one size"),
        (["single", "--target", "tz"], "both", "expected at least two"),
        (["frames", "--target", "tz", "--frames", "1"], "both", "has no motion"),
        (["frames", "--target", "tz", "--start", "5"], "both", "it has 3 frames"),
        (["frames", "--target", "tz", "--start", "0.5"], "both", "has no clock"),
        (["frames", "--target", "tz", "--frames", "2"], "pose", "sees 3 at a time"),
        (["frames", "--target", "depth@72,10"], "both", "x, y from 0 to 72 and 0 to 48"),
        (["frames", "--target", "tz"], "broken", "depth is not positive and finite"),
        (["frames", "--target", "tz"], "five", "expected poses (2, 1, 6)"),
    ],
)
def test_what_is_wrong_with_a_drive_is_one_line(
    folder: Path, drives: Path, args: list[str], net: str, told: str
) -> None:
    pixels = read_drive(sequence(drives)).pixels
    for name, count in (("frames", 3), ("uneven", 3), ("single", 1)):
        (folder / name).mkdir()
        for k in range(count):
            small = slice(None, 40) if name == "uneven" and k == 2 else slice(None)
            Image.fromarray(pixels[k][small]).save(folder / name / f"{k}.png")
    done = explain(*args, net=net)
    assert done.exit_code == 1
    line = done.stderr.strip().splitlines()[0]
    assert told in line
    assert line.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "net", "told"),
    [
        (["--target", "tq"], "both", "no target `tq`"),
        (["--target", "phototropic"], "both", "did you mean `photometric`"),
        (["--target", "tz@3,4"], "both", "expected depth@x,y"),
        (["--target", "depth@3,4,5"], "both", "expected depth@x,y"),
        (["--target", "depth"], "pose", "has no network for depth"),
        (["--target", "loss"], "depth", "has no network for pose"),
        (["--target", "loss"], "pose", "a loss needs depth and motion"),
        (["--target", "tz of source 3"], "pose", "no source 3"),
        (["--target", "loss of source 1"], "both", "loss has no sources"),
        (["--layer", "conv4"], "both", "such as pose.conv4"),
        (["--layer", "pose.conv9"], "both", "no layer `conv9`"),
        (["--layer", "depth.iconv4", "--target", "tz"], "both", "which no target uses"),
        (["--target", "tz"], "clips", "expected a Preprocess of a frame"),
        (
            ["--pool", "clip"],
            "both",
            "--pool is for maps of clips, but `python:drive_cli_factory:both` takes drives; drop --pool",
        ),
        (["--method", "lrp"], "both", "methods of maps"),
    ],
)
def test_what_is_wrong_with_a_call_is_one_line(
    folder: Path, drives: Path, args: list[str], net: str, told: str
) -> None:
    done = explain(sequence(drives), *args, net=net)
    assert done.exit_code == 1
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("given", ["0,500,320,240", "500,500,320", "a,b,c,d", "nan,1,1,1"])
def test_a_camera_that_is_none_is_a_usage_error(folder: Path, drives: Path, given: str) -> None:
    assert explain(sequence(drives), "--intrinsics", given).exit_code == 2


def test_intrinsics_are_for_drives(folder: Path, drives: Path) -> None:
    done = run("explain", sequence(drives), "--model", "chronocam:digits", "--intrinsics", "1,1,1,1")
    assert done.exit_code == 1
    assert "--intrinsics is for networks for depth and motion" in done.stderr
