"""What a model returned, whatever holds it: its arrays, and the part of it that is one sample's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from chronocam.types import Array


def arrays_in(raw: Any) -> list[Array]:
    """Return the floating-point arrays in what a model returned, in order, without sparse ones."""
    if hasattr(raw, "shape"):
        sparse = "sparse" in str(getattr(raw, "layout", ""))
        return [raw] if "float" in str(getattr(raw, "dtype", "")) and not sparse else []
    if isinstance(raw, Mapping):
        parts = list(raw.values())
    elif isinstance(raw, (tuple, list)):
        parts = list(raw)
    else:
        parts = list(getattr(raw, "__dict__", {}).values())
    return [array for part in parts for array in arrays_in(part)]


def map_returned(change: Callable[[Array], Array], raw: Any) -> Any:
    """Return what a model returned with `change` done to each of its arrays."""
    if hasattr(raw, "shape"):
        return change(raw)
    if isinstance(raw, Mapping):
        parts = {name: map_returned(change, part) for name, part in raw.items()}
        return parts if type(raw) is dict else type(raw)(**parts)
    if isinstance(raw, (tuple, list)):
        each = [map_returned(change, part) for part in raw]
        return type(raw)(*each) if hasattr(raw, "_fields") else type(raw)(each)
    if not hasattr(raw, "__dict__"):
        return raw
    changed = copy.copy(raw)
    changed.__dict__.update({name: map_returned(change, part) for name, part in vars(raw).items()})
    return changed


def sample_of(raw: Any, i: int, batch: int) -> Any:
    """Return the part of sample `i`, with its batch axis; what is not per sample stays whole."""
    return map_returned(lambda x: x[i : i + 1] if tuple(x.shape[:1]) == (batch,) else x, raw)
