"""LIME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.errors import POSITIVE, check_real
from chronocam.masks.designs import Effects, Score, all_shapley, every_mask, local_ridge, some_masks
from chronocam.methods._masks import MaskMethod


@dataclass(kw_only=True, eq=False)
class LIME(MaskMethod):
    """LIME: the slopes of a ridge regression of the score on which regions are shown.

    Masks weigh exp(−D² / width²), D one less the cosine between what is shown and all shown. The score is the
    call's own, not the probability. Where all masks of at most 12 regions fit into the budget, slopes are of
    all of them, and their interval is 0.

    width: of the weights; the authors' package takes 0.25 for pictures.
    alpha: of the ridge. The package takes 1, which shrinks the slopes.

    Source: Ribeiro et al. 2016 (arXiv:1602.04938), eq. 1 and section 3.4, without the choice of features.

    Example:
    >>> cc.LIME(model, cells=4, budget=400).explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    width: float = 0.25
    alpha: float = 1e-6
    name: ClassVar[str] = "lime"

    def __post_init__(self) -> None:
        check_real("width", self.width, "a positive number, such as 0.25", least=POSITIVE)
        check_real("alpha", self.alpha, "a positive number, such as 1", least=POSITIVE)
        super().__post_init__()

    def block(self, score: Score, regions: int, rng: np.random.Generator) -> tuple[Effects, int]:
        """Return the slopes of all masks, or of four per region, or of a third of what the budget allows."""
        if regions == 1:  # nothing shown weighs so little beside all that any ridge would flatten the slope
            return all_shapley(score, 1), 2
        if self.exact(regions):
            return local_ridge(score, every_mask(regions), self.width, self.alpha), 2**regions
        masks = 2 * self.pairs(regions, 2 * regions)
        return local_ridge(score, some_masks(regions, masks, rng), self.width, self.alpha), masks
