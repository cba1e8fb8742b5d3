"""ODAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chronocam.errors import check_real
from chronocam.maps.arrays import namespace
from chronocam.maps.blur import blurred
from chronocam.maps.combine import product_over_channels
from chronocam.methods._base import CAMMethod, Maps
from chronocam.types import Capture


@dataclass(kw_only=True, eq=False)
class ODAM(CAMMethod):
    """Object detector activation map: M = ReLU(Σ_k Φ(G_k) ⊙ A_k), Φ a Gaussian or nothing.

    Weights that are pooled over the grid lose the place of a box; here each cell has its own. Without a
    conv_layer
    it is explained on the level of the pyramid that it comes from. Without smoothing it is HiResCAM.

    smooth: the standard deviation of Φ, in cells; 0 leaves gradients as they are, as the authors' code does.

    Source: Zhao et al. 2024 (arXiv:2304.06354), eq. 4 and 5; the score is a logarithm, which scales the map
        alone.

    Example:
    >>> cc.ODAM(detector).explain(photos, cc.targets.Boxes(top=2)).maps.shape
    (2, 2, 8, 8)
    """

    smooth: float = 0.0
    name: ClassVar[str] = "odam"

    def __post_init__(self) -> None:
        check_real("smooth", self.smooth, "a number of cells, or 0", least=0)
        super().__post_init__()

    def combine(self, capture: Capture) -> Maps:
        """Return Σ_k Φ(G_k) ⊙ A_k."""
        gradients = capture.gradients
        if self.smooth:
            xp, shape = namespace(gradients), gradients.shape
            flat = xp.reshape(gradients, (shape[0] * shape[1], *shape[2:]))
            gradients = xp.reshape(blurred(flat, self.smooth), shape)
        return product_over_channels(gradients, capture.activations)
