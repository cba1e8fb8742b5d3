"""SmoothGrad."""

from dataclasses import dataclass
from typing import ClassVar

from chronocam.maps.noise import Noise
from chronocam.sequence.base import SequenceMethod
from chronocam.sequence.sample import Attribution, Sample


@dataclass(kw_only=True, eq=False)
class SmoothGrad(SequenceMethod):
    """The gradient averaged over noisy copies of the features. No ledger.

    samples: how many copies.
    noise: standard deviation of the Gaussian noise, as a share of the range (max − min) of the features.
    seed: of the noise, which is the same for every sample.

    Classes are those of the features without noise.
    Source: Smilkov et al. 2017 (arXiv:1706.03825), section 2, with signs.

    Example:
        >>> cc.sequence.SmoothGrad(rnn, samples=3).explain(features, 0).relevance.shape
        (1, 1, 6, 4)
    """

    samples: int = 25
    noise: float = 0.15
    seed: int = 0
    name: ClassVar[str] = "smoothgrad"

    def __post_init__(self) -> None:
        self._noise = Noise(self.samples, self.noise, self.seed)
        super().__post_init__()

    def attribute(self, sample: Sample) -> Attribution:
        """Return the mean gradient."""
        points = list(self._noise.copies(sample.features))
        return Attribution(sample.gradients(points, [1 / self.samples] * self.samples)[1])
