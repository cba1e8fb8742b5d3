"""CAM."""

from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.errors import LayerError
from chronocam.maps.combine import constant_over_grid, sum_over_grid
from chronocam.methods._base import CAMMethod
from chronocam.types import Capture

TOLERANCE = 1e-4


class CAM(CAMMethod):
    """Class activation mapping, for networks that end in global average pooling and a linear layer.

    M = Σ_k w_k A_k with w_k the linear layer's weight for the class. Behind global average pooling
    ∂S/∂A_k = w_k / Z at every position, so the weight is read as Σ_grid G_k, in any framework. Refused with a
    LayerError where G varies over the grid, that is, where global average pooling does not follow the layer;
    a non-linear head behind the pooling is linearised at the sample.
    Source: Zhou et al. 2016 (arXiv:1512.04150), eq. 2; here with a final ReLU unless `signed`.

    Example:
    >>> maps = cc.CAM(model, "relu2", signed=True).explain(images, "dog").maps
    >>> maps.shape
    (2, 1, 8, 8)
    """

    name: ClassVar[str] = "cam"

    def weights(self, capture: Capture) -> Float[Any, "batch target channel"]:
        """Return the linear layer's weights."""
        if not constant_over_grid(capture.gradients, TOLERANCE):
            raise LayerError(
                "CAM needs global average pooling and a linear layer right after the layer; here the "
                "gradient varies over the grid: choose the last layer before the pooling, or use `gradcam`"
            )
        return sum_over_grid(capture.gradients)
