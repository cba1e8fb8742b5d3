"""Training on pictures: the layouts of data sets, runs that end where they should, files that load again."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import run
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from torch import nn

import chronocam as cc
from chronocam.cli.train.images import command
from chronocam.errors import InputError, MediaError, ModelError
from chronocam.lab.models.images import image_net, last_layer, recipe
from chronocam.lab.train import ImageSettings, train_images
from chronocam.lab.train.clips import ClipSource
from chronocam.lab.train.images.data import Pictures, find_pictures, list_pictures
from chronocam.lab.train.images.module import ImagesModule
from chronocam.lab.train.splits import LabelledFile

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 64


def picture(rng: np.random.Generator, label: str) -> Image.Image:
    """Draw a bright disc or a dark triangle on a noisy ground."""
    ground = np.clip(rng.normal(120, 20, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(ground)
    pen, (x, y) = ImageDraw.Draw(image), rng.integers(20, SIDE - 20, 2).tolist()
    if label == "cats":
        pen.ellipse((x - 16, y - 16, x + 16, y + 16), fill=(250, 240, 200))
    else:
        pen.polygon([(x, y - 16), (x + 16, y + 16), (x - 16, y + 16)], fill=(20, 10, 40))
    return image


def write(folder: Path, count: int, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for label in ("cats", "dogs"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(rng, label).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of splits with two classes, one of the pictures broken."""
    root = tmp_path_factory.mktemp("shapes")
    write(root / "train", 16)
    write(root / "validation", 8, seed=1)
    write(root / "test", 10, seed=2)
    (root / "train" / "cats" / "3.png").write_bytes(b"not a picture")
    (root / "train" / "cats" / "readme.txt").write_text("cats")
    return root


def settings(data: Path, out: Path, **more: Any) -> ImageSettings:
    usual: dict[str, Any] = {
        "model": "squeezenet1_1",
        "epochs": 1,
        "batch_size": 8,
        "size": 48,
        "accelerator": "cpu",
    }
    return ImageSettings(**usual | {"data": str(data), "out": out} | more)


def named(items: list[LabelledFile]) -> set[str]:
    return {f"{item.label}/{item.path.name}" for item in items}


# Layouts


def test_folders_of_splits(shapes: Path) -> None:
    found = list_pictures(shapes)
    assert (found.layout, found.labels) == ("folders of splits", ("cats", "dogs"))
    assert {name: len(items) for name, items in found.parts.items()} == {
        "train": 32,
        "validation": 16,
        "test": 20,
    }
    assert all(item.path.parent.name == item.label for items in found.parts.values() for item in items)


def test_without_a_test_split_the_validation_split_is_measured_on(tmp_path: Path) -> None:
    write(tmp_path / "train", 20)
    write(tmp_path / "validation", 4)
    found = list_pictures(tmp_path)
    assert {name: len(items) for name, items in found.parts.items()} == {
        "train": 34,
        "validation": 6,
        "test": 8,
    }
    assert {item.path.parts[-3] for item in found.parts["test"]} == {"validation"}
    assert {item.path.parts[-3] for name in ("train", "validation") for item in found.parts[name]} == {
        "train"
    }


def test_a_folder_per_class_is_divided_by_the_seed(tmp_path: Path) -> None:
    write(tmp_path, 20)
    found = list_pictures(tmp_path)
    everything = [item for items in found.parts.values() for item in items]
    assert found.layout == "folder per class"
    assert len(everything) == len(set(everything)) == 40
    assert {name: len(items) for name, items in found.parts.items()} == {
        "train": 28,
        "validation": 6,
        "test": 6,
    }
    assert all({item.label for item in items} == {"cats", "dogs"} for items in found.parts.values())
    assert found == list_pictures(tmp_path)
    assert named(found.parts["test"]) != named(list_pictures(tmp_path, seed=1).parts["test"])


@pytest.mark.parametrize("below", ["train", "."])
def test_pictures_named_by_their_class(tmp_path: Path, below: str) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / below).mkdir(exist_ok=True)
    (tmp_path / "test").mkdir()
    for number in range(10):
        for label, kind in (("cat", "cats"), ("dog", "dogs")):
            picture(rng, kind).save(tmp_path / below / f"{label}.{number}.jpg")
        picture(rng, "cats").save(tmp_path / "test" / f"{number}.jpg")  # without a label, as Kaggle's test
    found = list_pictures(tmp_path)
    assert found.labels == ("cat", "dog")
    assert sum(len(items) for items in found.parts.values()) == 20
    assert all(item.path.name.startswith(item.label) for items in found.parts.values() for item in items)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        list_pictures(tmp_path / "none")
    with pytest.raises(InputError, match="holds no pictures with labels"):
        list_pictures(tmp_path)
    (tmp_path / "cats").mkdir()
    picture(np.random.default_rng(0), "cats").save(tmp_path / "cats" / "1.png")
    with pytest.raises(InputError, match="holds the class cats alone"):
        list_pictures(tmp_path)
    (tmp_path / "dogs").mkdir()
    picture(np.random.default_rng(0), "dogs").save(tmp_path / "dogs" / "1.png")
    with pytest.raises(InputError, match="leaves no pictures for validation"):
        list_pictures(tmp_path)


def test_pictures_are_what_the_network_sees(shapes: Path) -> None:
    preprocess = recipe("squeezenet1_1", 48)
    assert (preprocess.resize, preprocess.crop) == (55, (48, 48))  # 256 / 224 of 48
    item = LabelledFile(shapes / "test" / "dogs" / "0.png", "dogs")
    pictures = Pictures([item], ("cats", "dogs"), preprocess)
    x = (pictures.pixels(0)[0] / 255 - preprocess.mean) / preprocess.std
    np.testing.assert_allclose(x.transpose(2, 0, 1), preprocess(cc.media.read_image(item.path)), atol=1e-5)
    assert (pictures.label(0), pictures.name(0)) == (1, "dogs/0.png")


def test_kept_pictures_are_the_pictures(shapes: Path, tmp_path: Path) -> None:
    preprocess = recipe("squeezenet1_1", 48)

    def found(**more: Any) -> dict[str, ClipSource]:
        return find_pictures(
            settings(shapes, tmp_path, **more), list_pictures(shapes), preprocess, lambda numbers, _: numbers
        )

    kept = found(cache=tmp_path / "c")
    for name, part in found().items():
        for index in (0, len(part) - 1):
            np.testing.assert_array_equal(part.pixels(index), kept[name].pixels(index))
    assert {name: len(part) for name, part in found(images=4, held_out=6).items()} == {
        "train": 4,
        "validation": 3,
        "test": 6,
    }


# Networks


def test_only_the_last_layer_of_a_network_is_another() -> None:
    with torch.device("meta"):
        ours, theirs = image_net("vgg16", 2), image_net("vgg16", 1000)
    shapes = [(name, p.shape) for name, p in ours.named_parameters()]
    changed = [name for (name, s), p in zip(shapes, theirs.parameters(), strict=True) if s != p.shape]
    assert changed == ["classifier.6.weight", "classifier.6.bias"]
    for arch in ("vgg16", "squeezenet1_1", "densenet121", "vit_b_16", "convnext_tiny", "mobilenet_v3_small"):
        with torch.device("meta"):
            net = image_net(arch, 7)
        last = net.get_submodule(last_layer(net))
        assert getattr(last, "out_features", None) or last.out_channels == 7
    with pytest.raises(ModelError, match=r"no architecture `vgg61`; did you mean .*`vgg16`"):
        image_net("vgg61", 2)


# Runs


def test_a_run_learns_and_its_record_loads(shapes: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = image_net("squeezenet1_1", 2)
    given = settings(shapes, tmp_path / "run", epochs=4, lr=1e-3, head_lr=1)
    path = train_images(given)
    record = json.loads(path.read_text())
    assert record["format"] == "chronocam images 1"
    assert record["pictures unreadable"] == ["cats/3.png"]
    assert [epoch["epoch"] for epoch in record["epochs"]] == [0, 1, 2, 3]
    figures = record["held-out"]
    assert figures["pictures"] == np.sum(figures["confusion"]) == 20
    assert figures["accuracy"] == np.trace(figures["confusion"]) / 20
    assert figures["accuracy"] >= 0.9  # chance is 0.5
    assert figures["interval"][0] > 0.5
    assert figures["recall"]["dogs"] == figures["confusion"][1][1] / 10
    loaded = cc.models.load(str(path))
    assert loaded.labels == ("cats", "dogs")
    truth, found = [], []
    for label in loaded.labels:
        for file in sorted((shapes / "test" / label).iterdir()):
            x = torch.from_numpy(loaded.preprocess(cc.media.read_image(file)))[None]
            with torch.no_grad():
                found.append(int(loaded.model(x).argmax()))
            truth.append(loaded.labels.index(label))
    confusion = np.zeros((2, 2), int)
    np.add.at(confusion, (truth, found), 1)
    assert confusion.tolist() == figures["confusion"]
    trained = load_file(path.with_suffix(".safetensors"))
    assert not torch.equal(trained["features.0.weight"], start.state_dict()["features.0.weight"])
    explanation = cc.GradCAM(loaded.model).explain(
        loaded.preprocess(picture(np.random.default_rng(5), "cats"))[None]
    )
    assert explanation.targets[0][0].name in loaded.labels


def test_resuming_ends_where_an_uninterrupted_run_would(shapes: Path, tmp_path: Path) -> None:
    few: dict[str, Any] = {"images": 16, "held_out": 4, "model": "mobilenet_v3_small"}
    whole = train_images(settings(shapes, tmp_path / "whole", epochs=2, **few))

    class Stop(Exception):
        pass

    def stop(self: ImagesModule) -> None:
        if self.current_epoch == 1:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImagesModule, "on_train_epoch_start", stop)
        with pytest.raises(Stop):
            train_images(settings(shapes, tmp_path / "part", epochs=2, **few))
    part = train_images(settings(shapes, tmp_path / "part", epochs=2, resume=True, **few))
    one, other = (load_file(path.with_suffix(".safetensors")) for path in (whole, part))
    assert all(torch.equal(one[name], other[name]) for name in one)
    one, other = (json.loads(path.read_text()) for path in (whole, part))
    assert one["epochs"] == other["epochs"]
    assert one["held-out"] == other["held-out"]
    with pytest.raises(InputError, match="holds a run already"):
        train_images(settings(shapes, tmp_path / "part", epochs=2, **few))
    with pytest.raises(InputError, match="freeze False, not True; resume with the same"):
        train_images(settings(shapes, tmp_path / "part", epochs=3, resume=True, freeze=True, **few))


def test_frozen_layers_and_given_weights_stay(shapes: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    thousand = image_net("mobilenet_v3_small", 1000).state_dict()
    save_file(thousand, tmp_path / "start.safetensors")
    weights = str(tmp_path / "start.safetensors")
    given = settings(
        shapes, tmp_path / "run", model="torchvision:mobilenet_v3_small", weights=weights, freeze=True
    )
    trained = load_file(train_images(given).with_suffix(".safetensors"))
    changed = {name for name, value in trained.items() if not torch.equal(value, thousand[name])}
    assert changed == {"classifier.3.weight", "classifier.3.bias"}  # and no running statistic


def test_the_head_learns_faster() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2, 2))
    given = settings(Path("x"), Path("y"), lr=0.5, head_lr=4)
    module = ImagesModule(net, given, recipe("squeezenet1_1"), {})
    module.trainer = type("", (), {"estimated_stepping_batches": 10})()  # type: ignore[assignment]
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    assert rates == {
        id(p): (2.0 if p is net[2].weight or p is net[2].bias else 0.5) for p in net.parameters()
    }


def test_what_does_not_fit_is_refused(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no architecture `squeezenet`"):
        train_images(settings(shapes, tmp_path, model="squeezenet"))
    with pytest.raises(InputError, match="alexnet takes no pictures of 16 × 16"):
        train_images(settings(shapes, tmp_path, model="alexnet", size=16))
    with pytest.raises(InputError, match="crop is 0, expected a share"):
        settings(shapes, tmp_path, crop=0)
    with pytest.raises(ModelError, match="cannot be read as weights"):
        train_images(settings(shapes, tmp_path, weights="none.safetensors"))
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "b").mkdir()
    for label in "ab":
        for number in range(9):
            (tmp_path / "train" / label / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(MediaError, match="can be read"):
        train_images(settings(tmp_path, tmp_path))


# On the command line


def test_options_are_the_settings() -> None:
    options = command.make_context("images", ["--data", "d", "--model", "vgg16", "--out", "o"]).params
    assert ImageSettings(**options) == ImageSettings("d", "vgg16", Path("o"))
    assert options.keys() == {field.name for field in fields(ImageSettings)}


def test_train_images_on_the_command_line(shapes: Path, tmp_path: Path) -> None:
    words = [
        "train",
        "images",
        "--data",
        shapes,
        "--model",
        "squeezenet1_1",
        "--out",
        tmp_path / "run",
        "--epochs",
        1,
    ]
    more = ["--size", 48, "--images", 8, "--held-out", 4, "--accelerator", "cpu"]
    done = run(*(words + more))
    assert done.exit_code == 0, done.output
    assert "on 4 held-out pictures" in done.stdout
    assert "recall: cats" in done.stdout
    record = json.loads((tmp_path / "run" / "model.json").read_text())
    again = record["command"].split()
    assert again[:3] == ["chronocam", "train", "images"]
    assert "--no-freeze" in again
