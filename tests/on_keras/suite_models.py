"""Keras networks by spec. Run on one backend at a time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from networks import L, cnn, drawn, outputs, samples
from PIL import Image

import chronocam as cc
from chronocam.cli import main
from chronocam.errors import ModelError, TargetError
from chronocam.models.sources import keras_applications


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_model_is_loaded_with_its_recipe(tmp_path: Path, suffix: str) -> None:
    model = cnn()
    model.save(tmp_path / f"net{suffix}")
    loaded = cc.models.load(str(tmp_path / f"net{suffix}"))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
    x = loaded.preprocess(picture)[None]
    assert x.shape == (1, 16, 16, 3)
    np.testing.assert_allclose(
        x[0], np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR)) / 255, atol=1e-6
    )
    np.testing.assert_allclose(
        cc.GradCAM(loaded.model).explain(x, 1).maps, cc.GradCAM(model).explain(x, 1).maps, 1e-5
    )


@pytest.mark.parametrize(
    ("scaling", "scaled"),
    [
        (lambda: L.Rescaling(1 / 255), 51),
        (lambda: keras.Sequential([L.Rescaling(1 / 255)]), 51),
        (lambda: keras.Sequential([keras.Sequential([L.Normalization(mean=9.0, variance=4.0)])]), 51),
        (lambda: L.BatchNormalization(moving_mean_initializer=keras.initializers.Constant(90.0)), 51),
        (lambda: L.BatchNormalization(), 0.2),
        (lambda: L.Activation("linear"), 0.2),
    ],
)
def test_a_model_that_rescales_gets_its_pixels_as_they_are(
    tmp_path: Path, scaling: Callable[[], Any], scaled: float
) -> None:
    layers = [keras.Input((4, 4, 1)), scaling(), L.Conv2D(2, 2), L.Flatten(), L.Dense(2)]
    keras.Sequential(layers).save(tmp_path / "net.keras")
    loaded = cc.models.load(str(tmp_path / "net.keras"))
    picture = Image.fromarray(np.full((4, 4), 51, np.uint8))
    np.testing.assert_allclose(loaded.preprocess(picture), np.full((4, 4, 1), scaled), rtol=1e-6)
    # What is a guess is said where the recipe was used, and there alone.
    found = cc.GradCAM(loaded).explain(picture, 0).diagnostics
    assert any("which is assumed" in text for text in found) == (scaled < 1)
    assert "assumed" not in "".join(cc.GradCAM(loaded).explain(samples((4, 4, 1)), 0).diagnostics)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_needs_trust(tmp_path: Path, suffix: str) -> None:
    inner = keras.Sequential(
        [keras.Input((4, 4, 3)), L.Lambda(lambda x: 2 * x, output_shape=(4, 4, 3))], name="inner"
    )
    model = keras.Sequential([keras.Input((4, 4, 3)), inner, L.Conv2D(2, 2), L.Flatten(), L.Dense(2)])
    path = str(tmp_path / f"net{suffix}")
    model.save(path)
    with pytest.raises(ModelError, match="--trust"):
        cc.models.load(path)
    loaded, x = cc.models.load(path, trust=True).model, samples((4, 4, 3))
    np.testing.assert_allclose(outputs(loaded, x), outputs(model, x), rtol=1e-5)


OWN = """
import keras
from networks import cnn as made
def cnn(): return made()
def other(): return keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 3)])
def torch_net():
    from torch import nn
    return nn.Conv2d(3, 2, 3)
"""


@pytest.mark.parametrize("name", ["only.weights.h5", "whole.h5", "whole.keras"])
def test_weights_alone_go_into_an_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("keras_arch.py").write_text(OWN)
    model = drawn(cnn(), 3)
    (model.save_weights if "weights" in name else model.save)(name)
    if "weights" in name:
        with pytest.raises(
            ModelError, match=rf"name their architecture: {name}@keras:NAME or {name}@python:"
        ):
            cc.models.load(name)
    loaded, x = cc.models.load(f"{name}@python:keras_arch:cnn"), samples((16, 16, 3))
    np.testing.assert_allclose(outputs(loaded.model, x), outputs(model, x), rtol=1e-6)
    with pytest.raises(ModelError, match=r"the weights do not fit .*build the network as it was trained"):
        cc.models.load(f"{name}@python:keras_arch:other")
    pytest.importorskip("torch")
    with pytest.raises(ModelError, match=r"is not a network of Keras; expected keras:NAME"):
        cc.models.load(f"{name}@python:keras_arch:torch_net")


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    cnn().save_weights(tmp_path / "only.weights.h5")
    (tmp_path / "net.keras").write_bytes(b"\xffno archive")
    deep = keras.Sequential([keras.Input((3, 8, 8, 5)), L.Conv3D(2, 2), L.Flatten(), L.Dense(2)])
    deep.save(tmp_path / "deep.keras")
    for name, words in {
        "only.weights.h5": "weights alone",
        "net.keras": "is not a saved model",
        "none.keras": "no file",
        "deep.keras": "neither a picture, a clip nor features",
    }.items():
        with pytest.raises(ModelError, match=words) as raised:
            cc.models.load(str(tmp_path / name))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["VGG16", "MobileNetV2", "DenseNet121", "EfficientNetB0"])
def test_the_recipe_is_what_preprocess_input_does(name: str) -> None:
    builder = getattr(keras.applications, name)
    options: dict[str, Any] = {"weights": None, "include_top": False, "input_shape": (32, 40, 3)}
    preprocess = keras_applications.recipe(builder, builder(**options))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8))
    module = {
        "VGG16": "vgg16",
        "MobileNetV2": "mobilenet_v2",
        "DenseNet121": "densenet",
        "EfficientNetB0": "efficientnet",
    }
    expected = getattr(keras.applications, module[name]).preprocess_input(
        np.asarray(picture, np.float32).copy()
    )
    np.testing.assert_allclose(preprocess(picture), np.asarray(expected), rtol=1e-4, atol=1e-4)


def test_an_unknown_network_is_answered_with_close_names() -> None:
    with pytest.raises(ModelError, match="`VGG16`"):
        cc.models.load("keras:VGG17")


def test_without_a_network_one_line_says_what_was_to_be_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*given: Any, **options: Any) -> None:
        raise OSError("URL fetch failure\nand more")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", unreachable)
    with pytest.raises(ModelError, match=r"weights of MobileNet \(URL fetch failure\)") as raised:
        cc.models.load("keras:MobileNet")
    assert "\n" not in str(raised.value)


def test_labels_of_the_model_name_classes(tmp_path: Path) -> None:
    model, x = cnn(), samples((16, 16, 3))
    model.labels = ("ant", "bee", "cat", "dog", "eel")
    assert cc.GradCAM(model).explain(x, "cat").targets[0][0].index == 2
    with pytest.raises(TargetError, match="`dog`"):
        cc.GradCAM(model).explain(x, "dogg")


def test_a_saved_model_of_sequences_is_explained_on_the_command_line(tmp_path: Path) -> None:
    layers = [keras.Input((None, 4)), L.LSTM(3, return_sequences=True, name="lstm"), L.Dense(2, name="head")]
    model, x = drawn(keras.Sequential(layers)), samples((5, 4), 1)
    path, array = tmp_path / "net.keras", tmp_path / "x.npy"
    model.save(path)
    np.save(array, x[0])
    assert cc.models.load(str(path)).preprocess is None

    def ran(*command: str) -> Any:
        return CliRunner().invoke(main, [*command, "--json"])

    options = [
        "--model",
        str(path),
        "--target",
        "1",
        "--step",
        "2",
        "--epsilon",
        "0.01",
        "--out",
        str(tmp_path / "out"),
    ]
    done = ran("explain", str(array), "--method", "lrp", *options)
    assert done.exit_code == 0, done.output
    (entry,) = json.loads(done.stdout)["inputs"][0]["sequences"]
    assert entry["scores"] == pytest.approx([outputs(model, x)[0, 2, 1]], rel=1e-5)
    assert sum(values[0] for values in entry["ledger"].values()) == pytest.approx(
        entry["scores"][0], rel=1e-5
    )
    found = cc.sequence.load(entry["relevance"])
    expected = cc.sequence.LRP(model, epsilon=0.01).explain(x, cc.targets.Step(2, 1))
    np.testing.assert_allclose(found.relevance, expected.relevance, rtol=1e-5, atol=1e-7)
    rows = json.loads(ran("layers", str(path)).stdout)
    assert [(row["path"], row["grid"]) for row in rows] == [("lstm", []), ("head", [16])]
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    refused = ran("explain", str(tmp_path / "picture.png"), "--model", str(path))
    assert refused.exit_code == 1
    assert ".npy" in refused.output + refused.stderr


BARE = """
import keras
L = keras.layers

def made(shape):
    inputs = keras.Input(shape)
    features = L.Flatten()(L.Conv2D(2, 3, strides=8)(inputs))
    free = keras.ops.reshape(features, (-1, 32)) if None in shape else L.Dense(3)(features)
    return keras.Model(inputs, free)

def declared(): return made((48, 64, 3))
def grey(): return made((48, 48, 1))
def free(): return made((None, None, 3))

class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = L.Conv2D(2, 3, strides=8)
    def call(self, x):
        return keras.ops.reshape(self.conv(x), (-1, 128))

def own(): return Own()
"""


@pytest.mark.parametrize(
    ("name", "shape"),
    [("declared", (48, 64, 3)), ("grey", (48, 48, 1)), ("free", (32, 32, 3)), ("own", (64, 64, 3))],
)
def test_bare_models_of_factories_get_pictures_of_the_size_they_take(
    name: str, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bare_keras.py").write_text(BARE)
    monkeypatch.chdir(tmp_path)
    loaded = cc.models.load(f"python:bare_keras:{name}")
    picture = loaded.preprocess(Image.new("RGB", (80, 60), "white"))
    assert picture.shape == shape
    assert picture.max() == 1  # of 255, as the file of such a model gets it
    assert loaded.model(picture[None]).shape[0] == 1
