"""ShapleyCAM."""

from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.maps.combine import mean_over_grid
from chronocam.methods._base import CAMMethod
from chronocam.types import Capture, Need


class ShapleyCAM(CAMMethod):
    """ShapleyCAM: w_k = (1/Z) Σ_grid (G_k − ½ (H·A)_k), H the Hessian of the score in the activations.

    Equals Grad-CAM where the score is piecewise linear in the activations.
    Source: Cai 2025 (arXiv:2501.06261), eq. 13.

    Example:
    >>> shapley = cc.ShapleyCAM(model, "relu2").explain(images, "dog").maps
    >>> np.allclose(shapley, cc.GradCAM(model, "relu2").explain(images, "dog").maps)  # a linear head
    True
    """

    name: ClassVar[str] = "shapleycam"
    needs: ClassVar[tuple[Need, ...]] = (Need(curvature=True),)

    def weights(self, capture: Capture) -> Float[Any, "batch target channel"]:
        """Return the mean of the gradient less half the Hessian's product with the activations."""
        return mean_over_grid(capture.gradients - 0.5 * capture.curvature)
