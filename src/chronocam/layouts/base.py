"""What a layout is, and how one is inferred from the shapes of the layer's output and the model's input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import getattr_static
from math import prod
from typing import ClassVar

import numpy as np

from chronocam.errors import LayoutError, suggest
from chronocam.maps.arrays import namespace, placed, to_numpy
from chronocam.types import Array

IMAGE_CHANNELS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Stem:
    """The first convolution of a model: how many axes its grid has, and how many channels it takes."""

    rank: int
    channels: int


@dataclass(frozen=True)
class Site:
    """Where a layout is to be found: the layer, its output's shape, and the grid of the model's input.

    calls: how many times the layer is called in one forward pass.
    channels_last: whether the model has its channels last, as Keras does.
    order: where the kind of the layer says that its channels are, `"channels_first"` or `"channels_last"`;
        None for a kind that may have them anywhere.
    grids: of layers before it whose axes are known, such as the convolution that cuts the patches.
    picture: where the picture's tokens begin in a prompt, and how many there are; None for other outputs.
    block: how many patches of each side follow each other, where the model takes pictures as rows of patches.
    tiles: rows and columns of the tiles that the model takes a picture as, and how many pictures come before
        and after them; None for other models. Its layers have a row for each.
    channels: how many the model's input has; None where it has no axis of them, or that is not known.
    """

    layer: str
    shape: tuple[int, ...]
    batch: int
    input_grid: tuple[int, ...]
    calls: int = 1
    channels_last: bool = False
    order: str | None = None
    grids: tuple[tuple[int, ...], ...] = ()
    picture: tuple[int, int] | None = None
    block: int = 1
    tiles: tuple[tuple[int, int], int, int] | None = None
    channels: int | None = None


class Layout:
    """Turns a layer's output into `(batch, channel, *grid)`.

    Example:
    >>> class Halves(cc.layouts.Layout):
    ...     def __call__(self, array):
    ...         return array[:, ::2]
    >>> cc.GradCAM(model, "conv2", layout=Halves()).explain(images).maps.shape
    (2, 1, 8, 8)
    """

    name: ClassVar[str]
    per_frame: ClassVar[bool] = False
    """Whether the layer saw each frame of a clip by itself."""
    batch_axis: int = 0
    """Which axis of the layer's output the samples are on."""
    takes_all_calls: ClassVar[bool] = False
    """Whether it is of all calls of the layer in a pass together, and not of one."""

    def __call__(self, array: Array) -> Array:
        """Return `array` as `(batch, channel, *grid)`."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(array)")

    def gather(self, calls: Sequence[Array]) -> Array:
        """Return what the layout is of, given one array per call of the layer: the last call."""
        return calls[-1]

    def ordered(self, order: str) -> Layout:
        """Return the layout for tokens in this order, `"time"` or `"patch"`; most layouts know no other."""
        return self

    def settled(self, by_patch: Callable[[int], bool]) -> Layout:
        """Return the layout with what shapes do not say, which most say in full.

        by_patch: says of the tokens after a prefix of this length whether they follow each other in time,
            patch by patch, and not slice by slice.
        """
        return self

    @classmethod
    def match(cls, site: Site) -> tuple[float, Layout] | None:
        """Return the layout of this family that fits `site` best and how badly (0 is perfect), or None.

        A family defines this, or `fits` where several of its layouts may fit.
        """
        if getattr_static(cls, "fits") is getattr_static(Layout, "fits"):
            raise NotImplementedError(f"{cls.__name__} must define match(site)")
        return min(cls.fits(site), key=lambda fit: fit[0], default=None)

    @classmethod
    def fits(cls, site: Site) -> list[tuple[float, Layout]]:
        """Return all layouts of this family that fit `site` and how badly; here the one of `match`."""
        fit = cls.match(site)
        return [] if fit is None else [fit]


FAMILIES: list[type[Layout]] = []


def register(family: type[Layout]) -> type[Layout]:
    """Add a family of layouts; of equally good fits the one registered first is taken."""
    FAMILIES.append(family)
    return family


def _families(site: Site) -> list[type[Layout]]:
    """Return the families that may fit; none for a number without axes, as constants of a graph are."""
    return FAMILIES if site.shape else []


def infer(site: Site) -> Layout:
    """Return the registered layout that fits best.

    Raises LayoutError, listing the shapes, where none does.
    """
    fits = [fit for family in _families(site) if (fit := family.match(site)) is not None]
    if fits:
        return min(fits, key=lambda fit: fit[0])[1]
    raise LayoutError(
        f"layer `{site.layer}` returns {site.shape}, which has no grid that fits an input of grid "
        f"{site.input_grid}; choose a layer before the pooling (`chronocam layers SPEC` lists them) or give "
        "layout="
    )


def candidates(site: Site) -> list[Layout]:
    """Return every registered layout that fits, the best first."""
    fits = [fit for family in _families(site) for fit in family.fits(site)]
    return list(dict.fromkeys(layout for _, layout in sorted(fits, key=lambda fit: fit[0])))


def named(layout: str | Layout | Callable[[Array], Array], site: Site) -> Callable[[Array], Array]:
    """Return the layout that `layout=` asks for.

    Raises LayoutError where it does not fit the layer's output.
    """
    if not isinstance(layout, str):
        return layout
    families = {family.name: family for family in FAMILIES}
    if layout not in families:
        raise LayoutError(
            f"no layout `{layout}`{suggest(layout, list(families))}; choose one of {', '.join(families)} or "
            "give a callable"
        )
    fit = families[layout].match(site) if families[layout] in _families(site) else None
    if fit is None:
        raise LayoutError(
            f"layout `{layout}` does not fit layer `{site.layer}`, which returns {site.shape} for an input "
            f"of grid {site.input_grid}; give another layout or another layer"
        )
    return fit[1]


def joined(calls: Sequence[Array], layout: Callable[[Array], Array]) -> Array:
    """Return what `layout` is to be applied to, given one array per call of a layer."""
    return layout.gather(calls) if isinstance(layout, Layout) else calls[-1]


def _numbers(layout: Callable[[Array], Array], calls: Sequence[Array]) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each call's first value, and of the value that each cell of the grid comes from.

    Raises LayoutError for a layout that does more than to choose and to order values.
    """
    sizes = [prod(call.shape) for call in calls]
    starts = np.cumsum([0, *sizes[:-1]])
    numbered = [
        placed(np.arange(start, start + size).reshape(call.shape), call)
        for call, start, size in zip(calls, starts, sizes, strict=True)
    ]
    numbers = to_numpy(layout(joined(numbered, layout)))
    if numbers.dtype.kind != "i":
        raise LayoutError("layout= makes new values of a layer's output, which cannot be put back into it")
    return starts, numbers


def channels_in(layout: Callable[[Array], Array], calls: Sequence[Array]) -> int:
    """Return which axis of what a layer returned holds the channels, as the layout takes them from there.

    calls: what the layer returned, one array per call. Raises LayoutError as `inverse` does.
    """
    taken = joined(calls, layout)
    if layout(taken) is taken:
        return 1
    starts, numbers = _numbers(layout, calls)
    channels = numbers[0].reshape(numbers.shape[1], -1)[:2, 0]  # of one cell, the first two
    call = int(np.searchsorted(starts, channels[0], "right")) - 1
    places = np.stack(np.unravel_index(channels - starts[call], calls[call].shape))
    return int((places[:, 0] != places[:, -1]).argmax()) or 1


def inverse(layout: Callable[[Array], Array], calls: Sequence[Array]) -> Callable[[Array], list[Array]]:
    """Return what puts changed values back where `layout` takes them from.

    calls: what the layer returned, one array per call. From `(batch, channel, *grid)` the returned function
    makes arrays like them; what the layout drops stays as it is. Raises LayoutError for a layout that does
    more than to choose and to order values.
    """
    taken = joined(calls, layout)
    if layout(taken) is taken:
        return lambda values: [*calls[:-1], namespace(values).astype(values, taken.dtype)]
    sizes = [prod(call.shape) for call in calls]
    starts, numbers = _numbers(layout, calls)
    source = np.arange(sum(sizes))
    source[numbers.ravel()] = sum(sizes) + np.arange(numbers.size)

    def put_back(values: Array) -> list[Array]:
        xp = namespace(taken)
        flat = [xp.reshape(call, (-1,)) for call in calls]
        every = xp.concat([*flat, xp.reshape(xp.astype(values, taken.dtype), (-1,))])
        changed = xp.take(every, placed(source, taken), axis=0)
        parts = zip(calls, starts, sizes, strict=True)
        return [xp.reshape(changed[start : start + size], call.shape) for call, start, size in parts]

    return put_back


def input_grid(
    shape: tuple[int, ...], channels_last: bool = False, stem: Stem | None = None
) -> tuple[int, ...]:
    """Return the grid of an input `(batch, …)`: all axes but the batch and the channels."""
    axis = channel_axis(shape, channels_last, stem)
    return tuple(n for i, n in enumerate(shape) if i not in (0, axis))


def channel_axis(shape: tuple[int, ...], channels_last: bool = False, stem: Stem | None = None) -> int | None:
    """Return the axis of an input `(batch, …)` that holds the channels; None where it has none.

    Rows of values `(batch, width)` have none, nor have grey pictures and clips to which the model adds
    the axis that its first convolution needs. Else it is where the framework puts it, unless only the
    other end looks like channels (1 to 4 there and more than 4 here). Clips have it before or after the
    frames: where its length is that of the model's first convolution, and after them where both are and
    that convolution sees pictures.
    """
    if len(shape) <= 2:
        return None
    if stem is not None and stem.rank == len(shape) - 1 and stem.channels not in (shape[1], shape[-1]):
        return None
    if len(shape) == 5 and not channels_last and (axis := _clip_channels(shape, stem)) is not None:
        return axis
    if len(shape) == 3 and stem is not None and stem.rank == 1 and not channels_last:
        # (batch, time, feature), transposed before the first convolution, which says how many features there
        # are.
        channels_last = shape[2] == stem.channels != shape[1]
        return 2 if channels_last else 1
    # Pictures that were given in the other framework's order show it by their number of channels. A signal
    # (batch, channel, time) does not: it may be as short as a picture has channels.
    first, last = shape[1] in IMAGE_CHANNELS, shape[-1] in IMAGE_CHANNELS
    if first != last and len(shape) > 3:
        channels_last = last
    return len(shape) - 1 if channels_last else 1


def _clip_channels(shape: tuple[int, ...], stem: Stem | None) -> int | None:
    """Return 1 for `(batch, channel, time, …)`, 2 for `(batch, time, channel, …)`, None where none fits."""
    # The first convolution says most: how many channels it takes, and, by its rank, whether it sees clips or
    # the frames one by one. A clip of 3 frames of 3 channels is told apart by that alone.
    order = (2, 1) if stem is not None and stem.rank == 2 else (1, 2)
    by_stem = () if stem is None or stem.rank == 1 else (stem.channels,)
    if order == (2, 1) and shape[2] == 3 and stem is not None and stem.channels in (6, 9):
        return 2  # of two or three frames at once, which there may happen to be as many of as channels
    return next(
        (axis for lengths in (by_stem, IMAGE_CHANNELS) for axis in order if shape[axis] in lengths), None
    )


def is_grid(grid: tuple[int, ...], within: tuple[int, ...]) -> bool:
    """Say whether `grid` has more than one cell and is nowhere finer than the input's grid."""
    return (
        len(grid) == len(within) and prod(grid) > 1 and all(g <= w for g, w in zip(grid, within, strict=True))
    )
