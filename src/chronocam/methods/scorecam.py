"""Score-CAM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from chronocam.maps.arrays import grid_axes, namespace
from chronocam.maps.combine import weighted_sum
from chronocam.methods._base import EvidenceMethod, Maps
from chronocam.types import Array, Change, Need, View


@dataclass(kw_only=True, eq=False)
class ScoreCAM(EvidenceMethod):
    """Score-CAM: Σ_k w_k A_k, w the softmax over channels of the scores of the input seen through each.

    A channel, enlarged and scaled to 0…1, is multiplied with the input. No gradient is taken; each channel
    costs a forward pass, many at a time (`batch_size`), for all targets together. The score of a baseline,
    which the paper subtracts, cancels in the softmax. A channel that is the same everywhere masks all.

    Source: Wang et al. 2020 (arXiv:1910.01279), eq. 7 to 9; logits, not probabilities.

    Example:
    >>> cc.ScoreCAM(model, "conv2").explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    name: ClassVar[str] = "scorecam"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False),)

    def maps(self, view: View) -> Maps:
        """Weight channels by the scores of what is seen through them."""
        activations = view.captures[0].activations
        xp = namespace(activations)
        scores = view.scores(self.looks(view))
        channels = int(activations.shape[1])
        per_channel = xp.mean(xp.reshape(scores, (channels, -1, *scores.shape[1:])), axis=1)
        shifted = xp.exp(per_channel - xp.max(per_channel, axis=0, keepdims=True))
        weights = shifted / xp.sum(shifted, axis=0, keepdims=True)
        return weighted_sum(xp.permute_dims(weights, (1, 2, 0)), activations)

    def looks(self, view: View) -> Iterator[Change]:
        """Yield what is done to the input, as many times for each channel."""
        activations = view.captures[0].activations
        for channel in range(activations.shape[1]):
            mask = scaled(view.upsample(activations[:, channel : channel + 1]))
            yield view.on_main(partial(through, mask))


def scaled(mask: Array) -> Array:
    """Return a mask `(batch, 1, *grid)` scaled to 0…1 in each sample, or zeros where it is constant."""
    xp, axes = namespace(mask), grid_axes(mask, 1)
    low, high = (bound(mask, axis=axes, keepdims=True) for bound in (xp.min, xp.max))
    span = high - low
    share = (mask - low) / xp.where(span > 0, span, xp.ones_like(span))
    return xp.where(span > 0, share, xp.zeros_like(mask))


def through(mask: Array, x: Array) -> Array:
    """Return an input as seen through a mask."""
    return x * mask
