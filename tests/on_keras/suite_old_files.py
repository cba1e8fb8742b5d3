"""Models that Keras 1 and 2 saved, written here by hand as they wrote them. Run on one backend at a time."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from networks import L, outputs, samples
from PIL import Image

import chronocam as cc
from chronocam.cli import main
from chronocam.errors import ModelError
from chronocam.media import ClipPreprocess

Layers = Sequence[tuple[str, dict[str, Any], dict[str, np.ndarray]]]
RNG = np.random.default_rng(0)


def drawn(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def written(path: Path, version: str, layers: Layers, listed: bool = True, graph: Any = None) -> str:
    """Write an .h5 file as an old Keras did: the config as text, the weights by layer and name."""
    configs = [{"class_name": kind, "config": config} for kind, config, _ in layers]
    model = graph or {
        "class_name": "Sequential",
        "config": configs if listed else {"name": "old", "layers": configs},
    }
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model).encode()
        file.attrs["keras_version"] = version.encode()
        groups = file.create_group("model_weights")
        groups.attrs["layer_names"] = [config["name"].encode() for _, config, _ in layers]
        groups.attrs["keras_version"] = version.encode()
        for _, config, weights in layers:
            group = groups.create_group(config["name"])
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                group[name] = array
    return str(path)


GLOROT = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None, "dtype": "float32"},
}


def conv(name: str, **more: Any) -> dict[str, Any]:
    """The config of a convolution of Keras 2."""
    return {
        "name": name,
        "trainable": True,
        "filters": 4,
        "kernel_size": [3, 3],
        "strides": [1, 1],
        "padding": "valid",
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "activation": "relu",
        "use_bias": True,
        "kernel_initializer": GLOROT,
        "bias_initializer": {"class_name": "Zeros", "config": {"dtype": "float32"}},
        "kernel_regularizer": None,
        "kernel_constraint": None,
    } | more


def dense(name: str, units: int = 2, **more: Any) -> dict[str, Any]:
    return {"name": name, "units": units, "activation": "linear", "use_bias": True} | more


def replica(kernel: np.ndarray, bias: np.ndarray, head: np.ndarray, offset: np.ndarray) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(2)]
    )
    model.set_weights([kernel, bias, head, offset])
    return model


@pytest.mark.parametrize("version", ["1.2.1", "2.0.8", "2.2.4"])
def test_a_sequential_of_every_old_form(tmp_path: Path, version: str) -> None:
    arrays = drawn(3, 3, 3, 4), drawn(4), drawn(144, 2), drawn(2)
    shape = {"batch_input_shape": [None, 8, 8, 3], "dtype": "float32"}
    if version.startswith("1"):
        first = {"name": "c", "nb_filter": 4, "nb_row": 3, "nb_col": 3, "subsample": [1, 1], "bias": True}
        first |= {
            "border_mode": "valid",
            "dim_ordering": "tf",
            "init": "glorot_uniform",
            "activation": "relu",
        }
        head = {"name": "d", "output_dim": 2, "input_dim": 144, "bias": True, "activation": "linear"}
        kind = "Convolution2D"
    else:
        first, head, kind = conv("c"), dense("d"), "Conv2D"
    layers: Layers = [
        (kind, first | shape, {"c_W:0": arrays[0], "c_b:0": arrays[1]}),
        ("Flatten", {"name": "f", "trainable": True}, {}),
        ("Dense", head, {"d_W:0": arrays[2], "d_b:0": arrays[3]}),
    ]
    path = written(tmp_path / "old.h5", version, layers, listed=version != "2.2.4")
    loaded, model, x = cc.models.load(path), replica(*arrays), samples((8, 8, 3))
    np.testing.assert_allclose(outputs(loaded.model, x), outputs(model, x), atol=1e-5)
    maps = cc.GradCAM(loaded.model).explain(x, 1).maps
    np.testing.assert_allclose(maps, cc.GradCAM(model).explain(x, 1).maps, atol=1e-5)


def lstm_by_hand(x: np.ndarray, kernel: np.ndarray, state: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return the last state, with the sigmoid max(0, min(1, x/5 + 1/2)) that Keras had up to version 2."""
    h = c = np.zeros((len(x), state.shape[0]), np.float32)
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ state + bias, 4, axis=-1)
        i, f, o = (np.clip(0.2 * gate + 0.5, 0, 1) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
    return h


@pytest.mark.parametrize("version", ["1.2.2", "2.1.6", "2.11.0"])
def test_an_lstm_has_the_gates_and_the_sigmoid_of_its_time(tmp_path: Path, version: str) -> None:
    kernel, state, bias = 2 * drawn(3, 16), 2 * drawn(4, 16), drawn(16)
    shape = {"batch_input_shape": [None, None, 3]}
    if version.startswith("1"):
        config = {"name": "r", "output_dim": 4, "inner_activation": "hard_sigmoid", "activation": "tanh"}
        config |= {
            "init": "glorot_uniform",
            "inner_init": "orthogonal",
            "consume_less": "cpu",
            "dropout_W": 0.0,
        }
        parts = [np.split(one, 4, axis=-1) for one in (kernel, state, bias)]  # i, f, c, o
        weights = {
            f"r_{kind}_{gate}:0": parts["WUb".index(kind)]["ifco".index(gate)]
            for gate in "icfo"
            for kind in "WUb"
        }
    else:
        config = {"name": "r", "units": 4, "recurrent_activation": "hard_sigmoid", "activation": "tanh"}
        config |= {"implementation": 1} | ({"time_major": False} if version == "2.11.0" else {})
        weights = {"r/kernel:0": kernel, "r/recurrent_kernel:0": state, "r/bias:0": bias}
    path = written(tmp_path / "old.h5", version, [("LSTM", config | shape, weights)], listed=False)
    x = samples((5, 3))
    np.testing.assert_allclose(
        outputs(cc.models.load(path).model, x), lstm_by_hand(x, kernel, state, bias), atol=1e-5
    )


def test_a_gru_without_a_choice_resets_before(tmp_path: Path) -> None:
    weights = {"g/kernel:0": drawn(3, 12), "g/recurrent_kernel:0": drawn(4, 12), "g/bias:0": drawn(12)}
    config = {"name": "g", "units": 4, "recurrent_activation": "sigmoid", "batch_input_shape": [None, 5, 3]}
    path = written(tmp_path / "old.h5", "2.1.0", [("GRU", config, weights)], listed=False)
    plain = keras.Sequential([keras.Input((5, 3)), L.GRU(4, reset_after=False)])
    plain.set_weights(list(weights.values()))
    x = samples((5, 3))
    np.testing.assert_allclose(outputs(cc.models.load(path).model, x), outputs(plain, x), atol=1e-5)


def graph(layers: Sequence[tuple[str, dict[str, Any], Any]], first: str, last: str) -> dict[str, Any]:
    """Return a graph of layers (class, config, what they are called with), as Keras 2 wrote it."""
    config = {
        "name": "model_1",
        "layers": [
            {"name": config["name"], "class_name": kind, "config": config, "inbound_nodes": nodes}
            for kind, config, nodes in layers
        ],
        "input_layers": [[first, 0, 0]],
        "output_layers": [[last, 0, 0]],
    }
    return {"class_name": "Model", "config": config}


KERNEL: Layers = [("", {"name": "c"}, {"c/kernel:0": drawn(3, 3, 3, 4), "c/bias:0": drawn(4)})]


def functional(path: Path, *, kind: str, config: dict[str, Any]) -> str:
    """A graph of Keras 2: a convolution, a layer of some kind, and a sum of both, after a nested model."""
    inner = [
        {"class_name": "Conv2D", "config": conv("c", batch_input_shape=[None, 8, 8, 3])},
        {"class_name": "ReLU", "config": {"name": "relu", "max_value": 6.0}},
    ]
    layers = [
        ("InputLayer", {"name": "i", "batch_input_shape": [None, 8, 8, 3], "sparse": False}, []),
        ("Sequential", {"name": "inner", "layers": inner}, [[["i", 0, 0, {}]]]),
        (kind, {"name": "own", **config}, [[["inner", 1, 0, {}]]]),
        ("Add", {"name": "sum"}, [[["inner", 1, 0, {}], ["own", 0, 0, {}]]]),
        ("GlobalAveragePooling2D", {"name": "pool"}, [[["sum", 0, 0, {}]]]),
        ("Dense", dense("d"), [[["pool", 0, 0, {}]]]),
    ]
    weights = [
        ("", {"name": "inner"}, {"c/kernel:0": np.full((3, 3, 3, 4), 0.1, np.float32), "c/bias:0": drawn(4)}),
        ("", {"name": "d"}, {"d/kernel:0": np.ones((4, 2), np.float32), "d/bias:0": np.zeros(2, np.float32)}),
    ]
    return written(path, "2.3.1", weights, graph=graph(layers, "i", "d"))


def test_calls_of_a_nested_model_are_counted_as_keras_3_counts_them(tmp_path: Path) -> None:
    path = functional(tmp_path / "old.h5", kind="LeakyReLU", config={"alpha": 0.3})
    model = cc.models.load(path).model
    assert model.get_layer("own").negative_slope == pytest.approx(0.3)
    x = samples((8, 8, 3))
    inner = outputs(model.get_layer("inner"), x)
    np.testing.assert_allclose(outputs(model, x)[:, 0], 2 * inner.mean((1, 2)).sum(1), rtol=1e-5)


LAMBDA = {"function": ["4wEAAAA=\n", None, None], "function_type": "lambda", "arguments": {}}


def test_a_lambda_is_given_by_the_name_in_the_file(tmp_path: Path) -> None:
    path = functional(tmp_path / "old.h5", kind="Lambda", config=LAMBDA)
    with pytest.raises(ModelError, match=r'custom_objects=\{"own": …\}.*--trust'):
        cc.models.load(path)
    model = cc.models.load(path, custom_objects={"own": lambda x: 3 * x}).model
    x = samples((8, 8, 3))
    inner = outputs(model.get_layer("inner"), x)
    np.testing.assert_allclose(outputs(model, x)[:, 0], 4 * inner.mean((1, 2)).sum(1), rtol=1e-5)


class Triple(L.Layer):
    def call(self, x: Any) -> Any:
        return 3 * x


def test_a_class_that_is_missing_is_named_and_the_line_helps(tmp_path: Path) -> None:
    path = functional(tmp_path / "old.h5", kind="Triple", config={})
    with pytest.raises(ModelError) as caught:
        cc.models.load(path)
    said = str(caught.value)
    assert "a model of Keras 2.3.1 cannot be loaded, since `Triple` is no layer of Keras 3" in said
    assert 'custom_objects={"Triple": Triple} in cc.models.load' in said
    x = samples((8, 8, 3))
    model = cc.models.load(path, custom_objects={"Triple": Triple}).model
    inner = outputs(model.get_layer("inner"), x)
    np.testing.assert_allclose(outputs(model, x)[:, 0], 4 * inner.mean((1, 2)).sum(1), rtol=1e-5)


def test_arithmetic_on_a_graph_is_a_layer_that_rescales(tmp_path: Path) -> None:
    functions = ("math.truediv", 127.5), ("math.subtract", 1.0)
    layers = [("InputLayer", {"name": "i", "batch_input_shape": [None, 8, 8, 3]}, [])]
    for number, (function, y) in enumerate(functions):
        before = layers[-1][1]["name"]
        config = {"name": f"f{number}", "trainable": True, "dtype": "float32", "function": function}
        layers.append(("TFOpLambda", config, [[before, 0, 0, {"y": y, "name": None}]]))
    layers.append(("Conv2D", conv("c"), [[["f1", 0, 0, {}]]]))
    layers.append(("GlobalAveragePooling2D", {"name": "p"}, [[["c", 0, 0, {}]]]))
    path = written(tmp_path / "old.h5", "2.9.0", KERNEL, graph=graph(layers, "i", "p"))
    loaded = cc.models.load(path)
    assert (loaded.preprocess.scale, loaded.preprocess.assumption) == (1.0, None)
    x = 255 * samples((8, 8, 3))
    plain = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3, activation="relu")])
    plain.set_weights(list(KERNEL[0][2].values()))
    expected = outputs(plain, x / 127.5 - 1).mean((1, 2))
    np.testing.assert_allclose(outputs(loaded.model, x), expected, rtol=1e-4, atol=1e-4)


def test_a_function_of_tensorflow_is_given_by_its_name(tmp_path: Path) -> None:
    config = {"name": "tf.roll", "function": "roll"}
    layers = [
        ("InputLayer", {"name": "i", "batch_input_shape": [None, 8, 8, 3]}, []),
        ("TFOpLambda", config, [["i", 0, 0, {"shift": 1, "axis": 1}]]),
        ("Conv2D", conv("c"), [[["tf.roll", 0, 0, {}]]]),
    ]
    path = written(tmp_path / "old.h5", "2.9.0", KERNEL, graph=graph(layers, "i", "c"))
    with pytest.raises(ModelError, match=r'calls functions of TensorFlow; .*custom_objects=\{"tf.roll": …\}'):
        cc.models.load(path)
    loaded = cc.models.load(path, custom_objects={"tf.roll": lambda x: keras.ops.roll(x, 1, 1)})
    plain = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3, activation="relu")])
    plain.set_weights(list(KERNEL[0][2].values()))
    x = samples((8, 8, 3))
    np.testing.assert_allclose(outputs(loaded.model, x), outputs(plain, np.roll(x, 1, 1)), atol=1e-5)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_hint_helps_for_new_files_too(tmp_path: Path, suffix: str) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(2, 3), Triple(), L.Flatten(), L.Dense(2)])
    path = str(tmp_path / f"net{suffix}")
    model.save(path)
    with pytest.raises(ModelError, match=r'`Triple` is no layer of Keras 3; .*\{"Triple": Triple\}'):
        cc.models.load(path)
    x = samples((8, 8, 3))
    loaded = cc.models.load(path, custom_objects={"Triple": Triple})
    np.testing.assert_allclose(outputs(loaded.model, x), outputs(model, x), rtol=1e-5)


def test_an_option_that_keras_3_has_not_is_named(tmp_path: Path) -> None:
    config = {"name": "r", "units": 4, "time_major": True, "batch_input_shape": [None, 5, 3]}
    weights = {"a": drawn(3, 16), "b": drawn(4, 16), "c": drawn(16)}
    path = written(tmp_path / "old.h5", "2.4.0", [("LSTM", config, weights)], listed=False)
    with pytest.raises(
        ModelError, match=r"of Keras 2\.4\.0 .*LSTM `r` says time_major=True, which Keras 3 has"
    ):
        cc.models.load(path)
    by_hand = keras.Sequential([keras.Input((5, 3)), L.LSTM(4)])
    by_hand.load_weights(path)  # as the line says
    for own, array in zip(by_hand.get_weights(), weights.values(), strict=True):
        np.testing.assert_array_equal(own, array)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.path,)


def test_no_code_in_an_old_file_runs(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = pickle.dumps(Bomb(ran)).decode("latin1")
    for config in (LAMBDA | {"function": [code, None, None]}, {"name": None, **LAMBDA}):
        path = functional(tmp_path / "old.h5", kind="Lambda", config=config)
        with pytest.raises(ModelError, match="--trust"):
            cc.models.load(path)
    for module in ("os", "builtins", "keras.src.utils.file_utils"):
        layer = {"module": module, "class_name": "mkdir", "config": {"name": "c", "path": str(ran)}}
        graph = {"class_name": "Sequential", "config": [{**layer, "registered_name": "mkdir"}]}
        path = written(tmp_path / "old.h5", "1.0.0", [("", {"name": "c"}, {})], graph=graph)
        with pytest.raises(ModelError):
            cc.models.load(path)
    assert not ran.exists()


def test_clips_of_a_keras_file_on_the_command_line(tmp_path: Path) -> None:
    layers = (
        L.TimeDistributed(L.Conv2D(4, 3)),
        L.TimeDistributed(L.GlobalAveragePooling2D()),
        L.LSTM(3),
        L.Dense(2),
    )
    model = keras.Sequential([keras.Input((5, 12, 20, 3)), L.Rescaling(1 / 255), *layers])
    model.save(tmp_path / "net.keras")
    loaded = cc.models.load(str(tmp_path / "net.keras"))
    assert isinstance(loaded.preprocess, ClipPreprocess)
    assert (loaded.preprocess.frame.scale, loaded.preprocess.frames) == (1.0, 5)
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(7):
        Image.effect_noise((30, 20), 20 * number + 1).convert("RGB").save(folder / f"{number}.png")
    spec, out = str(tmp_path / "net.keras"), str(tmp_path / "out")
    result = CliRunner().invoke(
        main, ["explain", str(folder), "--model", spec, "--target", "1", "--out", out]
    )
    assert result.exit_code == 0, result.stderr
    entry = json.loads((tmp_path / "out" / "clip.json").read_text())["maps"][0]
    assert entry["grid"] == [5, 10, 18]
    clip = loaded.preprocess.read(folder)
    maps = cc.GradCAM(model).explain(loaded.preprocess(clip)[None], 1).maps
    np.testing.assert_allclose(cc.load(entry["explanation"]).maps, maps, rtol=1e-4, atol=1e-6)
    result = CliRunner().invoke(main, ["layers", spec])
    assert "5 × 10 × 18" in result.stdout
