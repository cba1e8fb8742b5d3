"""Gradient times attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.maps.arrays import namespace
from chronocam.maps.attended import positive
from chronocam.methods._attention import AttendedMethod, on_grid, reading, up_to_last_on_grid
from chronocam.types import Capture, Need


@dataclass(kw_only=True, eq=False)
class GradientXAttention(AttendedMethod):
    """Gradient times attention of the last block: a plain reference for methods of all blocks.

    The mean over heads of max(∂score/∂A ⊙ A, 0), A the last attention over the patches, at the queries that
    the score reads: the class token's, the mean of those that a model averages, or those of a box's query, of
    which it is the cross-attention (DETR). Maps are `(batch, target, *grid)`, not negative.

    Raises ModelError for models without attention over all patches, or over all of each frame and each patch.
    Source: Chefer et al. 2021 (arXiv:2103.15679), eq. 5, of one layer alone; as used for CLIP there.

    Example:
    >>> from torchvision.models import VisionTransformer
    >>> vit = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16).eval()
    >>> cc.GradientXAttention(vit).explain(images).maps.shape
    (2, 1, 4, 4)
    """

    name: ClassVar[str] = "gradientxattention"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False, attended=True),)

    def attributed(self, capture: Capture, target: int) -> Float[Any, batch * grid]:
        """Return the rows that are read of the last attention's positive part."""
        (*_, call), divided = up_to_last_on_grid(capture, self.name)
        rows = reading(call, target)
        mixed = namespace(rows).matmul(rows[:, None], positive(call, call.weigh(), target))
        return on_grid(capture, mixed[:, 0], divided)
