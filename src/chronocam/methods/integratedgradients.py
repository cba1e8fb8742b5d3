"""Integrated Gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from chronocam.masks.replacements import STILL, check, still_of
from chronocam.methods._base import PathMethod
from chronocam.types import Array, View


@dataclass(kw_only=True, eq=False)
class IntegratedGradients(PathMethod):
    """(x − x̄) ⊙ ∫₀¹ ∂S/∂x at x̄ + α (x − x̄) dα, by Gauss and Legendre's rule of `steps` points.

    baseline: x̄, `"zero"`, each channel's `"mean"`, the input's own `"blur"`, or an array shaped like one
        input or broadcasting to it. For normalised inputs, zero is the mean picture.

    Source: Sundararajan et al. 2017 (arXiv:1703.01365), eq. 1.

    Example:
    >>> maps = cc.IntegratedGradients(model, baseline="mean", steps=20).explain(images, "dog").maps
    >>> maps.shape, bool((maps < 0).any())
    ((2, 1, 32, 32), True)
    """

    baseline: Any = "zero"
    name: ClassVar[str] = "integratedgradients"

    def __post_init__(self) -> None:
        check(self.baseline, STILL)
        super().__post_init__()

    def starts(self, view: View) -> Sequence[Array]:
        """Return the baseline of each sample."""
        x = view.captures[0].activations
        return [still_of(x, self.baseline, view.laid, view.by_feature)]

    def way(self, view: View) -> Iterator[tuple[Array, Array]]:
        """Yield the points of the rule on the straight line from the baseline."""
        x = view.captures[0].activations
        (start,) = self.starts(view)
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        for node, weight in zip(nodes, weights, strict=True):
            yield start + float(node + 1) / 2 * (x - start), float(weight) / 2 * (x - start)
