"""Checks of arrays that all measures share; each fails with one line."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from chronocam.errors import InputError

Floats: TypeAlias = Float[np.ndarray, "..."]
"""Floating-point numbers of any shape."""

Bools: TypeAlias = Bool[np.ndarray, "..."]
"""Truth values of any shape."""


def finite(maps: np.ndarray, rank: int, what: str = "maps") -> np.ndarray:
    """Return `maps` in float64. Raises InputError for too few axes, an empty grid, NaN or infinity."""
    if rank < 1 or maps.ndim < rank or 0 in maps.shape[maps.ndim - rank :]:
        raise InputError(
            f"{what} have shape {maps.shape}; expected (…, *grid) with a grid of {rank} non-empty axes"
        )
    bad = ~np.isfinite(maps).all(axis=grid_axes(rank))
    if bad.any():
        where = f" (first at sample {tuple(map(int, np.argwhere(bad)[0]))})" if bad.ndim else ""
        raise InputError(f"{what} hold NaN or infinity in {int(bad.sum())} sample(s){where}; leave those out")
    return maps.astype(np.float64)


def same_shape(maps: np.ndarray, other: np.ndarray, what: str) -> None:
    """Raise InputError where `other` is not shaped like the maps; nothing is broadcast."""
    if maps.shape != other.shape:
        raise InputError(
            f"maps have shape {maps.shape} but {what} {other.shape}; give one of the same size for each map"
        )


def grid_axes(rank: int) -> tuple[int, ...]:
    """Return the last `rank` axes."""
    return tuple(range(-rank, 0))


def ratio(above: Any, below: Any) -> np.ndarray:
    """Return above / below, and 0 where `below` is 0."""
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    return np.asarray(np.where(below > 0, above, 0) / np.where(below > 0, below, 1))


def flat(maps: np.ndarray, rank: int) -> np.ndarray:
    """Return maps `(…, *grid)` as `(…, cell)`."""
    return maps.reshape(*maps.shape[: maps.ndim - rank], -1)
