"""Attention over the frames of a clip: the weights, and what they contribute to each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from chronocam._repr import ShortRepr
from chronocam.maps.rank import spearman


@dataclass(frozen=True, eq=False)
class Attention(ShortRepr):
    """How a model that pools frames with attention weights came to its scores.

    weights: a_t, which sum to 1 over the frames and are the same for every class.
    contributions: a_t · ∂S/∂a_t. Behind a linear head, S = b + Σ_t a_t (w·h_t), that is a_t (w·h_t): exactly
        what each frame adds to the score. Other heads are linearised at the clip.
    """

    weights: Float[np.ndarray, "batch time"]
    contributions: Float[np.ndarray, "batch target time"]

    @property
    def agreement(self) -> Float[np.ndarray, "batch target"]:
        """Spearman's rank correlation, over the frames, of the weights with each target's contributions."""
        return spearman(self.weights[:, None], self.contributions)
