"""Expected Gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from chronocam.errors import InputError, check_whole
from chronocam.masks.replacements import check
from chronocam.methods._base import PathMethod
from chronocam.types import Array, View


@dataclass(kw_only=True, eq=False)
class ExpectedGradients(PathMethod):
    """The mean of (x − x̄) ⊙ ∂S/∂x at x̄ + α (x − x̄) over inputs x̄ of the data and α of 0…1.

    baseline: the inputs x̄, an array or a list, from the data that the model was trained on.
    steps: how many pairs of x̄ and α are drawn: each x̄ equally often, and α one from each of `steps` equal
        parts of 0…1. The finding on completeness says how far the mean is from the expected rise.
    seed: of the draws, which are the same for every sample.

    Raises InputError without a baseline.
    Source: Erion et al. 2021 (arXiv:1906.10670), eq. 4.

    Example:
    >>> others = torch.rand(8, 3, 32, 32)
    >>> cc.ExpectedGradients(model, baseline=others, steps=16).explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    baseline: Any = None
    steps: int = 100
    seed: int = 0
    name: ClassVar[str] = "expectedgradients"

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, "a whole number from 0", least=0)
        super().__post_init__()

    def starts(self, view: View) -> Sequence[Array]:
        """Return the inputs of the data, each in the place of every sample."""
        if self.baseline is None or isinstance(self.baseline, str):
            raise InputError(
                "expectedgradients compares with other inputs; give baseline=, an array of some of the data's"
            )
        check(self.baseline)
        laid, x = view.laid(self.baseline), view.captures[0].activations
        if not laid.shape[0]:
            raise InputError("baseline= holds no inputs; give an array of some of the data's")
        return [0 * x + laid[i : i + 1] for i in range(laid.shape[0])]

    def way(self, view: View) -> Iterator[tuple[Array, Array]]:
        """Yield a place between an input of the data and the sample, drawn at random."""
        x, starts = view.captures[0].activations, self.starts(view)
        rng = np.random.default_rng(self.seed)
        which = rng.permutation(np.arange(self.steps) % len(starts))
        for step, one in enumerate(which):
            start, share = starts[one], float(step + rng.random()) / self.steps
            yield start + share * (x - start), (x - start) / self.steps
