"""Guided Grad-CAM."""

from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.maps.arrays import relu
from chronocam.maps.combine import mean_over_grid, weighted_sum
from chronocam.methods._base import GradientMethod
from chronocam.types import Need, View


class GuidedGradCAM(GradientMethod):
    """Guided backpropagation times the upsampled Grad-CAM of `conv_layer`: fine detail, for one class.

    Source: Selvaraju et al. 2017 (arXiv:1610.02391), section 3.2.

    Example:
    >>> cc.GuidedGradCAM(model, "conv2").explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    name: ClassVar[str] = "guidedgradcam"
    needs: ClassVar[tuple[Need, ...]] = (Need(), Need(at_input=True, guided=True))
    default_layer: ClassVar[str | None] = None
    maps_input: ClassVar[bool] = True

    def attribution(self, view: View) -> Float[Any, "batch target channel *grid"]:
        """Return the guided gradient, weighted by Grad-CAM on the input's grid."""
        cam, guided = view.captures
        coarse = relu(weighted_sum(mean_over_grid(cam.gradients), cam.activations))
        return guided.gradients * view.upsample(coarse)[:, :, None]
