"""Filters: the kernels of a convolution as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from jaxtyping import Float

from chronocam._repr import ShortRepr
from chronocam.engines import engine_for
from chronocam.errors import InputError, LayerError, ModelError, few
from chronocam.features.drawn import Drawn, insist_on_layer
from chronocam.maps.arrays import to_numpy, widen
from chronocam.media import Preprocess
from chronocam.render.sheets.features import Tile, feature_sheet, flat

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PICTURES_SEEN: Final = 4  # colour pictures that one kernel may see at once: a pair or a few frames


@dataclass(frozen=True, eq=False)
class Filters(ShortRepr, Drawn):
    """The kernels of a convolution, raw.

    kernels: `(filter, channel, *grid)`, float32, as the model has them.
    layer: its path.
    order: of the colours, where channels are those of a picture.

    Example:
    >>> cc.features.filters(model, "conv2").save("filters.png").name
    'filters.png'
    """

    kernels: Float[np.ndarray, "filter channel *grid"]
    layer: str
    order: Literal["rgb", "bgr"] = "rgb"

    def plot(self, *, count: int | None = 64, frames: str = "all") -> Figure:
        """Return a matplotlib Figure: a picture per filter under its number.

        Every filter w is scaled by itself: 0.5 + w / (2 max|w|), so that grey is a weight of 0 and the
        largest weight is at the end of the range. Three input channels are RGB (pairs and a few pictures on
        top of each other stand side by side); other filters are drawn in blue (negative) and red, and of
        several channels the one with the largest norm is drawn, whose number stands behind the arrow.
        count: at most so many, those of the largest norm, in the order of their numbers; None for all.
        frames: of kernels over time, `all` in a row, or the `middle` one. Raises InputError for another
            choice.
        """
        if frames not in ("all", "middle"):
            raise InputError(f"no frames `{frames}`; choose all (in a row) or middle")
        norms = np.sqrt((self.kernels**2).reshape(len(self.kernels), -1).sum(axis=1))
        numbers = sorted(np.argsort(-norms, kind="stable")[:count].tolist())
        slices = 1 if frames == "middle" else None
        tiles = [_tile(self.kernels[number], number, slices, self.order) for number in numbers]
        size = " × ".join(map(str, self.kernels.shape[1:]))
        counts = f"{len(tiles)} of {len(self.kernels)} filters of {size}"
        return feature_sheet(tiles, f"{self.layer}: {counts}, each scaled by its largest weight")

    def arrays(self) -> Mapping[str, Any]:
        """Return kernels and layer."""
        return {"kernels": self.kernels, "layer": np.asarray(self.layer)}


def filters(model: Any, layer: Any = None, *, preprocess: Preprocess | None = None) -> Filters:
    """Return the kernels of a convolution; of the first one where `layer` is None.

    layer: path, layer object or index.
    preprocess: of the model's pictures, whose colours may come in another order.

    A filter of a depthwise convolution sees one channel; those of a separable one are its two steps in one.
    Raises LayerError for a layer that is not a convolution, ModelError for a model without any.

    Example:
    >>> cc.features.filters(model).kernels.shape
    (8, 3, 3, 3)
    """
    engine = engine_for(model)
    weights = engine.kernels()
    if layer is None and not weights:
        raise ModelError(f"a {type(model).__name__} has no convolution, so there are no filters to draw")
    path = next(iter(weights)) if layer is None else insist_on_layer(engine.resolve(layer)).partition("#")[0]
    if path not in weights:
        raise LayerError(f"layer `{path}` is not a convolution; choose one of {few([*weights], 4)}")
    blue_first = preprocess is not None and preprocess.order == "bgr"
    return Filters(to_numpy(widen(weights[path])).astype(np.float32), path, "bgr" if blue_first else "rgb")


def _tile(kernel: Float[np.ndarray, " channel *grid"], number: int, slices: int | None, order: str) -> Tile:
    channels = len(kernel)
    scaled = kernel / (np.abs(kernel).max() or 1.0)
    if kernel.ndim < 3 or channels % 3 or channels > 3 * _PICTURES_SEEN:
        place = int((kernel**2).reshape(channels, -1).sum(axis=1).argmax())
        name = f"{number}" if channels == 1 else f"{number} ← {place}"
        return Tile(flat(scaled[place], slices), name, (-1.0, 1.0))
    step = -1 if order == "bgr" else 1
    pictures = [_rgb(scaled[start : start + 3][::step], slices) for start in range(0, channels, 3)]
    return Tile(np.concatenate(pictures, axis=1), f"{number}")


def _rgb(colours: Float[np.ndarray, " 3 *grid"], slices: int | None) -> np.ndarray:
    """Return three channels as RGB, white where there is nothing."""
    values = np.stack([flat(one, slices) for one in colours], axis=-1)
    return np.rint(np.nan_to_num(127.5 * (1 + values), nan=255)).astype(np.uint8)
