"""What a model wants is said once: by options, by a mapping, or by a file beside the model's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import one_line, run
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.errors import ModelError
from chronocam.media import ClipPreprocess, Preprocess
from chronocam.media.preprocess import imagenet
from chronocam.models.wants import Wants, beside, labels_of

CODE = """
from torch import nn
def free(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
def wide(): return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Flatten(), nn.Linear(4 * 32 * 99, 2))
"""
PLAIN = Preprocess((8, 8), None, (0.0,) * 3, (1.0,) * 3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wanting_nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    torch.save(model.state_dict(), "net.pth")


def applied(recipe: Any = PLAIN, **settings: object) -> Any:
    return Wants.of(settings, "here").applied(recipe, "`it`")


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"range": "-1..1"}, (-1, 1)),
        ({"range": [-1, 1]}, (-1, 1)),
        ({"range": "0..255"}, (0, 255)),
        ({"scale": "1/127.5", "mean": "1"}, (-1, 1)),
        ({"scale": 1}, (0, 255)),
        ({"mean": (0.5, 0.5, 0.5), "std": 0.25}, (-2, 2)),
        ({"mean": "128", "scale": "1", "std": "64,64,64"}, (-2, 127 / 64)),
    ],
)
def test_black_and_white_become_what_was_said(settings: dict[str, Any], values: tuple[float, float]) -> None:
    recipe = applied(imagenet(8, 8), **settings)
    for pixel, value in zip((0, 255), values, strict=True):
        np.testing.assert_allclose(recipe(Image.new("RGB", (8, 8), (pixel,) * 3)), value, atol=1e-5)
    assert recipe.assumption is None


def test_channels_are_in_the_order_that_was_said() -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert applied(channels="bgr", scale=1)(red)[:, 0, 0].tolist() == [0, 0, 255]
    assert applied(channels="grey", scale=1)(red)[:, 0, 0].tolist() == [76]
    # As OpenCV: Y = 0.299 R + 0.587 G + 0.114 B, U = 0.492 (B - Y) + 128, V = 0.877 (R - Y) + 128.
    assert applied(channels="yuv", scale=1)(red)[:, 0, 0].tolist() == [76, 90, 255]
    blue_of_red = applied(channels="yuv", scale=1)(Image.new("RGB", (8, 8), (0, 0, 255)))
    np.testing.assert_array_equal(applied(channels="bgr2yuv", scale=1)(red), blue_of_red)
    blue = applied(channels="YUV", scale=1)
    assert blue(Image.new("RGB", (8, 8), (10, 20, 200)))[:, 0, 0].tolist() == [38, 208, 104]
    grey = applied(imagenet(8, 8), channels="grey")
    assert (grey.mean, grey.std) == ((pytest.approx(0.449),), (pytest.approx(0.226),))
    assert grey.assumption is not None


@pytest.mark.parametrize("channels", ["yuv", "bgr2yuv"])
def test_yuv_is_turned_back_into_colours(channels: str) -> None:
    rgb = np.random.default_rng(0).integers(60, 190, (5, 5, 3)).astype(np.float32)
    recipe = applied(channels=channels, range="-1..1", axes="hwc")
    np.testing.assert_allclose(recipe.pixels(recipe.normalised(rgb)), rgb, atol=2)


def test_sizes() -> None:
    assert applied(size="66x200").resize == (66, 200)
    assert applied(size=7).resize == (7, 7)
    cropped = applied(Preprocess(256, (224, 224), (0.5,) * 3, (0.5,) * 3), size="112")
    assert (cropped.resize, cropped.crop) == (128, (112, 112))
    whole = applied(Preprocess(256, (224, 224), (0.5,) * 3, (0.5,) * 3), size="66x200")
    assert whole(Image.new("RGB", (90, 50))).shape == (3, 66, 200)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("tchw", (4, 3, 8, 8)),
        ("cthw", (3, 4, 8, 8)),
        ("thwc", (4, 8, 8, 3)),
        ("time channel", (4, 3, 8, 8)),
        ("time, height, width, channel", (4, 8, 8, 3)),
        ("NTHWC", (4, 8, 8, 3)),
    ],
)
def test_axes_make_clips(axes: str, shape: tuple[int, ...]) -> None:
    clips = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)
    recipe = applied(axes=axes, frames=4, scale=1)
    assert isinstance(recipe, ClipPreprocess)
    made = recipe(clips)
    assert made.shape == shape
    order = {"c": 3, "t": 0, "h": 1, "w": 2}
    letters = {"time channel": "tchw", "time, height, width, channel": "thwc"}.get(axes, axes.lower()[-4:])
    np.testing.assert_array_equal(made, clips.transpose([order[letter] for letter in letters]))
    assert applied(ClipPreprocess(PLAIN, 9), frames=3).frames == 3
    assert applied(recipe, axes="hwc").channels == "last"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rang": "0..1"}, "no setting `rang`; did you mean `range`"),
        ({"range": "1..-1"}, "range `1..-1`; expected what 0 and 255 become"),
        ({"range": "0..1", "std": 2}, "range says what scale, mean and std say"),
        ({"std": "0"}, "std `0`; expected one number above 0"),
        ({"size": "a"}, "size `a`; expected a side, or height x width"),
        ({"channels": "cmyk"}, "channels `cmyk`; expected one of rgb, bgr, grey, yuv, bgr2yuv"),
        ({"axes": "thc"}, "axes `thc`; expected the order"),
        ({"mean": "123.7,116.3,103.5"}, "is of values up to 255, and scale 1/255; give scale 1 too"),
        ({"mean": "0.5,0.5,0.5", "channels": "grey"}, "for 1 channels"),
        ({"scale": "1/0"}, "scale `1/0`"),
        ({"labels": "none.txt"}, "labels cannot be read from `none.txt`"),
    ],
)
def test_what_does_not_fit_is_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        applied(**settings)
    assert words in str(caught.value)


def test_features_have_no_pictures() -> None:
    with pytest.raises(ModelError, match=r"takes features.*give size too"):
        applied(None, range="0..1")
    assert applied(None, size=8, range="0..1").resize == (8, 8)


def test_labels_are_read_as_they_are_kept() -> None:
    Path("a.txt").write_text("cat\n dog \n\n")
    Path("b.json").write_text('["cat", "dog"]')
    Path("c.json").write_text('{"1": ["n2", "dog"], "0": ["n1", "cat"]}')
    for name in ("a.txt", "b.json", "c.json"):
        assert labels_of(name) == ("cat", "dog")


def test_a_file_beside_the_model_says_it_once() -> None:
    spec = "net.pth@python:wanting_nets:free"
    assert cc.models.load(spec).preprocess == imagenet()
    Path("labels.txt").write_text("cat\ndog\n")
    Path("chronocam.json").write_text(
        json.dumps({"range": [-1, 1], "channels": "bgr", "labels": "labels.txt"})
    )
    loaded = cc.models.load(spec)
    assert loaded.labels == loaded.model.labels == ("cat", "dog")
    assert loaded.preprocess == Preprocess(256, (224, 224), (0.5,) * 3, (0.5,) * 3, order="bgr")
    # What is said in the call comes first, values together.
    loaded = cc.models.load(spec, preprocess={"scale": 1}, labels=["a", "b"])
    assert loaded.labels == loaded.model.labels == ("a", "b")
    assert loaded.preprocess == Preprocess(256, (224, 224), (0.0,) * 3, (1.0,) * 3, scale=1, order="bgr")
    assert cc.models.load(spec, preprocess=PLAIN).preprocess == PLAIN
    assert (
        cc.models.load("python:wanting_nets:free").preprocess == imagenet()
    )  # no file, so nothing beside it


@pytest.mark.parametrize("text", ["[1", "[]", '{"labels": "../gone.txt"}', '{"code": 1}', "[" * 100_000])
def test_a_damaged_file_beside_the_model_is_told(text: str) -> None:
    Path("chronocam.json").write_text(text)
    with pytest.raises(ModelError, match=r"chronocam\.json|gone\.txt"):
        cc.models.load("net.pth@python:wanting_nets:free")


def test_the_command_line_says_what_was_assumed_and_takes_what_is_said() -> None:
    Image.effect_noise((60, 50), 90).convert("RGB").save("photo.png")
    Path("labels.txt").write_text("cat\ndog\n")
    call = ("explain", "photo.png", "--model", "net.pth@python:wanting_nets:free", "--html", "--json")
    guess = run(*call)
    page = Path("chronocam-out/photo.html").read_text()
    told = run(*call, "--range=-1..1", "--channels", "bgr", "--size", "32", "--labels", "labels.txt")
    assert (guess.exit_code, told.exit_code) == (0, 0)
    assert "a guess" in guess.stderr
    assert "a guess" in json.dumps(json.loads(guess.stdout), ensure_ascii=False)
    assert "a guess" in page
    assert "a guess" not in told.stderr + told.stdout
    entry = json.loads(told.stdout)["inputs"][0]["maps"][0]
    assert entry["target"] in ("cat", "dog")
    assert entry["grid"] == [30, 30]


def test_a_size_that_no_square_fits_is_said() -> None:
    Image.effect_noise((60, 50), 90).convert("RGB").save("photo.png")
    call = ("explain", "photo.png", "--model", "python:wanting_nets:wide", "--size", "66x200")
    assert run(*call).exit_code == 0
    result = run("layers", "python:wanting_nets:wide", "--size", "66x200")
    assert "32 × 99" in result.stdout
    assert run("layers", "python:wanting_nets:wide", "--size", "no").exit_code == 1


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('{"labels": "../labels.txt"}', "are not in"),
        ('{"labels": "/etc/hostname"}', "are not in"),
        ('{"channels": 3}', "channels `3`; expected one of rgb"),
        ('{"axes": null, "scale": 1e999}', "scale `inf`; expected a number"),
        ('{"mean": [NaN]}', "mean `[nan]`; expected one number"),
        ('{"size": [100000, 100000]}', "expected a side"),
        ('{"frames": 1e999}', "frames `inf`; expected how many"),
        ('{"size": ' * 20_000, "nested too deep"),
    ],
)
def test_what_a_file_beside_a_model_says_is_taken_for_nothing_else(
    said: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\n")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "chronocam.json").write_text(said)
    with pytest.raises(ModelError) as error:
        beside(folder / "net.safetensors")
    one_line(error, told)


@pytest.mark.parametrize(("count", "doubted"), [(1, True), (2, False), (3, True)])
def test_labels_are_counted_against_the_outputs(count: int, doubted: bool) -> None:
    loaded = cc.models.load("python:wanting_nets:free", labels=["a", "b", "c"][:count])
    for target in (None, 0):
        found = cc.GradCAM(loaded.model).explain(torch.rand(1, 3, 16, 16), target).diagnostics
        assert any(f"{count} labels for 2 outputs" in text for text in found) == doubted
