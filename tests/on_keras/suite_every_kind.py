"""The rows of Keras and TensorFlow in the table of docs/bring-your-model.md. Run on one backend at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from helpers import kinds_in_docs
from networks import L, cnn, conv3d, outputs
from suite_old_files import (
    KERNEL,
    LAMBDA,
    Triple,
    by_gates,
    conv,
    correlated,
    dense,
    drawn,
    functional,
    graph,
    lstm_by_hand,
    replica,
    written,
)

import chronocam as cc
from chronocam.errors import LayerError, ModelError

Case = tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray], tuple[int, ...]]
"""A spec, how it is loaded, what the outputs are, the shape of the inputs."""

TRUST = {"trust": True}
PICTURE = (8, 8, 3)


def tensorflow() -> Any:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow writes its own files")
    return pytest.importorskip("tensorflow")


def sequential(version: str, listed: bool) -> Callable[[], Case]:
    def write() -> Case:
        arrays = drawn(3, 3, 3, 4), drawn(4), drawn(144, 2), drawn(2)
        shape = {"batch_input_shape": [None, *PICTURE]}
        if version.startswith("1"):
            first = {"name": "c", "nb_filter": 4, "nb_row": 3, "nb_col": 3, "dim_ordering": "tf"}
            first["activation"] = "relu"
            kind, head = "Convolution2D", {"name": "d", "output_dim": 2, "activation": "linear"}
        else:
            kind, first, head = "Conv2D", conv("c"), dense("d")
        layers = [
            (kind, first | shape, {"c_W:0": arrays[0], "c_b:0": arrays[1]}),
            ("Flatten", {"name": "f"}, {}),
            ("Dense", head, {"d_W:0": arrays[2], "d_b:0": arrays[3]}),
        ]
        path, model = written(Path("old.h5"), version, layers, listed), replica(*arrays)
        return path, {}, lambda x: outputs(model, x), PICTURE

    return write


def of_theano() -> Case:
    kernel = drawn(4, 3, 3, 3)
    first = {"name": "c", "nb_filter": 4, "nb_row": 3, "nb_col": 3, "dim_ordering": "th"}
    first |= {"batch_input_shape": [None, 3, 8, 8], "activation": "linear"}
    layers = [
        ("Convolution2D", first, {"c_W": kernel, "c_b": np.zeros(4, np.float32)}),
        ("GlobalAveragePooling2D", {"name": "p", "dim_ordering": "th"}, {}),
    ]
    path = written(Path("old.h5"), "1.1.0", layers)
    return path, {}, lambda x: correlated(x, kernel, mirrored=True).mean((2, 3)), (3, 8, 8)


def nested(kind: str, config: dict[str, Any], factor: float, **options: Any) -> Callable[[], Case]:
    """Return what writes a graph that adds to a network in it what a layer makes of its outputs."""

    def write() -> Case:
        path = functional(Path("old.h5"), kind=kind, config=config)
        with h5py.File(path) as file:
            kernel, bias = (
                np.asarray(file[f"model_weights/inner/c/{name}:0"]) for name in ("kernel", "bias")
            )

        def expected(x: np.ndarray) -> np.ndarray:
            seen = correlated(x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), mirrored=False)
            inner = np.clip(seen + bias[:, None, None], 0, 6)
            return np.repeat((1 + factor) * inner.mean((2, 3)).sum(1)[:, None], 2, axis=1)

        return path, options, expected, PICTURE

    return write


def recurrent() -> Case:
    arrays = drawn(3, 16), drawn(4, 16), drawn(16)
    config = {"name": "r", "units": 4, "recurrent_activation": "hard_sigmoid", "activation": "tanh"}
    config |= {"time_major": False, "batch_input_shape": [None, 5, 3]}
    weights = dict(zip(("k:0", "r:0", "b:0"), arrays, strict=True))
    path = written(Path("old.h5"), "2.11.0", [("LSTM", config, weights)], listed=False)
    return path, {}, lambda x: lstm_by_hand(x, *arrays), (5, 3)


def of_cudnn() -> Case:
    arrays = [drawn(3, 16), drawn(4, 16), drawn(32)]
    config = {"name": "r", "units": 4, "batch_input_shape": [None, 5, 3]}
    weights = dict(zip(("k:0", "r:0", "b:0"), arrays, strict=True))
    path = written(Path("old.h5"), "2.2.4", [("CuDNNLSTM", config, weights)], listed=False)
    return path, {}, lambda x: by_gates("CuDNNLSTM", x, arrays), (5, 3)


def operation(
    config: dict[str, Any], inbound: dict[str, Any], value: Any, **options: Any
) -> Callable[[], Case]:
    def write() -> Case:
        layers = [
            ("InputLayer", {"name": "i", "batch_input_shape": [None, *PICTURE]}, []),
            ("Conv2D", conv("c"), [[["i", 0, 0, {}]]]),
            ("TFOpLambda", config, [["c", 0, 0, inbound]]),
            ("GlobalAveragePooling2D", {"name": "p"}, [[[config["name"], 0, 0, {}]]]),
        ]
        path = written(Path("old.h5"), "2.9.0", KERNEL, graph=graph(layers, "i", "p"))
        plain = keras.Sequential([keras.Input(PICTURE), L.Conv2D(4, 3, activation="relu")])
        plain.set_weights(list(KERNEL[0][2].values()))
        return path, options, lambda x: value(outputs(plain, x)).mean((1, 2)), PICTURE

    return write


def saved(name: str, make: Callable[[], Any], shape: tuple[int, ...]) -> Callable[[], Case]:
    def write() -> Case:
        model = make()
        (model.save_weights if "weights" in name else model.save)(name)
        Path("kind_arch.py").write_text("from networks import cnn\n")
        spec = f"{name}@python:kind_arch:cnn" if "weights" in name else name
        return spec, {}, lambda x: outputs(model, x), shape

    return write


def old_net() -> Any:
    tensorflow()
    old = pytest.importorskip("tf_keras")
    layers = (
        old.layers.Conv2D(4, 3, activation="relu"),
        old.layers.GlobalAveragePooling2D(),
        old.layers.Dense(3),
    )
    return old.Sequential([old.Input(PICTURE), *layers])


def of_tf_keras(name: str) -> Callable[[], Case]:
    def write() -> Case:
        model = old_net()
        if name.endswith(".index"):
            model.save_weights(name.removesuffix(".index"), save_format="tf")
            Path("kind_checked.py").write_text(ARCHITECTURE)
            return f"{name}@python:kind_checked:net", {}, lambda x: np.asarray(model(x)), PICTURE
        model.save(name)
        return name, {}, lambda x: np.asarray(model(x)), PICTURE

    return write


ARCHITECTURE = """
import keras
L = keras.layers
def net():
    layers = L.Conv2D(4, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(3)
    return keras.Sequential([keras.Input((8, 8, 3)), *layers])
"""


def lite(quantised: bool) -> Callable[[], Case]:
    def write() -> Case:
        tf, model = tensorflow(), replica(drawn(3, 3, 3, 4), drawn(4), drawn(144, 2), drawn(2))
        pytest.importorskip("ai_edge_litert")
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if quantised:
            pictures = np.random.default_rng(0).random((8, 1, *PICTURE), np.float32)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([one] for one in pictures)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        Path("a.tflite").write_bytes(converter.convert())
        return "a.tflite", {}, lambda x: outputs(model, x), PICTURE

    return write


def saved_model() -> Case:
    tensorflow()
    model = replica(drawn(3, 3, 3, 4), drawn(4), drawn(144, 2), drawn(2))
    model.export("exported", verbose=False)
    return "exported", TRUST, lambda x: outputs(model, x), PICTURE


def same(a: np.ndarray) -> np.ndarray:
    return a + a


WRITERS: dict[str, Callable[[], Case]] = {
    "Sequential of Keras 1": sequential("1.2.1", True),
    "network of Keras 1 on Theano": of_theano,
    "Sequential of Keras 2.0": sequential("2.0.8", True),
    "Sequential of Keras 2.2": sequential("2.2.4", False),
    "graph of Keras 2.3 with a network in it": nested("LeakyReLU", {"alpha": 0.3}, 1),
    "LSTM of tf.keras 2.11": recurrent,
    "layers of cuDNN": of_cudnn,
    "sums of tensors (`x + y`) of tf.keras": operation(
        {"name": "s", "function": "__operators__.add"}, {"y": ["c", 0, 0], "name": None}, same
    ),
    "Lambda layer": nested("Lambda", LAMBDA, 3, custom_objects={"own": lambda x: 3 * x}),
    "layer of one's own": nested("Triple", {}, 3, custom_objects={"Triple": Triple}),
    "function of TensorFlow": operation(
        {"name": "tf.roll", "function": "roll"},
        {"shift": 1, "axis": 1},
        lambda a: np.roll(a, 1, 1),
        custom_objects={"tf.roll": lambda x: keras.ops.roll(x, 1, 1)},
    ),
    "`.keras` of Keras 3": saved("a.keras", cnn, (16, 16, 3)),
    "`.h5` of Keras 3": saved("a.h5", cnn, (16, 16, 3)),
    "`.h5` of tf_keras": of_tf_keras("a.h5"),
    "`.keras` of tf_keras": of_tf_keras("a.keras"),
    "network of clips (time, height, width, channel)": saved("a.keras", conv3d, (6, 12, 12, 3)),
    "weights alone of Keras": saved("a.weights.h5", cnn, (16, 16, 3)),
    "checkpoint of TensorFlow": of_tf_keras("net.index"),
    "`.tflite`": lite(quantised=False),
    "quantised `.tflite`": lite(quantised=True),
    "SavedModel": saved_model,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_each_kind_does_what_the_table_says(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec, options, expected, shape = WRITERS[kind]()
    result = kinds_in_docs()[kind]
    if options:
        with pytest.raises(ModelError, match=r"--trust|custom_objects") as caught:
            cc.models.load(spec)
        assert "\n" not in str(caught.value)
    loaded = cc.models.load(spec, **options).model
    x = np.random.default_rng(1).random((2, *shape), np.float32)
    wanted = expected(x)
    method = cc.InputXGradient if result == "every method" else cc.Occlusion
    found = method(loaded).explain(x, 1)
    loose = 0.05 if "quantised" in kind else 1e-4
    own = loaded.function(x) if result == "methods of masks" else outputs(loaded, x)
    np.testing.assert_allclose(own, wanted, atol=loose * np.abs(wanted).max())
    assert np.abs(found.maps).max() > 0
    if result == "methods of masks":
        with pytest.raises(LayerError):
            cc.GradCAM(loaded).explain(x, 1)
