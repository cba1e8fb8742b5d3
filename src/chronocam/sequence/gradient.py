"""The plain gradient."""

from dataclasses import dataclass
from typing import ClassVar

from chronocam.sequence.base import SequenceMethod
from chronocam.sequence.sample import Attribution, Sample


@dataclass(kw_only=True, eq=False)
class Gradient(SequenceMethod):
    """∂score/∂features: how the score changes with a small change of each feature. It has no ledger.

    Source: Simonyan et al. 2013 (arXiv:1312.6034), with signs.

    Example:
        >>> cc.sequence.Gradient(rnn).explain(features, 0).relevance.shape
        (1, 1, 6, 4)
    """

    name: ClassVar[str] = "gradient"

    def attribute(self, sample: Sample) -> Attribution:
        """Return the gradient."""
        return Attribution(sample.gradients([sample.features], [1.0])[1])
