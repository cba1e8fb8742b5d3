"""Networks of Keras 1 and 2 as Keras 3 says them: a translation of what their files say, without code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from chronocam.errors import ModelError
from chronocam.jsonable import Json
from chronocam.models.specs import need

HARD_SIGMOID: Final = "hard_sigmoid_of_keras_2"
"""The name of max(0, min(1, x/5 + 1/2)), which Keras 3 calls by no name: its own is x/6 + 1/2."""

CLASSES: Final = {
    "Model": "Functional",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
}
OLD_CLASSES: Final = {*CLASSES, "Merge"}
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

_WRAPPED: Final = ("layer", "forward_layer", "backward_layer")
"""Where the layers lie that another calls."""

_SUMS: Final = {
    "add": "Add",
    "subtract": "Subtract",
    "multiply": "Multiply",
    "maximum": "Maximum",
    "minimum": "Minimum",
}
_ACTIVATIONS: Final = {
    name: name for name in ("relu", "relu6", "sigmoid", "tanh", "softmax", "elu", "selu", "silu")
}
"""Functions of two tensors, and of one, that are layers."""


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
    for key in ("layers", *_WRAPPED):
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
        value = {key: self.node(self._placed(one) if key in _WRAPPED else one) for key, one in value.items()}
        return self.object(value) if isinstance(value.get("class_name"), str) and "config" in value else value

    def _placed(self, layer: Any) -> Any:
        """Return a layer inside another with where its class is: it is not looked for among layers."""
        name = layer.get("class_name") if isinstance(layer, dict) else None
        known = isinstance(name, str) and hasattr(self.layers, CLASSES.get(name, name))
        own = known or name in ("Sequential", "Model", "Functional")
        return {"module": "keras.layers", "registered_name": None, **layer} if own else layer

    def object(self, node: Json) -> Any:
        """Return one model or layer; other objects are as they are."""
        name = str(CLASSES.get(node["class_name"], node["class_name"]))
        config = node["config"]
        if name == "Merge":
            name, config = _merged(config)
        if name in OPERATIONS and (layer := _as_layer(node)) is not None:
            return layer
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
        cudnn = node["class_name"].startswith("CuDNN")
        arguments = self._layer(name, kind, config, placed="module" in node, cudnn=cudnn)
        return {**node, "class_name": name, "config": arguments}

    def _model(self, node: Json, name: str, module: str, config: Json) -> Json:
        rest = {key: value for key, value in node.items() if key not in ("module", "registered_name")}
        if "module" in node:  # as .keras files say where a class is; .h5 files do not
            rest |= {"module": module, "registered_name": "Functional" if name == "Functional" else None}
        return {**rest, "class_name": name, "config": config}

    def _layer(self, name: str, kind: type, config: Json, *, placed: bool, cudnn: bool) -> Json:
        """Return the arguments of a layer.

        placed: whether the file says in which module objects are. cudnn: whether it is of that library.
        """
        old = self._of_keras_1(name, config) if self.first else dict(config)
        if name == "InputLayer":
            shape = old.pop("batch_input_shape", None)
            return {"batch_shape": shape, **_some(old, "name", "dtype")} if shape else old
        if name == "GRU":
            old.setdefault("reset_after", cudnn)  # of before there was a choice
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
    if config.get("layers"):
        raise ModelError(f"its Merge `{config.get('name')}` joins networks at the start of a Sequential")
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


def _as_layer(node: Json) -> Json | None:
    """Return a function of TensorFlow as the layer that does the same; None where there is none."""
    entry = first_input(node.get("inbound_nodes"))
    options = entry[3] if len(entry) > 3 else {}
    function = str(node["config"].get("function", "")).rpartition(".")[2]
    other: Any = options.get("y")
    inputs: list[Any] = [entry[:3]]
    config: Json = {}
    if isinstance(other, (int, float)) and function in ("truediv", "multiply", "subtract", "add"):
        scale = {"truediv": 1 / other if other else 1.0, "multiply": other}.get(function, 1.0)
        kind = "Rescaling"
        config = {"scale": scale, "offset": {"subtract": -other, "add": other}.get(function, 0.0)}
    elif function in _SUMS and _is_tensor(other):
        kind, inputs = _SUMS[function], [entry[:3], other]
    elif (
        function in _ACTIVATIONS and options.keys() <= {"name", "axis"} and options.get("axis") in (None, -1)
    ):
        kind, config = "Activation", {"activation": _ACTIVATIONS[function]}
    elif function == "reduce_mean" and options.get("axis") in ([1, 2], [-3, -2]):
        kind, config = "GlobalAveragePooling2D", {"keepdims": bool(options.get("keepdims"))}
    else:
        return None
    said = {"module": "keras.layers", "registered_name": None} if "module" in node else {}
    nodes = [[[*one, {}] for one in inputs]] if entry else []
    return {
        **node,
        "class_name": kind,
        "config": {"name": node.get("name", node["config"].get("name")), **config},
        "inbound_nodes": nodes,
        **said,
    }


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


def functions() -> Mapping[str, Any]:
    """Return what Keras 3 needs to know of old networks, by name."""
    ops = need("keras.ops", "keras")

    def hard_sigmoid(x: Any) -> Any:
        return ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    hard_sigmoid.__name__ = HARD_SIGMOID  # wrappers copy their layers by what these say of themselves
    return {HARD_SIGMOID: hard_sigmoid}
