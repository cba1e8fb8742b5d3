"""Integrated gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from chronocam.errors import InputError, check_whole, suggest
from chronocam.maps.arrays import to_numpy
from chronocam.sequence.base import SequenceMethod
from chronocam.sequence.sample import Attribution, Sample
from chronocam.types import Array

_NAMED = ("zero", "mean")

Baseline: TypeAlias = str | Array
"""A named baseline, or an array `(feature,)` or `(time, feature)`."""


@dataclass(kw_only=True, eq=False)
class IntegratedGradients(SequenceMethod):
    """The gradient averaged on the way from baselines x′ to the features x, times x − x′.

    `(x − x′) ⊙ ∫₀¹ ∂score/∂x at x′ + α(x − x′) dα`, by Gauss-Legendre quadrature, averaged over baselines.

    baselines: `"zero"`, `"mean"` (each feature's mean over the sample's own steps), an array `(feature,)` or
        `(time, feature)`, or a list of these.
    steps: points per baseline.

    The ledger: score = input + baseline + gap, where baseline is the mean score of the baselines; gap is what
    the quadrature misses, and vanishes as steps grow (completeness).
    Source: Sundararajan et al. 2017 (arXiv:1703.01365), equation 1.

    Example:
        >>> method = cc.sequence.IntegratedGradients(rnn, baselines=["zero", "mean"], steps=20)
        >>> explanation = method.explain(features, 0)
        >>> bool(abs(explanation.ledger["gap"]).max() < 1e-4)
        True
    """

    baselines: Baseline | Sequence[Baseline] = "zero"
    steps: int = 50
    name: ClassVar[str] = "integratedgradients"

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, "at least 1, such as 50")
        if isinstance(self.baselines, (list, tuple)) and not self.baselines:
            raise InputError('baselines is empty; give "zero", "mean", an array, or a list of these')
        super().__post_init__()

    def attribute(self, sample: Sample) -> Attribution:
        """Return integrated gradients."""
        x = sample.features
        # Gauss-Legendre nodes lie in [−1, 1]; the interval of α is [0, 1], half as long.
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        alphas, weights = (nodes + 1) / 2, weights / 2
        several = isinstance(self.baselines, (list, tuple))
        baselines: Sequence[Baseline] = self.baselines if several else [self.baselines]
        relevance, start = np.zeros((len(sample.scores), *x.shape)), np.zeros(len(sample.scores))
        for baseline in baselines:
            origin = _baseline(baseline, x)
            # The baseline's own score is wanted, not its gradient: its weight is 0.
            points = [origin, *(origin + alpha * (x - origin) for alpha in alphas)]
            scores, mean = sample.gradients(points, [0.0, *weights])
            relevance += (x - origin) * mean / len(baselines)
            start += scores[0] / len(baselines)
        relevance = relevance.astype(x.dtype)
        total = relevance.sum(axis=(1, 2), dtype=float)
        return self._checked(
            relevance, {"input": total, "baseline": start, "gap": sample.scores - total - start}
        )

    def _checked(self, relevance: np.ndarray, ledger: dict[str, np.ndarray]) -> Attribution:
        change = np.abs(ledger["input"] + ledger["gap"])
        missed = np.abs(ledger["gap"]) > 0.01 * change
        share = np.max(np.abs(ledger["gap"])[missed] / np.maximum(change[missed], 1e-12), initial=0)
        note = (
            f"integrated gradients miss up to {share:.0%} of the change of a score in {self.steps} steps; "
            "give more"
        )
        return Attribution(relevance, ledger, (note,) if missed.any() else ())


def _baseline(baseline: Baseline, features: np.ndarray) -> np.ndarray:
    if isinstance(baseline, str):
        if baseline not in _NAMED:
            raise InputError(
                f"no baseline `{baseline}`{suggest(baseline, list(_NAMED))}; choose zero, mean or an array"
            )
        return (
            np.zeros_like(features)
            if baseline == "zero"
            else np.broadcast_to(features.mean(axis=0), features.shape)
        )
    array = to_numpy(baseline) if hasattr(baseline, "shape") else np.asarray(baseline)
    if array.shape not in (features.shape, features.shape[1:]):
        raise InputError(
            f"a baseline has shape {array.shape}; expected {features.shape[1:]} or {features.shape}"
        )
    return np.broadcast_to(array, features.shape).astype(features.dtype)
