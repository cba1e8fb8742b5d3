"""XGrad-CAM."""

from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.maps.arrays import grid_axes, namespace
from chronocam.maps.combine import per_target, product_over_grid
from chronocam.methods._base import CAMMethod
from chronocam.types import Capture

SMALLEST = 1e-7


class XGradCAM(CAMMethod):
    """Axiom-based Grad-CAM: w_k = Σ_grid (G_k A_k) / Σ_grid A_k.

    A denominator smaller than 1e-7 becomes ±1e-7, with its sign.
    Source: Fu et al. 2020 (arXiv:2008.02312), eq. 8.

    Example:
    >>> cc.XGradCAM(model, "conv2").explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    name: ClassVar[str] = "xgradcam"

    def weights(self, capture: Capture) -> Float[Any, "batch target channel"]:
        """Return the gradient's mean, weighted by the activations."""
        xp = namespace(capture.gradients)
        total = xp.sum(capture.activations, axis=grid_axes(capture.activations, 2))
        floor = xp.where(total < 0, xp.full_like(total, -SMALLEST), xp.full_like(total, SMALLEST))
        total = xp.where(xp.abs(total) < SMALLEST, floor, total)
        return product_over_grid(capture.gradients, capture.activations) / per_target(total)
