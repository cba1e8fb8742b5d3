"""Kernel SHAP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.masks.designs import Effects, Score, all_shapley, shapley
from chronocam.methods._masks import MaskMethod


@dataclass(kw_only=True, eq=False)
class KernelSHAP(MaskMethod):
    """Kernel SHAP: the Shapley value of each region, by how much showing it raises the score.

    The mean is over all orders in which regions may be shown; values add up to the score less that of the
    baseline. Where all masks of at most 12 regions fit into the budget, values are exact, and their interval
    is 0.

    Source: Lundberg and Lee 2017 (arXiv:1705.07874), theorem 2.

    Example:
    >>> cc.KernelSHAP(model, cells=3).explain(images, "dog").interval.max()  # 2⁹ masks: all of them
    np.float32(0.0)
    """

    name: ClassVar[str] = "kernelshap"

    def block(self, score: Score, regions: int, rng: np.random.Generator) -> tuple[Effects, int]:
        """Return all Shapley values, or estimates from two pairs of masks per region."""
        if self.exact(regions):
            return all_shapley(score, regions), 2**regions
        pairs = self.pairs(regions, 2 * regions, others=2)
        return shapley(score, regions, pairs, rng), 2 * pairs + 2
