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

    Example:
    >>> maps = cc.InputXGradient(model).explain(images, "dog").maps
    >>> maps.shape, bool((maps < 0).any())
    ((2, 1, 32, 32), True)
    """

    reduce: Reduce = "sum"
    name: ClassVar[str] = "inputxgradient"

    def attribution(self, view: View) -> Float[Any, "batch target channel *grid"]:
        """Return x ⊙ ∂S/∂x."""
        (capture,) = view.captures
        return capture.gradients * per_target(capture.activations)
