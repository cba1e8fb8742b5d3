"""Small copies of the first inputs of a call, so that a page of the explanation needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from chronocam.explanation import COPIES
from chronocam.explanation.late import late
from chronocam.joint.look.look import Look
from chronocam.maps.arrays import namespace, to_numpy, widen
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess

SIDE: Final = 256  # pixels
CHANNELS: Final = 12  # of a signal, which are drawn as lines
_VALUES: Final = 3_000_000  # of all copies together, unless one sample has more
_KEPT: Final = 250_000  # values that are kept as they are until somebody asks for the copies


def copies_of(look: Look, preprocess: Any) -> np.ndarray | None:
    """Return the first samples of the input that maps are of; None unless pictures, clips or signals.

    preprocess: made the input of pictures, where that is known, and is undone; other values are stretched to
        the range of their sample.

    Pictures and clips are uint8 `(sample, *grid, channel)` of at most `SIDE` pixels, signals float32.
    """
    array, axis, rank = look.main, look.channel_axis, len(look.grid)
    if axis is None:
        array = array[..., None]
    elif axis != array.ndim - 1:
        array = namespace(array).moveaxis(array, axis, -1)
    channels = array.shape[-1]
    if rank not in (1, 2, 3) or (channels > CHANNELS if rank == 1 else channels not in (1, 3)):
        return None
    if rank > 1:
        down, across = (-(-side // SIDE) for side in array.shape[-3:-1])
        array = array[..., ::down, ::across, :]
    several = max(_VALUES // max(math.prod(array.shape[1:]), 1), 1)
    array = array[: min(several, COPIES)]
    if rank == 1 or str(array.dtype).endswith("uint8"):
        return to_numpy(array).astype(np.float32 if rank == 1 else np.uint8)
    values = to_numpy(widen(array))
    if values.size > _KEPT:
        return _pictures(values, preprocess)
    # The user may write into the inputs again.
    return late(partial(_pictures, values.copy("K"), preprocess))


def _pictures(values: np.ndarray, preprocess: Any) -> np.ndarray:
    """Return values as bytes, as they were before the preprocessing where it is known."""
    recipe = preprocess.frame if isinstance(preprocess, ClipPreprocess) else preprocess
    known = isinstance(recipe, Preprocess) and len(recipe.mean) == values.shape[-1]
    of_sample = partial(_clipped, recipe.pixels) if known else _stretched
    pictures = np.empty_like(values, np.uint8)  # in the order that the values have in memory
    # One sample at a time stays in the processor's cache. What is not finite is black.
    with np.errstate(invalid="ignore"):
        for sample, picture in zip(values, pictures, strict=True):
            pixels = of_sample(sample)
            picture[...] = np.rint(pixels, out=pixels)
    return pictures


def _clipped(pixels: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    return pixels(values).clip(0, 255)


def _stretched(values: np.ndarray) -> np.ndarray:
    """Return values from 0 to 1 as from 0 to 255, and others from the least of them to the largest."""
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1:
        return np.asarray(values * 255)
    return np.asarray((values - low) * (255 / max(high - low, 1e-12)))
