"""What is seen where a mask hides the input.

A replacement is made for a batch `(batch, channel, *grid)` and then fills masks `(batch or 1, 1, *grid)`, 1
where the input stays and 0 where it is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from chronocam.errors import InputError, suggest
from chronocam.maps.arrays import grid_axes, like, namespace
from chronocam.maps.blur import blurred
from chronocam.types import Array

Fill: TypeAlias = Callable[[np.ndarray], Array]

BLUR = 0.1
"""Standard deviation of the blur, as a share of the longest side."""


def zero(x: Array, rng: np.random.Generator) -> Fill:
    """Hide by zeros: of inputs that were normalised, the mean picture."""
    return partial(_mixed, x, 0 * x)


def mean(x: Array, rng: np.random.Generator) -> Fill:
    """Hide by each channel's mean over its sample."""
    return partial(_mixed, x, namespace(x).mean(x, axis=grid_axes(x, 2), keepdims=True))


def blur(x: Array, rng: np.random.Generator) -> Fill:
    """Hide by the input itself, blurred."""
    return partial(_mixed, x, blurred(x, BLUR * max(x.shape[2:])))


def noise(x: Array, rng: np.random.Generator) -> Fill:
    """Hide by noise with the mean and spread of each channel, drawn once."""
    xp, axes = namespace(x), grid_axes(x, 2)
    drawn = like(rng.standard_normal((1, *x.shape[1:])), x)
    middle, spread = (statistic(x, axis=axes, keepdims=True) for statistic in (xp.mean, xp.std))
    return partial(_mixed, x, middle + spread * drawn)


def freeze(x: Array, rng: np.random.Generator) -> Fill:
    """Hide by what was last seen at the same place: motion stops, and nothing new comes in."""
    if x.ndim != 5:
        raise InputError(f'inputs have a grid of {tuple(x.shape[2:])}; baseline="freeze" is for clips')

    def fill(mask: np.ndarray) -> Array:
        shown = like(np.asarray(mask), x)
        frames = [x[:, :, 0]]
        for at in range(1, x.shape[2]):
            frames.append(frames[-1] + shown[:, :, at] * (x[:, :, at] - frames[-1]))
        return namespace(x).stack(frames, axis=2)

    return fill


REPLACEMENTS: Mapping[str, Callable[[Array, np.random.Generator], Fill]] = MappingProxyType(
    {"blur": blur, "mean": mean, "noise": noise, "zero": zero, "freeze": freeze}
)
"""Every replacement by its name."""


def check(baseline: Any) -> None:
    """Raise InputError for a name that no replacement has."""
    if isinstance(baseline, str) and baseline not in REPLACEMENTS:
        hint = (
            suggest(baseline, list(REPLACEMENTS)) or f"; choose one of {', '.join(REPLACEMENTS)} or an array"
        )
        raise InputError(f"no baseline `{baseline}`{hint}")


def fill_of(x: Array, baseline: Any, laid: Callable[[Any], Array], rng: np.random.Generator) -> Fill:
    """Return what fills masks of `x`: by name, or by an array that `laid` puts into the order of `x`."""
    if isinstance(baseline, str):
        return REPLACEMENTS[baseline](x, rng)
    return partial(_mixed, x, 0 * x + laid(baseline))


def _mixed(x: Array, hidden: Array, mask: np.ndarray) -> Array:
    return hidden + like(np.asarray(mask), x) * (x - hidden)
