"""Feature maps: what each channel of a layer answers to a picture, and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from chronocam._repr import ShortRepr
from chronocam.engines import Request, Result, engine_for
from chronocam.errors import InputError, LayerError
from chronocam.features.drawn import Drawn, insist_on_layer
from chronocam.joint.look.look import look_at
from chronocam.joint.look.subject import Subject
from chronocam.layouts import Layout
from chronocam.maps.arrays import namespace, to_numpy, widen
from chronocam.render.sheets.features import Tile, feature_sheet, flat
from chronocam.types import Array, Inputs, LayerLike, Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SLICES = 8  # of a clip that are drawn


@dataclass(frozen=True, eq=False)
class FeatureMaps(ShortRepr, Drawn):
    """The activations of a layer's channels on its own grid, raw.

    maps: `(batch, channel, *grid)`, float32.
    channels: the number of each.
    layer: its path.
    of: how many channels the layer has.

    Example:
    >>> maps = cc.features.feature_maps(model, "relu1", images)
    >>> maps.maps.shape, len(maps.strongest(sample=0, count=3))
    ((2, 8, 16, 16), 3)
    """

    maps: Float[np.ndarray, "batch channel *grid"]
    channels: tuple[int, ...]
    layer: str
    of: int

    def strongest(self, sample: int = 0, count: int | None = None) -> list[int]:
        """Return the numbers of the channels by their mean |activation| over the grid, largest first."""
        strength = np.abs(self._sample(sample)).reshape(len(self.channels), -1).mean(axis=1)
        return [self.channels[place] for place in np.argsort(-strength, kind="stable")[:count]]

    def plot(self, *, sample: int = 0, count: int | None = 16, scale: str = "all") -> Figure:
        """Return a matplotlib Figure: a picture per channel under its number, the strongest first.

        count: at most so many; None for all.
        scale: `all` gives them one scale, from 0 (or the most negative value) to the largest value drawn;
            `channel` each its own, which stands beside its number.

        Maps of clips are drawn as slices in a row, eight at most. Raises InputError for another scale or
        sample.
        """
        if scale not in ("all", "channel"):
            raise InputError(
                f"no scale `{scale}`; choose all (one for all channels) or channel (each its own)"
            )
        maps = self._sample(sample)
        numbers = self.strongest(sample, count)
        pictures = {number: flat(maps[self.channels.index(number)], _SLICES) for number in numbers}
        common = _limits(np.concatenate([values.ravel() for values in pictures.values()]))
        tiles = [
            Tile(values, f"{number}", common)
            if scale == "all"
            else Tile(
                values, f"{number}: {_limits(values)[0]:.2g} to {_limits(values)[1]:.2g}", _limits(values)
            )
            for number, values in pictures.items()
        ]
        scales = "one scale for all" if scale == "all" else "each on its own scale"
        return feature_sheet(tiles, f"{self.layer}: {len(tiles)} of {self.of} channels, {scales}")

    def arrays(self) -> Mapping[str, Array]:
        """Return maps, channels and layer."""
        return {"maps": self.maps, "channels": np.asarray(self.channels), "layer": np.asarray(self.layer)}

    def _sample(self, sample: int) -> Float[np.ndarray, " channel *grid"]:
        if not -len(self.maps) <= sample < len(self.maps):
            raise InputError(f"no sample {sample}; there are {len(self.maps)}, counted from 0")
        return self.maps[sample]


def feature_maps(
    model: Model,
    layer: LayerLike,
    inputs: Inputs,
    channels: Sequence[int] | None = None,
    *,
    layout: str | Layout | Callable[[Array], Array] | None = None,
) -> FeatureMaps:
    """Return what the channels of a layer answer to inputs, from one forward pass.

    layer: path, layer object or index.
    inputs: a batch, as the model takes it: an array, a tuple or a dict of arrays.
    channels: the numbers of those to keep, in this order; None for all.
    layout: see `cc.layouts`; None infers it.

    A layer that is called several times gives its last call, but for one called once per frame, which gives
    all. Raises LayerError for an unknown layer or channel, LayoutError for a layer without a grid.

    Example:
    >>> cc.features.feature_maps(model, "relu2", images, channels=[4, 0]).maps.shape
    (2, 2, 8, 8)
    """
    path = insist_on_layer(engine_for(model).resolve(layer))
    # The layer stands in for the model's output, so that nothing is asked of that, whatever it looks like.
    look = look_at(Subject(model, path), inputs)
    calls = look.engine.record(look.inputs, _first, Request([path])).activations[path]
    maps = to_numpy(widen(look.on_grid(path, calls, layout))).astype(np.float32)
    chosen = tuple(range(maps.shape[1])) if channels is None else tuple(channels)
    for number in chosen:
        if not 0 <= number < maps.shape[1]:
            raise LayerError(
                f"layer `{path}` has no channel {number}; it has {maps.shape[1]}, counted from 0"
            )
    if not chosen:
        raise LayerError(
            f"channels is empty; name some of the {maps.shape[1]} of layer `{path}`, or leave it out"
        )
    return FeatureMaps(maps if channels is None else maps[:, chosen], chosen, path, maps.shape[1])


def _first(result: Result) -> Array:
    values = result.logits()
    return namespace(values).reshape(values, (values.shape[0], -1))[:, :1]


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of a scale: from 0 up, or symmetric about 0 where there are negative values."""
    low, high = float(np.nanmin(values)), float(np.nanmax(np.abs(values)))
    high = high or 1.0
    return (-high, high) if low < 0 else (0.0, high)
