"""Small helpers over the array API: namespaces, precision, grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache, wraps
from importlib import import_module
from math import prod
from typing import Any, ParamSpec

import array_api_compat
import numpy as np

from chronocam.types import Array

P = ParamSpec("P")


class Library:
    """How arrays of one library are worked with; as here where it has the array API, as NumPy does."""

    name = "numpy"

    def owns(self, array: Array) -> bool:
        """Say whether `array` is one of this library's."""
        return True

    def namespace(self, array: Array) -> Any:
        """Return the array API namespace."""
        return array_api_compat.array_namespace(array)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Return a copy on the host."""
        return np.asarray(array_api_compat.to_device(array, "cpu"))

    def joined(self, arrays: Sequence[Array]) -> Array | None:
        """Return arrays one after the other, flat, where to read them at once is faster; else None."""
        return None

    def held(self, array: Array) -> Array:
        """Return `array` as a constant: no gradient goes through it."""
        return array

    def device(self, array: Array) -> Any:
        """Return where `array` is, or None where values go there by themselves."""
        return array_api_compat.device(array)

    def positive(self, array: Array) -> Array:
        """Return max(array, 0), NaN where it is NaN."""
        xp = self.namespace(array)
        return xp.where(array < 0, xp.zeros_like(array), array)

    def on_host(self, array: Array) -> bool:
        """Say whether NumPy arrays can stand for `array` without going elsewhere."""
        return True

    def strides(self, array: Array) -> tuple[int, ...] | None:
        """Return how far apart entries are along each axis; None where memory is not shown."""
        return getattr(array, "strides", None)

    def full_precision(self, array: Array) -> AbstractContextManager[Any] | None:
        """Return a scope in which matrix products keep the precision of their arrays; None where they do."""
        return None


class _Torch(Library):
    name = "torch"

    def owns(self, array: Array) -> bool:
        return array_api_compat.is_torch_array(array)

    def namespace(self, array: Array) -> Any:
        return _module("array_api_compat.torch")

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array.numpy(force=True))

    def joined(self, arrays: Sequence[Array]) -> Array | None:
        if self.on_host(arrays[0]) or len({getattr(array, "device", None) for array in arrays}) > 1:
            return None
        return self.namespace(arrays[0]).concat([array.detach().flatten() for array in arrays])

    def held(self, array: Array) -> Array:
        return array.detach()

    def positive(self, array: Array) -> Array:
        return array.clamp(min=0)

    def device(self, array: Array) -> Any:
        return array.device

    def on_host(self, array: Array) -> bool:
        return array.device.type == "cpu"

    def strides(self, array: Array) -> tuple[int, ...]:
        return tuple(array.stride())

    def full_precision(self, array: Array) -> AbstractContextManager[Any] | None:
        import torch

        on = torch.is_autocast_enabled(array.device.type)
        return torch.autocast(array.device.type, enabled=False) if on else None


class _Jax(Library):
    name = "jax"

    def owns(self, array: Array) -> bool:
        return array_api_compat.is_jax_array(array)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(self.held(array))  # also while it is differentiated

    def held(self, array: Array) -> Array:
        import jax

        return jax.lax.stop_gradient(array)

    def device(self, array: Array) -> Any:
        return None  # an array that is traced does not know it


class _TensorFlow(Library):
    name = "tensorflow"

    def owns(self, array: Array) -> bool:
        return type(array).__module__.startswith("tensorflow.")

    def namespace(self, array: Array) -> Any:
        return _module("chronocam.maps.tensorflow")  # tensors have no array API of their own

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def held(self, array: Array) -> Array:
        import tensorflow as tf

        return tf.stop_gradient(array)

    def device(self, array: Array) -> Any:
        return None


LIBRARIES: tuple[Library, ...] = (_Torch(), _Jax(), _TensorFlow(), Library())
"""The first that owns an array works with it."""

_OF_TYPES: dict[type, Library] = {}  # asked several times for every map that is made
_NAMESPACES: dict[type, Any] = {}
_module = cache(import_module)


def library(array: Array) -> Library:
    """Return the library of `array`. None of them is imported to find out."""
    known = _OF_TYPES.get(type(array))
    if known is None:
        known = next(library for library in LIBRARIES if library.owns(array))
        _OF_TYPES[type(array)] = known
    return known


def namespace(array: Array) -> Any:
    """Return the array API namespace of `array` (NumPy for lists and scalars)."""
    known = _NAMESPACES.get(type(array))
    if known is None:
        known = np if isinstance(array, (list, float, int)) else library(array).namespace(array)
        _NAMESPACES[type(array)] = known
    return known


def held(array: Array) -> Array:
    """Return `array` as a constant: no gradient goes through it."""
    return library(array).held(array)


def widen(array: Array) -> Array:
    """Return `array` in float32, or as it is where it is float64: maps need more than half precision."""
    xp = namespace(array)
    return array if array.dtype in (xp.float32, xp.float64) else xp.astype(array, xp.float32)


def grid_axes(array: Array, lead: int) -> tuple[int, ...]:
    """Return the axes of the grid: all but the first `lead`."""
    return tuple(range(lead, array.ndim))


def one_cell(array: Array, lead: int) -> Array | None:
    """Return `array` with grid axes of length 1, where all cells are one in memory; else None.

    So are the gradients behind a mean over the grid, for any number of targets.
    """
    strides = library(array).strides(array)
    axes = range(lead, array.ndim)
    if strides is None:
        return None
    for axis in axes:
        if strides[axis] and array.shape[axis] != 1:
            return None
    return array[(slice(None),) * lead + (slice(0, 1),) * len(axes)]


def apart(array: Array) -> Array:
    """Return `array` with axes of length 1, where all entries along them are one in memory."""
    strides = library(array).strides(array)
    if strides is None or all(strides):
        return array
    return array[tuple([slice(None) if step else slice(0, 1) for step in strides])]


def expand(array: Array, rank: int) -> Array:
    """Append axes of length 1 until `array` has `rank` axes, so that it broadcasts over a grid."""
    xp = namespace(array)
    return xp.reshape(array, tuple(array.shape) + (1,) * (rank - array.ndim))


def relu(array: Array) -> Array:
    """Return max(array, 0). NaN stays: it must not pass for a map of zeros."""
    return library(array).positive(array)


def to_numpy(array: Array) -> np.ndarray:
    """Return `array` as NumPy, detached and on the host; bfloat16, which NumPy lacks, as float32."""
    if isinstance(array, np.ndarray):
        return array
    return library(array).to_numpy(widen(array) if "bfloat16" in str(array.dtype) else array)


def all_to_numpy(arrays: Sequence[Array]) -> list[np.ndarray]:
    """Return arrays of one library as NumPy: from a device other than the host in a single transfer.

    Each transfer waits for all that the device has to do.
    """
    flat = library(arrays[0]).joined(arrays)
    if flat is None:
        return [to_numpy(array) for array in arrays]
    parts = np.split(to_numpy(flat), np.cumsum([prod(array.shape) for array in arrays])[:-1])
    return [part.reshape(tuple(array.shape)) for part, array in zip(parts, arrays, strict=True)]


def like(values: np.ndarray, array: Array) -> Array:
    """Return a copy of NumPy `values` in the namespace, precision and device of `array`."""
    return placed(np.array(values), array, array.dtype)


def placed(values: np.ndarray, array: Array, dtype: Any = None) -> Array:
    """Return NumPy `values` in the namespace and on the device of `array`, in `dtype` or their own."""
    return namespace(array).asarray(values, dtype=dtype, device=library(array).device(array))


class Origin:
    """Where an array was made, so that it can be had there again.

    made: the array as it was made. host: the same as NumPy.
    """

    def __init__(self, made: Array, host: np.ndarray) -> None:
        # What is on the host anyway shares the memory of `host`, and need not be kept twice.
        self._made = placed(host, made) if library(made).on_host(made) else made
        self._host = host

    def of(self, values: np.ndarray) -> Array:
        """Return `values` there: without a copy where they are what was made, or stay on the host."""
        return self._made if values is self._host else placed(values, self._made)


def in_full_precision(function: Callable[P, Array]) -> Callable[P, Array]:
    """Let matrix products in `function` keep their arrays' precision, within a caller's autocast too."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Array:
        first: Any = args[0]
        scope = library(first).full_precision(first)
        if scope is None:
            return function(*args, **kwargs)
        with scope:
            return function(*args, **kwargs)

    return run
