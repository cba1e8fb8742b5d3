"""LayerCAM."""

from typing import ClassVar

from chronocam.maps.arrays import namespace, relu
from chronocam.maps.combine import per_target
from chronocam.methods._base import CAMMethod, Maps
from chronocam.types import Capture


class LayerCAM(CAMMethod):
    """LayerCAM: M = ReLU(Σ_k ReLU(G_k) ⊙ A_k); sharp at shallow layers too.

    Only positive gradients count, so the map of −y is not minus the map of y.

    Source: Jiang et al., IEEE TIP 2021, eq. 6 and 7. Several layers are fused as in the paper (`maps.fuse`).

    Example:
    >>> cc.LayerCAM(model, ["conv1", "conv2"]).explain(images, "dog").maps.shape  # fused
    (2, 1, 16, 16)
    """

    name: ClassVar[str] = "layercam"

    def combine(self, capture: Capture) -> Maps:
        """Return Σ_k ReLU(G_k) ⊙ A_k."""
        xp = namespace(capture.gradients)
        return xp.sum(relu(capture.gradients) * per_target(capture.activations), axis=2)
