"""What a layout is, and how one is inferred from the shapes of the layer's output and the model's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from chronocam.errors import LayoutError, suggest
from chronocam.types import Array

IMAGE_CHANNELS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Site:
    """Where a layout is to be found: the layer, its output's shape, and the grid of the model's input."""

    layer: str
    shape: tuple[int, ...]
    batch: int
    input_grid: tuple[int, ...]


class Layout:
    """Turns a layer's output into `(batch, channel, *grid)`."""

    name: ClassVar[str]

    def __call__(self, array: Array) -> Array:
        """Return `array` as `(batch, channel, *grid)`."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(array)")

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Return the layout of this family that fits `site` and how badly (0 is perfect), or None."""
        raise NotImplementedError(f"{cls.__name__} must define match(site)")


FAMILIES: list[type[Layout]] = []


def register(family: type[Layout]) -> type[Layout]:
    """Add a family of layouts; of equally good fits the one registered first is taken."""
    FAMILIES.append(family)
    return family


def infer(site: Site) -> Layout:
    """Return the registered layout that fits best. Raises LayoutError, listing the shapes, where none does."""
    fits = [fit for family in FAMILIES if (fit := family.match(site)) is not None]
    if fits:
        return min(fits, key=lambda fit: fit[0])[1]
    raise LayoutError(
        f"layer `{site.layer}` returns {site.shape}, which has no grid that fits an input of grid {site.input_grid}; "
        f"choose a layer before the pooling (`chronocam layers SPEC` lists them) or give layout="
    )


def named(layout: str | Layout | Callable[[Array], Array], site: Site) -> Callable[[Array], Array]:
    """Return the layout that `layout=` asks for. Raises LayoutError where it does not fit the layer's output."""
    if not isinstance(layout, str):
        return layout
    known = {family.name: family for family in FAMILIES}
    if layout not in known:
        raise LayoutError(
            f"no layout `{layout}`{suggest(layout, list(known))}; choose one of {', '.join(known)} or give a callable"
        )
    found = known[layout].match(site)
    if found is None:
        raise LayoutError(
            f"layout `{layout}` does not fit layer `{site.layer}`, which returns {site.shape} for an input of grid "
            f"{site.input_grid}; give another layout or another layer"
        )
    return found[1]


def input_grid(shape: tuple[int, ...], channels_last: bool = False) -> tuple[int, ...]:
    """Return the grid of an input `(batch, …)`: all axes but the batch and the channels.

    Inputs of two axes, `(batch, width)`, have no channel axis. Channels are where the framework puts them,
    unless only the other end looks like them (1 to 4 channels there and more than 4 here).
    """
    if len(shape) <= 2:
        return tuple(shape[1:])
    first, last = shape[1] in IMAGE_CHANNELS, shape[-1] in IMAGE_CHANNELS
    if first != last and len(shape) > 3:
        channels_last = last
    return tuple(shape[1:-1] if channels_last else shape[2:])


def is_grid(grid: tuple[int, ...], within: tuple[int, ...]) -> bool:
    """Say whether `grid` has more than one cell and is nowhere finer than the input's grid."""
    return len(grid) == len(within) and prod(grid) > 1 and all(g <= w for g, w in zip(grid, within, strict=True))
