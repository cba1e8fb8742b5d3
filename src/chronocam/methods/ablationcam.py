"""Ablation-CAM."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import numpy as np

from chronocam.maps.arrays import grid_axes, namespace, placed, to_numpy
from chronocam.maps.combine import weighted_sum
from chronocam.methods._base import EvidenceMethod, Maps
from chronocam.types import Array, Change, Need, View

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
        channels = activations[:, placed(alive, activations)]
        scores = view.resume(_ablations(alive, activations), whole=True)
        whole, without = scores[:1], scores[1:]
        floor = xp.abs(whole)
        floor = xp.where(floor < SMALLEST, xp.full_like(floor, SMALLEST), floor)
        return weighted_sum(xp.permute_dims((whole - without) / floor, (1, 2, 0)), channels)


def _ablations(channels: np.ndarray, activations: Array) -> Iterator[Change]:
    """Yield no change, and for each of the channels of such activations the one that sets it to zero."""
    yield lambda whole: whole
    # Made once: there may be thousands of channels, and making an array takes longer than to fill it.
    off = placed(np.eye(int(activations.shape[1]), dtype=bool)[channels], activations)
    for row in range(len(channels)):
        yield partial(_ablated, off[row])


def _ablated(off: Array, whole: Array) -> Array:
    xp = namespace(whole)
    laid = xp.reshape(off, (1, -1, *[1] * (whole.ndim - 2)))
    return xp.where(laid, xp.zeros_like(whole[:1, :1]), whole)
