"""Boxes of several levels of a pyramid: each on the layer of its own level, all on the finest grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from chronocam.maps.arrays import expand, namespace, placed
from chronocam.maps.resample import resample
from chronocam.targets.boxes import BoxesOf
from chronocam.types import INPUT, Array, BoxInfo, TargetInfo

Levels: TypeAlias = Mapping[int, str]
"""The layer of each level."""

Infos: TypeAlias = Sequence[Sequence[TargetInfo]]
"""What each column explains, per sample."""


MOST_LEVELS: Final = 8
"""How many levels are told apart of boxes that do not say theirs."""


@dataclass(frozen=True)
class Known:
    """What an adapter knows of the grids of its layers, so that nothing need be proven.

    layout: which puts what they return on their grid. extent: what the grid covers, in pixels of the input.
    """

    layout: str | None = None
    extent: tuple[float, float] | None = None


UNKNOWN: Final = Known()


def level_of(info: TargetInfo) -> int | None:
    """Return the level on which a column is explained; None for one that explains nothing in a sample."""
    return None if info.is_missing else info.level if isinstance(info, BoxInfo) else 0


def columns_at(levels: Levels, layer: str, infos: Infos) -> Sequence[int]:
    """Return the columns that are explained on a layer in some sample."""
    if layer == INPUT or layer not in levels.values():
        return range(len(infos[0]))
    own = {level for level, name in levels.items() if name == layer}
    return [k for k in range(len(infos[0])) if any(level_of(row[k]) in own for row in infos)]


def used(levels: Levels, infos: Infos) -> list[int]:
    """Return the levels on which something is explained."""
    found = {level_of(info) for row in infos for info in row}
    return [level for level in sorted(levels) if level in found]


def by_level(infos: Infos, levels: Sequence[int]) -> Callable[[Sequence[Array]], Array]:
    """Return what puts maps `(batch, target, *grid)`, one array per level, on the finest grid of them.

    Of each sample and column the map of its own level is taken.
    """
    own = [np.asarray([[level_of(info) == level for info in row] for row in infos]) for level in levels]

    def joined(maps: Sequence[Array]) -> Array:
        grid = max((tuple(one.shape[2:]) for one in maps), key=math.prod)
        xp, total = namespace(maps[0]), None
        for one, marks in zip(maps, own, strict=True):
            fine = one if tuple(one.shape[2:]) == grid else resample(one, grid, "cubic")
            chosen = xp.where(expand(placed(marks, fine), fine.ndim), fine, xp.zeros_like(fine))
            total = chosen if total is None else total + chosen
        return total

    return joined


def known_of(infos: Infos, target: object) -> Known:
    """Return what the adapter of the boxes in a target knows of its layers."""
    boxes = levels_in(target)
    found = (info for row in infos for info in row if isinstance(info, BoxInfo))
    extent = next((one.extent for one in found if one.extent is not None), None)
    return Known("channels_first" if boxes is not None and boxes.layers else None, extent)


def tiled(grid: Sequence[int], extent: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """Return where the cells of a grid lie that covers more than the input, as where the model pads it."""
    return tuple(
        tuple((j + 0.5) * side / n - 0.5 for j in range(n)) for n, side in zip(grid, extent, strict=True)
    )


def levels_in(target: object) -> BoxesOf | None:
    """Return the boxes in a target, which has their levels; None for other targets."""
    if isinstance(target, BoxesOf):
        return target
    inner = [*getattr(target, "targets", ()), getattr(target, "parsed", None)]
    every = (levels_in(one) for one in inner if one is not None)
    return next((boxes for boxes in every if boxes is not None), None)
