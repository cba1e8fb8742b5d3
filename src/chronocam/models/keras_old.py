"""Networks of Keras 1 and 2 as Keras 3 says them: a translation of what their files say, without code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from chronocam.errors import ModelError
from chronocam.jsonable import Json
from chronocam.models.specs import need

HARD_SIGMOID: Final = "hard_sigmoid_of_keras_2"
"""The name of max(0, min(1, x/5 + 1/2)), which Keras 3 calls by no name: its own is x/6 + 1/2."""

_CLASSES: Final = {
    "Model": "Functional",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
}
OLD_CLASSES: Final = {*_CLASSES, "Merge"}
"""What layers were called that Keras 3 has under another name."""

OPERATIONS: Final = ("TFOpLambda", "SlicingOpLambda")
"""What Keras 2 made of functions of TensorFlow on a graph's tensors; their files name the function."""

_MERGES: Final = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "dot": "Dot",
    "concat": "Concatenate",
}
_NAMES: Final = {
    "nb_filter": "filters",
    "subsample": "strides",
    "border_mode": "padding",
    "bias": "use_bias",
    "p": "rate",
    "inner_activation": "recurrent_activation",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "pool_length": "pool_size",
    "stride": "strides",
    "filter_length": "kernel_size",
    "subsample_length": "strides",
    "atrous_rate": "dilation_rate",
    "sigma": "stddev",
}
"""What Keras 1 called the arguments of its layers."""

_GATES: Final = {"LSTM": "icfo", "GRU": "zrh"}
_ORDER: Final = {"LSTM": "ifco", "GRU": "zrh"}
"""The gates of Keras 1 in its order, and in the order that they have had since."""

_SIDES: Final = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
_ORDERS: Final = {"tf": "channels_last", "th": "channels_first"}
# How weights begin, which are in the file, and what keeps them small while they are trained.
_TRAINING: Final = re.compile(
    r"\w+_(regularizer|constraint)|init|\w+_init|weights|input_dtype|consume_less|forget_bias_init"
    r"|fused|rng_type|implementation|batch_input_shape|input_dim|input_length|trainable"
)
_OFF: Final[tuple[Any, ...]] = (None, False, 0, 1, [], [1, 1], "default", "auto")
"""Values of options that say nothing: they may be left out where Keras 3 has no such option."""


def layers_in(config: object) -> Iterator[Json]:
    """Yield every layer and model in the config of a model, nested and wrapped ones too."""
    if isinstance(config, list):
        for one in config:
            yield from layers_in(one)
    if not isinstance(config, dict):
        return
    inner = config.get("config")
    if isinstance(config.get("class_name"), str) and isinstance(inner, (dict, list)):
        yield {**config, "config": inner if isinstance(inner, dict) else {"layers": inner}}
    parts = inner if isinstance(inner, dict) else {"layers": inner}
    for key in ("layers", "layer", "forward_layer", "backward_layer"):
        yield from layers_in(parts.get(key))


def modern(config: Json, version: str) -> Json:
    """Return the config of a model of Keras 1 or 2, as in its file, as Keras 3 reads it.

    Raises ModelError for an option that Keras 3 has not, and that is not at rest.
    """
    changed: Json = _Translation(version).node(config)
    return changed


class _Translation:
    def __init__(self, version: str) -> None:
        self.first = version.startswith("1.") or not version
        self.layers = need("keras.layers", "keras")

    def node(self, value: Any) -> Any:
        """Return a part of a config, its own parts first."""
        if isinstance(value, list):
            return [self.node(one) for one in value]
        if not isinstance(value, dict):
            return value
        if value.get("class_name") == "Sequential" and "config" in value:
            value = {**value, "config": _sequential(value["config"])}
        if value.get("class_name") in OPERATIONS and "inbound_nodes" in value:
            value = _rescaling(value)
        value = {key: self.node(one) for key, one in value.items()}
        return self.object(value) if isinstance(value.get("class_name"), str) and "config" in value else value

    def object(self, node: Json) -> Any:
        """Return one model or layer; other objects are as they are."""
        name = str(_CLASSES.get(node["class_name"], node["class_name"]))
        config = node["config"]
        if name == "Merge":
            name, config = _merged(config)
        if name in ("Policy", "DTypePolicy"):
            return config["name"]
        if name == "Sequential":
            return self._model(node, name, "keras", config)
        if name == "Functional":
            return self._model(node, name, "keras.src.models.functional", _renumbered(config))
        kind = None if name == "Lambda" else getattr(self.layers, name, None)
        if not isinstance(config, dict) or kind is None or not inspect.isclass(kind):
            return {**node, "class_name": name}
        node.pop("build_config", None)  # shapes, which are known when the network is called
        return {**node, "class_name": name, "config": self._layer(name, kind, config, "module" in node)}

    def _model(self, node: Json, name: str, module: str, config: Json) -> Json:
        rest = {key: value for key, value in node.items() if key not in ("module", "registered_name")}
        if "module" in node:  # as .keras files say where a class is; .h5 files do not
            rest |= {"module": module, "registered_name": "Functional" if name == "Functional" else None}
        return {**rest, "class_name": name, "config": config}

    def _layer(self, name: str, kind: type, config: Json, placed: bool) -> Json:
        """Return the arguments of a layer; placed: whether the file says in which module objects are."""
        old = self._of_keras_1(name, config) if self.first else dict(config)
        if name == "InputLayer":
            shape = old.pop("batch_input_shape", None)
            return {"batch_shape": shape, **_some(old, "name", "dtype")} if shape else old
        if name == "GRU":
            old.setdefault("reset_after", False)  # of before there was a choice
        if name == "BatchNormalization" and isinstance(old.get("axis"), list):
            (old["axis"],) = old["axis"]
        if name == "LeakyReLU" and "alpha" in old:
            old["negative_slope"] = old.pop("alpha")
        known = _arguments(kind)
        new = {}
        for key, value in old.items():
            if key.endswith(("_initializer", "_regularizer", "_constraint")):
                continue
            if key in known:
                new[key] = _hard_sigmoid(value, placed) if key.endswith("activation") else value
            elif not (_TRAINING.fullmatch(key) or _at_rest(value) or key.endswith("_shape")):
                raise ModelError(
                    f"its {name} `{old.get('name')}` says {key}={value!r}, which Keras 3 has not"
                )
        return new

    def _of_keras_1(self, name: str, config: Json) -> Json:
        """Return the arguments of a layer of Keras 1 under the names that they have had since."""
        new = {_NAMES.get(key, key): value for key, value in config.items()}
        for sides in _SIDES:
            if sides[0] in new:
                new["kernel_size"] = [new.pop(side) for side in sides]
        if "output_dim" in new and name != "Embedding":
            new["units"] = new.pop("output_dim")
        if "dim_ordering" in new:
            order = _ORDERS.get(new.pop("dim_ordering"))
            new |= {"data_format": order} if order else {}
        if name == "BatchNormalization" and new.pop("mode", 0) not in (0, 2):
            raise ModelError(f"its BatchNormalization `{new.get('name')}` normalises samples (mode 1)")
        return new


def _at_rest(value: Any) -> bool:
    return any(type(value) is type(off) and value == off for off in _OFF)


def _arguments(kind: type) -> set[str]:
    """Return what a layer may be made with."""
    found: set[str] = set()
    for one in kind.__mro__[:-1]:
        if one.__module__.endswith(("layers.layer", "ops.operation")):
            found |= {"name", "dtype", "trainable"}
            break
        made = vars(one).get("__init__")
        own = {"kwargs": None} if made is None else inspect.signature(made).parameters
        found.update(own)
        if "kwargs" not in own:
            break
    return found - {"self", "args", "kwargs"}


def _hard_sigmoid(value: Any, placed: bool) -> Any:
    if (value.get("config") if isinstance(value, dict) else value) != "hard_sigmoid":
        return value
    function = {"module": "builtins", "class_name": "function", "config": HARD_SIGMOID}
    return {**function, "registered_name": HARD_SIGMOID} if placed else HARD_SIGMOID


def _merged(config: Json) -> tuple[str, Json]:
    mode = config.get("mode", "sum")
    if mode not in _MERGES:
        raise ModelError(f"its Merge `{config.get('name')}` has the mode {mode!r}, which Keras 3 has not")
    axis = {"axis": config.get("concat_axis", -1)} if mode == "concat" else {}
    return _MERGES[mode], _some(config, "name") | axis


def _some(config: Json, *names: str) -> Json:
    return {name: config[name] for name in names if name in config}


def _sequential(config: Any) -> Json:
    """Return a Sequential with its list of layers named, and with the shape of its input as a layer."""
    config = {"name": "sequential", **(config if isinstance(config, dict) else {"layers": config})}
    shape = config.pop("build_input_shape", None)
    layers = list(config.get("layers", []))
    first = layers[0] if layers else {}
    inner = first.get("config")
    shape = inner.get("batch_input_shape", shape) if isinstance(inner, dict) else shape
    if shape and first.get("class_name") not in ("Sequential", "Functional", "Model", "InputLayer"):
        entry: Json = {"class_name": "InputLayer", "config": {"batch_shape": shape}}
        if "module" in first:
            entry |= {"module": "keras.layers", "registered_name": None}
        layers.insert(0, entry)
    return {**config, "layers": layers}


def _rescaling(layer: Json) -> Json:
    """Return a sum or a product with a number as the layer that it is; other functions as they are."""
    entry = first_input(layer["inbound_nodes"])
    number = entry[3].get("y") if entry and len(entry) > 3 else None
    function = str(layer["config"].get("function", "")).rpartition(".")[2]
    if not isinstance(number, (int, float)) or function not in ("truediv", "multiply", "subtract", "add"):
        return layer
    scale = {"truediv": 1 / number if number else 1.0, "multiply": number}.get(function, 1.0)
    offset = {"subtract": -number, "add": number}.get(function, 0.0)
    config = {"name": layer["name"], "scale": scale, "offset": offset}
    said = {"module": "keras.layers", "registered_name": None} if "module" in layer else {}
    nodes = [[[*entry[:3], {}]]]
    return {**layer, "class_name": "Rescaling", "config": config, "inbound_nodes": nodes, **said}


def first_input(nodes: Any) -> list[Any]:
    """Return the first tensor that a layer is called with, `[layer, call, output, …]`, or an empty list."""
    while isinstance(nodes, list) and nodes and isinstance(nodes[0], list):
        nodes = nodes[0]
    return nodes if isinstance(nodes, list) and len(nodes) > 2 and isinstance(nodes[0], str) else []


def _renumbered(config: Json) -> Json:
    """Return a graph whose nested models count their calls from 0: once, how they were built was call 0."""
    models = {
        layer["name"]: len(layer["inbound_nodes"])
        for layer in config.get("layers", [])
        if layer["class_name"] in ("Sequential", "Functional")
    }
    last: dict[str, int] = {}

    def noted(name: str, call: int) -> int:
        last[name] = max(call, last.get(name, 0))
        return call

    _calls(config, noted)
    late = {name for name, count in models.items() if last.get(name, 0) >= count > 0}
    changed: Json = _calls(config, lambda name, call: call - 1 if name in late else call)
    return changed


def _calls(config: Json, change: Callable[[str, int], Any]) -> Json:
    """Return a graph with the number of every call of a layer, `[name, call, output, …]`, changed."""

    def walk(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
            return [value[0], change(value[0], value[1]), *value[2:]]
        return [walk(one) for one in value]

    layers = [
        {**layer, "inbound_nodes": [_call(walk(node)) for node in layer.get("inbound_nodes", [])]}
        for layer in config.get("layers", [])
    ]
    ends: Json = {key: walk(config[key]) for key in ("input_layers", "output_layers") if key in config}
    return {**config, "layers": layers, **ends}


def _call(node: Any) -> Any:
    """Return a call of a layer; where tensors are named arguments too, in the words of Keras 3."""
    entries = node if isinstance(node, list) else []
    named = entries[0][3] if entries and isinstance(entries[0], list) and len(entries[0]) > 3 else {}
    if not any(_is_tensor(one) for one in named.values()):
        return node
    first = [_tensor(entry) for entry in entries]
    options = {key: _tensor(one) if _is_tensor(one) else one for key, one in named.items()}
    return {"args": first if len(first) == 1 else [first], "kwargs": options}


def _is_tensor(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and isinstance(value[0], str)
        and all(isinstance(number, int) for number in value[1:])
    )


def _tensor(entry: list[Any]) -> Json:
    # Shape and type stand for nothing: the tensor is looked up by its history.
    config = {"shape": [None], "dtype": "float32", "keras_history": entry[:3]}
    return {"class_name": "__keras_tensor__", "config": config}


def regroup(file: Any, config: Json, version: str) -> None:
    """Put weights of Keras 1, in a copy of a file, as later ones have them: of all gates in one."""
    if not version.startswith("1"):
        return
    kinds = {layer["config"].get("name"): layer["class_name"] for layer in layers_in(config)}
    groups = file["model_weights"]
    for name in groups:
        gates = _GATES.get(kinds.get(name, ""))
        names = [
            one.decode() if isinstance(one, bytes) else one for one in groups[name].attrs["weight_names"]
        ]
        arrays = [np.asarray(groups[name][one]) for one in names]
        if gates is not None and len(arrays) == 3 * len(gates):
            # In the file each gate has what it takes from the input, from the state, and its bias.
            arrays = [
                np.concatenate(
                    [arrays[3 * gates.index(gate) + part] for gate in _ORDER[kinds[name]]], axis=-1
                )
                for part in range(3)
            ]
        elif kinds.get(name) == "Conv1D" and arrays and arrays[0].ndim == 4:
            arrays[0] = arrays[0][:, 0]
        else:
            continue
        for one in names:
            del groups[name][one]
        for one, array in zip(names, arrays, strict=False):
            groups[name][one] = array
        groups[name].attrs["weight_names"] = [one.encode() for one in names[: len(arrays)]]


def functions() -> Mapping[str, Any]:
    """Return what Keras 3 needs to know of old networks, by name."""
    ops = need("keras.ops", "keras")

    def hard_sigmoid(x: Any) -> Any:
        return ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    return {HARD_SIGMOID: hard_sigmoid}
