"""Fusing the maps of several layers into one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from jaxtyping import Float

from chronocam.maps.arrays import grid_axes, namespace
from chronocam.maps.resample import resample

GAMMA = 2.0


def fuse(maps: Sequence[Float[Any, "batch target ..."]]) -> Float[Any, "batch target *grid"]:
    """Fuse maps of several layers, shallow to deep, on the finest of their grids.

    Every map M is scaled to its own largest magnitude, the shallow ones by tanh(γ M / max|M|) with γ = 2 (the
    deepest by M / max|M|), and the value of largest magnitude is taken at each position. Source: LayerCAM
    (Jiang et al., TIP 2021), section III-C; here also for signed maps.
    """
    finest = max((tuple(m.shape[2:]) for m in maps), key=prod)
    xp = namespace(maps[0])
    scaled = [_unit(resample(m, finest)) for m in maps]
    scaled = [xp.tanh(GAMMA * m) for m in scaled[:-1]] + scaled[-1:]
    fused = scaled[0]
    for m in scaled[1:]:
        fused = xp.where(xp.abs(m) > xp.abs(fused), m, fused)
    return fused


def _unit(maps: Any) -> Any:
    xp = namespace(maps)
    peak = xp.max(xp.abs(maps), axis=grid_axes(maps, 2), keepdims=True)
    return maps / xp.where(peak > 0, peak, xp.ones_like(peak))
