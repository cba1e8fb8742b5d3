"""The plain gradient."""

from dataclasses import dataclass
from typing import ClassVar

from chronocam.sequence.base import SequenceMethod
from chronocam.sequence.sample import Attribution, Sample


@dataclass(kw_only=True, eq=False)
class Gradient(SequenceMethod):
    """∂score/∂features: how the score answers to a small change of each feature. It sums to nothing; no ledger.

    Source: Simonyan et al. 2013 (arXiv:1312.6034), with signs.
    """

    name: ClassVar[str] = "gradient"

    def attribute(self, sample: Sample) -> Attribution:
        """Return the gradient."""
        return Attribution(sample.gradients([sample.features], [1.0])[1])
