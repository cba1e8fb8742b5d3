"""HiResCAM."""

from typing import ClassVar

from chronocam.maps.combine import product_over_channels
from chronocam.methods._base import CAMMethod, Maps
from chronocam.types import Capture


class HiResCAM(CAMMethod):
    """High-resolution class activation mapping: M = ReLU(Σ_k G_k ⊙ A_k).

    Source: Draelos and Carin 2020 (arXiv:2011.08891), eq. 4.

    Example:
    >>> hires = cc.HiResCAM(model, "relu2").explain(images, 0).maps
    >>> cam = cc.CAM(model, "relu2").explain(images, 0).maps
    >>> np.allclose(hires, cam / 64)  # a linear layer on the mean of 8 × 8 cells
    True
    """

    name: ClassVar[str] = "hirescam"

    def combine(self, capture: Capture) -> Maps:
        """Return Σ_k G_k ⊙ A_k."""
        return product_over_channels(capture.gradients, capture.activations)
