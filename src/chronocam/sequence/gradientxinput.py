"""Gradient times input."""

from dataclasses import dataclass
from typing import ClassVar

from chronocam.sequence.base import SequenceMethod
from chronocam.sequence.sample import Attribution, Sample


@dataclass(kw_only=True, eq=False)
class GradientXInput(SequenceMethod):
    """∂score/∂features times the features.

    It does not sum to the score; the ledger says what is missing: score = input + unexplained.
    Source: Shrikumar et al. 2016 (arXiv:1605.01713).

    Example:
        >>> sorted(cc.sequence.GradientXInput(rnn).explain(features, 0).ledger)
        ['input', 'unexplained']
    """

    name: ClassVar[str] = "gradientxinput"

    def attribute(self, sample: Sample) -> Attribution:
        """Return gradient × input."""
        relevance = sample.gradients([sample.features], [1.0])[1] * sample.features
        total = relevance.sum(axis=(1, 2), dtype=float)
        return Attribution(relevance, {"input": total, "unexplained": sample.scores - total})
