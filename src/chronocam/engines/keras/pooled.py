"""Gradients in closed form, where all that follows a layer is its mean over the grid and a linear layer.

The gradient of a class's logit is then the same at every cell: the class's column of the weight, divided by
the number of cells. So no backward pass is needed. That nothing else follows the layer is read off the graph
of a functional model, whose operations must be of Keras' own classes; and each pass compares the logits with
those that the mean gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import keras
import numpy as np

from chronocam.engines.keras.gates import gate_of, gates_pass
from chronocam.engines.keras.layers import Node, graph_of
from chronocam.engines.keras.program import Program

_MEANS: Final = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D)
_UNTRAINED: Final = (
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
)
"""What returns what it gets, unless the network is being trained."""

_ROUNDED: Final = 1e-4  # of the largest logit


@dataclass(frozen=True)
class Head:
    """The linear layer that makes logits of the mean of a layer's output over some axes."""

    dense: Any
    axes: tuple[int, ...]

    def gradients(
        self, classes: np.ndarray, scores: np.ndarray, activations: np.ndarray, largest: float
    ) -> np.ndarray | None:
        """Return ∂score/∂activations `(target, *shape)`, each once in memory for all cells.

        classes, scores: `(sample, target)`. largest: the size of the largest logit.

        None where the scores are not what the head makes of the activations.
        """
        if activations.dtype != np.float32:
            return None
        means = activations.mean(self.axes, keepdims=True)
        chosen, at = np.unique(classes, return_inverse=True)
        at = at.reshape(classes.shape)
        rows = _as_numpy(self.dense.kernel)[:, chosen].T
        expected = means.reshape(len(means), -1) @ rows.T
        if self.dense.bias is not None:
            expected = expected + _as_numpy(self.dense.bias)[chosen]
        apart = np.abs(np.take_along_axis(expected, at, axis=1) - scores).max()
        if not (apart <= _ROUNDED * largest and rows.any()):
            return None
        cells = prod(activations.shape[axis] for axis in self.axes)
        each = (rows / cells)[at.T].reshape(-1, *means.shape)
        return np.broadcast_to(each, (len(each), *activations.shape))


def _as_numpy(weight: Any) -> np.ndarray:
    """Return a weight as NumPy: on a CPU the memory that the backend has it in, not a copy."""
    return np.asarray(keras.ops.convert_to_tensor(weight))


def head_of(program: Program, layers: Sequence[str]) -> Head | None:
    """Return what follows the only one of `layers`; None where the graph does not prove that it is a head.

    A mean over steps is left out, since steps may be masked; so is a single logit, of which one class is the
    negative.
    """
    special = program.call, program.output_layer, program.guided
    if any(one is not None for one in special) or program.reads or len(layers) != 1:
        return None
    if layers[0] not in program.nodes:
        return None
    row = [node for node in _row_after(program, layers[0]) if type(node) not in _UNTRAINED]
    mean, *rest = row or [None]
    dense, *ends = [node for node in rest if type(node) is not keras.layers.Flatten] or [None]
    if type(mean) not in _MEANS or not _is_linear(dense) or not all(map(_is_plain, row)):
        return None
    gates = [node for node in (dense, *ends) if gate_of(node) is not None]
    if len(gates) > 1 or any(gate_of(node) is None and not gates_pass(node) for node in ends):
        return None
    rank = mean.input_spec.ndim
    axes = range(2, rank) if mean.data_format == "channels_first" else range(1, rank - 1)
    return Head(dense, tuple(axes))


def _is_linear(node: Any) -> bool:
    """Say whether a node is a linear layer of several classes, beside its gate."""
    if type(node) is not keras.layers.Dense or node.units < 2 or node.quantization_mode is not None:
        return False
    linear = node.activation is keras.activations.linear or gate_of(node) is not None
    return linear and node.compute_dtype == "float32"


def _is_plain(node: Node) -> bool:
    """Say whether a node is of a class of Keras' own, whose call nobody has replaced."""
    return type(node).__module__.partition(".")[0] == "keras" and "call" not in vars(node)


def _row_after(program: Program, layer: str) -> list[Any]:
    """Return the operations that lead from a layer to the output, one after the other.

    Empty where something else sees the layer, too, or one of them.
    """
    row: list[Node] = []
    path = layer
    while path:
        holder = path.rpartition("/")[0]
        model = program.nodes[holder] if holder else program.model
        after = _only_users(model, program.nodes[path])
        if after is None:
            return []
        row += after
        path = holder
    return row


def _only_users(model: Any, node: Node) -> list[Node] | None:
    """Return the operations after a node of a functional model, each the only user of what it gets."""
    graph = graph_of(model)
    if graph is None or not _is_plain(model):
        return None
    calls = [call for of_depth in graph._nodes_by_depth.values() for call in of_depth]
    of_node = [call for call in calls if call.operation is node]
    if len(of_node) != 1:
        return None
    (call,), row = of_node, list[Node]()
    while len(call.outputs) == 1:
        (tensor,) = call.outputs
        users = [other for other in calls if any(x is tensor for x in other.input_tensors)]
        if any(x is tensor for x in graph.outputs):
            return row if not users and len(graph.outputs) == 1 else None
        if len(users) != 1 or len(users[0].input_tensors) != 1:
            return None
        (call,) = users
        row.append(call.operation)
    return None
