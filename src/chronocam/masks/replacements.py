"""What is seen where a mask hides the input.

A replacement is made for a batch `(batch, channel, *grid)` and then fills masks `(batch or 1, 1, *grid)`, 1
where the input stays and 0 where it is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from chronocam.errors import InputError, suggest
from chronocam.maps.arrays import grid_axes, like, namespace, to_numpy
from chronocam.maps.blur import blurred
from chronocam.maps.impute import NOISE, filled
from chronocam.types import Array

Fill: TypeAlias = Callable[[np.ndarray], Array]

BLUR = 0.1
"""Standard deviation of the blur, as a share of the longest side."""


def zero(x: Array) -> Array:
    """Return zeros: of inputs that were normalised, the mean picture."""
    return 0 * x


def mean(x: Array) -> Array:
    """Return each channel's mean over its sample."""
    return 0 * x + namespace(x).mean(x, axis=grid_axes(x, 2), keepdims=True)


def blur(x: Array) -> Array:
    """Return the input itself, blurred."""
    return blurred(x, BLUR * max(x.shape[2:]))


STILL: Mapping[str, Callable[[Array], Array]] = MappingProxyType({"blur": blur, "mean": mean, "zero": zero})
"""Replacements that are the same whatever is hidden, by their names."""


def noise(x: Array, rng: np.random.Generator) -> Fill:
    """Hide by ROAD's noisy linear imputation: each place is the mean of its neighbours, with a little noise.

    Where a mask is below ½ a place is filled; a soft mask mixes.
    """
    values = to_numpy(x)
    drawn = rng.normal(scale=NOISE, size=(1, *values.shape[1:]))

    def fill(mask: np.ndarray) -> Array:
        stays = np.broadcast_to(np.asarray(mask)[:, 0] >= 0.5, (len(values), *values.shape[2:]))
        pairs = zip(values, stays, strict=True)
        return _mixed(x, like(np.stack([filled(one, own, drawn[0]) for one, own in pairs]), x), mask)

    return fill


def freeze(x: Array, rng: np.random.Generator) -> Fill:
    """Hide by what was last seen at the same place: motion stops, and nothing new comes in."""
    if x.ndim == 4:
        raise InputError(
            f'inputs have a grid of {tuple(x.shape[2:])}; baseline="freeze" is for clips and sequences'
        )

    def fill(mask: np.ndarray) -> Array:
        shown = like(np.asarray(mask), x)
        frames = [x[:, :, 0]]
        for at in range(1, x.shape[2]):
            frames.append(frames[-1] + shown[:, :, at] * (x[:, :, at] - frames[-1]))
        return namespace(x).stack(frames, axis=2)

    return fill


_DRAWN: Mapping[str, Callable[[Array, np.random.Generator], Fill]] = MappingProxyType(
    {"noise": noise, "freeze": freeze}
)
REPLACEMENTS = (*STILL, *_DRAWN)
"""Every replacement by its name."""


def check(baseline: Any, names: Collection[str] = REPLACEMENTS) -> None:
    """Raise InputError for a baseline that is none of these names and no array of finite numbers."""
    expected = f"choose one of {', '.join(names)}, or give an array"
    if isinstance(baseline, str):
        if baseline not in names:
            raise InputError(f"no baseline `{baseline}`{suggest(baseline, list(names)) or f'; {expected}'}")
        return
    try:
        values = np.asarray(to_numpy(baseline) if hasattr(baseline, "dtype") else baseline, np.float32)
    except (TypeError, ValueError):
        kind = type(baseline).__name__
        raise InputError(f"baseline= is of type {kind}, which is not an array; {expected}") from None
    if not np.isfinite(values).all():
        shown = "None" if baseline is None else "not finite"
        raise InputError(f"baseline= is {shown}; {expected} of finite numbers")


def fill_of(x: Array, baseline: Any, laid: Callable[[Any], Array], rng: np.random.Generator) -> Fill:
    """Return what fills masks of `x`: by name, or by an array that `laid` puts into the order of `x`."""
    if isinstance(baseline, str) and baseline in _DRAWN:
        return _DRAWN[baseline](x, rng)
    return partial(_mixed, x, still_of(x, baseline, laid))


def still_of(x: Array, baseline: Any, laid: Callable[[Any], Array], by_feature: bool = False) -> Array:
    """Return what is seen where `x` is hidden, of a replacement in `STILL` or an array; see `fill_of`.

    by_feature: whether `x` is of sequences, `(batch, 1, time, feature)`.
    """
    if not isinstance(baseline, str):
        start = laid(baseline)
        if start.shape[0] != 1:
            raise InputError(
                f"baseline= holds {start.shape[0]} inputs; give one, or take ExpectedGradients for many"
            )
        return 0 * x + start
    return each_feature(x, STILL[baseline]) if by_feature else STILL[baseline](x)


def each_feature(x: Array, change: Callable[[Array], Array]) -> Array:
    """Return sequences `(batch, 1, time, feature)` after a change of `(batch · feature, 1, time)`."""
    xp, (batch, _, time, features) = namespace(x), x.shape
    return xp.moveaxis(xp.reshape(change(_rows(x)), (batch, features, 1, time)), 1, 3)


def fill_of_features(x: Array, made: Callable[[Array], Fill]) -> Fill:
    """Return what fills masks of sequences `(batch, 1, time, feature)`, each feature by what it is itself.

    made: returns what fills masks of `(batch · feature, 1, time)`.
    """
    fill = made(_rows(x))
    return lambda mask: each_feature(x, lambda rows: fill(_rows(np.broadcast_to(mask, x.shape))))


def _rows(x: Array) -> Array:
    xp, (batch, _, time, features) = namespace(x), x.shape
    return xp.reshape(xp.moveaxis(x, 3, 1), (batch * features, 1, time))


def _mixed(x: Array, hidden: Array, mask: np.ndarray) -> Array:
    return hidden + like(np.asarray(mask), x) * (x - hidden)
