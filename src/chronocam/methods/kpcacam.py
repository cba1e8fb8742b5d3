"""KPCA-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from chronocam.errors import POSITIVE, LayerError, check_real
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.methods._base import EvidenceMethod, Maps
from chronocam.types import Need, View

CELLS: Final = 8192
"""At most so many cells make the kernel, whose matrix has as many rows and columns."""


@dataclass(kw_only=True, eq=False)
class KPCACAM(EvidenceMethod):
    """KPCA-CAM: the first kernel principal component of the cells; the same for every target.

    The kernel of two cells is tanh(γ x·y + 1), x and y their channels, centred over the cells. The component
    √λ v is oriented to agree with the channels' sum, since the sign of an eigenvector is arbitrary. A clip's
    cells are those of all its frames.

    gamma: γ; None is 1 / channels.

    Raises LayerError for a grid of more than 8,192 cells.
    Source: Karmani et al. 2024 (arXiv:2410.00267), section 3; kernel and γ as in the authors' code.

    Example:
    >>> cc.KPCACAM(model, "conv2").explain(images).maps.shape
    (2, 1, 8, 8)
    """

    gamma: float | None = None
    name: ClassVar[str] = "kpcacam"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False),)
    class_agnostic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.gamma is not None:
            check_real("gamma", self.gamma, "a positive number, or None for 1 / channels", least=POSITIVE)
        super().__post_init__()

    def maps(self, view: View) -> Maps:
        """Return the component once per target."""
        activations = view.captures[0].activations
        batch, channels, *grid = (int(n) for n in activations.shape)
        cells = int(np.prod(grid))
        if cells > CELLS:
            raise LayerError(
                f"the layer has {cells} cells, and the kernel a row for each; choose a deeper layer, of at "
                f"most {CELLS}"
            )
        flat = to_numpy(activations).astype(np.float64).reshape(batch, channels, cells)
        gamma = 1 / channels if self.gamma is None else self.gamma
        component = like(np.stack([_component(x.T, gamma) for x in flat]), activations)
        xp = namespace(activations)
        return xp.broadcast_to(xp.reshape(component, (batch, 1, *grid)), (batch, view.targets, *grid))


def _component(x: np.ndarray, gamma: float) -> np.ndarray:
    """Return √λ v of the centred kernel of x `(cell, channel)`; NaN where x is not finite."""
    from scipy.linalg import eigh

    if not np.isfinite(x).all():
        return np.full(len(x), np.nan)
    x = x - x.mean(axis=0)
    kernel = np.tanh(gamma * x @ x.T + 1)
    kernel = kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()
    values, vectors = eigh(kernel, subset_by_index=[len(x) - 1, len(x) - 1])
    component = np.sqrt(max(values[0], 0.0)) * vectors[:, 0]
    return -component if component @ x.sum(axis=1) < 0 else component
