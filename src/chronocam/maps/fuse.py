"""Fusing the maps of several layers into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import prod
from typing import Any, Final

from jaxtyping import Float

from chronocam.errors import InputError, suggest
from chronocam.maps.arrays import grid_axes, namespace
from chronocam.maps.resample import resample
from chronocam.types import Array

GAMMA = 2.0


def fuse(
    maps: Sequence[Float[Any, "batch target ..."]], how: str = "max"
) -> Float[Any, "batch target *grid"]:
    """Fuse maps of several layers, shallow to deep, on the finest of their grids.

    Every map M is scaled to its own largest magnitude, M / max|M|.
    how: `"max"` takes the value of largest magnitude at each position, after tanh(γ M / max|M|) with γ = 2 of
        all but the deepest; `"product"` multiplies magnitudes where all layers agree in sign, and is 0
        elsewhere; `"mean"` averages.

    Source of `"max"`: LayerCAM (Jiang et al., TIP 2021), section III-C; here also for signed maps.
    """
    finest = max((tuple(m.shape[2:]) for m in maps), key=prod)
    return FUSIONS[check_fuse(how)]([_unit(resample(m, finest)) for m in maps])


def check_fuse(how: str) -> str:
    """Return the name of a way to fuse maps. Raises InputError for an unknown one."""
    if how not in FUSIONS:
        hint = suggest(str(how), list(FUSIONS)) or f"; choose {', '.join(FUSIONS)}"
        raise InputError(f"no way to fuse maps `{how}`{hint}")
    return how


def _largest(scaled: Sequence[Array]) -> Array:
    xp = namespace(scaled[0])
    bent = [xp.tanh(GAMMA * m) for m in scaled[:-1]] + list(scaled[-1:])
    return reduce(lambda fused, m: xp.where(xp.abs(m) > xp.abs(fused), m, fused), bent)


def _product(scaled: Sequence[Array]) -> Array:
    xp = namespace(scaled[0])
    return reduce(lambda fused, m: xp.where(fused * m > 0, xp.abs(fused) * m, xp.zeros_like(m)), scaled)


def _mean(scaled: Sequence[Array]) -> Array:
    return sum(scaled[1:], scaled[0]) / len(scaled)


FUSIONS: Final[Mapping[str, Callable[[Sequence[Array]], Array]]] = {
    "max": _largest,
    "product": _product,
    "mean": _mean,
}


def _unit(maps: Any) -> Any:
    xp = namespace(maps)
    peak = xp.max(xp.abs(maps), axis=grid_axes(maps, 2), keepdims=True)
    return maps / xp.where(peak > 0, peak, xp.ones_like(peak))
