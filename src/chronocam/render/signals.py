"""Signals as pictures of their curves, which maps over time are drawn on."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from chronocam.errors import InputError
from chronocam.maps.arrays import to_numpy

WIDTH: Final = 960  # pixels; longer signals have one for each sample, up to LONGEST
LONGEST: Final = 4096
BAND: Final = (40, 160)  # pixels that a channel is high, at least and at most
HEIGHT: Final = 640  # pixels of all channels, where they are no less than the least
DARK, LIGHT = (26, 26, 30), (232, 232, 236)


def to_signals(inputs: Any, length: int) -> list[UInt8[np.ndarray, "height width 3"]]:
    """Return pictures of a batch of signals, `(channel, time)`, `(time, channel)` or `(time,)` each.

    A PIL image is a picture of the curves already, such as one that was kept beside its maps.
    length: how many samples in time each has. Raises InputError for anything else.
    """
    if not (hasattr(inputs, "shape") or isinstance(inputs, (list, tuple))):
        raise InputError(f"cannot draw on a {type(inputs).__name__}; give a batch of signals as an array")
    return [
        np.asarray(one.convert("RGB"))
        if isinstance(one, Image.Image)
        else curves(_channels(to_numpy(one), length))
        for one in inputs
    ]


def _channels(values: np.ndarray, length: int) -> Float[np.ndarray, "channel time"]:
    if values.ndim == 1:
        values = values[None]
    if values.ndim == 2 and values.shape[1] != length:
        values = values.T
    if values.ndim != 2 or values.shape[1] != length:
        raise InputError(
            f"a signal has shape {values.shape}; expected (channel, time) or (time, channel) of {length} "
            "samples in time"
        )
    return values.astype(np.float64)


def curves(channels: Float[np.ndarray, "channel time"]) -> UInt8[np.ndarray, "height width 3"]:
    """Return a picture of the channels, one below the other, each over its own range."""
    count, length = channels.shape
    band = int(np.clip(HEIGHT // count, *BAND))
    width = int(np.clip(length, WIDTH, LONGEST))
    image = Image.new("RGB", (width, band * count), DARK)
    pen = ImageDraw.Draw(image)
    places = (np.arange(length) + 0.5) * width / length
    for number, values in enumerate(np.nan_to_num(channels)):
        low, high = float(values.min()), float(values.max())
        share = (values - low) / (high - low) if high > low else np.full(length, 0.5)
        heights = number * band + 0.1 * band + 0.8 * band * (1 - share)
        points = list(zip(places.tolist(), heights.tolist(), strict=True))
        pen.line(points if length > 1 else points * 2, fill=LIGHT, width=2)
    return np.asarray(image)
