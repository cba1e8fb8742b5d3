"""SmoothGrad."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.maps.noise import Noise
from chronocam.methods._base import GradientMethod
from chronocam.types import View


@dataclass(kw_only=True, eq=False)
class SmoothGrad(GradientMethod):
    """The gradient averaged over noisy copies of the input.

    samples: how many copies.
    noise: standard deviation of the Gaussian noise, as a share of each sample's range.
    seed: of the noise, which is the same for every sample.

    Source: Smilkov et al. 2017 (arXiv:1706.03825), section 2; magnitudes are taken after averaging.

    Example:
    >>> cc.SmoothGrad(model, samples=4, noise=0.1).explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    samples: int = 25
    noise: float = 0.15
    seed: int = 0
    name: ClassVar[str] = "smoothgrad"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._noise = Noise(self.samples, self.noise, self.seed)

    def attribution(self, view: View) -> Float[Any, "batch target channel *grid"]:
        """Return the mean gradient."""
        total: Any = 0.0
        for (capture,) in self._noise.look(view):
            total = total + capture.gradients
        return total / self.samples
