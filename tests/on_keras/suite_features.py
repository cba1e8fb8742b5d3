"""Channels of Keras models as pictures. Run on one backend at a time."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from networks import L, cnn, conv1d, conv3d, drawn, frames_lstm, samples, transfer
from PIL import Image

import chronocam as cc
from chronocam.cli import main
from chronocam.errors import LayerError, LayoutError, ModelError
from chronocam.features import activation_maximisation, feature_maps, filters
from chronocam.media import Preprocess


def upto(model: Any, layer: Any, x: np.ndarray) -> np.ndarray:
    """Return what Keras itself gives at a layer."""
    return np.asarray(keras.ops.convert_to_numpy(keras.Model(model.inputs, layer.output)(x)))


def state(model: Any) -> list[Any]:
    return [
        *model.get_weights(),
        *(layer.trainable for layer in model.layers),
        *(vars(x).keys() for x in model.layers),
    ]


def same(one: list[Any], other: list[Any]) -> bool:
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in zip(one, other, strict=True)
    )


# Feature maps


def test_feature_maps_are_the_activations_of_a_layer() -> None:
    model, x = cnn(), samples((16, 16, 3))
    expected = upto(model, model.get_layer("conv2"), x).transpose(0, 3, 1, 2)
    found = feature_maps(model, "conv2", x, [5, 2])
    np.testing.assert_allclose(found.maps, expected[:, [5, 2]], rtol=1e-5, atol=1e-6)
    assert (found.channels, found.layer, found.of) == ((5, 2), "conv2", 8)
    with pytest.raises(LayerError, match="no channel 8; it has 8"):
        feature_maps(model, "conv2", x, [8])
    with pytest.raises(LayoutError, match="no grid"):
        feature_maps(model, "head", x)


def test_feature_maps_of_layers_inside_a_backbone() -> None:
    model, x = transfer(), samples((16, 16, 3))
    backbone = model.get_layer("backbone")
    expected = upto(backbone, backbone.get_layer("branch"), x).transpose(0, 3, 1, 2)
    for name in ("backbone/branch", "branch", backbone.get_layer("branch")):
        found = feature_maps(model, name, x)
        np.testing.assert_allclose(found.maps, expected, rtol=1e-5, atol=1e-6)
        assert found.layer == "backbone/branch"


def test_feature_maps_of_signals_volumes_and_frames() -> None:
    for make, layer, shape in ((conv1d, "conv2", (32, 4)), (conv3d, "conv2", (6, 12, 12, 3))):
        model, x = make(), samples(shape)
        expected = np.moveaxis(upto(model, model.get_layer(layer), x), -1, 1)
        found = feature_maps(model, layer, x)
        np.testing.assert_allclose(found.maps, expected, rtol=1e-5, atol=1e-6)
        assert found.picture(count=2).ndim == 3
    model, x = frames_lstm(), samples((4, 12, 12, 3))
    frame = model.get_layer("frames").layer
    one = upto(frame, frame.get_layer("conv2"), x[1])  # (time, height, width, channel)
    np.testing.assert_allclose(
        feature_maps(model, "frames/cnn/conv2", x).maps[1], np.moveaxis(one, -1, 0), rtol=1e-5, atol=1e-6
    )


# Filters


def first_conv(layer: Any, shape: tuple[int, ...]) -> Any:
    return drawn(keras.Sequential([keras.Input(shape), layer]))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Conv2D(4, (2, 3), use_bias=False), (6, 7, 3)),
        (L.Conv1D(4, 3, use_bias=False), (6, 2)),
        (L.Conv3D(4, (2, 3, 1), use_bias=False), (4, 5, 3, 2)),
        (L.DepthwiseConv2D((2, 3), depth_multiplier=2, use_bias=False), (6, 7, 3)),
        (L.DepthwiseConv1D(3, depth_multiplier=2, use_bias=False), (6, 3)),
        (L.SeparableConv2D(4, (2, 3), depth_multiplier=2, use_bias=False), (6, 7, 3)),
        (L.SeparableConv1D(4, 3, depth_multiplier=2, use_bias=False), (6, 3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, keras.Layer) else "",
)
def test_filters_are_what_a_layer_multiplies_the_picture_by(layer: Any, shape: tuple[int, ...]) -> None:
    """The output of each filter is the sum of its weights times a window of the picture, by NumPy alone."""
    model, x = first_conv(layer, shape), samples(shape)
    kernels = filters(model).kernels
    sides = kernels.shape[2:]
    window = x[(slice(None), *(slice(0, side) for side in sides))]
    outputs = np.asarray(keras.ops.convert_to_numpy(model(x)))[(slice(None), *[0] * len(sides))]
    seen = np.moveaxis(window, -1, 1)  # (batch, channel, *grid)
    if (
        kernels.shape[1] == 1
    ):  # each filter of a depthwise convolution sees one channel, several in a row the same
        times = len(kernels) // shape[-1]
        expected = np.stack(
            [(seen[:, i // times] * kernel[0]).reshape(2, -1).sum(1) for i, kernel in enumerate(kernels)], 1
        )
    else:
        expected = np.stack([(seen * kernel).reshape(2, -1).sum(1) for kernel in kernels], 1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_filters_of_a_layer_inside_a_backbone_and_of_the_first() -> None:
    model = transfer()
    backbone = model.get_layer("backbone")
    for name, layer in ((None, "stem"), ("branch", "branch"), ("backbone/branch", "branch")):
        found = filters(model, name)
        kernel = np.asarray(keras.ops.convert_to_numpy(backbone.get_layer(layer).kernel.value))
        np.testing.assert_array_equal(found.kernels, kernel.transpose(3, 2, 0, 1))
        assert found.layer == f"backbone/{layer}"
    assert filters(frames_lstm()).layer == "frames/cnn/conv1"
    with pytest.raises(
        LayerError, match="layer `backbone/bn` is not a convolution; choose one of backbone/stem"
    ):
        filters(model, "bn")
    with pytest.raises(ModelError, match="has no convolution"):
        filters(keras.Sequential([keras.Input((3,)), L.Dense(2)]))


def test_colours_are_drawn_as_those_of_the_picture() -> None:
    model = first_conv(L.Conv2D(1, 1, use_bias=False), (4, 4, 3))
    model.set_weights([np.array([1.0, 0.0, -1.0], np.float32).reshape(1, 1, 3, 1)])
    caffe = Preprocess((4, 4), None, (0.0,) * 3, (1.0,) * 3, scale=1.0, channels="last", order="bgr")

    def colour(found: Any) -> list[int]:
        figure = found.plot()
        (image,) = [image for axis in figure.axes for image in axis.images]
        return np.asarray(image.get_array())[0, 0].tolist()

    assert colour(filters(model)) == [255, 128, 0]
    assert colour(filters(model, preprocess=caffe)) == [0, 128, 255]  # its first channel is blue
    np.testing.assert_array_equal(filters(model, preprocess=caffe).kernels, filters(model).kernels)


# Activation maximisation


def test_the_input_that_excites_a_linear_filter_is_the_filter() -> None:
    model = drawn(
        keras.Sequential([keras.Input((6, 6, 3)), L.Flatten(), L.Dense(2, use_bias=False, name="dense")])
    )
    before = state(model)
    found = activation_maximisation(
        model, "dense", 1, shape=(6, 6, 3), steps=60, rate=0.1, jitter=0, spectrum=0, variation=0, norm=1
    )
    assert same(before, state(model))
    weight = model.get_weights()[0][:, 1]
    noise = np.random.default_rng(0).normal(0, 0.1, (6, 6, 3)).astype(np.float32).ravel()
    expected = 0.9**60 * noise + (1 - 0.9**60) * weight / np.sqrt(np.mean(weight**2))
    np.testing.assert_allclose(found.inputs[0].ravel(), expected, atol=1e-4)
    np.testing.assert_allclose(found.curves[0, [0, -1]], [noise @ weight, expected @ weight], rtol=1e-3)


def test_a_channel_and_a_class_are_excited() -> None:
    model = transfer()
    model.labels = ("ant", "bee", "cat", "dog")
    found = activation_maximisation(model, "backbone/branch", [2, 4], shape=(16, 16, 3), steps=12)
    reached = feature_maps(model, "branch", found.inputs).maps.mean((2, 3))
    np.testing.assert_allclose(found.curves[:, -1], [reached[0, 2], reached[1, 4]], rtol=1e-4)
    assert (found.curves[:, -1] > found.curves[:, 0]).all()
    found = activation_maximisation(model, None, "cat", shape=(16, 16, 3), steps=12)
    logits = np.asarray(keras.ops.convert_to_numpy(model(found.inputs)))
    assert found.names == ("cat",)
    np.testing.assert_allclose(found.curves[0, -1], logits[0, 2], rtol=1e-4)
    assert found.curves[0, -1] > found.curves[0, 0]


def test_the_class_is_its_logit_where_the_model_ends_in_a_softmax() -> None:
    model = cnn()
    found = activation_maximisation(model, None, 3, shape=(16, 16, 3), steps=3)
    pooled = upto(model, model.get_layer("gap"), found.inputs)
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(found.curves[0, -1], (pooled @ kernel + bias)[0, 3], rtol=1e-4)


# On the command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    transfer().save(tmp_path / "net.keras")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)).save(
        tmp_path / "photo.png"
    )
    return tmp_path


def told(*words: object) -> list[dict[str, Any]]:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    assert all(Path(result["picture"]).read_bytes().startswith(b"\x89PNG") for result in results)
    return results


def test_features_filters_and_maximised_inputs_on_the_command_line(folder: Path) -> None:
    loaded = cc.models.load("net.keras")
    x = loaded.preprocess(cc.media.read_image(folder / "photo.png"))[None]
    layers = ["--layer", "backbone/branch", "--layer", "stem", "--count", 2]
    results = told("features", "photo.png", "--model", "net.keras", *layers, "--json")
    for result in results:
        maps = feature_maps(loaded.model, result["layer"], x)
        assert [entry["channel"] for entry in result["channels"]] == maps.strongest(0, 2)
        strongest = maps.maps[0, maps.strongest(0, 1)[0]]
        np.testing.assert_allclose(result["channels"][0]["max"], strongest.max(), rtol=1e-5)
    assert [result["layer"] for result in results] == ["backbone/branch", "backbone/stem"]
    (result,) = told("filters", "net.keras", "--json")
    assert (result["layer"], result["shape"]) == ("backbone/stem", [6, 3, 3, 3])
    kernels = filters(loaded.model).kernels
    np.testing.assert_allclose(result["norms"], np.sqrt((kernels**2).sum((1, 2, 3))), rtol=1e-5)
    (result,) = told("maximise", "net.keras", "--layer", "branch", "--channel", 3, "--steps", 4, "--json")
    found = activation_maximisation(loaded.model, "branch", 3, preprocess=loaded.preprocess, steps=4)
    assert (result["layer"], result["shape"]) == ("backbone/branch", [16, 16, 3])
    np.testing.assert_allclose(result["channels"][0]["curve"], found.curves[0], rtol=1e-4, atol=1e-6)
