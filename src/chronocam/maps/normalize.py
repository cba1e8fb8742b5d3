"""Scaling maps to [0, 1] for presentation, over a scope that is always named."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError
from chronocam.maps.arrays import namespace, widen

Scope: TypeAlias = Literal["frame", "sample", "batch"]


def normalize(
    maps: Float[Any, "batch target *grid"], scope: Scope | tuple[float, float] = "sample"
) -> Float[Any, "batch target *grid"]:
    """Scale maps to [0, 1]: (map − low) / (high − low).

    `low` and `high` are taken over the whole `"batch"`; over a `"sample"`, so that all its targets and all
    frames of a clip share one scale; or over a `"frame"` (the first grid axis is time, targets share a
    scale); or they are given as `(low, high)`, beyond which values are clipped. A constant map becomes zero.
    """
    maps = widen(maps)
    xp = namespace(maps)
    if isinstance(scope, tuple):
        low, high = (xp.asarray(float(v), dtype=maps.dtype) for v in scope)
        if not float(scope[0]) < float(scope[1]):
            raise InputError(f"limits {scope} are not increasing; give (low, high) with low < high")
    else:
        axes = scope_axes(maps, scope)
        low, high = xp.min(maps, axis=axes, keepdims=True), xp.max(maps, axis=axes, keepdims=True)
    with np.errstate(invalid="ignore"):  # of maps that are not finite, which findings say
        span = xp.where(high > low, high - low, xp.ones_like(high))
        return xp.clip((maps - low) / span, 0.0, 1.0)


def scope_axes(maps: Any, scope: str) -> tuple[int, ...]:
    """Return the axes of `(batch, target, *grid)` that share one scale.

    Raises InputError for an unknown scope.
    """
    if scope == "frame":
        if maps.ndim != 5:
            raise InputError(
                f'scope "frame" needs (batch, target, time, height, width); got {tuple(maps.shape)}'
            )
        return (1, 3, 4)
    if scope == "sample":
        return tuple(range(1, maps.ndim))
    if scope == "batch":
        return tuple(range(maps.ndim))
    raise InputError(f"no scope `{scope}`; choose one of {', '.join(get_args(Scope))} or give (low, high)")
