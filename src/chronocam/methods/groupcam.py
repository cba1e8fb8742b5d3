"""Group-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

from chronocam.errors import check_whole
from chronocam.maps.arrays import expand, namespace, relu
from chronocam.maps.blur import blurred
from chronocam.maps.combine import mean_over_grid
from chronocam.methods._base import EvidenceMethod, Maps
from chronocam.methods.scorecam import scaled
from chronocam.types import Array, Need, View

BLUR = 0.1
"""Standard deviation of the blur, as a share of the longest side."""


@dataclass(kw_only=True, eq=False)
class GroupCAM(EvidenceMethod):
    """Group-CAM: Σ_g s_g M_g, M_g = ReLU(Σ_k w_k A_k) over a group of channels with Grad-CAM's weights.

    s_g = ReLU(S(x ⊙ m + blur(x) ⊙ (1 − m)) − S(blur(x))), m the group's map, enlarged and scaled to 0…1. A
    group costs a forward pass where Score-CAM needs one for each of its channels.

    groups: how many groups of channels that follow each other.

    Source: Zhang et al. 2021 (arXiv:2103.13859), eq. 2 to 6; logits, not probabilities.

    Example:
    >>> cc.GroupCAM(model, "conv2", groups=3).explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    groups: int = 32
    name: ClassVar[str] = "groupcam"
    needs: ClassVar[tuple[Need, ...]] = (Need(), Need(at_input=True, gradients=False))

    def __post_init__(self) -> None:
        check_whole("groups", self.groups, "at least one")
        super().__post_init__()

    def maps(self, view: View) -> Maps:
        """Weight each group's map by what is seen through it."""
        capture, x = view.captures[0], view.captures[1].activations
        xp = namespace(capture.activations)
        hidden = blurred(x, BLUR * max(x.shape[2:]))
        weights = mean_over_grid(capture.gradients)
        parts = expand(weights, capture.gradients.ndim) * capture.activations[:, None]
        channels = int(parts.shape[2])
        count = min(self.groups, channels)
        edges = [channels * g // count for g in range(count + 1)]
        groups = [relu(xp.sum(parts[:, :, a:b], axis=2)) for a, b in pairwise(edges)]
        looks = [view.on_main(partial(_shown, hidden, x, xp.zeros_like(x[:, :1])))]
        for target in range(view.targets):
            masks = [scaled(view.upsample(group[:, target : target + 1])) for group in groups]
            looks += [view.on_main(partial(_shown, hidden, x, mask)) for mask in masks]
        scores = view.scores(looks)
        maps = []
        for target in range(view.targets):
            own = scores[1 + target * count : 1 + (target + 1) * count, :, target]
            rises = relu(own - scores[:1, :, target])
            stack = xp.stack([group[:, target] for group in groups])
            maps.append(xp.sum(expand(rises, stack.ndim) * stack, axis=0))
        return xp.stack(maps, axis=1)


def _shown(hidden: Array, x: Array, mask: Array, _: Array) -> Array:
    return hidden + mask * (x - hidden)
