"""The layers of a Keras model by path, and scopes in which their calls are looked into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeAlias, TypeGuard

import keras

from chronocam.engines.names import unknown_layer
from chronocam.errors import LayerError, suggest
from chronocam.types import Array

Node: TypeAlias = keras.Operation
"""A layer, or an operation of a functional model."""

Nodes: TypeAlias = Mapping[str, Node]
"""The nodes of a model by path."""

Run: TypeAlias = Callable[..., Any]
"""A node's `call`: what it takes and returns is the model's own affair."""

Wrap: TypeAlias = Callable[[Node, Run], Run]
"""Makes of a node and its call the call that takes its place."""


def nodes_of(model: Node) -> dict[str, Node]:
    """Return the layers of a model, and the operations of functional ones, by path: `backbone/conv1`.

    What lies inside an RNN is left out: it runs within a loop. A layer that is used in several places goes by
    the first; of two layers with the same path, the second gets `_2`.
    """
    nodes: dict[str, Node] = {}
    seen = {id(model)}

    def walk(holder: Node, prefix: str) -> None:
        for child in _children(holder):
            if id(child) in seen:
                continue
            seen.add(id(child))
            path, number = prefix + child.name, 2
            while path in nodes:
                path, number = f"{prefix}{child.name}_{number}", number + 1
            nodes[path] = child
            if not isinstance(child, keras.layers.RNN):
                walk(child, f"{path}/")

    walk(model, "")
    return nodes


def _children(holder: Node) -> list[Node]:
    if isinstance(holder, keras.Sequential):
        return list(holder.layers)
    # A functional model's graph holds operations (a plain x + y, say) that are layers in all but name.
    if isinstance(getattr(holder, "operations", None), list):
        return list(holder.operations)
    if isinstance(holder, keras.Model):
        return list(holder.layers)
    flatten = getattr(holder, "_flatten_layers", None)
    return [] if flatten is None else list(flatten(include_self=False, recursive=False))


def graph_of(model: Any) -> Any:
    """Return the graph of a functional or Sequential model; None for other models."""
    graph = getattr(model, "_functional", None) or model
    return graph if hasattr(graph, "_nodes_by_depth") else None


def path_of(name: str, nodes: Nodes) -> str:
    """Return the path that `name` stands for: itself, dots for slashes, or the one nested layer of that name.

    Raises LayerError, with close names also of nested layers, where there is none, and where there are
    several.
    """
    # PyTorch's users write dots; a Keras layer may also have one in its name.
    for path in (name, name.replace(".", "/")):
        if path in nodes:
            return path
    inside = [path for path in nodes if path.rpartition("/")[2] == name]
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise LayerError(f"`{name}` names {len(inside)} layers: {', '.join(inside[:4])}; give the whole path")
    raise unknown_layer(name, list(nodes), hint=_close(name, nodes))


def _close(name: str, nodes: Nodes) -> str:
    """Return the hint with the paths closest to `name`, or else of the layers whose own names are closest."""
    if hint := suggest(name, list(nodes)):
        return hint
    leaf = name.rpartition("/")[2]
    near = {path.rpartition("/")[2]: path for path in reversed(list(nodes))}
    hint = suggest(leaf, list(near))
    for leaf, path in near.items():
        hint = hint.replace(f"`{leaf}`", f"`{path}`")
    return hint


def show_own_errors(scope: ExitStack) -> None:
    """Let errors come out of layers as they are: rewritten by Keras they may lose their type."""
    if keras.config.is_traceback_filtering_enabled():
        scope.callback(keras.config.enable_traceback_filtering)
        keras.config.disable_traceback_filtering()


@contextmanager
def attribute(node: Node, name: str, value: object) -> Iterator[None]:
    """Give an object an attribute of its own for a while, past the tracking of Keras."""
    before = node.__dict__[name]
    node.__dict__[name] = value
    try:
        yield
    finally:
        node.__dict__[name] = before


def frames_at_once(node: Node, call: Run) -> Run:
    """Let a TimeDistributed layer run its layer on all steps at once, folded into the batch.

    Without training that is the same as one call per step, in a graph that does not grow with the clip.
    """

    def folded(x: Array) -> Array:
        return keras.ops.reshape(x, (-1, *x.shape[2:]))

    def run(inputs: Array, training: bool | None = None, mask: Array = None) -> object:
        options: dict[str, object] = {}
        if mask is not None and node.layer._call_has_mask_arg:
            options["mask"] = folded(mask)
        if node.layer._call_has_training_arg:
            options["training"] = training
        output = node.layer.call(folded(inputs), **options)
        return keras.tree.map_structure(
            lambda y: keras.ops.reshape(y, (-1, inputs.shape[1], *y.shape[1:])), output
        )

    return run


def is_float(x: Array) -> TypeGuard[Array]:
    """Say whether `x` is a floating-point tensor."""
    return hasattr(x, "dtype") and hasattr(x, "shape") and "float" in str(x.dtype)


def first_tensor(output: object) -> Array:
    """Return the first floating-point tensor in what a layer gives, or None."""
    return next((x for x in keras.tree.flatten(output) if is_float(x)), None)


def replace_tensor(output: object, old: Array, new: Array) -> object:
    """Return `output` with the tensor `new` in the place of `old`, and its mask with it."""
    if new is old:
        return output
    mask = getattr(old, "_keras_mask", None)
    if mask is not None:
        new._keras_mask = mask
    return new if output is old else keras.tree.map_structure(lambda x: new if x is old else x, output)


def is_recurrent(node: Any) -> bool:
    """Say whether a layer returns the steps of a sequence; these are not places in a picture."""
    if isinstance(node, keras.layers.Bidirectional):
        return True
    convolutional = isinstance(
        node, (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)
    )
    return isinstance(node, keras.layers.RNN) and not convolutional


_POINTWISE: Final = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.Multiply,
    keras.layers.Normalization,
    keras.layers.ReLU,
    keras.layers.Rescaling,
)


def axes_from(node: Node) -> Node:
    """Return the layer whose axes this one's output has: the one before a row of pointwise ones."""
    while isinstance(node, _POINTWISE) and len(node._inbound_nodes) == 1:
        parents = node._inbound_nodes[0].parent_nodes
        if len(parents) != 1:
            break
        node = parents[0].operation
    return node


def is_frame_wise(node: Node) -> bool:
    """Say whether a layer is TimeDistributed, or pointwise behind one, and so are all those before it."""
    seen: set[int] = set()
    distributed = False
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, keras.layers.InputLayer):
            continue
        seen.add(id(one))
        if not isinstance(one, (keras.layers.TimeDistributed, *_POINTWISE)):
            return False
        distributed = distributed or isinstance(one, keras.layers.TimeDistributed)
        waiting += [parent.operation for call in one._inbound_nodes for parent in call.parent_nodes]
    return distributed
