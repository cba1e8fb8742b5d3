"""Attention layers of Keras: a copy computes the weights, and shows the parts of each call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final, TypeAlias

import keras

from chronocam.engines.keras.layers import Node, Run, Wrap
from chronocam.errors import ModelError
from chronocam.maps.arrays import namespace
from chronocam.types import Array

OUTPUT: Final = "output"
"""What the heads return, before they are joined."""

PARTS: Final = (OUTPUT, "query", "key", "value", "weights")
"""Parts of a call of attention; queries and keys of scores that are their products alone."""

LAYERS: Final = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Attention,  # and AdditiveAttention, which derives from it
)

See: TypeAlias = Callable[[Mapping[str, Array]], Array]
"""Gets the parts of a call by name; returns what goes on in the place of the output."""


def part(path: str, name: str) -> str:
    """Return the name under which a part of an attention layer is tapped."""
    return f"{path}#{name}"


def is_output(layer: str) -> bool:
    """Say whether a tapped layer is what heads return."""
    return attends_at(layer) is not None and layer.endswith(f"#{OUTPUT}")


def attends_at(layer: str) -> str | None:
    """Return the path of the attention of which a tapped layer is a part; None for other layers."""
    path, _, name = layer.rpartition("#")
    return path if path and name in PARTS else None


def seen_by(see: See) -> Wrap:
    """Return a wrap in which a layer computes its weights itself, unfused, and shows each call to `see`."""

    def wrap(node: Node, call: Run) -> Run:
        # The node is a copy for this pass alone, so its methods are replaced for good.
        methods = _by_scores if isinstance(node, keras.layers.Attention) else _by_heads
        node.__dict__.update(methods(node, see))
        return call

    return wrap


def _by_heads(node: Any, see: See) -> dict[str, object]:
    """Return the attributes to replace in a layer of several heads."""
    compute = node._compute_attention
    signature = inspect.signature(compute)

    def explicit(*args: Any, **options: Any) -> tuple[Array, Array]:
        given = signature.bind(*args, **options)
        if "return_attention_scores" in signature.parameters:
            given.arguments["return_attention_scores"] = True
        node.__dict__["_return_attention_scores"] = True  # where grouped attention looks for it
        query, key, value = list(given.arguments.values())[:3]
        output, weights = compute(*given.args, **given.kwargs)
        if weights is None:
            raise ModelError(
                f"layer `{node.name}` ({type(node).__name__}) computes attention in its own way and returns "
                "no weights, so it cannot be read; choose a gradient method such as gradcam"
            )
        parts = {OUTPUT: output, "query": query, "key": key, "value": value, "weights": weights}
        return see(parts), weights

    return {"_compute_attention": explicit, "_flash_attention": False}


def _by_scores(node: Any, see: See) -> dict[str, object]:
    """Return the attributes to replace in `Attention` and `AdditiveAttention`, of two steps."""
    score, apply = node._calculate_scores, node._apply_scores
    scored: dict[str, Array] = {}

    def noted(query: Array, key: Array) -> Array:
        if asks_by_product(node):
            scored.update(query=query, key=key)
        return score(query=query, key=key)

    def applied(scores: Array, value: Array, **options: Any) -> tuple[Array, Array]:
        output, weights = apply(scores=scores, value=value, **options)
        return see({OUTPUT: output, **scored, "value": value, "weights": weights}), weights

    return {"_calculate_scores": noted, "_apply_scores": applied}


def asks_by_product(node: Node) -> bool:
    """Say whether scores are products of queries and keys."""
    added = isinstance(node, keras.layers.AdditiveAttention)
    return not added and getattr(node, "score_mode", "dot") == "dot"


def by_head(x: Array, node: Any, lead: int = 0) -> Array:
    """Return what heads take or return as `(row, head, token, channel)`, after so many `lead` axes.

    Rows are samples and the axes over which the layer does not attend.
    """
    xp, shape = namespace(x), tuple(x.shape)
    rank = len(shape) - lead
    if isinstance(node, keras.layers.Attention):
        return xp.reshape(x, (*shape[:lead], -1, 1, *shape[-2:]))
    over = getattr(node, "_attention_axes", (1,))
    rows = [axis for axis in range(rank - 2) if axis not in over]
    order = (*range(lead), *(lead + axis for axis in (*rows, rank - 2, *over, rank - 1)))
    tokens = prod(shape[lead + axis] for axis in over)
    return xp.reshape(xp.permute_dims(x, order), (*shape[:lead], -1, shape[-2], tokens, shape[-1]))


def weights_by_head(weights: Array, value: Array) -> Array:
    """Return weights as `(row, head, query, key)`; value: by head."""
    rows, heads, keys, _ = value.shape
    return namespace(weights).reshape(weights, (rows, heads, -1, keys))


def joins(node: Any, out: Callable[[Array], Array]) -> Array:
    """Return the matrix that joins the heads, `(channel, head · channel)`; None without one.

    out: makes of a tensor an array as it leaves the engine.
    """
    dense = getattr(node, "_output_dense", None)
    if dense is None:
        return None
    kernel = out(keras.ops.convert_to_tensor(dense.kernel))
    xp, (heads, channels, width) = namespace(kernel), kernel.shape
    return xp.matrix_transpose(xp.reshape(kernel, (heads * channels, width)))
