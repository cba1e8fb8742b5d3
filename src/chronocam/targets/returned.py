"""What a model returned, whatever holds it: its arrays, and the part of it that is one sample's."""

from __future__ import annotations

import copy
from collections.abc import Mapping
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


def sample_of(raw: Any, i: int, batch: int) -> Any:
    """Return the part of sample `i`, with its batch axis; what is not per sample stays whole."""
    if hasattr(raw, "shape"):
        return raw[i : i + 1] if tuple(raw.shape[:1]) == (batch,) else raw
    if isinstance(raw, Mapping):
        parts = {name: sample_of(part, i, batch) for name, part in raw.items()}
        return parts if type(raw) is dict else type(raw)(**parts)
    if isinstance(raw, (tuple, list)):
        each = [sample_of(part, i, batch) for part in raw]
        return type(raw)(*each) if hasattr(raw, "_fields") else type(raw)(each)
    if not hasattr(raw, "__dict__"):
        return raw
    alone = copy.copy(raw)
    alone.__dict__.update({name: sample_of(part, i, batch) for name, part in vars(raw).items()})
    return alone
