"""EigenGradCAM."""

from typing import ClassVar

from chronocam.maps.combine import per_target, principal_component
from chronocam.methods._base import CAMMethod, Maps
from chronocam.types import Capture


class EigenGradCAM(CAMMethod):
    """The first principal component over positions of G ⊙ A; unlike Eigen-CAM it depends on the target.

    Source: the variant of that name in the `grad-cam` library, after Eigen-CAM (arXiv:2008.00299).

    Example:
    >>> cc.EigenGradCAM(model, "conv2").explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    name: ClassVar[str] = "eigengradcam"

    def combine(self, capture: Capture) -> Maps:
        """Return the first principal component of G ⊙ A."""
        return principal_component(capture.gradients * per_target(capture.activations))
