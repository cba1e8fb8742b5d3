"""Score-CAM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from chronocam.errors import POSITIVE, check_real, check_whole
from chronocam.maps.arrays import grid_axes, like, namespace, to_numpy
from chronocam.maps.combine import weighted_sum
from chronocam.masks.search import likely_scores
from chronocam.methods._base import EvidenceMethod, Maps
from chronocam.types import Array, Change, Need, View

_UNSURE = 0.3  # of a map's spread: a correlation of 0.96 with the map of all channels


@dataclass(kw_only=True, eq=False)
class ScoreCAM(EvidenceMethod):
    """Score-CAM: Σ_k w_k A_k, w the softmax over channels of the scores of the input seen through each.

    A channel, enlarged and scaled to 0…1, is multiplied with the input. No gradient is taken; each channel
    costs a forward pass, many at a time (`batch_size`), for all targets together. The score of a baseline,
    which the paper subtracts, cancels in the softmax. A channel that is the same everywhere masks all; it
    costs one pass for all such channels.

    channels: score at most so many of them, those that leave the map most uncertain; the scores of the others
        are predicted from similar masks. A finding says where that leaves the map uncertain.
    until: stop as soon as the map is likely known to this share of its spread. 0.1 gives nearly the same map
        from 5 to 10 times fewer channels where few of them weigh most.

    Source: Wang et al. 2020 (arXiv:1910.01279), eq. 7 to 9; logits, not probabilities.

    Example:
    >>> cc.ScoreCAM(model, "conv2").explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    channels: int | None = None
    until: float | None = None
    name: ClassVar[str] = "scorecam"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False),)

    def __post_init__(self) -> None:
        if self.channels is not None:
            check_whole("channels", self.channels, "at least one")
        if self.until is not None:
            expected = "a share of the map's spread up to 1, such as 0.1"
            check_real("until", self.until, expected, least=POSITIVE, most=1)
        super().__post_init__()

    def maps(self, view: View) -> Maps:
        """Weight channels by the scores of what is seen through them."""
        activations = view.captures[0].activations
        cells = np.moveaxis(to_numpy(activations), 1, 0)
        cells = cells.reshape(*cells.shape[:2], -1)
        # Channels that are the same everywhere mask everything alike: the first of them stands for all.
        flat = (cells == cells[:, :, :1]).all(axis=(1, 2))
        stand_ins = np.where(flat, flat.argmax(), np.arange(len(cells)))
        distinct, positions = np.unique(stand_ins, return_inverse=True)
        scores = self._likely(view, cells[distinct], distinct)[positions]
        shifted = np.exp(scores - scores.max(axis=0))
        weights = np.moveaxis(shifted / shifted.sum(axis=0), 0, -1)
        return weighted_sum(like(weights, activations), activations)

    def _likely(self, view: View, cells: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Return the scores `(channel, batch, target)`, those of some channels predicted if options allow it.

        cells: `(channel, batch, cell)`. channels: their numbers in the layer.
        """
        count = len(channels)
        most = count if self.channels is None else min(self.channels, count)
        if self.until is None and most == count:
            return self._scored(view, channels)
        cells = cells.astype(np.float64)
        masks = scaled(cells.reshape(-1, cells.shape[2])).reshape(count, -1)
        parts = cells - cells.mean(axis=2, keepdims=True)
        scores, share = likely_scores(
            lambda some: self._scored(view, channels[some]), masks, parts, most, self.until
        )
        if share > (self.until or _UNSURE):
            by = f" by {share:.0%} of its spread" if np.isfinite(share) else ""
            view.note(f"{most} of {count} channels leave the map uncertain{by}; raise channels=")
        return scores

    def _scored(self, view: View, channels: np.ndarray) -> np.ndarray:
        """Return the scores `(channel, batch, target)` of what is seen through each, means of looks."""
        scores = to_numpy(view.scores(self.looks(view, channels))).astype(np.float64)
        return scores.reshape(len(channels), -1, *scores.shape[1:]).mean(axis=1)

    def looks(self, view: View, channels: Iterable[int]) -> Iterator[Change]:
        """Yield what is done to the input, as many times for each channel."""
        activations = view.captures[0].activations
        for channel in channels:
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
