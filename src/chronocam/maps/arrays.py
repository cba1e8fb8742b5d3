"""Small helpers over the array API: namespaces, precision, grids."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import array_api_compat
import numpy as np

from chronocam.types import Array

P = ParamSpec("P")


def namespace(array: Array) -> Any:
    """Return the array API namespace of `array` (NumPy for lists and scalars)."""
    return array_api_compat.array_namespace(array) if not isinstance(array, (list, float, int)) else np


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
    return np.asarray(array_api_compat.to_device(array, "cpu"))


def like(values: np.ndarray, array: Array) -> Array:
    """Return a copy of NumPy `values` in the namespace, precision and device of `array`."""
    xp = namespace(array)
    return xp.asarray(np.array(values), dtype=array.dtype, device=array_api_compat.device(array))


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
