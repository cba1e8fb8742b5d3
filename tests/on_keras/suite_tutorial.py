"""The tutorial from a folder of pictures to what the network looks at, on VGG16. One backend each."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pets
import pytest
from click.testing import CliRunner
from networks import cnn, outputs, samples

import chronocam as cc
from chronocam.cli import main

LAST = "block5_conv3"
SIZE = 64  # the last convolution sees 4 × 4 cells


def command(*words: object) -> Any:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, f"{done.stderr}\n{done.exception}"
    return done


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pets.write(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def photo(pictures: Path) -> Path:
    return pictures / "validation" / "cats" / "0.png"


def train(pictures: Path, out: Path, model: str, size: int) -> Path:
    """Train a network's new last layer on discs and triangles, and return the record's path."""
    options = ["--size", size, "--epochs", 1, "--freeze", "--lr", "1e-3", "--head-lr", 1, "--images", 16]
    done = command("train", "images", "--data", pictures, "--model", model, "--out", out, *options)
    assert "on 20 held-out pictures" in done.stdout
    assert "recall: cats" in done.stdout
    return out / "model.json"


def gradient(score: Any, at: np.ndarray) -> np.ndarray:
    """Return the gradient of a scalar by its input, as the framework has it."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(at)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = score(x)
        return tape.gradient(value, x).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(score)(at))
    import torch

    x = torch.tensor(at, requires_grad=True)
    (slope,) = torch.autograd.grad(score(x), x)
    return slope.numpy()


def by_hand(net: Any, x: np.ndarray, number: int) -> tuple[np.ndarray, float]:
    """Return Grad-CAM at the last convolution, step by step, and the class score before the softmax."""
    place = net.layers.index(net.get_layer(LAST))
    *between, head = net.layers[place + 1 :]

    def score(maps: Any) -> Any:
        for layer in between:
            maps = layer(maps, training=False)
        return keras.ops.matmul(maps, head.kernel)[0, number] + head.bias[number]

    maps = outputs(keras.Model(net.inputs, net.get_layer(LAST).output), x)  # (1, height, width, channel)
    derivatives = gradient(score, maps)
    weights = derivatives.mean(axis=(1, 2))[0]  # one per feature map
    total = (maps[0] * weights).sum(axis=-1)
    value = float(keras.ops.convert_to_numpy(score(keras.ops.convert_to_tensor(maps))))
    return np.maximum(total, 0), value


def test_the_map_of_a_trained_vgg_is_the_one_by_hand(pictures: Path, photo: Path, tmp_path: Path) -> None:
    loaded = cc.models.load(str(train(pictures, tmp_path / "net", "keras:VGG16", SIZE)))
    picture = cc.media.read_image(photo)
    x = loaded.preprocess(picture)[None]
    assert np.allclose(
        x, keras.applications.vgg16.preprocess_input(np.float32(loaded.preprocess.view(picture))[None])
    )
    method = cc.GradCAM(loaded.model, LAST)
    explanation = method.explain(x, ["cats", "dogs"])
    for k, label in enumerate(("cats", "dogs")):
        expected, score = by_hand(loaded.model, x, loaded.labels.index(label))
        scale = max(np.abs(explanation.maps).max(), 1e-12)
        np.testing.assert_allclose(explanation.maps[0, k], expected, rtol=1e-4, atol=1e-5 * scale)
        np.testing.assert_allclose(explanation.scores[0, k], score, rtol=1e-4)
    assert explanation.maps.any()
    assert cc.GradCAM(loaded.model).explain(x).layer in (LAST, "block5_pool")
    assert explanation.upsample().shape == (1, 2, SIZE, SIZE)
    view = loaded.preprocess.view(picture)
    explanation.save(tmp_path / "gradcam.png", [view])
    k = int(explanation.maps[0].max((1, 2)).argmax())
    heat = explanation.upsample()[0, k]
    (box,) = explanation.boxes(threshold=0.4)[0][k][:1]
    x0, y0, x1, y1 = (int(value) for value in box)
    peak = np.unravel_index(heat.argmax(), heat.shape)
    assert y0 <= peak[0] < y1 and x0 <= peak[1] < x1  # noqa: PT018
    ys, xs = np.nonzero(heat >= 0.4 * heat.max())
    assert xs.min() <= x0 <= x1 <= xs.max() + 1 and ys.min() <= y0 <= y1 <= ys.max() + 1  # noqa: PT018
    cc.media.write_image(tmp_path / "boxed.png", cc.render.draw_boxes(np.asarray(view), [box]))
    methods = ("gradcam", "guidedgradcam", "guidedbackprop")
    one = cc.explain(loaded.model, x, "cats", methods=methods, layers=[LAST])
    product = one["gradcam"].upsample(mode="linear")[0, 0] * one["guidedbackprop"].maps[0, 0]
    guided = cc.GuidedGradCAM(loaded.model, LAST).explain(x, "cats").maps[0, 0]
    for found in (one["guidedgradcam"].maps[0, 0], guided):
        np.testing.assert_allclose(np.abs(found), np.abs(product), rtol=0, atol=1e-4 * np.abs(product).max())


def test_cam_of_a_network_that_ends_in_pooling() -> None:
    model, x = cnn(), samples((16, 16, 3))
    kernel, _ = model.layers[-1].get_weights()
    maps = outputs(keras.Model(model.inputs, model.get_layer("relu").output), x)
    explanation = cc.CAM(model).explain(x, 3)
    assert explanation.layer == "relu"
    np.testing.assert_allclose(
        explanation.maps[:, 0], np.maximum(maps @ kernel[:, 3], 0), rtol=1e-4, atol=1e-5
    )


def test_the_same_on_the_command_line(
    pictures: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.applications, "Tiny", pets.Tiny, raising=False)
    trained = train(pictures, tmp_path / "net", "keras:Tiny", 32)
    told = command("layers", trained, "--json")
    grids = {row["path"]: row["grid"] for row in json.loads(told.stdout)}
    assert grids[LAST] == [16, 16]
    methods = ["--method", "gradcam", "--method", "guidedgradcam", "--layer", LAST, "--target", "dogs"]
    done = command("explain", photo, "--model", trained, *methods, "--out", tmp_path, "--json")
    (result,) = json.loads(done.stdout)["inputs"]
    assert {entry["method"] for entry in result["maps"]} == {"gradcam", "guidedgradcam"}
    command("features", photo, "--model", trained, "--layer", "block1_conv1", "--out", tmp_path)
    command("filters", trained, "--out", tmp_path)
    done = command("maximise", trained, "--channel", "dogs", "--steps", 2, "--out", tmp_path, "--json")
    (result,) = json.loads(done.stdout)["results"]
    assert result["channels"][0]["name"] == "dogs"
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    assert "0.features.block1_conv1.png" in names
    assert "filters.block1_conv1.png" in names
    assert "maximise.output.1.png" in names
