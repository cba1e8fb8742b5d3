"""Training of depth and motion: snippets, runs that end where they should, figures against known answers."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import run
from safetensors.torch import load_file
from torch import nn

from chronocam.cli.train.odometry import command
from chronocam.errors import InputError, MediaError
from chronocam.lab.data.drives import drive, export
from chronocam.lab.models.odometry import Odometry, side_by_side
from chronocam.lab.train import OdometrySettings, train_odometry
from chronocam.lab.train.odometry.footage import Footage, Rendered, find_footage, pieces
from chronocam.lab.train.odometry.measure import measure
from chronocam.lab.train.odometry.module import OdometryModule, augment, loss_of, unit
from chronocam.media import write_clip
from chronocam.models import load
from chronocam.odometry import MONODEPTH2, SFMLEARNER, matrix_to_pose, relative_pose

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (32, 48)


def settings(data: Path | str, out: Path, **more: Any) -> OdometrySettings:
    usual: dict[str, Any] = {
        "loss": "sfmlearner",
        "depth_width": 0.125,
        "pose_width": 0.25,
        "accelerator": "cpu",
    }
    small: dict[str, Any] = {"height": SIZE[0], "width": SIZE[1], "epochs": 1, "batch_size": 4}
    return OdometrySettings(**usual | small | {"data": str(data), "out": out} | more)


def rendered(out: Path, **more: Any) -> OdometrySettings:
    return settings("drives", out, drives=2, held_out=2, **more)


# Snippets


def test_a_snippet_is_a_frame_between_its_neighbours() -> None:
    reels = [Rendered(index, "train", SIZE) for index in range(2)]
    footage = Footage(reels)
    assert len(footage) == 6
    second = drive(1, split="train", size=SIZE)
    pixels, intrinsics = footage.snippet(4)
    np.testing.assert_array_equal(pixels, second.pixels[1:4])
    np.testing.assert_array_equal(intrinsics, second.intrinsics)


def test_kept_frames_are_the_frames(tmp_path: Path) -> None:
    footage = Footage([Rendered(index, "train", SIZE) for index in range(2)])
    for _ in range(2):  # decoded, then found
        kept = footage.cached(tmp_path, SIZE, lambda numbers, _: numbers)
        for index in range(len(footage)):
            for one, other in zip(kept.snippet(index), footage.snippet(index), strict=True):
                np.testing.assert_array_equal(one, other)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    other = Footage([Rendered(index, "test", SIZE) for index in range(2)]).cached(
        tmp_path, SIZE, lambda n, _: n
    )
    assert not np.array_equal(other.snippet(0)[0], kept.snippet(0)[0])


@pytest.mark.parametrize("count", [2, 3, 64, 65, 66, 129, 200])
def test_pieces_cover_all_frames_and_none_is_single(count: int) -> None:
    found = list(pieces(count, 64))
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == count
    assert all(stop - start > 1 for start, stop in found)


def test_a_single_drive_is_divided_in_time(tmp_path: Path) -> None:
    export(tmp_path / "kitti", 1, frames=40, size=SIZE)
    found = find_footage(settings(tmp_path / "kitti", tmp_path))
    spans = {name: [(reel.first, reel.last) for reel in reels] for name, reels in found.parts.items()}
    assert spans == {"train": [(0, 32)], "validation": [(32, 36)], "test": [(36, 40)]}
    (test,) = found.parts["test"]
    part = test.read(1, 4)
    whole = drive(0, split="train", frames=40, size=SIZE)
    np.testing.assert_array_equal(part.pixels, whole.pixels[37:40])
    np.testing.assert_allclose(part.poses, whole.poses[37:40], atol=1e-5)


def test_drives_of_a_folder_are_divided_and_bad_ones_named(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    grey = [np.full((*SIZE, 3), 90, np.uint8)] * 30
    for number in range(4):
        write_clip(folder / f"{number}.mp4", grey, 10)
    write_clip(folder / "short.mp4", grey[:4], 10)
    found = find_footage(settings(folder, tmp_path, intrinsics=(40.0, 40.0, 24.0, 16.0)))
    assert found.unread == ["short.mp4"]
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 2, "validation": 1, "test": 1}
    assert len({reel.path for part in found.parts.values() for reel in part}) == 4
    with pytest.raises(MediaError, match=r"none of 5 drives can be read; .* without intrinsics"):
        find_footage(settings(folder, tmp_path))


# Steps


def test_mirrored_views_come_with_the_intrinsics_that_fit() -> None:
    """A point seen at x is seen at W − 1 − x by the mirrored camera, whose x axis points the other way."""
    pixels = torch.randint(
        256, (16, 3, 4, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    intrinsics = torch.tensor([[7.0, 0, 2.0], [0, 7.0, 1.5], [0, 0, 1]]).expand(16, 3, 3)
    torch.manual_seed(1)
    views, matrix = augment(pixels, intrinsics, True)
    plain = unit(pixels)
    ratio = views.mean((1, 2, 3, 4)) / plain.mean((1, 2, 3, 4))
    assert 0.75 < ratio.min() < 0.95 < 1.05 < ratio.max() < 1.25
    mirrored = matrix[:, 0, 2] != 2.0
    assert 3 < mirrored.sum() < 13
    point = torch.tensor([0.3, 0.1, 1.0])
    here, there = (intrinsics[0] @ point)[0], (matrix @ (point * torch.tensor([-1.0, 1, 1])))[:, 0]
    torch.testing.assert_close(there[mirrored], (6 - 1 - here).expand(int(mirrored.sum())))
    for row in range(16):
        expected = plain[row].flip(3) if mirrored[row] else plain[row]
        gain = views[row].sum() / expected.sum()
        torch.testing.assert_close(views[row], (expected * gain).clamp(0, 1), atol=0.02, rtol=0.05)
    still, same = augment(pixels, intrinsics, False)
    assert torch.equal(same, intrinsics)
    assert still.shape == views.shape


def test_the_loss_is_that_of_the_networks_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Odometry(0.125, 0.25, masks=True).eval()
    module = OdometryModule(network, rendered(tmp_path, masks=True), {})
    views = torch.rand(2, 3, 3, *SIZE)
    intrinsics = torch.tensor([[40.0, 0, 23.5], [0, 40.0, 15.5], [0, 0, 1]]).expand(2, 3, 3)
    with torch.no_grad():
        found = module(views, intrinsics)
        frames = 2 * views - 1
        poses, masks = [], []
        for source in (0, 2):
            pair = torch.cat([frames[:, 1], frames[:, source]], dim=1)
            poses.append(network.pose.poses(pair))
            masks.append(network.pose.masks(pair))
        joined = [torch.cat(of_scale, dim=1) for of_scale in zip(*masks, strict=True)]
        disparities = network.depth.disparities(frames[:, 1])
        expected = SFMLEARNER(
            views[:, 1], views[:, ::2], disparities, torch.cat(poses, dim=1), intrinsics, joined
        )
    torch.testing.assert_close(found.total, expected.total, rtol=1e-4, atol=1e-6)
    assert (found.mask > 0).all()


def test_settings_change_the_loss(tmp_path: Path) -> None:
    assert loss_of(rendered(tmp_path)) == SFMLEARNER
    assert loss_of(rendered(tmp_path, loss="monodepth2")) == MONODEPTH2
    changed = loss_of(
        rendered(tmp_path, photometric="ssim", auto_mask=True, smooth="edge", smooth_weight=0.1)
    )
    assert (changed.photometric, changed.auto_mask, changed.smooth, changed.smooth_weight) == (
        "ssim",
        True,
        "edge",
        0.1,
    )
    assert not loss_of(rendered(tmp_path, loss="monodepth2", full_resolution=False)).full_resolution


# Runs


def _close(one: Any, other: Any) -> None:
    """Compare figures that were rounded to four digits: the last may differ from run to run."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            _close(value, other[key])
    else:
        assert one == pytest.approx(other, abs=2e-4)


def test_a_run_writes_networks_that_load_again_and_learn_nothing_else(tmp_path: Path) -> None:
    path = train_odometry(rendered(tmp_path / "out", epochs=2, half=True))
    loaded, record = load(str(path)), json.loads(path.read_text())
    assert loaded.labels == ("tx", "ty", "tz", "rx", "ry", "rz")
    assert loaded.preprocess.resize == SIZE
    stored = load_file(path.with_suffix(".safetensors"))
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(weight, stored[name].float())
    lowest = min(record["epochs"], key=lambda row: row["val_loss"])
    assert record["best epoch"] == lowest["epoch"]
    assert record["drives"] == {"train": 2, "validation": 1, "test": 2}
    again = measure(loaded.model, [Rendered(index, "test", SIZE) for index in range(2)])
    _close(record["held-out"], again)
    assert set(again["motion"]) == {"network", "straight ahead", "standing still"}
    with pytest.raises(InputError, match="holds a run already"):
        train_odometry(rendered(tmp_path / "out"))


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_odometry(rendered(tmp_path / "whole", epochs=3))
    seen = OdometryModule.on_train_epoch_end

    def stop(module: OdometryModule) -> None:
        seen(module)
        if module.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OdometryModule, "on_train_epoch_end", stop)
        with pytest.raises(BaseException):  # noqa: B017, PT011  # Lightning ends the process in its own way
            train_odometry(rendered(tmp_path / "parts", epochs=3))
    resumed = train_odometry(rendered(tmp_path / "parts", epochs=3, resume=True))
    for name, weight in load_file(whole.with_suffix(".safetensors")).items():
        assert torch.equal(weight, load_file(resumed.with_suffix(".safetensors"))[name])


def test_the_command_prints_the_figures_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    options = {option.name: option.default for option in command.params}
    for field in fields(OdometrySettings):
        assert field.name in options
    given = [
        "--data",
        "drives",
        "--drives",
        "1",
        "--held-out",
        "2",
        "--epochs",
        "1",
        "--height",
        "32",
        "--width",
        "48",
    ]
    slim = ["--depth-width", "0.125", "--pose-width", "0.25", "--loss", "sfmlearner"]
    found = run("train", "odometry", *given, *slim, "--out", str(tmp_path / "out"))
    assert found.exit_code == 0, found.output
    assert "motion, standing still: ate" in found.stdout
    assert "depth, network: abs rel" in found.stdout
    for wrong, words in (
        (["--intrinsics", "1,2,3"], "expected fx,fy,cx,cy"),
        (["--masks"], ""),
        (["--lr", "0"], "lr is 0.0, expected more than 0"),
    ):
        refused = run("train", "odometry", *given, *wrong, "--out", str(tmp_path / "b"))
        assert refused.exit_code in (1, 2)
        assert words in refused.output


# Figures


class Knowing(Odometry):
    """Networks that know the truth of one drive, up to scale and a turn about y."""

    def __init__(self, index: int, turn: float = 0.0) -> None:
        nn.Module.__init__(self)
        self.truth, self.turn = drive(index, size=SIZE), turn

    def depth(self, frames: torch.Tensor) -> torch.Tensor:
        depth = torch.from_numpy(self.truth.depth)
        return 0.1 * torch.where(depth > 0, depth, 1.0)[: len(frames), None]

    def pose(self, pairs: torch.Tensor) -> torch.Tensor:
        poses = torch.from_numpy(self.truth.poses)
        found = matrix_to_pose(relative_pose(poses[:-1], poses[1:]))
        return torch.cat([0.1 * found[:, :3], found[:, 3:] + torch.tensor([0, self.turn, 0])], dim=1)


def test_figures_are_perfect_for_the_truth_and_tell_a_turn() -> None:
    found = measure(Knowing(3), [Rendered(3, "test", SIZE)])
    assert found["depth"]["network"]["abs rel"][0] == pytest.approx(0, abs=1e-4)
    assert found["depth"]["network"]["within 1.25^1"][0] == pytest.approx(1, abs=1e-4)
    assert found["motion"]["network"]["ate"][0] == pytest.approx(0, abs=1e-4)
    assert found["motion"]["network"]["rotation error in degrees"][0] == pytest.approx(0, abs=1e-3)
    assert found["motion"]["standing still"]["ate"][0] > found["motion"]["straight ahead"]["ate"][0] > 0
    assert found["depth"]["mean depth"]["abs rel"][0] > 0
    turned = measure(Knowing(3, np.radians(2.0)), [Rendered(3, "test", SIZE)])
    assert turned["motion"]["network"]["rotation error in degrees"][0] == pytest.approx(2, abs=0.01)


def test_every_source_lies_beside_its_target() -> None:
    target, sources = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 3, 4, 5)
    pairs = side_by_side(target, sources)
    assert torch.equal(pairs[4], torch.cat([target[1], sources[1, 1]]))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"loss": "monodepth"}, "loss is `monodepth`, expected one of monodepth2, sfmlearner; did you mean"),
        ({"masks": True, "loss": "monodepth2"}, "masks are for the loss sfmlearner"),
        ({"height": 16}, "height is 16, expected at least 32"),
        ({"photometric": "l2"}, "photometric is `l2`, expected one of l1, ssim"),
        ({"depth_width": 0}, "depth_width is 0, expected more than 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        rendered(tmp_path, **wrong)
    assert "\n" not in str(raised.value)
