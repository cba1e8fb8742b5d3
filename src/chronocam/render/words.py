"""What a map shows, in one plain sentence: where, and in clips when. It says no more than was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

import numpy as np
from jaxtyping import Float

from chronocam.maps.resample import resample

_FINE: Final = 48  # cells along a side of the map on which areas are measured
_SPREAD: Final = 0.3  # of the area, beyond which half of the evidence lies nowhere in particular
_PEAKED: Final = 1.5  # times its even share, from which a moment stands out
_WHOLE: Final = 0.75  # of half of the evidence, from which one region speaks for it
_HALF: Final = 0.5

_ROWS: Final = ("upper", "", "lower")
_COLUMNS: Final = ("left", "", "right")
_ALONE: Final = {"upper": "top", "lower": "bottom", "": "middle"}


def percent(share: float) -> str:
    """Return a share as a percentage that is easily read.

    Example:
    >>> from chronocam.render.words import percent
    >>> percent(0.181), percent(0.0173), percent(9.64e-6), percent(0.99997)
    ('18 %', '1.7 %', '< 0.01 %', '> 99.99 %')
    """
    value = 100 * share
    if 0 < value < 0.01:
        return "< 0.01 %"
    if 99.99 < value < 100:
        return "> 99.99 %"
    for least, digits in ((99.95, 2), (99.5, 1), (10, 0), (1, 1)):
        if least <= value < 100:
            return f"{value:.{digits}f} %"
    return f"{value:.0f} %" if value in (0, 100) else f"{value:.2f} %"


def short_model(spec: str) -> str:
    """Return a model's spec without the folders of a path in it, nor the architecture that weights fit.

    Example:
    >>> from chronocam.render.words import short_model
    >>> short_model("/long/way/to/weights.safetensors@torchvision:resnet18"), short_model("hf:org/name")
    ('weights.safetensors', 'hf:org/name')
    """
    name = spec.split("@")[0]
    kind, colon, rest = name.rpartition(":")
    path = PurePath(rest)
    if len(path.parts) < 2 or (kind and len(path.parts) == 2):
        return name
    # A record of a trained network has the same name everywhere; its folder tells which it is.
    return kind + colon + (path.parent.name if path.name == "model.json" else path.name)


def opening(name: str, confidence: float | None) -> str:
    """Return how a sentence begins: with what is explained, and how sure a classifier is of it."""
    if confidence is None or not math.isfinite(confidence):
        return name
    # More than one half is more than any other class can have.
    return f"{'Says ' * (confidence > _HALF)}{name}, {percent(confidence)}"


def under(name: str, score: float, confidence: float | None) -> str:
    """Return the title of a map in two lines: what is explained; how sure a classifier is, and the score."""
    if confidence is None or not math.isfinite(confidence):
        return f"{name}\n{score:.3g}"
    return f"{name}\n{percent(confidence)}, score {score:.3g}"


def where(
    values: Float[np.ndarray, "height width"],
    input_size: Sequence[int],
    centers: Sequence[Sequence[float]] | None = None,
    view: Sequence[float] = (0, 0, 1, 1),
) -> str:
    """Return where the positive part of a map lies: `lies at the left, half of it in 8 % of the picture`.

    input_size: the grid of the model's input, on which `centers` are given.
    view: x0, y0, x1, y1 of the part that the model saw, in shares of the picture's sides.

    The empty text for a map without a positive value.
    """
    from scipy import ndimage

    fine = _resampled(np.clip(values, 0, None), input_size, centers)
    half = _half(fine)
    if not half.any():
        return ""
    labels, count = ndimage.label(half)
    weights = ndimage.sum(fine, labels, range(1, count + 1))
    strongest = 1 + int(np.argmax(weights))
    y, x = ndimage.center_of_mass(fine, labels, strongest)
    x0, y0, x1, y1 = view
    across, down = (x + 0.5) / fine.shape[1], (y + 0.5) / fine.shape[0]
    place = _place(x0 + across * (x1 - x0), y0 + down * (y1 - y0))
    share = float(half.mean())
    if share > _SPREAD:
        return f"is spread over what the model saw, most of it {place}"
    share *= (x1 - x0) * (y1 - y0)
    mostly = "mostly " if weights.max() < _WHOLE * weights.sum() else ""
    return f"lies {mostly}{place}, half of it in {percent(share)} of the picture"


def whereabouts(
    values: Float[np.ndarray, "*time height width"],
    input_size: Sequence[int],
    centers: Sequence[Sequence[float]] | None = None,
    view: Sequence[float] = (0, 0, 1, 1),
) -> str:
    """Return what a map shows: where the evidence lies, or of a signed one what raises and lowers the score.

    Time is summed over; the other arguments are those of `where`.
    """
    if not np.isfinite(values).all():
        return "the map is not finite"
    sides = np.clip([values, -values], 0, None).reshape(2, -1, *values.shape[-2:]).sum(axis=1)
    up, down = (where(side, input_size, centers, view) for side in sides)
    if not up and not down:
        return "the map is zero everywhere"
    if not down:
        return f"the evidence {up}"
    both = (f"what {verb} it {place}" for verb, place in (("raises", up), ("lowers", down)) if place)
    return "; ".join(both)


def when(
    importance: Float[np.ndarray, " slice"],
    spans: Sequence[tuple[int, int]],
    seconds: Sequence[float] | None,
    unit: str = "frame",
) -> str:
    """Return when the evidence of a clip lies: `most of it at 0.50 to 0.88 s (38 %)`; empty for none.

    importance: the share of the evidence in each slice.
    spans: the first and the last frame shown of each slice.
    seconds: when each frame is shown; None counts frames.
    unit: what is counted.
    """
    total = float(importance.sum())
    if not total > 0:
        return ""
    best = int(importance.argmax())
    if importance[best] < _PEAKED / len(importance):
        return "evenly spread over time"
    first = last = best
    # Neighbours that stand out too belong to the same moment.
    while first > 0 and importance[first - 1] >= importance[best] / 2:
        first -= 1
    while last + 1 < len(importance) and importance[last + 1] >= importance[best] / 2:
        last += 1
    begin, end = min(spans[first]), max(spans[last])
    if seconds is not None:
        moment = f"{seconds[begin]:.2f} to {seconds[end]:.2f} s" if end > begin else f"{seconds[begin]:.2f} s"
    else:
        moment = f"{unit}s {begin} to {end}" if end > begin else f"{unit} {begin}"
    share = float(importance[first : last + 1].sum())
    return f"{'most of it' if share > _HALF else 'strongest'} at {moment} ({percent(share)})"


def _resampled(
    values: np.ndarray, input_size: Sequence[int], centers: Sequence[Sequence[float]] | None
) -> np.ndarray:
    size = tuple(max(_FINE, cells) for cells in values.shape)
    scaled = centers and [
        tuple((c + 0.5) * new / old - 0.5 for c in at)
        for at, new, old in zip(centers, size, input_size, strict=True)
    ]
    return np.asarray(resample(values[None, None], size, "linear", scaled))[0, 0]


def _half(values: np.ndarray) -> np.ndarray:
    """Return the fewest cells that hold half of the sum."""
    flat = np.sort(values.ravel())[::-1]
    total = flat.sum()
    if not total > 0:
        return np.zeros(values.shape, bool)
    count = int(np.searchsorted(np.cumsum(flat), _HALF * total)) + 1
    return np.asarray(values >= flat[min(count, flat.size) - 1])


def _place(x: float, y: float) -> str:
    """Return a place in words, of its share of the width and of the height."""
    row, column = _ROWS[min(int(3 * y), 2)], _COLUMNS[min(int(3 * x), 2)]
    if row and column:
        return f"at the {row} {column}"
    return f"at the {column}" if column else f"{'in' if not row else 'at'} the {_ALONE[row]}"
