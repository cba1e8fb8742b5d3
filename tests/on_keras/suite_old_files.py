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


def correlated(x: np.ndarray, kernel: np.ndarray, mirrored: bool) -> np.ndarray:
    """Return the sums of kernels (filter, channel, row, column) at each place; x has its channels first."""
    kernel = kernel[:, :, ::-1, ::-1] if mirrored else kernel
    high, wide = kernel.shape[2:]
    rows, columns = x.shape[2] - high + 1, x.shape[3] - wide + 1
    places = [[x[:, :, i : i + high, j : j + wide] for j in range(columns)] for i in range(rows)]
    return np.stack(
        [np.stack([np.einsum("nchw,fchw->nf", one, kernel) for one in row], -1) for row in places], -2
    )


@pytest.mark.parametrize(
    ("version", "backend", "mirrored"),
    [
        ("1.0.8", None, True),
        ("1.2.2", "tensorflow", False),
        ("2.0.4", "theano", True),
        ("2.0.4", "tensorflow", False),
    ],
)
def test_kernels_of_theano_are_turned(
    tmp_path: Path, version: str, backend: str | None, mirrored: bool
) -> None:
    kernel, head = drawn(4, 3, 3, 2), drawn(4 * 6 * 5, 2)
    shape = {"batch_input_shape": [None, 3, 8, 6]}
    if version.startswith("1"):
        first = {"name": "c", "nb_filter": 4, "nb_row": 3, "nb_col": 2, "border_mode": "valid"}
        first |= {"dim_ordering": "th", "activation": "linear", "bias": True}
        kind, stored = "Convolution2D", kernel
        end = {"name": "d", "output_dim": 2, "activation": "linear"}
    else:
        first = conv("c", data_format="channels_first", kernel_size=[3, 2], activation="linear")
        kind, stored, end = "Conv2D", kernel.transpose(2, 3, 1, 0), dense("d")
    layers: Layers = [
        (kind, first | shape, {"c_W": stored, "c_b": np.zeros(4, np.float32)}),
        ("Flatten", {"name": "f"}, {}),
        ("Dense", end, {"d_W": head, "d_b": np.zeros(2, np.float32)}),
    ]
    path = written(tmp_path / "old.h5", version, layers)
    if backend is not None:
        with h5py.File(path, "r+") as file:
            file.attrs["backend"] = backend
    loaded, x = cc.models.load(path), samples((3, 8, 6))
    expected = correlated(x, kernel, mirrored).reshape(2, -1) @ head
    np.testing.assert_allclose(outputs(loaded.model, x), expected, atol=1e-4)
    assert ("kernels are taken to be Theano's" in str(loaded.preprocess.assumption)) == (backend is None)


def test_where_it_was_tensorflow_the_line_helps(tmp_path: Path) -> None:
    first = {"name": "c", "nb_filter": 4, "nb_row": 3, "nb_col": 3, "dim_ordering": "th"}
    first |= {"batch_input_shape": [None, 3, 8, 8], "activation": "linear"}
    kernel = drawn(4, 3, 3, 3)
    layers: Layers = [
        ("Convolution2D", first, {"c_W": kernel, "c_b": np.zeros(4, np.float32)}),
        ("GlobalAveragePooling2D", {"name": "p", "dim_ordering": "th"}, {}),
    ]
    path = written(tmp_path / "old.h5", "1.1.0", layers)
    x = samples((3, 8, 8))
    told = str(cc.models.load(path).preprocess.assumption)
    exec(told.rpartition("say so: ")[2], {"h5py": h5py})
    expected = correlated(x, kernel, mirrored=False).mean((2, 3))
    np.testing.assert_allclose(outputs(cc.models.load(path).model, x), expected, atol=1e-5)


def by_gates(kind: str, x: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Return the last state as cuDNN computes it: each gate's rows from the left, two biases."""
    kernel, state, bias = weights
    gates, units = (4, 4) if kind == "CuDNNLSTM" else (3, 4)
    # A file has the rows of cuDNN's matrices written into the shape of Keras.
    rows = [one.ravel().reshape(units, -1) for one in np.split(kernel, gates, axis=1)]
    own = [one.ravel().reshape(units, units) for one in np.split(state, gates, axis=1)]
    of_x, of_h = np.split(bias, 2)
    h = c = np.zeros((len(x), units), np.float32)

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    for t in range(x.shape[1]):
        a = [x[:, t] @ w.T + b for w, b in zip(rows, np.split(of_x, gates), strict=True)]
        r = [h @ w.T + b for w, b in zip(own, np.split(of_h, gates), strict=True)]
        if kind == "CuDNNLSTM":
            i, f, g, o = (one + two for one, two in zip(a, r, strict=True))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            z, reset = sigmoid(a[0] + r[0]), sigmoid(a[1] + r[1])
            h = z * h + (1 - z) * np.tanh(a[2] + reset * r[2])
    return h


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", ["CuDNNLSTM", "CuDNNGRU"])
def test_layers_of_cudnn_are_those_of_everyone(tmp_path: Path, kind: str, wrapped: bool) -> None:
    gates = 4 if kind == "CuDNNLSTM" else 3
    ways = [[drawn(3, 4 * gates), drawn(4, 4 * gates), drawn(8 * gates)] for _ in range(2 if wrapped else 1)]
    shape = {"batch_input_shape": [None, 5, 3]}
    config = {"name": "r", "units": 4, "return_sequences": False, "stateful": False}
    parts = ("kernel:0", "recurrent_kernel:0", "bias:0")
    if wrapped:
        layer = {"class_name": kind, "config": config}
        entry = "Bidirectional", {"name": "b", "layer": layer, "merge_mode": "concat", **shape}
        names = [f"b/{way}_r/{part}" for way in ("forward", "backward") for part in parts]
    else:
        entry = kind, config | shape
        names = [f"r/{part}" for part in parts]
    weights = dict(zip(names, [one for way in ways for one in way], strict=True))
    path = written(tmp_path / "old.h5", "2.2.4", [(*entry, weights)], listed=False)
    x = samples((5, 3))
    expected = [by_gates(kind, one, way) for one, way in zip((x, x[:, ::-1]), ways, strict=False)]
    np.testing.assert_allclose(
        outputs(cc.models.load(path).model, x), np.concatenate(expected, axis=-1), atol=1e-5
    )


def test_a_bidirectional_lstm_of_keras_1(tmp_path: Path) -> None:
    ways = [(drawn(3, 16), drawn(4, 16), drawn(16)) for _ in range(2)]
    inner = {"name": "r", "output_dim": 4, "inner_activation": "hard_sigmoid", "activation": "tanh"}
    config = {"name": "b", "merge_mode": "concat", "batch_input_shape": [None, 5, 3]}
    weights = {}
    for way, arrays in zip(("forward", "backward"), ways, strict=True):
        split = [np.split(one, 4, axis=-1) for one in arrays]
        for gate in "icfo":
            for kind, gates in zip("WUb", split, strict=True):
                weights[f"{way}_r_{kind}_{gate}"] = gates["ifco".index(gate)]
    layer = {"layer": {"class_name": "LSTM", "config": inner}}
    path = written(tmp_path / "old.h5", "1.2.2", [("Bidirectional", config | layer, weights)])
    x = samples((5, 3))
    expected = [lstm_by_hand(one, *way) for one, way in zip((x, x[:, ::-1]), ways, strict=True)]
    np.testing.assert_allclose(
        outputs(cc.models.load(path).model, x), np.concatenate(expected, axis=-1), atol=1e-5
    )


def test_a_merge_and_layers_for_each_frame_of_keras_1(tmp_path: Path) -> None:
    kernel, head = drawn(3, 3, 3, 4), drawn(8, 2)
    inner = {
        "name": "c",
        "nb_filter": 4,
        "nb_row": 3,
        "nb_col": 3,
        "dim_ordering": "tf",
        "activation": "relu",
    }
    wrapped = {"class_name": "Convolution2D", "config": inner}
    pool = {"class_name": "GlobalAveragePooling2D", "config": {"name": "p", "dim_ordering": "tf"}}
    layers = [
        ("InputLayer", {"name": "i", "batch_input_shape": [None, 2, 8, 8, 3]}, []),
        ("TimeDistributed", {"name": "t", "layer": wrapped}, [[["i", 0, 0]]]),
        ("TimeDistributed", {"name": "tp", "layer": pool}, [[["t", 0, 0]]]),
        ("Flatten", {"name": "f"}, [[["tp", 0, 0]]]),
        (
            "Merge",
            {"name": "m", "mode": "concat", "concat_axis": -1, "dot_axes": -1},
            [[["f", 0, 0], ["f", 0, 0]]],
        ),
        ("Dense", {"name": "d", "output_dim": 2, "activation": "linear"}, [[["m", 0, 0]]]),
    ]
    weights: Layers = [
        ("", {"name": "t"}, {"c_W": kernel, "c_b": np.zeros(4, np.float32)}),
        ("", {"name": "d"}, {"d_W": np.concatenate([head, head]), "d_b": np.zeros(2, np.float32)}),
    ]
    path = written(tmp_path / "old.h5", "1.2.0", weights, graph=graph(layers, "i", "d"))
    x = samples((2, 8, 8, 3))
    frames = x.reshape(-1, 8, 8, 3).transpose(0, 3, 1, 2)
    seen = np.maximum(correlated(frames, kernel.transpose(3, 2, 0, 1), mirrored=False), 0).mean((2, 3))
    np.testing.assert_allclose(
        outputs(cc.models.load(path).model, x), 2 * seen.reshape(2, -1) @ head, atol=1e-4
    )


def test_networks_that_a_merge_joins_are_refused_in_a_line(tmp_path: Path) -> None:
    dense_layer = {"name": "a", "output_dim": 2, "batch_input_shape": [None, 3], "activation": "linear"}
    branch = {"class_name": "Sequential", "config": [{"class_name": "Dense", "config": dense_layer}]}
    layers: Layers = [("Merge", {"name": "m", "mode": "concat", "layers": [branch, branch]}, {})]
    path = written(tmp_path / "old.h5", "1.2.0", layers)
    with pytest.raises(ModelError, match=r"Merge `m` joins networks at the start .*python: factory"):
        cc.models.load(path)


class Mine(keras.Model):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.conv, self.pool = L.Conv2D(2, 3), L.GlobalAveragePooling2D()

    def call(self, x: Any) -> Any:
        return self.pool(self.conv(x))


def test_a_class_of_one_s_own_says_no_shape(tmp_path: Path) -> None:
    model, x = Mine(), samples((16, 16, 3))
    wanted = outputs(model, x)
    model.save(tmp_path / "net.keras")
    loaded = cc.models.load(str(tmp_path / "net.keras"), custom_objects={"Mine": Mine})
    np.testing.assert_allclose(outputs(loaded.model, x), wanted, rtol=1e-5)
    assert loaded.preprocess is not None


@pytest.mark.parametrize(
    ("function", "value"),
    [
        ("__operators__.add", lambda a, b: a + b),
        ("math.multiply", lambda a, b: a * b),
        ("math.subtract", lambda a, b: a - b),
        ("math.maximum", np.maximum),
    ],
)
def test_arithmetic_of_two_tensors_is_a_layer(tmp_path: Path, function: str, value: Any) -> None:
    layers = [
        ("InputLayer", {"name": "i", "batch_input_shape": [None, 8, 8, 3]}, []),
        ("Conv2D", conv("c"), [[["i", 0, 0, {}]]]),
        ("TFOpLambda", {"name": "r", "function": "nn.relu6"}, [["c", 0, 0, {"name": None}]]),
        ("TFOpLambda", {"name": "op", "function": function}, [["c", 0, 0, {"y": ["r", 0, 0], "name": None}]]),
        ("TFOpLambda", {"name": "m", "function": "math.reduce_mean"}, [["op", 0, 0, {"axis": [1, 2]}]]),
    ]
    path = written(tmp_path / "old.h5", "2.9.0", KERNEL, graph=graph(layers, "i", "m"))
    plain = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3, activation="relu")])
    plain.set_weights(list(KERNEL[0][2].values()))
    x = 9 * samples((8, 8, 3))
    seen = outputs(plain, x)
    assert seen.max() > 6
    expected = value(seen, np.minimum(seen, 6)).mean((1, 2))
    np.testing.assert_allclose(outputs(cc.models.load(path).model, x), expected, rtol=1e-4, atol=1e-5)


class Triple(L.Layer):
    def call(self, x: Any) -> Any:
        return 3 * x


def test_a_class_that_is_missing_is_named_and_the_line_helps(tmp_path: Path) -> None:
    path = functional(tmp_path / "old.h5", kind="Triple", config={})
    with pytest.raises(ModelError) as caught:
        cc.models.load(path)
    said = str(caught.value)
    assert "a model of Keras 2.3.1 cannot be loaded, since `Triple` is not a layer of Keras 3" in said
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
    with pytest.raises(ModelError, match=r'`Triple` is not a layer of Keras 3; .*\{"Triple": Triple\}'):
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
