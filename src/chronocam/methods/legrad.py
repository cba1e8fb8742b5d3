"""LeGrad."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.errors import ModelError
from chronocam.maps.arrays import namespace, relu
from chronocam.maps.attended import Attended, by_weights
from chronocam.methods._attention import (
    AttendedMethod,
    check_layers,
    depended_on,
    divided_in,
    is_on_grid,
    not_on_grid,
    on_grid,
    refuse_other_order,
)
from chronocam.types import Capture, Need


@dataclass(kw_only=True, eq=False)
class LeGrad(AttendedMethod):
    """LeGrad: where more attention would raise the score that each block's tokens have by themselves.

    For each block l the head of the model scores the mean of the tokens after it, s_l. The map is the mean
    over blocks, heads and queries of max(∂s_l/∂A_l, 0), for each key. Where the model pools its tokens by
    attention, block l's tokens are pooled so, and A is that of the pooling.

    layers: how many of the last blocks count; None is all of them.

    Blocks are those of the row (a list or sequence of modules) that the tokens of the layer come from, as far
    as their tokens are shaped like the last one's: of a network with stages, those of the last, without one
    that still attends to the finer tokens before (MViT, Hiera). In divided attention over space and time
    (TimeSformer) each of the two counts by itself. Whatever the target, the
    same head scores every block; a class that is predicted is that of the whole network. The paper's scaling
    to [0, 1] is `Explanation.normalize`. Maps are `(batch, target, *grid)`, not negative.

    Raises ModelError for models without blocks that attend to all patches, for blocks that return other
    tokens before those that the head reads (TNT), and for decoders.
    Source: Bousselham et al. 2024 (arXiv:2404.03214), eq. 4 to 8.

    Example:
    >>> from torchvision.models import VisionTransformer
    >>> vit = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16).eval()
    >>> cc.LeGrad(vit, layers=1).explain(images).maps.shape
    (2, 1, 4, 4)
    """

    layers: int | None = None
    name: ClassVar[str] = "legrad"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False, blocks=True),)

    def __post_init__(self) -> None:
        check_layers(self.layers)
        super().__post_init__()

    def attributed(self, capture: Capture, target: int) -> Float[Any, batch * grid]:
        """Return the mean over blocks, heads and queries of max(∂s/∂A, 0)."""
        blocks = capture.blocks if self.layers is None else capture.blocks[-self.layers :]
        within = [call for block in blocks for call in block]
        if within and all(call.gradients is None for call in within):
            raise ModelError(
                "legrad scores the tokens that each block returns (the first of several tensors), and the "
                "head reads others; choose gradientxattention or gradcam"
            )
        calls = depended_on(within, self.name)
        shapes = [call.shape for call in calls]
        divided = divided_in(shapes, capture)
        calls = [call for call in calls if call.of_input[1] and is_on_grid(capture, call, divided)]
        if not calls:
            raise not_on_grid(capture, self.name, shapes)
        refuse_other_order(calls, self.name)
        each = [
            on_grid(capture, _mean_over_queries(alike, target), divided)
            for block in blocks
            for alike in _over_the_same(call for call in block if call in calls)
        ]
        return sum(each[1:], start=each[0]) / len(each)


def _over_the_same(calls: Iterable[Attended]) -> list[list[Attended]]:
    """Return calls in groups over as many rows and keys: a block may ask in pieces, or head by head."""
    groups: dict[tuple[int, int], list[Attended]] = {}
    for call in calls:
        groups.setdefault((call.shape[0], call.shape[2]), []).append(call)
    return list(groups.values())


def _mean_over_queries(calls: Sequence[Attended], target: int) -> Float[Any, "row key"]:
    """Return the mean over heads and all queries of max(∂s/∂A, 0)."""
    along = [relu(by_weights(call.gradients[target], call)) for call in calls]
    xp = namespace(along[0])
    return xp.mean(xp.concat([xp.mean(one, axis=1) for one in along], axis=1), axis=1)
