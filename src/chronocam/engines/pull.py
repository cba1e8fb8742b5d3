"""A function of arrays and its pull-back, in whichever framework the arrays are from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TypeAlias

import numpy as np

from chronocam.maps.arrays import library, to_numpy
from chronocam.types import Array

Function: TypeAlias = Callable[..., Array]
Pull: TypeAlias = Callable[[np.ndarray], list[np.ndarray | None]]
"""Pulls weights `(column, *value)` back to gradients `(column, *leaf)` per leaf, of the weighted sums.

A gradient is None where nothing connects the value with the leaf, as far as the framework knows it: JAX and
TensorFlow give zeros.
"""


def differentiable(function: Function, leaves: Sequence[Array], columns: int = 1) -> tuple[Array, Pull]:
    """Return what a function makes of arrays, and its pull-back. No parameter is differentiated.

    columns: how many columns of weights will be pulled back, once.
    """
    return _PULLS[library(leaves[0]).name](function, leaves, columns)


def _tensorflow(function: Function, leaves: Sequence[Array], columns: int) -> tuple[Array, Pull]:
    tf = import_module("tensorflow")
    # Around a compiled function, a persistent tape prepares gradients of gradients: that costs seconds.
    with tf.GradientTape(persistent=columns > 1, watch_accessed_variables=False) as tape:
        tape.watch(leaves)
        value = function(*leaves)

    def pull(weights: np.ndarray) -> list[np.ndarray | None]:
        each = [tape.gradient(value, leaves, tf.convert_to_tensor(w, value.dtype), "zero") for w in weights]
        return [np.stack([to_numpy(g) for g in of_leaf]) for of_leaf in zip(*each, strict=True)]

    return value, pull


def _jax(function: Function, leaves: Sequence[Array], columns: int) -> tuple[Array, Pull]:
    jax = import_module("jax")
    value, back = jax.vjp(function, *leaves)

    def pull(weights: np.ndarray) -> list[np.ndarray | None]:
        along = jax.numpy.asarray(weights, value.dtype)
        if len(along) == 1:
            return [to_numpy(g)[None] for g in back(along[0])]
        return [to_numpy(g) for g in jax.vmap(back)(along)]  # step by step, each takes as long as all

    return value, pull


def _torch(function: Function, leaves: Sequence[Array], columns: int) -> tuple[Array, Pull]:
    torch, vjp = import_module("torch"), import_module("chronocam.engines.torch.tensors").vjp
    with torch.inference_mode(False), torch.enable_grad():
        tensors = [leaf.detach().clone().requires_grad_() for leaf in leaves]
        value = function(*tensors)

    def pull(weights: np.ndarray) -> list[np.ndarray | None]:
        along = torch.as_tensor(weights, dtype=value.dtype, device=value.device)
        return [None if g is None else to_numpy(g) for g in vjp(value, tensors, along)]

    return value, pull


_PULLS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
