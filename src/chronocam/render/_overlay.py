"""Drawing a map over a picture: colour by value, opacity by strength."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from chronocam.errors import InputError, check_real
from chronocam.maps.arrays import to_numpy
from chronocam.maps.normalize import Scope, scope_axes
from chronocam.render.theme import BOX, DIVERGING, SEQUENTIAL, WARM

_DARK: Final = 0.3  # of the sequential colours that `WARM` leaves out; from twice that on, both are the same


def strength(
    maps: Float[np.ndarray, "batch target *grid"], scope: Scope | tuple[float, float] = "sample"
) -> Float[np.ndarray, "batch target *grid"]:
    """Scale maps for drawing: zero stays zero, signs are kept, magnitudes become at most 1.

    One is the 99.5th percentile of the scope's magnitudes, so that a few extreme pixels of a gradient do not
    hide the rest (on a coarse grid that is about the maximum), or the larger of the given limits.

    Example:
    >>> maps = np.array([[[[0.0, 2.0], [-4.0, 1.0]]]])
    >>> cc.render.strength(maps, scope=(-4, 4))
    array([[[[ 0.  ,  0.5 ],
             [-1.  ,  0.25]]]], dtype=float32)
    """
    return np.clip(relative(maps, scope), -1, 1).astype(np.float32)


def relative(
    maps: Float[np.ndarray, "batch target *grid"], scope: Scope | tuple[float, float] = "sample"
) -> Float[np.ndarray, "batch target *grid"]:
    """Divide maps by what `strength` takes for one, without cutting off what is more."""
    return np.asarray(_finite(maps) / scale_of(maps, scope))


def scale_of(
    maps: Float[np.ndarray, "batch target *grid"], scope: Scope | tuple[float, float] = "sample"
) -> Float[np.ndarray, ...]:
    """Return what `strength` takes for one, which broadcasts against the maps; 1 where all is zero."""
    if isinstance(scope, tuple):
        bound = np.asarray(max(map(abs, scope)))
    else:
        axes = scope_axes(maps, scope)
        magnitudes = np.abs(_finite(maps))
        bound = np.quantile(magnitudes, 0.995, axis=axes, keepdims=True)
        bound = np.where(bound > 0, bound, magnitudes.max(axis=axes, keepdims=True))
    return np.where(bound > 0, bound, 1)


def _finite(maps: Float[np.ndarray, "batch target *grid"]) -> Float[np.ndarray, "batch target *grid"]:
    """Return maps with zero for values that are not finite, which the findings report."""
    return np.where(np.isfinite(maps), maps, np.zeros_like(maps))


def overlay(
    picture: UInt8[np.ndarray, "height width 3"],
    value: Float[np.ndarray, "height width"],
    cmap: str | None = None,
    alpha: float = 0.7,
    signed: bool | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Blend the colours of `value` over `picture`, with opacity `alpha` · |value|.

    `value` is in [0, 1], or in [−1, 1] for signed maps. `cmap` is any matplotlib colour map; None is inferno,
    without its dark end, or a blue-red diverging map where a value is negative, or `signed` says that one may
    be. Raises InputError for an unknown one, and for an opacity beyond 0 and 1.

    Example:
    >>> picture = np.full((2, 2, 3), 100, np.uint8)
    >>> cc.render.overlay(picture, np.array([[0.0, 1.0], [0.0, 0.0]]))[0].tolist()
    [[100, 100, 100], [206, 208, 145]]
    """
    check_real("alpha", alpha, "an opacity from 0 to 1", most=1.0)
    signed = bool((value < 0).any()) if signed is None else signed
    colours = colour_map(cmap or (DIVERGING if signed else WARM))((value + 1) / 2 if signed else value)
    opacity = (alpha * np.abs(value))[..., None]
    blended = (1 - opacity) * picture + opacity * 255 * colours[..., :3]
    return np.rint(np.clip(blended, 0, 255)).astype(np.uint8)


def colour_map(name: str) -> Any:
    """Return matplotlib's colour map of that name, or `WARM`. Raises InputError for an unknown one."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    if name == WARM:
        values = np.linspace(0, 1, 256)
        return ListedColormap(colormaps[SEQUENTIAL](np.maximum(values, _DARK + values / 2)), WARM)
    if name not in colormaps:
        raise InputError(
            f"no colour map `{name}`; choose {SEQUENTIAL}, {DIVERGING}, jet or another of matplotlib's"
        )
    return colormaps[name]


def draw_boxes(
    picture: UInt8[np.ndarray, "height width 3"],
    boxes: Sequence[Sequence[float]],
    colour: str = BOX,
) -> UInt8[np.ndarray, "height width 3"]:
    """Return a copy of `picture` with the outlines of boxes `(x0, y0, x1, y1)`.

    Example:
    >>> picture = np.zeros((8, 8, 3), np.uint8)
    >>> cc.render.draw_boxes(picture, [(1, 1, 7, 7)])[1, 1].tolist()
    [0, 229, 255]
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for x0, y0, x1, y1 in boxes:
        pen.rectangle(
            (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=max(2, image.width // 200)
        )
    return np.asarray(image)


def to_pictures(inputs: Any) -> list[UInt8[np.ndarray, "height width 3"]]:
    """Return pictures of a batch of images: PIL images, or arrays with channels last or first.

    8-bit arrays are taken as they are; floats in [0, 1] are scaled to 255, others stretched to their own
    range. Raises InputError for anything that is not a batch of images with 1 or 3 channels.
    """
    if hasattr(inputs, "convert") or not (hasattr(inputs, "shape") or isinstance(inputs, (list, tuple))):
        raise InputError(
            f"cannot draw on a {type(inputs).__name__}; give a batch: a list of images or an array"
        )
    return [_picture(image) for image in inputs]


def _picture(image: Any) -> np.ndarray:
    if not (hasattr(image, "convert") or hasattr(image, "shape")):
        raise InputError(f"an image is a {type(image).__name__}; expected a PIL image or an array")
    array = np.asarray(image.convert("RGB")) if hasattr(image, "convert") else to_numpy(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[-1] not in (1, 3) and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in (1, 3):
        raise InputError(
            f"an image has shape {array.shape}; expected (height, width, 3) or (3, height, width)"
        )
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        low, high = (0.0, 1.0) if array.min() >= 0 and array.max() <= 1 else (array.min(), array.max())
        array = np.rint(255 * (array - low) / max(high - low, 1e-12)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))
