"""Ablation-CAM."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from chronocam.maps.arrays import grid_axes, namespace, placed, to_numpy
from chronocam.maps.combine import weighted_sum
from chronocam.methods._base import EvidenceMethod, Maps
from chronocam.types import Need, View

SMALLEST = 1e-7


class AblationCAM(EvidenceMethod):
    """Ablation-CAM: Σ_k w_k A_k, w_k = (S − S_k) / |S|, S_k the score with channel k set to zero.

    No gradient is taken. What precedes the layer runs once, the rest once per channel that is not zero
    everywhere, many at a time (`batch_size`). A channel is set to zero in all frames of a clip, and in all
    tokens, class tokens too. A score nearer to 0 than 1e-7 counts as 1e-7.

    Source: Desai and Ramaswamy, WACV 2020, eq. 3; there the score is positive, and divides with its sign.

    Example:
    >>> cc.AblationCAM(model, "conv2").explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    name: ClassVar[str] = "ablationcam"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False, resumes=True),)

    def maps(self, view: View) -> Maps:
        """Weight channels by how much the score falls without each."""
        activations = view.captures[0].activations
        xp = namespace(activations)
        alive = np.flatnonzero(to_numpy(xp.any(activations != 0, axis=(0, *grid_axes(activations, 2)))))
        alive = alive if len(alive) else np.zeros(1, int)
        channels = activations[:, placed(alive, activations)]
        whole = view.resume([lambda unchanged: unchanged])
        without = view.without(alive.tolist())
        floor = xp.abs(whole)
        floor = xp.where(floor < SMALLEST, xp.full_like(floor, SMALLEST), floor)
        return weighted_sum(xp.permute_dims((whole - without) / floor, (1, 2, 0)), channels)
