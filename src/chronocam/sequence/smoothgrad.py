"""SmoothGrad."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.errors import InputError
from chronocam.sequence.base import SequenceMethod
from chronocam.sequence.sample import Attribution, Sample


@dataclass(kw_only=True, eq=False)
class SmoothGrad(SequenceMethod):
    """The gradient averaged over `samples` inputs with Gaussian noise of a share `noise` of the features' range.

    The range is max − min over a sample's own features; every sample gets the same draws, from `seed`.
    Classes are those of the features without noise. No ledger.
    Source: Smilkov et al. 2017 (arXiv:1706.03825), section 2, with signs.
    """

    samples: int = 25
    noise: float | int = 0.15
    seed: int = 0
    name: ClassVar[str] = "smoothgrad"

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"samples is {self.samples}; expected at least one noisy input")
        if not 0 <= self.noise < float("inf"):
            raise InputError(f"noise is {self.noise}; expected a share of the features' range, such as 0.15")
        super().__post_init__()

    def attribute(self, sample: Sample) -> Attribution:
        """Return the mean gradient."""
        x, rng = sample.features, np.random.default_rng(self.seed)
        spread = self.noise * (x.max() - x.min())
        points = [(x + spread * rng.standard_normal(x.shape)).astype(x.dtype) for _ in range(self.samples)]
        return Attribution(sample.gradients(points, [1 / self.samples] * self.samples)[1])
