"""Small helpers over the array API: namespaces, precision, grids."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, ParamSpec

import array_api_compat
import numpy as np

from chronocam.types import Array

P = ParamSpec("P")


def namespace(array: Array) -> Any:
    """Return the array API namespace of `array` (NumPy for lists and scalars)."""
    if is_tensorflow(array):
        return import_module("chronocam.maps.tensorflow")
    return array_api_compat.array_namespace(array) if not isinstance(array, (list, float, int)) else np


def is_tensorflow(array: Array) -> bool:
    """Say whether `array` is a tensor of TensorFlow, which has no array API of its own."""
    return type(array).__module__.startswith("tensorflow.")


def widen(array: Array) -> Array:
    """Return `array` in float32, or as it is where it is float64: half precision is for models, not for maps."""
    xp = namespace(array)
    return array if array.dtype in (xp.float32, xp.float64) else xp.astype(array, xp.float32)


def grid_axes(array: Array, lead: int) -> tuple[int, ...]:
    """Return the axes of the grid: all but the first `lead`."""
    return tuple(range(lead, array.ndim))


def expand(array: Array, rank: int) -> Array:
    """Append axes of length 1 until `array` has `rank` axes, so that it broadcasts over a grid."""
    xp = namespace(array)
    return xp.reshape(array, tuple(array.shape) + (1,) * (rank - array.ndim))


def relu(array: Array) -> Array:
    """Return max(array, 0). NaN stays: it must not pass for a map of zeros."""
    xp = namespace(array)
    return xp.where(array < 0, xp.zeros_like(array), array)


def to_numpy(array: Array) -> np.ndarray:
    """Return `array` as NumPy, detached and on the host; bfloat16, which NumPy lacks, as float32."""
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "detach"):
        array = array.detach()
    if "bfloat16" in str(array.dtype):
        array = widen(array)
    if is_tensorflow(array):
        return np.asarray(array)
    if array_api_compat.is_jax_array(array):
        import jax

        return np.asarray(jax.lax.stop_gradient(array))  # also while it is differentiated
    return np.asarray(array_api_compat.to_device(array, "cpu"))


def like(values: np.ndarray, array: Array) -> Array:
    """Return a copy of NumPy `values` in the namespace, precision and device of `array`."""
    return placed(np.array(values), array, array.dtype)


def placed(values: np.ndarray, array: Array, dtype: Any = None) -> Array:
    """Return NumPy `values` in the namespace and on the device of `array`, in `dtype` or their own."""
    device = None if _follows(array) else array_api_compat.device(array)
    return namespace(array).asarray(values, dtype=dtype, device=device)


def _follows(array: Array) -> bool:
    """Say whether values go where `array` is by themselves; one that is traced does not say where that is."""
    return is_tensorflow(array) or array_api_compat.is_jax_array(array)


def in_full_precision(function: Callable[P, Array]) -> Callable[P, Array]:
    """Let matrix products in `function` keep their arrays' precision, within a caller's autocast too."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Array:
        first: Any = args[0]
        if not array_api_compat.is_torch_array(first):
            return function(*args, **kwargs)
        import torch

        with torch.autocast(first.device.type, enabled=False):
            return function(*args, **kwargs)

    return run
