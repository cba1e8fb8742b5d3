"""Input × gradient."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float

from chronocam.maps.combine import Reduce, per_target
from chronocam.methods._base import GradientMethod
from chronocam.types import View


@dataclass(kw_only=True, eq=False)
class InputXGradient(GradientMethod):
    """M = Σ_channel x ⊙ ∂S/∂x, signed.

    Source: Shrikumar et al. 2016 (arXiv:1605.01713).
    """

    reduce: Reduce = "sum"
    name: ClassVar[str] = "inputxgradient"

    def attribution(self, view: View) -> Float[Any, "batch target channel *grid"]:
        """Return x ⊙ ∂S/∂x."""
        (capture,) = view.captures
        return capture.gradients * per_target(capture.activations)
