"""Recipro-CAM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np

from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.methods._base import EvidenceMethod, Maps
from chronocam.methods._masks import rounding
from chronocam.types import Need, View


@dataclass(kw_only=True, eq=False)
class ReciproCAM(EvidenceMethod):
    """Recipro-CAM: at each cell the score S(A ⊙ δ_cell) − S(0) of that cell alone, all others set to zero.

    No gradient is taken. What precedes the layer runs once, the rest once per cell, many at a time
    (`batch_size`). Class tokens stay as they are.

    spot: keep the neighbours of a cell too, weighted by the binomial [1 2 1] / 2 along each axis.

    Before global average pooling and a linear layer it equals CAM but for its scale: the paper takes the
    softmax probability, with which it would not, and rescales each map to 0…1, which leaves out S(0).

    Source: Byun and Lee 2022 (arXiv:2209.14074), eq. 4; for tokens Byun and Lee 2023 (arXiv:2310.02588).

    Example:
    >>> cc.ReciproCAM(model, "conv2").explain(images, "dog").maps.shape
    (2, 1, 8, 8)
    """

    spot: bool = False
    name: ClassVar[str] = "reciprocam"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False, resumes=True),)

    def maps(self, view: View) -> Maps:
        """Score each cell alone."""
        activations = view.captures[0].activations
        grid = tuple(int(n) for n in activations.shape[2:])
        scores = view.masked(_masks(grid, self.spot))
        xp = namespace(scores)
        values = xp.permute_dims(scores[1:] - scores[:1], (1, 2, 0))
        least = like(rounding(to_numpy(scores)), values)[:, :, None]
        values = xp.where(
            xp.max(xp.abs(values), axis=2, keepdims=True) > least, values, xp.zeros_like(values)
        )
        return xp.reshape(values, (*values.shape[:2], *grid))


def _masks(grid: Sequence[int], spot: bool) -> Iterator[np.ndarray]:
    """Yield a mask that shows nothing, then for each cell the one that shows it."""
    axes = [_windows(n) if spot else np.eye(n) for n in grid]
    yield np.zeros(grid)
    for cell in np.ndindex(*grid):
        yield reduce(np.multiply.outer, [axis[i] for axis, i in zip(axes, cell, strict=True)])


def _windows(n: int) -> np.ndarray:
    """Return for each of n cells 1 at it and ½ beside it; cut at the border."""
    return np.eye(n) + (np.eye(n, k=1) + np.eye(n, k=-1)) / 2
