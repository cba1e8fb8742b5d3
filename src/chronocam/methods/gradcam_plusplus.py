"""Grad-CAM++."""

from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.maps.arrays import expand, grid_axes, namespace, relu
from chronocam.maps.combine import per_target, sum_over_grid
from chronocam.methods._base import CAMMethod
from chronocam.types import Capture


class GradCAMPlusPlus(CAMMethod):
    """Grad-CAM++: w_k = Σ_grid α_k ReLU(G_k), α_k = G_k² / (2 G_k² + (Σ_grid A_k) G_k³).

    Dividing by G² gives α = 1 / (2 + (Σ_grid A_k) G_k), which cannot underflow; α counts only where G > 0.
    Source: Chattopadhyay et al. 2018 (arXiv:1710.11063), eq. 19, with the second and third derivatives of
    exp(S) that the paper substitutes.

    Example:
    >>> cc.GradCAMPlusPlus(model, "conv2").explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    name: ClassVar[str] = "gradcam++"

    def weights(self, capture: Capture) -> Float[Any, "batch target channel"]:
        """Return Σ_grid α ReLU(G)."""
        g = capture.gradients
        xp = namespace(g)
        a = capture.activations
        total = per_target(expand(xp.sum(a, axis=grid_axes(a, 2)), a.ndim))
        # The denominator can be 0 for a negative gradient, which α does not count: any finite value will do.
        denominator = 2 + total * g
        alpha = xp.where(denominator != 0, 1 / xp.where(denominator != 0, denominator, xp.ones_like(g)), 0)
        return sum_over_grid(alpha * relu(g))
