"""How relevance goes through Keras' layers and operations, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
from keras import ops

from chronocam.engines.keras.layers import Wrap, attribute, is_float
from chronocam.sequence.keras.cells import recurrent, unrolled
from chronocam.sequence.keras.ledger import FROM_ZERO, Ledger, held, ratio
from chronocam.types import Array

Rule = Callable[..., Any]
"""From the ledger, a node, its own call and what it is called with, to what it returns."""

_GATES = ("sigmoid", "hard_sigmoid", "softmax", "log_softmax", "sparsemax")


def activated(function: Any, x: Array) -> Array:
    """Pass relevance unchanged through an activation with f(0) = 0, and give none to a gate."""
    name = getattr(function, "__name__", "")
    if name in _GATES:
        return held(function(held(x)))
    if name in FROM_ZERO:
        return x * ratio(function(held(x)), x, 1.0 if name in ("linear", "tanh") else 0.0)
    return function(x)


def linear(ledger: Ledger, node: Any, call: Rule, *args: Any, **kwargs: Any) -> Array:
    """Share by the linear rule, at every position; then the layer's own activation."""
    with attribute(node, "activation", keras.activations.linear):
        z = ledger.share(shifted(ledger, node, call, *args, **kwargs))
    return activated(node.activation, z)


def shifted(ledger: Ledger, node: Any, call: Rule, *args: Any, **kwargs: Any) -> Array:
    """Enter among the biases what an affine node makes of zero."""
    zeros = keras.tree.map_structure(lambda x: ops.zeros_like(x) if is_float(x) else x, (args, kwargs))
    shift = held(call(*zeros[0], **zeros[1]))
    return call(*args, **kwargs) - shift + ledger.bias(shift, shift)


def activation(ledger: Ledger, node: Any, call: Rule, x: Array, **kwargs: Any) -> Array:
    """Apply the layer's activation by its own name."""
    return activated(node.activation, x)


def from_zero(ledger: Ledger, node: Any, call: Rule, x: Array, *args: Any, **kwargs: Any) -> Array:
    """Pass relevance unchanged."""
    return x * ratio(call(held(x), *args, **kwargs), x, 1.0 if type(node).__name__ == "Tanh" else 0.0)


def gate(ledger: Ledger, node: Any, call: Rule, *args: Any, **kwargs: Any) -> Array:
    """Give nothing to a gate: what it weighs takes all."""
    return held(call(*keras.tree.map_structure(held, args), **kwargs))


def layer_norm(ledger: Ledger, node: Any, call: Rule, x: Array, **kwargs: Any) -> Array:
    """Hold the standard deviation constant; the mean is subtracted exactly."""
    axes = [node.axis] if isinstance(node.axis, int) else list(node.axis)
    centred = x - ops.mean(x, axis=axes, keepdims=True)
    y = centred / ops.sqrt(ops.mean(ops.square(held(centred)), axis=axes, keepdims=True) + node.epsilon)
    scaled = y if node.gamma is None else y * _along(node.gamma, x, axes)
    return scaled if node.beta is None else scaled + ledger.bias(_along(node.beta, x, axes), x)


def _along(parameter: Any, x: Array, axes: list[int]) -> Array:
    places = {axis % len(x.shape) for axis in axes}
    return ops.reshape(parameter, [n if axis in places else 1 for axis, n in enumerate(x.shape)])


def attention(ledger: Ledger, node: Any, call: Rule, *args: Any, **kwargs: Any) -> Any:
    """Hold the weights of dot-product and additive attention constant."""
    scores = node._calculate_scores
    node.__dict__["_calculate_scores"] = lambda *given, **options: held(scores(*given, **options))
    try:
        return call(*args, **kwargs)
    finally:
        del node.__dict__["_calculate_scores"]


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D"), linear),
    **dict.fromkeys(("DepthwiseConv2D", "Conv1DTranspose", "Conv2DTranspose"), linear),
    **dict.fromkeys(("BatchNormalization", "Normalization", "Rescaling"), shifted),
    **dict.fromkeys(
        ("Add", "Subtract", "Concatenate", "Stack"), shifted
    ),  # constants may be among what they join
    "LayerNormalization": layer_norm,
    "Activation": activation,
    **dict.fromkeys(
        ("ReLU", "LeakyReLU", "ELU", "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu"), from_zero
    ),
    **dict.fromkeys(
        ("Gelu", "Silu", "Mish", "Tanh", "Softsign", "HardSilu", "HardTanh", "TanhShrink"), from_zero
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid"), gate),
    **dict.fromkeys(("Attention", "AdditiveAttention"), attention),
}
"""How relevance goes through a node; every other one is left to differentiation, exact where it is linear."""


def rule_of(node: Any) -> Rule | None:
    """Return the rule for a layer or an operation of a functional model; None for one that has none."""
    return recurrent if isinstance(node, keras.layers.RNN) else RULES.get(type(node).__name__)


def ruled(ledger: Ledger, path: str, node: Any) -> Wrap | None:
    """Return what runs a node by its rule."""
    rule = rule_of(node)
    return None if rule is None else lambda node, call: partial(rule, ledger, node, call)


def as_it_is(path: str, node: Any) -> Wrap | None:
    """Return what runs a node as it is; on JAX, where each scan is compiled anew, recurrent layers step by step."""
    if keras.backend.backend() != "jax" or not isinstance(node, keras.layers.RNN):
        return None
    return lambda node, call: partial(unrolled, node)


def suspecting(suspects: list[str], path: str) -> Wrap:
    """Return what names a node without a rule that does not make twice as much of twice its signals."""

    def wrap(node: Any, call: Rule) -> Rule:
        def run(*args: Any, **kwargs: Any) -> Any:
            doubled = keras.tree.map_structure(lambda x: 2 * x if is_float(x) else x, (args, kwargs))
            result, expected = call(*args, **kwargs), call(*doubled[0], **doubled[1])
            pairs = zip(keras.tree.flatten(result), keras.tree.flatten(expected), strict=True)
            if not all(_is_double(y, x) for y, x in pairs if is_float(y)) and path not in suspects:
                suspects.append(path)
            return result

        return run

    return wrap


def _is_double(once: Array, twice: Array) -> bool:
    difference = ops.max(ops.abs(twice - 2 * once))
    return bool(difference <= 1e-3 * ops.max(ops.abs(twice)))
