"""A function of arrays, differentiated by Keras' backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TypeAlias

import keras
import numpy as np

from chronocam.types import Array

Function: TypeAlias = Callable[..., Array]
Pull: TypeAlias = Callable[[np.ndarray], list[np.ndarray]]
"""From what the value's entries weigh to the gradients of their weighted sum; zero where there is none."""


def differentiable(function: Function, leaves: Sequence[np.ndarray]) -> tuple[Array, Pull]:
    """Return what a function makes of arrays, and its pull-back. No parameter is differentiated."""
    return _BACKENDS[keras.backend.backend()](function, leaves)


def _tensorflow(function: Function, leaves: Sequence[np.ndarray]) -> tuple[Array, Pull]:
    tf = import_module("tensorflow")
    tensors = [tf.convert_to_tensor(leaf) for leaf in leaves]
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = function(*tensors)

    def pull(weights: np.ndarray) -> list[np.ndarray]:
        found = tape.gradient(value, tensors, tf.convert_to_tensor(weights, value.dtype), "zero")
        return [np.asarray(g) for g in found]

    return value, pull


def _jax(function: Function, leaves: Sequence[np.ndarray]) -> tuple[Array, Pull]:
    jax = import_module("jax")
    value, back = jax.vjp(function, *map(jax.numpy.asarray, leaves))
    return value, lambda weights: [np.asarray(g) for g in back(jax.numpy.asarray(weights, value.dtype))]


def _torch(function: Function, leaves: Sequence[np.ndarray]) -> tuple[Array, Pull]:
    torch = import_module("torch")
    with torch.inference_mode(False), torch.enable_grad():
        tensors = [keras.ops.convert_to_tensor(leaf).detach().clone().requires_grad_() for leaf in leaves]
        value = function(*tensors)

    def pull(weights: np.ndarray) -> list[np.ndarray]:
        if not value.requires_grad:
            return [np.zeros_like(leaf) for leaf in leaves]
        along = torch.as_tensor(weights, dtype=value.dtype, device=value.device)
        found = torch.autograd.grad(value, tensors, along, retain_graph=True, allow_unused=True)
        pairs = zip(found, leaves, strict=True)
        return [np.zeros_like(leaf) if g is None else np.asarray(g.cpu()) for g, leaf in pairs]

    return value, pull


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
