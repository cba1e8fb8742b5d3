"""GradCAMElementWise."""

from typing import ClassVar

from chronocam.maps.arrays import namespace, relu
from chronocam.maps.combine import per_target
from chronocam.methods._base import CAMMethod, Maps
from chronocam.types import Capture


class GradCAMElementWise(CAMMethod):
    """HiResCAM with the ReLU inside the sum: M = Σ_k ReLU(G_k ⊙ A_k).

    Never negative, so that `signed`, which all class activation maps share, has nothing to keep.
    Source: the variant of that name in the `grad-cam` library; it has no paper.

    Example:
    >>> maps = cc.GradCAMElementWise(model, "relu2", signed=True).explain(images, "dog").maps
    >>> bool((maps >= 0).all())
    True
    """

    name: ClassVar[str] = "gradcamelementwise"

    def combine(self, capture: Capture) -> Maps:
        """Return Σ_k ReLU(G_k ⊙ A_k)."""
        xp = namespace(capture.gradients)
        return xp.sum(relu(capture.gradients * per_target(capture.activations)), axis=2)
