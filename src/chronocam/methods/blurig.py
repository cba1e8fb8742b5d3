"""BlurIG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from chronocam.errors import POSITIVE, check_real
from chronocam.maps.blur import blurred
from chronocam.masks.replacements import each_feature
from chronocam.methods._base import PathMethod
from chronocam.types import Array, View

SIGMA = 0.2
"""Standard deviation of the strongest blur, as a share of the longest side."""


@dataclass(kw_only=True, eq=False)
class BlurIG(PathMethod):
    """∫ ∂S/∂z ⊙ ∂z/∂σ dσ from the blurred input z(σ_max) to the input: what each scale adds to the score.

    z(σ) is the input blurred by a Gaussian of σ, frames of a clip and features of a sequence each by itself.
    No baseline is needed. σ grows with the square of the step, since little is lost per pixel once all is
    smooth; the gradient is taken in the middle of each step.

    sigma: σ_max in pixels; None is a fifth of the longest side. The paper takes 50.

    Source: Xu et al. 2020 (arXiv:2004.03383), eq. 6.

    Example:
    >>> cc.BlurIG(model, sigma=5, steps=20).explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    sigma: float | None = None
    name: ClassVar[str] = "blurig"

    def __post_init__(self) -> None:
        if self.sigma is not None:
            check_real("sigma", self.sigma, "a positive number of pixels", least=POSITIVE)
        super().__post_init__()

    def starts(self, view: View) -> Sequence[Array]:
        """Return the input at its most blurred."""
        return [self._blurred(view, 1.0)]

    def way(self, view: View) -> Iterator[tuple[Array, Array]]:
        """Yield the input at the middle of each step, and what sharpening it by the step adds."""
        sharp = view.captures[0].activations
        for step in range(self.steps):
            soft = self._blurred(view, (step + 1) / self.steps)
            yield self._blurred(view, (step + 0.5) / self.steps), sharp - soft
            sharp = soft

    def _blurred(self, view: View, share: float) -> Array:
        x = view.captures[0].activations
        if view.by_feature:
            return each_feature(x, partial(self._softened, share=share))
        return self._softened(x, share)

    def _softened(self, x: Array, share: float) -> Array:
        sigma = SIGMA * max(x.shape[2:]) if self.sigma is None else self.sigma
        return blurred(x, sigma * share**2)
