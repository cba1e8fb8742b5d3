"""Whether a map is more than the noise of its gradient: it must not change under noise too weak to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from chronocam._repr import ShortRepr
from chronocam.errors import InputError
from chronocam.maps.arrays import to_numpy
from chronocam.metrics.checks import Floats, finite, flat, ratio
from chronocam.metrics.intervals import Interval, checked, of_mean
from chronocam.metrics.sanity import rank_correlation


@dataclass(frozen=True, eq=False)
class Agreement(ShortRepr):
    """How similar the maps of noisy copies of an input are: means over all pairs of copies, `(batch, …)`.

    spearman: rank correlation; 0 for a constant map.
    cosine: of the angle between the maps as vectors; 0 for a map of zeros.

    Both are 1 where noise changes nothing, and about 0 where the maps are noise.

    Example:
    >>> agreement = cc.metrics.Agreement(np.linspace(0.6, 0.8, 9), np.linspace(0.7, 0.9, 9))
    >>> str(agreement.intervals()["spearman"])
    '0.700 [0.648, 0.754]'
    """

    spearman: Float[np.ndarray, "batch ..."]
    cosine: Float[np.ndarray, "batch ..."]

    def intervals(self, confidence: float = 0.95) -> dict[str, Interval]:
        """Return the mean of each over the samples, with its bootstrap interval.

        A sample's targets are averaged first.
        """
        means = {name: values.reshape(len(values), -1).mean(axis=1) for name, values in vars(self).items()}
        # `bootstrap` would take correlations that are all 0 or 1 for misses and hits.
        return {name: of_mean(checked(values), confidence) for name, values in means.items()}


def noise_agreement(
    explain: Callable[[np.ndarray], Any],
    inputs: Float[np.ndarray, "batch ..."],
    noise: float = 0.02,
    draws: int = 8,
    seed: int = 0,
    rank: int = 2,
) -> Agreement:
    """Explain `draws` noisy copies of the inputs and compare the maps of each pair of them.

    explain: from inputs to maps `(batch, …, *grid)` with a grid of `rank` axes, with signs where they matter;
        always called with the whole batch in its order. Name the target: a predicted class may change under
        noise.
    noise: standard deviation of the Gaussian noise, as a share of each sample's range (max − min). All
        samples get the same draws, so that a value depends on nothing but its own sample.

    A low value means that the map cannot be trusted, as near the minimum of a loss; a high value does not
    mean that it is right. Raises InputError for noise that is not positive, fewer than two draws, and maps
    that are not finite or not one per sample.

    Example:
    >>> method = cc.GradCAM(model, "conv2")
    >>> def explain(x):
    ...     return method.explain(x, "dog").maps
    >>> cc.metrics.noise_agreement(explain, images.numpy(), draws=3).cosine.round(1).shape
    (2, 1)
    """
    if not noise > 0:
        raise InputError(f"noise is {noise}; expected a positive share of the inputs' range, such as 0.02")
    if draws < 2:
        raise InputError(f"draws is {draws}; expected at least two copies to compare")
    axes = tuple(range(1, inputs.ndim))
    spread = noise * (inputs.max(axis=axes, keepdims=True) - inputs.min(axis=axes, keepdims=True))
    rng = np.random.default_rng(seed)
    copies = [
        inputs + (spread * rng.standard_normal((1, *inputs.shape[1:]))).astype(inputs.dtype)
        for _ in range(draws)
    ]
    maps = [_checked(explain(copy), len(inputs), rank) for copy in copies]
    pairs = list(combinations(maps, 2))
    return Agreement(
        np.mean([rank_correlation(a, b, rank) for a, b in pairs], axis=0),
        np.mean([_cosine(flat(a, rank), flat(b, rank)) for a, b in pairs], axis=0),
    )


def _checked(result: Any, samples: int, rank: int) -> Floats:
    maps = finite(to_numpy(result), rank)
    if maps.ndim == rank or len(maps) != samples:
        raise InputError(
            f"explain returned shape {maps.shape} for {samples} inputs; expected one map or more for each"
        )
    return maps


def _cosine(a: Floats, b: Floats) -> Floats:
    return ratio((a * b).sum(axis=-1), np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1)))
