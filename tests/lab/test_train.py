"""Training on clips: the layouts of data sets, runs that end where they should, files that load again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from helpers import run
from safetensors.torch import load_file, save_file

from chronocam.cli.train.video import command
from chronocam.errors import ChronocamError, InputError, ModelError
from chronocam.lab.data import gestures
from chronocam.lab.models.gestures import SmallCNN
from chronocam.lab.models.video import ARCHITECTURES, video_net
from chronocam.lab.train import VideoSettings, train_video
from chronocam.lab.train.augment import Change, changed, drawn
from chronocam.lab.train.clips import cached, find_clips
from chronocam.lab.train.folders import list_clips
from chronocam.lab.train.run import share_of_rate
from chronocam.lab.train.splits import source
from chronocam.lab.train.torch.batches import Shuffled, augment, made_of, mixed, unit
from chronocam.lab.train.torch.classifier import voted
from chronocam.lab.train.torch.weights import start_from
from chronocam.lab.train.video.measure import measure
from chronocam.lab.train.video.module import VideoModule, end_to_end
from chronocam.media import read_clip, write_clip
from chronocam.models import CNNLSTM, load

pytestmark = pytest.mark.usefixtures("one_thread")

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60)}


def write(path: Path, colour: Sequence[int] = (90, 90, 90), frames: int = 4) -> Path:
    """Write a clip of one colour that grows a little lighter with every frame."""
    picture = np.full((24, 32, 3), colour, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    mp4 = path.with_suffix(".mp4")  # what is written is told by its content, not by its name
    write_clip(mp4, [picture + 5 * number for number in range(frames)], 8)
    return mp4.rename(path)


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """A folder per colour of ten clips each, one of them broken."""
    rng = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        for number in range(10):
            write(
                tmp_path / "data" / label / f"{number}.mp4",
                np.clip(colour + rng.integers(-20, 20, 3), 0, 230),
            )
    (tmp_path / "data" / "red" / "3.mp4").write_bytes(b"not a clip")
    return tmp_path / "data"


def settings(data: Path | str, out: Path, **more: Any) -> VideoSettings:
    usual: dict[str, Any] = {
        "arch": "r3d",
        "backbone": "small",
        "epochs": 1,
        "batch_size": 4,
        "frames": 4,
        "size": 16,
    }
    return VideoSettings(**usual | {"data": str(data), "out": out, "accelerator": "cpu"} | more)


def names(items: Sequence[Any]) -> set[str]:
    return {item.path.name for item in items}


# Layouts


def test_folder_per_class_is_split_by_the_seed(coloured: Path) -> None:
    listing = list_clips(coloured)
    assert (listing.layout, listing.labels) == ("folder per class", ("green", "red"))
    assert {name: len(part) for name, part in listing.parts.items()} == {
        "train": 14,
        "validation": 2,
        "test": 4,
    }
    every = [item.path for part in listing.parts.values() for item in part]
    assert len(set(every)) == len(every) == 20
    for part in listing.parts.values():
        assert {item.label for item in part} == {"red", "green"}
        assert all(item.path.parent.name == item.label for item in part)
    assert list_clips(coloured).parts == listing.parts
    assert list_clips(coloured, seed=1).parts != listing.parts


def test_folders_of_splits_are_kept(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for label in COLOURS:
            for number in range(count):
                write(tmp_path / part / label / f"{part}{number}.mp4")
    listing = list_clips(tmp_path)
    assert listing.layout == "folders of splits"
    assert names(listing.parts["train"]) == {f"train{n}.mp4" for n in range(6)}
    assert names(listing.parts["validation"]) == {"val0.mp4", "val1.mp4"}
    assert names(listing.parts["test"]) == {f"test{n}.mp4" for n in range(3)}


def test_a_validation_folder_alone_is_the_test_and_validation_is_held_out(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for label in COLOURS:
            for number in range(5):
                write(tmp_path / part / label / f"{part}{number}.mp4")
    parts = list_clips(tmp_path).parts
    assert names(parts["test"]) == {f"val{n}.mp4" for n in range(5)}
    assert len(parts["validation"]) == 2
    assert len(parts["train"]) == 8
    assert all(name.startswith("train") for name in names(parts["train"]) | names(parts["validation"]))


def test_ucf101_follows_its_split_files_and_keeps_groups_together(tmp_path: Path) -> None:
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for label in ("Typing", "Archery"):
        for group in range(1, 6):
            for clip in (1, 2):
                name = f"v_{label}_g{group:02d}_c{clip:02d}.avi"
                write(tmp_path / "UCF-101" / label / name)
                lists["test" if group == 5 else "train"].append(f"{label}/{name}")
    lists["train"].append("Typing/v_Typing_g09_c01.avi")  # listed, not there
    folder = tmp_path / "ucfTrainTestlist"
    folder.mkdir()
    (folder / "classInd.txt").write_text("1 Typing\n2 Archery\n")
    index = {"Typing": 1, "Archery": 2}
    (folder / "trainlist01.txt").write_text(
        "".join(f"{row} {index[row.split('/')[0]]}\r\n" for row in lists["train"])
    )
    (folder / "testlist01.txt").write_text("".join(f"{row}\r\n" for row in lists["test"]))
    listing = list_clips(tmp_path)
    assert (listing.layout, listing.labels) == (
        "UCF101",
        ("Typing", "Archery"),
    )  # in the order of classInd.txt
    assert listing.missing == ["v_Typing_g09_c01.avi"]
    assert names(listing.parts["test"]) == {Path(row).name for row in lists["test"]}
    groups = [{source(item.path.stem) for item in listing.parts[name]} for name in ("train", "validation")]
    assert not groups[0] & groups[1]
    assert [len(group) for group in groups] == [6, 2]
    with pytest.raises(InputError, match=r"no split file trainlist03.txt; there are trainlist01.txt"):
        list_clips(tmp_path, split=3)


def test_hmdb51_takes_ones_for_training_and_twos_for_test(tmp_path: Path) -> None:
    folder = tmp_path / "testTrainMulti_7030_splits"
    folder.mkdir()
    for label in ("wave", "clap"):
        rows = []
        for number, mark in enumerate("1111112220"):
            name = f"Film_{number}_{label}_u_cm_np1_fr_med_{number}.avi"
            write(tmp_path / label / name)
            rows.append(f"{name} {mark} \n")
        (folder / f"{label}_test_split1.txt").write_text("".join(rows))
        (folder / f"{label}_test_split2.txt").write_text("".join(reversed(rows)).replace(" 1", " 3"))
    listing = list_clips(tmp_path)
    assert (listing.layout, listing.labels, listing.missing) == ("HMDB51", ("clap", "wave"), [])
    numbers = {name: {item.path.stem[-1] for item in part} for name, part in listing.parts.items()}
    assert numbers["test"] == {"6", "7", "8"}
    assert numbers["train"] | numbers["validation"] == set("012345")
    assert all(item.label in item.path.name for part in listing.parts.values() for item in part)


@pytest.mark.parametrize(
    ("stem", "video"),
    [
        ("v_ApplyEyeMakeup_g01_c02", "v_ApplyEyeMakeup_g01"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_0", "April_09_brush_hair"),
        ("clip_0001", "clip_0001"),
    ],
)
def test_clips_cut_from_one_video_are_known_by_their_names(stem: str, video: str) -> None:
    assert source(stem) == video


@pytest.mark.parametrize("held", ["test", "val"])
def test_kinetics_reads_csv_and_names_clips_by_id_and_seconds(tmp_path: Path, held: str) -> None:
    rows = ["label,youtube_id,time_start,time_end,split"]
    for label in ("yoga", "zumba"):
        for number in range(7):
            split = "train" if number < 5 else held
            rows.append(f"{label},-{label}_{number},{number},{number + 10},{split}")
            write(tmp_path / split / label / f"-{label}_{number}_{number:06d}_{number + 10:06d}.mp4")
    rows.append("zumba,gone,1,11,train")
    (tmp_path / "kinetics.csv").write_text("\n".join(rows))
    listing = list_clips(tmp_path)
    assert (listing.layout, listing.labels) == ("Kinetics", ("yoga", "zumba"))
    assert listing.missing == ["gone_000001_000011"]
    assert {item.path.stem for item in listing.parts["test"]} == {
        f"-{label}_{n}_{n:06d}_{n + 10:06d}" for label in ("yoga", "zumba") for n in (5, 6)
    }
    assert len(listing.parts["train"]) == 8
    rows[1] = "yoga,broken,soon,later,train"
    (tmp_path / "kinetics.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match="CSV row of broken has no times"):
        list_clips(tmp_path)


def test_folders_that_hold_no_data_set(tmp_path: Path, coloured: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "one" / "red" / "a.mp4")
    write(tmp_path / "few" / "red" / "a.mp4")
    write(tmp_path / "few" / "green" / "a.mp4")
    for folder, words in (
        ("absent", "is not a folder; expected one with clips, or `gestures`"),
        ("empty", "holds no clips; expected one folder per class"),
        ("one", "leaves no clips for|holds the class red alone"),
        ("few", r"\(folder per class\) leaves no clips for"),
    ):
        with pytest.raises(InputError, match=words) as raised:
            list_clips(tmp_path / folder)
        assert "\n" not in str(raised.value)


# Clips


def test_clips_of_files_are_read_as_read_clip_reads_them(coloured: Path, tmp_path: Path) -> None:
    parts = find_clips(settings(coloured, tmp_path, sampling="contiguous", frames=3), 16).parts
    clips = parts["test"]
    path = next(coloured.rglob(clips.name(1)))
    label = {"green": 0, "red": 1}
    shown = [(clips.pixels(n), clips.label(n)) for n in range(len(clips)) if clips.name(n) != "3.mp4"]
    expected = read_clip(path, 3, "contiguous", size=(16, 16)).pixels
    assert any(np.abs(pixels.astype(int) - expected).max() == 0 for pixels, _ in shown)
    for pixels, number in shown:
        greenest = pixels[..., 1].mean() > pixels[..., 0].mean()
        assert number == label["green" if greenest else "red"]


def test_rendered_clips_are_those_of_the_world(tmp_path: Path) -> None:
    parts = find_clips(settings("gestures", tmp_path, frames=8, clips=6, held_out=4), 48).parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 6, "validation": 2, "test": 4}
    world = gestures.clips(4, split="test", frames=8, size=48)
    for index in range(4):
        assert np.array_equal(parts["test"].pixels(index), world.pixels[index])
        assert parts["test"].label(index) == world.labels[index, 0]
    assert np.array_equal(parts["train"].pixels(5), gestures.clip(5, split="train", frames=8, size=48).pixels)


def test_a_cache_is_made_once_and_remembers_what_could_not_be_read(coloured: Path, tmp_path: Path) -> None:
    clips = find_clips(settings(coloured, tmp_path), 16).parts["train"]
    counted: list[int] = []

    def track(numbers: Any, _what: str) -> Iterator[int]:
        for number in numbers:
            counted.append(number)
            yield number

    kept = cached(clips, tmp_path / "cache", track)
    assert len(counted) == len(kept) == len(clips)
    again = cached(clips, tmp_path / "cache", track)
    assert len(counted) == len(clips)
    for index in range(len(clips)):
        if clips.name(index) == "3.mp4" and clips.label(index) == 1:
            messages = []
            for one in (clips, again):
                with pytest.raises(ChronocamError) as raised:
                    one.pixels(index)
                messages.append(str(raised.value))
            assert messages[0] == messages[1]
        else:
            assert np.array_equal(again.pixels(index), clips.pixels(index))
    other = find_clips(settings(coloured, tmp_path, frames=2), 16).parts["train"]
    assert cached(other, tmp_path / "cache", track).pixels(0).shape == (2, 16, 16, 3)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]


def test_augmentation_treats_all_frames_of_a_clip_alike() -> None:
    """A still clip stays still; clips differ from each other.

    Without crop and flip only the light changes.
    """
    rng = np.random.default_rng(0)
    still = torch.from_numpy(rng.integers(40, 160, (6, 1, 16, 20, 3), dtype=np.uint8)).expand(
        -1, 3, -1, -1, -1
    )
    torch.manual_seed(0)
    changed = augment(still, 0.6, True)
    assert changed.shape == (6, 3, 3, 16, 20)
    torch.testing.assert_close(changed, changed[:, :1].expand_as(changed), rtol=0, atol=0)
    same = still[:1].expand(8, -1, -1, -1, -1)
    several = augment(same, 0.6, True)
    assert all((several[0] - other).abs().mean() > 0.01 for other in several[1:])
    lit = augment(still, 1, False)
    flat, plain = (clips.flatten(1) for clips in (lit, unit(still)))
    for one, other in zip(flat, plain, strict=True):  # a gain and an offset, nothing else
        assert np.corrcoef(one, other)[0, 1] > 0.999
    mirrored = torch.cat([augment(still, 1, True) for _ in range(5)])
    whole = unit(still).repeat(5, 1, 1, 1, 1)
    kinds = {
        "as it is"
        if np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.999
        else "mirrored"
        if np.corrcoef(a.flatten(), b.flip(-1).flatten())[0, 1] > 0.999
        else "neither"
        for a, b in zip(mirrored, whole, strict=True)
    }
    assert kinds == {"as it is", "mirrored"}


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, **more: int) -> list[int]:
        sampler = Shuffled(20, seed, **more)
        sampler.set_epoch(epoch)
        assert len(sampler) == 20
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(20))
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5), (100, 0.0), (500, 0.0)]
)
def test_the_rate_rises_over_a_tenth_and_falls_by_a_cosine(step: int, share: float) -> None:
    assert share_of_rate(step, 100) == pytest.approx(share)


# Runs


def logits(module: Any, batch: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        outputs = module(batch)
    return outputs["logits"] if isinstance(outputs, dict) else outputs


@pytest.mark.parametrize("arch", ["r3d", "cnn-lstm", "cnn-lstm-attention", "cnn-lstm-steps"])
def test_a_run_writes_a_model_that_loads_again_with_the_same_logits(
    coloured: Path, tmp_path: Path, arch: str
) -> None:
    path = train_video(settings(coloured, tmp_path / "out", arch=arch, hidden=8, epochs=2))
    loaded, record = load(str(path)), json.loads(path.read_text())
    assert loaded.labels == ("green", "red") == loaded.model.labels
    network = video_net(arch, "small", 2, 8).eval()
    network.load_state_dict(load_file(path.with_suffix(".safetensors")))
    pixels = read_clip(coloured / "red" / "1.mp4", 4, size=(16, 16)).pixels
    batch = torch.from_numpy(loaded.preprocess(pixels))[None]
    assert torch.equal(logits(loaded.model, batch), logits(network, batch))
    module = VideoModule(network, settings(coloured, tmp_path, arch=arch), (0.5,) * 3, (0.5,) * 3, {}).eval()
    torch.testing.assert_close(logits(module, torch.from_numpy(pixels)[None]), logits(network, batch))
    best = torch.load(tmp_path / "out" / "checkpoints" / "best.ckpt", weights_only=True)
    lowest = min(record["epochs"], key=lambda row: row["val_loss"])
    assert record["best epoch"] == best["epoch"] == lowest["epoch"]
    for key, value in network.state_dict().items():
        assert torch.equal(best["state_dict"][f"network.{key}"], value)
    assert [row["epoch"] for row in record["epochs"]] == [0, 1]
    assert "3.mp4" in record["clips unreadable"]
    assert sum(map(sum, record["held-out"]["confusion"])) == record["held-out"]["clips"]
    assert not [found for found in (tmp_path / "out").rglob("*") if found.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "backbone"), [("r3d", "mc3_18"), ("cnn-lstm-attention", "mobilenet_v3_small")]
)
def test_backbones_of_torchvision_are_tuned_from_weights_of_a_file(
    coloured: Path, tmp_path: Path, arch: str, backbone: str
) -> None:
    torch.manual_seed(5)
    given = video_net(arch, backbone, 9, 8)
    start = given.state_dict() if arch == "r3d" else given.backbone.state_dict()
    save_file(start, tmp_path / "start.safetensors")
    more = {"backbone": backbone, "weights": str(tmp_path / "start.safetensors"), "hidden": 8, "size": 32}
    path = train_video(settings(coloured, tmp_path / "out", arch=arch, lr=1e-6, **more))
    loaded = load(str(path))
    own = loaded.model.state_dict() if arch == "r3d" else loaded.model.backbone.state_dict()
    for key, value in start.items():
        if value.shape == own[key].shape and "running" not in key and "num_batches" not in key:
            assert (own[key] - value).abs().max() < 1e-4, key
    published = torchvision.models.get_model_weights(backbone).DEFAULT.transforms()
    assert loaded.preprocess.frame.mean == tuple(published.mean)


def test_a_run_learns_what_is_there_to_learn(coloured: Path, tmp_path: Path) -> None:
    path = train_video(settings(coloured, tmp_path / "out", epochs=12, lr=3e-3))
    assert json.loads(path.read_text())["held-out"]["accuracy"] == 1.0


def test_the_same_seed_gives_the_same_weights(coloured: Path, tmp_path: Path) -> None:
    made = [
        load_file(train_video(settings(coloured, tmp_path / name, **more)).with_suffix(".safetensors"))
        for name, more in (("a", {}), ("b", {"cache": tmp_path / "cache"}), ("c", {"seed": 1}))
    ]
    key = "features.0.0.weight"
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert not torch.equal(made[0][key], made[2][key])


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_video(settings(coloured, tmp_path / "whole", arch="cnn-lstm", hidden=8, epochs=3))
    stopped, step = (
        settings(coloured, tmp_path / "parts", arch="cnn-lstm", hidden=8, epochs=3),
        VideoModule.training_step,
    )

    def breaks(module: VideoModule, *arguments: Any) -> Any:
        if module.current_epoch == 2:
            raise KeyboardInterrupt
        return step(module, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(VideoModule, "training_step", breaks)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train_video(stopped)
    assert not (stopped.out / "model.json").exists()
    resumed = train_video(settings(coloured, stopped.out, arch="cnn-lstm", hidden=8, epochs=3, resume=True))
    records = [json.loads(path.read_text()) for path in (whole, resumed)]
    assert [row["epoch"] for row in records[1]["epochs"]] == [0, 1, 2]
    assert records[0]["epochs"] == records[1]["epochs"]
    ends = [
        torch.load(path.parent / "checkpoints" / "last.ckpt", weights_only=True) for path in (whole, resumed)
    ]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name


def test_patience_ends_a_run_early(coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        VideoModule, "forward", lambda self, pixels: torch.zeros(len(pixels), 2)
    )  # never better
    path = train_video(settings(coloured, tmp_path / "out", epochs=9, patience=2))
    assert len(json.loads(path.read_text())["epochs"]) == 3


def test_batches_with_one_readable_clip_or_none_are_skipped(
    coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for clip in list_clips(coloured).parts["train"]:
        if int(clip.path.stem) % 2:
            clip.path.write_bytes(b"broken too")
    sizes: list[tuple[int, bool]] = []
    step = VideoModule.training_step

    def watched(module: VideoModule, batch: Any, index: int) -> Any:
        loss = step(module, batch, index)
        sizes.append((len(batch[1]), loss is not None))
        return loss

    monkeypatch.setattr(VideoModule, "training_step", watched)
    path = train_video(settings(coloured, tmp_path / "out", batch_size=2, epochs=6))
    record = json.loads(path.read_text())
    assert {size for size, _ in sizes} == {0, 1, 2}
    assert all(counts == (size == 2) for size, counts in sizes)
    assert len(record["clips unreadable"]) >= 4
    assert all(np.isfinite(row["val_loss"]) for row in record["epochs"])


def test_figures_are_of_the_network_and_the_clips(tmp_path: Path) -> None:
    """A stand-in that answers by the brightness of the last frame: every figure is known beforehand."""

    class Still:
        pictures = ((0, 200), (0, 200), (200, 0), (0, 200), (200, 200))

        def __len__(self) -> int:
            return 5

        def pixels(self, index: int) -> np.ndarray:
            if index == 4:
                raise InputError("cannot be read")
            levels = np.array(self.pictures[index], np.uint8)[:, None, None, None]
            return np.broadcast_to(levels, (2, 4, 4, 3))

        def label(self, index: int) -> int:
            return (1, 1, 0, 0, 0)[index]

        def name(self, index: int) -> str:
            return f"clip {index}"

        def digest(self) -> str:
            return ""

    class Last(torch.nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot((clips[:, 0, -1, 0, 0] > 0).long(), 2).float()

    module = VideoModule(Last(), settings("gestures", tmp_path), (0.5,) * 3, (0.5,) * 3, {})
    figures = measure(module, Still(), ["dark", "bright"])
    assert (figures["clips"], figures["accuracy"], figures["confusion"]) == (4, 0.75, [[1, 1], [0, 2]])
    assert figures["recall"] == {"dark": 0.5, "bright": 1.0}
    low, high = figures["interval"]
    assert low < 0.75 < high
    assert module.unread == {"clip 4"}


def test_the_command_in_the_record_does_the_same_again(coloured: Path, tmp_path: Path) -> None:
    given = (
        "--data",
        coloured,
        "--arch",
        "cnn-lstm",
        "--backbone",
        "small",
        "--epochs",
        1,
        "--no-flip",
        "--size",
        16,
    )
    done = run(
        "train",
        "video",
        *given,
        "--frames",
        4,
        "--hidden",
        8,
        "--crop",
        0.9,
        "--out",
        tmp_path / "a",
        "--accelerator",
        "cpu",
    )
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "a" / "model.json").read_text())
    assert done.stdout.splitlines()[-1] == f"model: {tmp_path}/a/model.json"
    assert f"accuracy {record['held-out']['accuracy']:.3f}" in done.stdout
    assert "could not be read and were skipped: 3.mp4" in done.stderr
    words = record["command"].replace(f"{tmp_path}/a", f"{tmp_path}/b").split()
    assert words[:3] == ["chronocam", "train", "video"]
    again = run("train", "video", *words[3:], "--accelerator", "cpu")
    assert again.exit_code == 0, again.stderr
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_an_lstm_is_led_by_change_at_first_and_by_everything_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = video_net("cnn-lstm", "small", 2, 8)
    module = VideoModule(network, settings("gestures", tmp_path, arch="cnn-lstm"), (0.5,) * 3, (0.5,) * 3, {})
    seen: list[torch.Tensor] = []
    network.lstm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = torch.randn(
        2, 8, 64, generator=torch.Generator().manual_seed(0)
    )  # two clips of 4 frames, end to end
    means = features.reshape(2, 2, 4, 64).mean(2).repeat_interleave(4, dim=1)

    monkeypatch.setattr(VideoModule, "trainer", SimpleNamespace(estimated_stepping_batches=100))
    for step, share in ((0, 1.0), (25, 0.5), (50, 0.0), (99, 0.0)):
        monkeypatch.setattr(VideoModule, "global_step", step)
        network.lstm(features)
        change = features - share * means
        torch.testing.assert_close(seen[-1], change * features.std((0, 1)) / change.std((0, 1)))
    monkeypatch.setattr(VideoModule, "global_step", 0)
    network.eval().lstm(features)
    torch.testing.assert_close(seen[-1], features, rtol=0, atol=0)
    assert module.settings.change_first == 0.5


def test_clips_lie_end_to_end_with_the_label_of_each_frame() -> None:
    clips = torch.arange(5 * 3 * 3 * 2 * 2, dtype=torch.float32).reshape(5, 3, 3, 2, 2)
    pairs, labels = end_to_end(clips, torch.tensor([4, 1, 2, 2, 0]))
    assert labels.tolist() == [[4, 4, 4, 1, 1, 1], [2, 2, 2, 2, 2, 2]]
    assert torch.equal(pairs[0, :3], clips[0])
    assert torch.equal(pairs[0, 3:], clips[1])
    assert torch.equal(pairs[1], torch.cat([clips[2], clips[3]]))


def test_frames_vote_for_the_class_of_a_clip() -> None:
    logits = torch.tensor([[[0.0, 9.0], [1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0], [9.0, 0.0]]])
    assert voted(logits).tolist() == [0, 1]
    assert voted(logits[:, 0]).tolist() == [1, 1]


def test_a_network_of_steps_learns_from_pairs_of_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = video_net("cnn-lstm-steps", "small", 2, 8)
    chosen = settings("gestures", tmp_path, arch="cnn-lstm-steps", change_first=0, crop=1.0, flip=False)
    module = VideoModule(network, chosen, (0.5,) * 3, (0.5,) * 3, {})
    monkeypatch.setattr(VideoModule, "trainer", SimpleNamespace(estimated_stepping_batches=100))
    monkeypatch.setattr(VideoModule, "global_step", 3)
    pixels = torch.randint(
        256, (4, 4, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    loss = module.training_step((pixels, torch.tensor([0, 1, 1, 1]), []), 0)
    torch.manual_seed(mixed(chosen.seed, 3))
    shown = (augment(pixels, 1.0, False) - 0.5) / 0.5
    steps = network(torch.cat([shown[::2], shown[1::2]], dim=1)).log_softmax(-1)
    truth = torch.tensor([[0] * 4 + [1] * 4, [1] * 8])
    torch.testing.assert_close(loss, -steps.gather(2, truth[..., None]).mean())


# Weights to start from


def test_a_backbone_starts_from_weights_with_other_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = video_net("r3d", "r3d_18", 7, 8)
    torch.save(given.state_dict(), tmp_path / "r3d.pth")
    network = video_net("r3d", "r3d_18", 2, 8)
    head = network.fc.weight.clone()
    start_from(network, str(tmp_path / "r3d.pth"), "r3d_18")
    own, theirs = network.state_dict(), given.state_dict()
    assert all(torch.equal(own[key], theirs[key]) for key in own if not key.startswith("fc."))
    assert torch.equal(network.fc.weight, head)


def test_an_lstm_starts_from_a_classifier_or_from_a_whole_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier, lstm = SmallCNN(), CNNLSTM(SmallCNN(), 8, 3)
    for name, given in (("cnn", classifier), ("lstm", lstm)):
        save_file(given.state_dict(), tmp_path / f"{name}.safetensors")
        network = CNNLSTM(SmallCNN(), 8, 2)
        start_from(network, str(tmp_path / f"{name}.safetensors"), "small")
        trunk = given if name == "cnn" else given.backbone
        assert all(
            torch.equal(network.backbone.state_dict()[key], value)
            for key, value in trunk.state_dict().items()
        )
        assert (name == "lstm") == torch.equal(network.lstm.weight_ih_l0, lstm.lstm.weight_ih_l0)


def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, words in (
        ("other.safetensors", "weights of small are missing"),
        ("broken.safetensors", "cannot be read as weights"),
        ("absent.pth", "cannot be read as weights"),
        ("list.pth", "holds no weights; expected a dict of tensors"),
    ):
        with pytest.raises(ModelError, match=words) as raised:
            start_from(video_net("r3d", "small", 2, 8), str(tmp_path / name), "small")
        assert "\n" not in str(raised.value)


# Errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "nowhere"}, "`nowhere` is not a folder"),
        ({"backbone": "r3d_81"}, "no backbone `r3d_81` for r3d; did you mean `r3d_18`"),
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"lr": 0}, "lr is 0.0, expected more than 0"),
        ({"crop": 1.5}, "crop is 1.5, expected a share above 0"),
        ({"size": 4}, "size is 4, expected at least 8"),
        ({"weights": "absent.safetensors"}, "`absent.safetensors` cannot be read as weights"),
        ({"accelerator": "abacus"}, "accelerator `abacus`"),
        ({"resume": True}, "nothing to resume"),
    ],
)
def test_bad_options_are_one_line(
    coloured: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    usual = {
        "data": coloured,
        "arch": "r3d",
        "backbone": "small",
        "frames": 4,
        "size": 16,
        "out": tmp_path / "out",
    }
    given = [
        word
        for name, value in (usual | options).items()
        for word in ([f"--{name}"] if value is True else [f"--{name}", value])
    ]
    done = run("train", "video", *given)
    assert done.exit_code == 1, done.output
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert line.startswith("chronocam: ")
    assert words in line
    assert "Traceback" not in done.stderr


def test_the_command_line_offers_every_architecture_and_setting() -> None:
    (arch,) = (option for option in command.params if option.name == "arch")
    assert tuple(arch.type.choices) == tuple(ARCHITECTURES)
    given = command.make_context("video", ["--data", "x", "--arch", "r3d", "--out", "y"]).params
    assert VideoSettings(**given) == VideoSettings(data="x", arch="r3d", out=Path("y"))
    assert given.keys() == {field.name for field in fields(VideoSettings)}


def test_results_are_not_overwritten_and_other_networks_not_resumed(coloured: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train_video(settings(coloured, out))
    with pytest.raises(
        InputError, match=r"holds a run already; expected a new folder, or resume \(--resume\)"
    ):
        train_video(settings(coloured, out))
    with pytest.raises(InputError, match=r"was made with frames 4, not 5; resume with the same"):
        train_video(settings(coloured, out, frames=5, resume=True))
    last = out / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"last.ckpt` is damaged") as raised:
        train_video(settings(coloured, out, resume=True))
    assert "\n" not in str(raised.value)


def test_all_clips_broken_is_said(coloured: Path, tmp_path: Path) -> None:
    for clip in coloured.rglob("*.mp4"):
        clip.write_bytes(b"broken too")
    for more in ({}, {"cache": tmp_path / "cache"}):
        with pytest.raises(ChronocamError, match="can be read") as raised:
            train_video(settings(coloured, tmp_path / "out", **more))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("how", ["no record", "no json", "no weights", "damaged weights", "damaged record"])
def test_trained_models_that_are_not_whole_are_refused_in_one_line(tmp_path: Path, how: str) -> None:
    record = {
        "format": "chronocam video 1",
        "arch": "r3d",
        "backbone": "small",
        "hidden": 8,
        "labels": ["a", "b"],
    }
    record |= {"frames": 4, "size": [16, 16], "mean": [0.5] * 3, "std": [0.5] * 3, "axes": "channel time"}
    path = tmp_path / "model.json"
    path.write_text(json.dumps(record | {"sampling": "uniform"}))
    save_file(video_net("r3d", "small", 2, 8).state_dict(), tmp_path / "model.safetensors")
    assert load(str(path)).preprocess.frames == 4
    broken = {
        "no record": ("model.json", json.dumps({"labels": []}), "does not describe a trained network"),
        "no json": ("model.json", "{", "is not readable as JSON"),
        "no weights": ("model.safetensors", None, "the weights belong beside the record"),
        "damaged weights": ("model.safetensors", "zeros", "does not hold the weights of this network"),
        "damaged record": ("model.json", json.dumps(record | {"arch": "r4d"}), "no architecture `r4d`"),
    }
    name, content, words = broken[how]
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=words) as raised:
        load(str(path))
    assert "\n" not in str(raised.value)


def test_changes_are_the_same_in_numpy_and_in_pytorch() -> None:
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (6, 2, 23, 31, 3), dtype=np.uint8)
    changes = drawn(rng, 6, 0.4, True)
    assert {change.mirrored for change in changes} == {True, False}
    made = made_of(torch.from_numpy(clips), changes).permute(0, 1, 3, 4, 2)
    for clip, change, expected in zip(clips, changes, made, strict=True):
        np.testing.assert_allclose(changed(clip, change), expected, atol=2e-6)
    assert not any(change.mirrored for change in drawn(rng, 9, 0.5, False))
    whole = Change(1.0, (0.3, 0.7), False, 1.0, 1.0)
    np.testing.assert_allclose(changed(clips[0], whole), clips[0] / 255, atol=1e-6)
    lit = Change(1.0, (0.0, 0.0), False, 1.2, 0.5)  # 1.2 of the mean, half of the differences from it
    expected = 1.2 * clips[0].mean() / 255 + 0.5 * (clips[0] - clips[0].mean()) / 255
    np.testing.assert_allclose(changed(clips[0], lit), expected.clip(0, 1), atol=1e-6)
