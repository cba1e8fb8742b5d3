"""RISE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.masks.designs import Effects, Score, all_effects, balanced, balanced_size
from chronocam.methods._masks import MaskMethod


@dataclass(kw_only=True, eq=False)
class RISE(MaskMethod):
    """RISE: by how much the score is higher with a place shown than with it hidden, over random masks.

    The map is Cov(S, M) / (p (1 − p)) with p = ½, which is the paper's mean of S M but for its constant part
    and its scale. Masks are drawn in balanced blocks, and each with its complement, so that far fewer do; see
    `masks.designs.balanced`. Where regions do not overlap and the score is linear in them, a block is exact.

    Source: Petsiuk et al. 2018 (arXiv:1806.07421), eq. 5 and section 3.2.

    Example:
    >>> cc.RISE(model, until=0.3, budget=800).explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    regions: str = "grid"
    name: ClassVar[str] = "rise"

    def block(self, score: Score, regions: int, rng: np.random.Generator) -> tuple[Effects, int]:
        """Return the effects of regions in one balanced block, or in a third of what the budget allows."""
        if self.exact(regions):
            return all_effects(score, regions), 2**regions
        pairs = min(balanced_size(regions), max(1, (self.budget - 2) // 6))
        return balanced(score, regions, pairs, rng), 2 * pairs

    def rise(self, score: Score, regions: int) -> np.ndarray:
        """Return the rise of the score from nothing shown to all, which takes two forward passes."""
        none, whole = score(np.stack([np.zeros(regions), np.ones(regions)]))
        return np.asarray(whole - none)

    def exact(self, regions: int) -> bool:
        """Say whether all masks fit into the budget, and are no more than three blocks."""
        few = self.until is None or 2**regions <= 6 * balanced_size(regions)
        return few and super().exact(regions)
