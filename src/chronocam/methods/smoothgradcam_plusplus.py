"""Smooth Grad-CAM++."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.maps.arrays import expand, grid_axes, namespace, relu
from chronocam.maps.combine import per_target, sum_over_grid, weighted_sum
from chronocam.maps.noise import Noise
from chronocam.methods._base import CAMMethod, Maps
from chronocam.types import View


@dataclass(kw_only=True, eq=False)
class SmoothGradCAMPlusPlus(CAMMethod):
    """Grad-CAM++ with derivatives averaged over noisy inputs.

    w_k = Σ_grid α_k ReLU(D¹_k), α_k = D²_k / (2 D²_k + (Σ_grid A_k) D³_k), Dᵖ the mean of Gᵖ over `samples`
    noisy copies, as in `SmoothGrad`; A belongs to the input itself.
    Source: Omeiza et al. 2019 (arXiv:1908.01224), eq. 6 and 7; the numerator is D², as in Grad-CAM++, where
    the paper prints D¹.

    Example:
    >>> cc.SmoothGradCAMPlusPlus(model, "conv2", samples=4).explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    samples: int = 8
    noise: float = 0.15
    seed: int = 0
    name: ClassVar[str] = "smoothgradcam++"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._noise = Noise(self.samples, self.noise, self.seed)

    def maps(self, view: View) -> Maps:
        """Return the maps of the clean activations under the noisy weights."""
        a = view.captures[0].activations
        d1, d2, d3 = self._moments(view)
        xp = namespace(a)
        total = per_target(expand(xp.sum(a, axis=grid_axes(a, 2)), a.ndim))
        denominator = 2 * d2 + total * d3
        alpha = xp.where(denominator != 0, d2 / xp.where(denominator != 0, denominator, xp.ones_like(d2)), 0)
        return weighted_sum(sum_over_grid(alpha * relu(d1)), a)

    def _moments(self, view: View) -> list[Float[Any, "batch target channel *grid"]]:
        sums: list[Any] = [0.0, 0.0, 0.0]
        for (capture,) in self._noise.look(view):
            g = capture.gradients
            sums = [total + g**power for power, total in enumerate(sums, start=1)]
        return [total / self.samples for total in sums]
