"""Noise for the methods that average over noisy inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from chronocam.errors import check_real, check_whole
from chronocam.maps.arrays import expand, grid_axes, like, namespace
from chronocam.types import Array, Capture, View


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of a share `level` of each sample's range (max − min), `samples` times, from `seed`.

    All samples get the same draw, so that a map depends on nothing but its own sample.
    """

    samples: int
    level: float
    seed: int

    def __post_init__(self) -> None:
        check_whole("samples", self.samples, "at least one noisy input")
        check_real("noise", self.level, "a share of the input's range, such as 0.15")
        check_whole("seed", self.seed, "a whole number from 0", least=0)

    def copies(self, x: Float[np.ndarray, "*shape"]) -> Iterator[Float[np.ndarray, "*shape"]]:
        """Yield noisy copies of one sample, in its precision; the same for the same seed."""
        rng = np.random.default_rng(self.seed)
        spread = self.level * (x.max() - x.min())
        for _ in range(self.samples):
            yield (x + spread * rng.standard_normal(x.shape)).astype(x.dtype)

    def look(self, view: View) -> Iterator[tuple[Capture, ...]]:
        """Yield the captures of one noisy look at a batch after the other; the same for the same seed."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.samples):
            yield view.again(self._add(rng))

    def _add(self, rng: np.random.Generator) -> Callable[[Array], Array]:
        def add(x: Array) -> Array:
            xp, axes = namespace(x), grid_axes(x, 1)
            spread = self.level * (xp.max(x, axis=axes) - xp.min(x, axis=axes))
            draw = rng.standard_normal((1, *x.shape[1:]), dtype=np.float32)
            return x + expand(spread, x.ndim) * like(draw, x)

        return add
