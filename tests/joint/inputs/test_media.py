"""Pictures, clips and paths are inputs where the preprocessing is known; labels come with the method."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import one_line
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.errors import ChronocamError, InputError, TargetError
from chronocam.media import ClipPreprocess, Preprocess

FRAME = Preprocess(40, (32, 32), (0.5,) * 3, (0.5,) * 3)
CLIPS = ClipPreprocess(FRAME, 4)


def net(rank: int = 2) -> nn.Module:
    torch.manual_seed(0)
    conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if rank == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    return nn.Sequential(conv(3, 8, 3, 2, 1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(8, 2)).eval()


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))


def clip(path: Path) -> cc.media.Clip:
    cc.media.write_clip(path, np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), np.uint8), fps=10)
    return cc.media.read_clip(path, frames=4)


FORMS: dict[str, Callable[[Path], Any]] = {
    "a picture": lambda path: picture(),
    "a list": lambda path: [picture()] * 3,
    "a path": lambda path: path,
    "a text": str,
    "paths": lambda path: [path, str(path), picture()],
    "8 bits": lambda path: np.asarray(picture()),
    "a batch of 8 bits": lambda path: np.asarray(picture())[None],
    "batches": lambda path: iter([[path, picture()], [picture()]]),
    "pairs": lambda path: [(picture(), 1), (path, 1)],
}


@pytest.mark.parametrize("form", FORMS)
def test_pictures_are_preprocessed(form: str, tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    model = net()
    loaded = cc.models.Loaded(model, FRAME, ("cat", "dog"), "python:a:b")
    expected = cc.GradCAM(model).explain(FRAME(picture())[None], 1)
    target = None if form == "pairs" else "dog"
    given = FORMS[form](tmp_path / "a.png")
    explanation = cc.GradCAM(loaded, batch_size=2).explain(given, target)
    assert {info.name for row in explanation.targets for info in row} == {"dog"}
    np.testing.assert_allclose(
        explanation.maps, np.repeat(expected.maps, len(explanation), axis=0), atol=1e-6
    )
    assert not hasattr(model, "labels")  # the model stays as it was


def test_explain_takes_what_is_loaded(tmp_path: Path) -> None:
    model = net()
    loaded = cc.models.Loaded(model, FRAME, ("cat", "dog"), "python:a:b")
    expected = cc.GradCAM(model).explain(FRAME(picture())[None], 1).maps
    options = {"preprocess": FRAME, "labels": ["cat", "dog"]}
    for maps in (
        cc.explain(loaded, picture(), "dog")["gradcam"].maps,
        cc.explain(model, picture(), "dog", **options)["gradcam"].maps,
        cc.GradCAM(model, preprocess=lambda image: torch.from_numpy(FRAME(image))).explain(picture(), 1).maps,
    ):
        np.testing.assert_array_equal(maps, expected)


def test_clips_and_videos_are_preprocessed(tmp_path: Path) -> None:
    video = clip(tmp_path / "a.gif")
    method = cc.GradCAM(cc.models.Loaded(net(3), CLIPS, None, "python:a:b"))
    expected = cc.GradCAM(net(3)).explain(CLIPS(video)[None], 1).maps
    for form in (video, [video], tmp_path / "a.gif", [str(tmp_path / "a.gif")]):
        explanation = method.explain(form, 1)
        np.testing.assert_array_equal(explanation.maps, expected)
        assert explanation.save(tmp_path / "b.png", form).is_file()
        assert explanation.save(tmp_path / "b.mp4", form).is_file()


def test_one_medium_or_paths_are_drawn_on_as_the_model_saw_them(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture().save(path)
    explanation = cc.GradCAM(cc.models.Loaded(net(), FRAME, None, "python:a:b")).explain(picture(), 1)
    expected = explanation.overlay(np.asarray(FRAME.view(picture()))[None])
    for form in (picture(), path, str(path), [picture()], [path]):
        np.testing.assert_array_equal(explanation.overlay(form), expected)
    plain = cc.GradCAM(net()).explain(FRAME(picture())[None], 1)
    np.testing.assert_array_equal(plain.overlay(path), plain.overlay([picture()]))
    assert cc.load(explanation.save(tmp_path / "c.npz", path)).pictures is not None


class Listed:
    """A data set by number."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> np.ndarray:
        return np.zeros((3, 32, 32), np.float32)


REFUSED: dict[str, tuple[Callable[[Path], Any], Any, str]] = {
    "picture": (lambda path: picture(), None, "a PIL image is not yet the model's input: give preprocess="),
    "pictures": (lambda path: [picture()], None, "cc.models.load"),
    "path": (lambda path: "photo.jpg", None, r"the path `photo.jpg` \(a str\) is not yet the model's input"),
    "clip": (
        lambda path: clip(path / "a.gif"),
        None,
        r"a Clip is not yet .* preprocess=, such as a cc.media.ClipPreprocess, .* loaded.preprocess\(clip\)",
    ),
    "video": (lambda path: "a.mp4", None, r"the path `a.mp4` \(a str\) is not yet .*ClipPreprocess"),
    "video for pictures": (lambda path: "a.mp4", FRAME, "takes pictures, not clips such as the path `a.mp4`"),
    "folder": (lambda path: path, FRAME, r"names several pictures; give a list of their paths"),
    "pattern": (
        lambda path: "photos/*.jpg",
        np.asarray,
        r"`photos/\*.jpg` names several pictures; give a list",
    ),
    "array's path": (lambda path: "ecg.npy", None, r"ecg.npy.* give the array, np.load\(path\)\[None\]"),
    "data set": (lambda path: Listed(), FRAME, "cannot explain a Listed; give its batches"),
    "missing": (lambda path: "photo.jpg", FRAME, "`photo.jpg` does not exist"),
    "tuple": (lambda path: (picture(), picture()), FRAME, "expected a list of pictures"),
    "mixed": (lambda path: [picture(), np.zeros((1, 3, 32, 32))], FRAME, "a list of Image, ndarray"),
    "clip for pictures": (
        lambda path: clip(path / "a.gif"),
        FRAME,
        "not clips such as a Clip; give a frame",
    ),
    "picture for clips": (lambda path: picture(), CLIPS, "takes clips and the input is a picture"),
    "dict": (lambda path: picture(), {"size": 32}, "preprocess= is a dict; expected a function"),
    "address": (lambda path: "https://example.org/a.png", FRAME, "is an address, and nothing is fetched"),
    "failing": (lambda path: picture(), lambda image: 1 / 0, "preprocess= fails on a PIL image"),
    "no array": (lambda path: picture(), lambda image: image, "preprocess= made Image of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_media_that_cannot_be_inputs(case: str, tmp_path: Path) -> None:
    given, preprocess, message = REFUSED[case]
    with pytest.raises(ChronocamError, match=message) as error:
        cc.GradCAM(net(), preprocess=preprocess).explain(given(tmp_path), 1)
    one_line(error)


def test_labels_come_with_the_method() -> None:
    x = torch.rand(2, 3, 32, 32)
    for labels in (["cat", "dog"], ("cat", "dog"), {0: "cat", 1: "dog"}, np.array(["cat", "dog"])):
        explanation = cc.GradCAM(net(), labels=labels).explain(x, "dog")  # type: ignore[arg-type]
        assert explanation.targets[0][0].name == "dog"
    assert cc.GradCAM(net(), labels=["a", "b"]).explain(x, 0).targets[0][0].name == "a"
    with pytest.raises(TargetError, match="no label `horse`"):
        cc.GradCAM(net(), labels=["cat", "dog"]).explain(x, "horse")
    for wrong in ("cat", {"cat": 0}, {"cat", "dog"}, Path("labels.txt")):
        with pytest.raises(InputError, match="labels= is a"):
            cc.GradCAM(net(), labels=wrong)  # type: ignore[arg-type]
