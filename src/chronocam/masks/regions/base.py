"""What regions are, and regions that are products of pieces of each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import ClassVar, Protocol, TypeAlias

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError, suggest

Pieces: TypeAlias = int | Sequence[int] | None
"""Into how many pieces axes are cut: each, one number per axis, or None for a choice by the grid."""


class Spread(Protocol):
    """Regions of one batch: `count` of them, and what puts a value per region on the grid."""

    @property
    def count(self) -> int:
        """How many regions there are."""

    def __call__(self, values: Float[np.ndarray, "#batch any count"]) -> Float[np.ndarray, ...]:
        """Return values `(batch or 1, any, *grid)`; of regions that overlap, their weighted mean."""


class Regions:
    """A kind of regions; a class with a `name` is registered by being defined.

    pieces: see `Pieces`; kinds without axes to cut take a single number, about how many there are.
    by_feature: whether the grid is that of a sequence, (time, feature), whose features have no order.
    """

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            _KINDS[cls.name] = cls

    def __init__(self, pieces: Pieces, by_feature: bool = False) -> None:
        self.pieces = pieces
        self.by_feature = by_feature

    def draw(self, x: Float[np.ndarray, "batch channel *grid"], rng: np.random.Generator) -> Spread:
        """Return the regions of a batch; kinds that are drawn at random take them from `rng`."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(x, rng)")


_KINDS: dict[str, type[Regions]] = {}
KINDS: Mapping[str, type[Regions]] = MappingProxyType(_KINDS)
"""Every kind of regions by its name."""


def regions_of(kind: str, pieces: Pieces, by_feature: bool = False) -> Regions:
    """Return regions by the name of their kind; see `Regions`.

    Raises InputError, with close names, for an unknown one.
    """
    if kind not in KINDS:
        hint = suggest(str(kind), list(KINDS)) or f"; choose one of {', '.join(KINDS)}"
        raise InputError(f"no regions `{kind}`{hint}")
    return KINDS[kind](pieces, by_feature)


@dataclass(frozen=True)
class Product:
    """Regions that are a piece of each axis: `axes` hold how much of each place is of each piece."""

    axes: tuple[Float[np.ndarray, "place piece"], ...]

    @property
    def count(self) -> int:
        """How many regions there are."""
        return prod(axis.shape[1] for axis in self.axes)

    def __call__(self, values: Float[np.ndarray, "#batch any count"]) -> Float[np.ndarray, ...]:
        """Return the values on the grid."""
        spread = values.reshape(*values.shape[:2], *(axis.shape[1] for axis in self.axes))
        for at, axis in enumerate(self.axes, 2):
            spread = np.moveaxis(np.moveaxis(spread, at, -1) @ axis.T, -1, at)
        return spread


def pieces_of(pieces: Pieces, grid: Sequence[int]) -> tuple[int, ...]:
    """Return into how many pieces each axis is cut, never more than it has places.

    By default 7 × 7 of a picture, 4 × 4 × 4 of a clip and 16 of a signal: about as many regions each.
    """
    each = numbers_of("cells", {1: 16, 2: 7, 3: 4}.get(len(grid), 2) if pieces is None else pieces, grid)
    return tuple(min(n, size) for n, size in zip(each, grid, strict=True))


def numbers_of(name: str, value: int | Sequence[int], axes: Sequence[object]) -> tuple[int, ...]:
    """Return the numbers that an option has for each axis, one for all or one each.

    Raises InputError for what is not that.
    """
    each: list[int] = []
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        each = [int(value)] * len(axes)
    elif isinstance(value, (list, tuple)):
        each = list(value)
    if len(each) != len(axes) or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in each):
        raise InputError(
            f"{name}= is {value!r}; expected a positive whole number, or one for each of {len(axes)} axes "
            f"{tuple(axes)}"
        )
    return tuple(map(int, each))
