"""Whether a map is more than the noise of its gradient: it must stay as it is under noise that nobody sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError
from chronocam.maps.arrays import to_numpy
from chronocam.metrics.checks import Floats, finite, flat, ratio
from chronocam.metrics.intervals import Interval, bootstrap
from chronocam.metrics.sanity import rank_correlation


@dataclass(frozen=True, eq=False)
class Agreement:
    """How alike the maps of noisy copies of an input are: means over all pairs of copies, `(batch, …)`.

    spearman: rank correlation. cosine: of the angle between the maps as vectors.
    1 where noise changes nothing, about 0 where the maps are noise; a constant map has rank correlation 0, a
    map of zeros both.
    """

    spearman: Float[np.ndarray, "batch ..."]
    cosine: Float[np.ndarray, "batch ..."]

    def intervals(self, confidence: float = 0.95) -> dict[str, Interval]:
        """Return the mean of each over the samples, with its bootstrap interval; a sample's targets are averaged."""
        means = {name: values.reshape(len(values), -1).mean(axis=1) for name, values in vars(self).items()}
        return {name: bootstrap(values, confidence) for name, values in means.items()}


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

    A low value says that a map is not to be read, as near the minimum of a loss; a high one does not say that
    it is right. Raises InputError for noise that is not positive, fewer than two draws, and maps that are not
    finite or not one per sample.
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
    maps = [_mapped(explain(copy), len(inputs), rank) for copy in copies]
    pairs = list(combinations(maps, 2))
    return Agreement(
        np.mean([rank_correlation(a, b, rank) for a, b in pairs], axis=0),
        np.mean([_cosine(flat(a, rank), flat(b, rank)) for a, b in pairs], axis=0),
    )


def _mapped(given: Any, samples: int, rank: int) -> Floats:
    maps = finite(to_numpy(given), rank)
    if maps.ndim == rank or len(maps) != samples:
        raise InputError(
            f"explain returned shape {maps.shape} for {samples} inputs; expected one map or more for each"
        )
    return maps


def _cosine(a: Floats, b: Floats) -> Floats:
    return ratio((a * b).sum(axis=-1), np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1)))
