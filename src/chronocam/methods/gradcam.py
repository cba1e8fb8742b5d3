"""Grad-CAM."""

from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.maps.combine import mean_over_grid
from chronocam.methods._base import CAMMethod
from chronocam.types import Capture


class GradCAM(CAMMethod):
    """Gradient-weighted class activation mapping: M = ReLU(Σ_k w_k A_k), w_k = (1/Z) Σ_grid G_k.

    Source: Selvaraju et al. 2017 (arXiv:1610.02391), eq. 1 and 2.

    Example:
    >>> explanation = cc.GradCAM(model, "conv2").explain(images, "dog")
    >>> explanation.maps.shape, explanation.dims
    ((2, 1, 8, 8), ('batch', 'target', 'height', 'width'))
    >>> explanation.save("dog.png", images)
    PosixPath('dog.png')
    """

    name: ClassVar[str] = "gradcam"

    def weights(self, capture: Capture) -> Float[Any, "batch target channel"]:
        """Return the mean gradient of every channel."""
        return mean_over_grid(capture.gradients)
