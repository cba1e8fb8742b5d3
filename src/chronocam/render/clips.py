"""Drawing maps over clips: one scale and one colour map for all frames, looped frames once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from chronocam.errors import InputError
from chronocam.maps.arrays import to_numpy
from chronocam.maps.frames import merge_copies
from chronocam.media.clips.read import Clip
from chronocam.render._overlay import overlay, to_pictures

UNTIMED: Final = 8.0
"""Frames per second of what has no clock."""

_EXPECTED = "(time, height, width, 3), (time, 3, height, width) or (3, time, height, width)"


def to_clips(inputs: Any, frames: int) -> list[Clip]:
    """Return the clips of a batch: `Clip` objects, lists of pictures, or arrays in any order of axes.

    Frames may also be the rows of the batch, or stacked in the channels, as models with `frames=` take them.
    8-bit arrays are taken as they are; floats in [0, 1] are scaled to 255, others stretched to the clip's own
    range. Raises InputError for anything but a batch of clips of so many frames, with 1 or 3 channels.
    """
    if isinstance(inputs, Clip) or not (hasattr(inputs, "shape") or isinstance(inputs, (list, tuple))):
        raise InputError(
            f"cannot draw on a {type(inputs).__name__}; give a batch: a list of clips or an array"
        )
    if len(getattr(inputs, "shape", ())) == 4:
        inputs = _unfolded(to_numpy(inputs), frames)
    clips = [clip if isinstance(clip, Clip) else _clip(clip, frames) for clip in inputs]
    for clip in clips:
        if len(clip) != frames:
            raise InputError(
                f"a clip has {len(clip)} frames; the maps are of {frames}, give the clip explained"
            )
    return clips


def _unfolded(pictures: np.ndarray, frames: int) -> np.ndarray:
    """Return clips of pictures that are their frames, or that hold them in their channels."""
    rows, first, last = len(pictures), pictures.shape[1], pictures.shape[-1]
    if rows % frames == 0 and {first, last} & {1, 3}:
        return pictures.reshape(-1, frames, *pictures.shape[1:])
    if first in (frames, 3 * frames):
        return pictures.reshape(rows, frames, -1, *pictures.shape[2:])
    if last in (frames, 3 * frames):
        return np.moveaxis(pictures.reshape(*pictures.shape[:-1], frames, -1), 3, 1)
    return pictures


def _clip(array: Any, frames: int) -> Clip:
    if isinstance(array, (list, tuple)):
        array = np.stack(to_pictures(array))
    if not hasattr(array, "shape"):
        raise InputError(f"a clip is one {type(array).__name__}; expected its frames, or {_EXPECTED}")
    values = to_numpy(array)
    if values.ndim == 4 and values.shape[-1] not in (1, 3):
        time_first = values.shape[0] == frames and values.shape[1] in (1, 3)
        values = np.moveaxis(values, 1 if time_first else 0, -1)
    if values.ndim != 4 or values.shape[-1] not in (1, 3):
        raise InputError(f"a clip has shape {tuple(array.shape)}; expected {_EXPECTED}")
    time, height, width, channels = values.shape
    (pixels,) = to_pictures([values.reshape(time * height, width, channels)])  # one stretch for all frames
    numbers = np.arange(time)
    return Clip(pixels.reshape(time, height, width, 3), numbers.astype(float), None, numbers, Path())


def overlay_clip(
    clip: Clip, values: Float[np.ndarray, "time height width"], cmap: str | None = None, alpha: float = 0.7
) -> UInt8[np.ndarray, "unique height width 3"]:
    """Blend the colours of `values` over a clip's frames, as `overlay` does.

    A frame that the clip repeats is drawn once, with the mean of its copies' maps. One negative
    value gives all frames the diverging colours.

    Example:
    >>> pixels = np.zeros((3, 8, 8, 3), np.uint8)
    >>> clip = cc.media.Clip(pixels, np.arange(3) / 8, 8.0, np.arange(3), Path("a.mp4"))
    >>> cc.render.overlay_clip(clip, np.ones((3, 8, 8))).shape
    (3, 8, 8, 3)
    """
    merged, signed = merge_copies(values, clip.first), bool((values < 0).any())
    pairs = zip(clip.pixels[clip.unique], merged, strict=True)
    return np.stack([overlay(picture, value, cmap, alpha, signed) for picture, value in pairs])


def pace(clip: Clip) -> float:
    """Return the frames per second at which the clip's frames, each once, take as long as in the source.

    A clip without a clock, or of a single frame, is shown at `UNTIMED`.
    """
    seconds = clip.seconds[clip.unique]
    if clip.rate is None or len(seconds) < 2:
        return UNTIMED
    return (len(seconds) - 1) / float(seconds.max() - seconds.min())
