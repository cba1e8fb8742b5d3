"""LIME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.errors import POSITIVE, check_real
from chronocam.masks.designs import Effects, Score, local_ridge
from chronocam.methods._masks import MaskMethod


@dataclass(kw_only=True, eq=False)
class LIME(MaskMethod):
    """LIME: the slopes of a ridge regression of the score on which regions are shown.

    Masks weigh exp(−D² / width²), D one less the cosine between what is shown and all shown. The score is the
    call's own, not the probability.

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
        """Return the slopes of one regression, of four masks per region, or of a third of the budget."""
        masks = 2 * max(min(2 * regions, self.budget // 6), 1)
        return local_ridge(score, regions, masks, rng, self.width, self.alpha), masks
