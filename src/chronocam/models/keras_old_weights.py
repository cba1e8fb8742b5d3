"""Weights of networks of Keras 1, of Theano and of cuDNN, as Keras 3 has them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np

from chronocam.jsonable import Json
from chronocam.models.keras_old import CLASSES, layers_in


def regroup(file: Any, config: Json, version: str) -> None:
    """Put weights of Keras 1, of Theano and of cuDNN, in a copy of a file, as later ones have them.

    config: the model as in the file.
    """
    groups = file.get("model_weights", file)
    kinds = {str(layer["config"].get("name")): layer for layer in layers_in(config)}
    mirrored = of_theano(file, config, version)
    for group, content in groups.items():
        names = list(map(_text, content.attrs.get("weight_names", ())))
        arrays = [np.asarray(content[name]) for name in names]
        owners = [_owner(name, group, kinds) for name in names]
        found: list[np.ndarray] = []
        for owner, run in groupby(zip(owners, arrays, strict=True), itemgetter(0)):
            found += _reordered(kinds.get(owner[1]), [array for _, array in run], version, mirrored)
        if len(found) == len(arrays) and all(one is two for one, two in zip(found, arrays, strict=True)):
            continue
        for name in names:
            del content[name]
        for name, array in zip(names, found, strict=False):
            content[name] = array
        content.attrs["weight_names"] = [name.encode() for name in names[: len(found)]]


def of_theano(file: Any, config: Json, version: str) -> bool:
    """Say whether kernels are those of Theano, which mirrored them: a file of Keras 1 does not say.

    Theano was what had the channels first.
    """
    attributes = {**file.attrs, **(file["model_weights"].attrs if "model_weights" in file else {})}
    if "backend" in attributes:
        return _text(attributes["backend"]) == "theano"
    orders = [layer["config"].get("dim_ordering") for layer in layers_in(config)]
    return version.startswith("1") and "th" in orders


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _owner(name: str, group: str, kinds: Mapping[str, Json]) -> tuple[str, str]:
    """Return the direction and the name of the layer that has a weight, in a group of weights."""
    for part in name.split("/")[::-1]:
        way = next((way for way in ("forward_", "backward_") if part.startswith(way)), "")
        bare = part.removeprefix(way)
        fits = [one for one in kinds if bare == one or bare.startswith(f"{one}_")]
        if fits:
            return way, max(fits, key=len)
    return "", group


def _reordered(
    layer: Json | None, arrays: list[np.ndarray], version: str, mirrored: bool
) -> list[np.ndarray]:
    """Return the weights of one layer, in one direction, as Keras 3 has them; as they are where it does."""
    kind, config = (layer["class_name"], layer["config"]) if layer is not None else ("", {})
    if kind.startswith("CuDNN"):
        return _of_cudnn(kind, arrays)
    gates = _GATES.get(kind)
    if version.startswith("1") and gates is not None and len(arrays) == 3 * len(gates):
        # In the file each gate has what it takes from the input, from the state, and its bias.
        places = [3 * gates.index(gate) for gate in _ORDER[kind]]
        return [np.concatenate([arrays[at + part] for at in places], axis=-1) for part in range(3)]
    if not arrays or "Conv" not in kind or arrays[0].ndim < 3:
        return arrays
    kernel, *rest = arrays
    if version.startswith("1"):
        kernel = _kernel_of_keras_1(kernel, CLASSES.get(kind, kind), config.get("dim_ordering") == "th")
    if mirrored:
        kernel = kernel[(slice(None, None, -1),) * (kernel.ndim - 2)]
    return [kernel, *rest]


def _kernel_of_keras_1(kernel: np.ndarray, kind: str, first: bool) -> np.ndarray:
    """Return a kernel with its channels last, those that it takes and those that it gives."""
    if kind == "Conv1D":
        return kernel[:, 0] if kernel.ndim == 4 else kernel
    if kind == "Conv2DTranspose":
        return kernel.transpose(2, 3, 0, 1) if first else kernel.transpose(0, 1, 3, 2)
    return kernel.transpose(*range(2, kernel.ndim), 1, 0) if first else kernel


def _of_cudnn(kind: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Return kernel, state and bias: cuDNN multiplies from the other side, and adds two biases."""
    kernel, state, bias = arrays
    count = len(_GATES[kind.removeprefix("CuDNN")])
    own = [one.ravel().reshape(one.shape, order="F") for one in np.split(kernel, count, axis=1)]
    turned = [one.T for one in np.split(state, count, axis=1)]
    both = bias.reshape(2, -1)
    return [
        np.concatenate(own, axis=1),
        np.concatenate(turned, axis=1),
        both if kind == "CuDNNGRU" else both.sum(0),
    ]


_GATES: Final = {"LSTM": "icfo", "GRU": "zrh"}


_ORDER: Final = {"LSTM": "ifco", "GRU": "zrh"}
"""The gates of Keras 1 in its order, and in the order that they have had since."""
