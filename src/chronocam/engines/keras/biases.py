"""What Keras layers add to what is proportional to their input."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np

from chronocam.engines.base import Adds
from chronocam.engines.keras.layers import Node, Nodes
from chronocam.engines.keras.program import LINEAR
from chronocam.maps.arrays import like, namespace
from chronocam.types import Array


def biases_of(nodes: Nodes) -> dict[str, Adds]:
    """Return what layers add; see `Engine.biases`."""
    found: dict[str, Adds] = {}
    for path, node in nodes.items():
        own = _added(node)
        if own is not None:
            found[path + LINEAR if hasattr(node, "activation") else path] = partial(_along, *own)
        highest = _highest(node)
        if highest is not None:
            found[path] = partial(_flat, highest)
    return found


def _added(node: Any) -> tuple[np.ndarray, int] | None:
    """Return what a layer adds before its activation, and along which axis; None for nothing."""
    if isinstance(node, keras.layers.BatchNormalization):
        scale = 1 / np.sqrt(_array(node.moving_variance) + node.epsilon)
        shift = -_array(node.moving_mean) * (scale * _array(node.gamma) if node.scale else scale)
        return (shift + _array(node.beta) if node.center else shift), node.axis
    if isinstance(node, keras.layers.Rescaling):
        return np.asarray(node.offset, np.float64), -1
    if isinstance(node, keras.layers.Normalization) and not node.invert:
        shift = -_array(node.mean) / np.maximum(np.sqrt(_array(node.variance)), keras.config.epsilon())
        return shift.ravel(), node._keep_axis[0] if node._keep_axis else -1
    linear = hasattr(node, "kernel") or hasattr(node, "depthwise_kernel")
    if not linear or getattr(node, "bias", None) is None:
        return None
    return _array(node.bias), 1 if getattr(node, "data_format", None) == "channels_first" else -1


def _highest(node: Node) -> float | None:
    """Return the value at which a layer is flat; None for a layer without one."""
    if type(node).__name__ == "Relu6" or getattr(node, "activation", None) is keras.activations.relu6:
        return 6.0
    return getattr(node, "max_value", None) if isinstance(node, keras.layers.ReLU) else None


def _array(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def _along(values: np.ndarray, axis: int, output: Array) -> Array:
    shape = [1] * output.ndim
    shape[axis] = -1
    return like(values.reshape(shape), output)


def _flat(highest: float, output: Array) -> Array:
    xp = namespace(output)
    return highest * xp.astype(output >= highest, output.dtype)
