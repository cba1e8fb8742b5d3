"""How the probability of the class changes when only what a map highlights is left of the input."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError
from chronocam.metrics.checks import Floats, finite, grid_axes, ratio


def highlighted(inputs: Floats, maps: Floats, channels: int = 1) -> Floats:
    """Return the inputs `(batch, …)`, axis `channels` their channels, times their maps scaled to [0, 1].

    `maps` `(batch, *grid)` have the inputs' size. Each is scaled by its own range; a constant one becomes 0.
    Raises InputError for maps of another size or that are not finite.

    Example:
    >>> maps = cc.GradCAM(model, "conv2").explain(images, "dog")
    >>> cc.metrics.highlighted(images.numpy(), np.asarray(maps)).shape
    (2, 3, 32, 32)
    """
    expected = tuple(n for axis, n in enumerate(inputs.shape) if axis != channels % inputs.ndim)
    if maps.shape != expected:
        raise InputError(
            f"maps have shape {maps.shape}; expected {expected}, that of the inputs without their channels"
        )
    values, axes = finite(maps, maps.ndim - 1), grid_axes(maps.ndim - 1)
    low = values.min(axis=axes, keepdims=True)
    unit = ratio(values - low, values.max(axis=axes, keepdims=True) - low)
    return np.asarray(inputs * np.expand_dims(unit, channels % inputs.ndim), dtype=inputs.dtype)


def average_drop(
    full: Float[np.ndarray, " batch"], kept: Float[np.ndarray, " batch"]
) -> Float[np.ndarray, " batch"]:
    """Return max(0, Y − O)/Y per sample: how far the class's probability falls. Lower is better.

    full: Y, the probability of the class in the whole input.
    kept: O, its probability where only what the map highlights is left.

    0 where Y is 0. Raises InputError for values outside [0, 1] (logits have no zero to fall to) or unequal
    shapes.
    Source: Chattopadhay et al. 2018 (arXiv:1710.11063), section 4.1; their mean over samples is the caller's.

    Example:
    >>> cc.metrics.average_drop(np.array([0.8, 0.5]), np.array([0.6, 0.9])).round(2)
    array([0.25, 0.  ])
    """
    y, o = _probabilities(full, kept)
    return ratio(np.maximum(y - o, 0), y)


def increase_in_confidence(
    full: Float[np.ndarray, " batch"], kept: Float[np.ndarray, " batch"]
) -> Float[np.ndarray, " batch"]:
    """Return 1 where O > Y, else 0, per sample. Higher is better.

    Arguments, errors and source as in `average_drop`.

    Example:
    >>> cc.metrics.increase_in_confidence(np.array([0.8, 0.5]), np.array([0.6, 0.9]))
    array([0., 1.])
    """
    y, o = _probabilities(full, kept)
    return (o > y).astype(np.float64)


def average_gain(
    full: Float[np.ndarray, " batch"], kept: Float[np.ndarray, " batch"]
) -> Float[np.ndarray, " batch"]:
    """Return max(0, O − Y)/(1 − Y) per sample, 0 where Y is 1. Higher is better.

    Arguments and errors as in `average_drop`.

    Source: Zhang et al. 2024, Opti-CAM (arXiv:2301.07002), section 4.

    Example:
    >>> cc.metrics.average_gain(np.array([0.8, 0.5]), np.array([0.6, 0.9])).round(2)
    array([0. , 0.8])
    """
    y, o = _probabilities(full, kept)
    return ratio(np.maximum(o - y, 0), 1 - y)


def _probabilities(full: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if full.shape != kept.shape:
        raise InputError(f"scores have shapes {full.shape} and {kept.shape}; expected one of each per sample")
    for values in (full, kept):
        if not ((values >= 0) & (values <= 1)).all():
            worst = values[np.argmin((values >= 0) & (values <= 1))]
            raise InputError(
                f"a score is {worst:.4g}; expected probabilities in [0, 1]: apply softmax to logits first"
            )
    return full.astype(np.float64), kept.astype(np.float64)
