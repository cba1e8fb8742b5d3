"""Whether a map depends on what the model has learned, and on the class that is explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.errors import check_whole
from chronocam.evaluation.case import AskMaps, Case, Changed
from chronocam.evaluation.measures.base import Asking, Measure, check_shares
from chronocam.maps.rank import spearman


@dataclass(frozen=True)
class Randomisation(Measure):
    """|Spearman's correlation| of a map with that of the model with its top modules random, over shares.

    shares: of the modules with weights, from the output down, each with those above it (cascading).
    independent: each such module alone, the others as they were learned.
    noises: compare means of the maps of so many noisy inputs, with a standard deviation of a tenth of the
        input's range (smooth MPRT); 0 compares the maps themselves.

    Source: Adebayo et al. 2018 (arXiv:1810.03292), section 3; Hedström et al. 2024 (arXiv:2401.06465).

    Example:
    >>> cc.evaluation.Randomisation(shares=(1.0,)).better
    'low'
    """

    shares: tuple[float, ...] = (0.02, 0.5, 1.0)
    independent: bool = False
    noises: int = 0
    name: ClassVar[str] = "randomisation"
    title: ClassVar[str] = "likeness to maps of random weights"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    better: ClassVar[str | None] = "low"
    controls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_shares("shares", self.shares)
        check_whole("noises", self.noises, "a number of noisy inputs, or 0", least=0)

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the mean over the shares; a constant map is like nothing."""
        inputs = [self._noisy(case, k) for k in range(self.noises)] or None
        reference = values
        if inputs is not None:
            reference = np.mean((yield AskMaps(inputs)), axis=0)
        correlations = []
        for share in self.shares:
            other = np.mean((yield AskMaps(inputs, random=share, alone=self.independent)), axis=0)
            correlations.append(abs(np.nan_to_num(spearman(reference.ravel(), other.ravel()))))
        return float(np.mean(correlations))

    def _noisy(self, case: Case, number: int) -> Changed:
        def make() -> np.ndarray:
            noise = case.rng(f"smooth {number}").normal(scale=0.1 * np.ptp(case.input), size=case.input.shape)
            return case.input + noise.astype(case.input.dtype)

        return Changed(("smooth", number), make)


@dataclass(frozen=True)
class EfficientRandomisation(Measure):
    """By what share the entropy of a map's values rises when all weights are random.

    bins: of the histogram of the values.

    Source: Hedström et al. 2024, eMPRT (arXiv:2401.06465), section 4.

    Example:
    >>> cc.evaluation.EfficientRandomisation().name
    'efficient_randomisation'
    """

    bins: int = 100
    name: ClassVar[str] = "efficient_randomisation"
    title: ClassVar[str] = "rise of entropy under random weights"
    controls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_whole("bins", self.bins, "a number of bins, from 2", least=2)

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return (H(random) − H(map))/H(map); NaN for a constant map."""
        maps = yield AskMaps(random=1.0)
        before = self._entropy(values)
        return (self._entropy(maps[0]) - before) / before if before > 0 else float("nan")

    def _entropy(self, values: np.ndarray) -> float:
        counts = np.histogram(values, bins=self.bins)[0].astype(np.float64)
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum())


@dataclass(frozen=True)
class RandomLogit(Measure):
    """Spearman's correlation of a map with that of another class, drawn at random.

    Source: Sixt et al. 2020 (arXiv:1912.09818), section 5.

    Example:
    >>> cc.evaluation.RandomLogit().better
    'low'
    """

    name: ClassVar[str] = "random_logit"
    title: ClassVar[str] = "likeness to maps of another class"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    better: ClassVar[str | None] = "low"
    controls: ClassVar[bool] = False

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the correlation, 0 where either map is constant; NaN for targets other than classes."""
        if case.index is None or case.classes < 2:
            return float("nan")
        other = int(case.rng("class").integers(case.classes - 1))
        maps = yield AskMaps(other=other + (other >= case.index))
        return float(np.nan_to_num(spearman(values.ravel(), maps[0].ravel())))
