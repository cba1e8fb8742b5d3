"""FullGrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.errors import LayerError
from chronocam.maps.arrays import grid_axes, namespace, to_numpy
from chronocam.maps.resample import resample
from chronocam.methods._base import Maps, Method, note_gap
from chronocam.types import INPUT, Array, Need, View


@dataclass(kw_only=True, eq=False)
class FullGrad(Method):
    """|x ⊙ ∂S/∂x| and |b ⊙ ∂S/∂z| of every layer, each summed over its channels and enlarged to the input.

    z = W x + b is what a layer returns before its activation. b are biases, what a BatchNorm adds
    (β − μγ/√(σ² + ε)), and the values at which a ReLU6 is flat. Without the magnitudes they add up to the
    score itself, of a network that is linear in pieces: not with GELU, SiLU, attention or LayerNorm. That is
    checked at each call; where they differ by more than 0.1 %, a finding says by how much. Layers without a
    grid take part in that alone.

    rescale: scale what each layer adds from 0 to 1 over its channels and places first, as the paper does;
        without it layers count by how much they add.

    Raises LayerError for a layer.
    Source: Srinivas and Fleuret 2019 (arXiv:1905.00780), eq. 7.

    Example:
    >>> cc.FullGrad(model).explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    rescale: bool = True
    name: ClassVar[str] = "fullgrad"
    needs: ClassVar[tuple[Need, ...]] = (Need(at_input=True, biases=True),)
    default_layer: ClassVar[str | None] = INPUT
    maps_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.conv_layer not in (None, INPUT):
            raise LayerError("fullgrad is of all layers; leave conv_layer out")
        super().__post_init__()

    def maps(self, view: View) -> Maps:
        """Add up what the input and every layer with a grid contribute."""
        (capture,) = view.captures
        terms = [capture.gradients * capture.activations[:, None], *capture.biases]
        (score,) = to_numpy(view.scores([lambda x: x])).astype(np.float64)
        added = sum(to_numpy(term).astype(np.float64).sum(axis=grid_axes(term, 2)) for term in terms)
        why = "some parts are not linear in pieces, or have biases that no layer shows"
        note_gap(view, np.asarray(added), score, "is", why, np.abs(score))
        on_grids = [term for term in terms if term.ndim == terms[0].ndim]
        return sum(self._enlarged(term, capture.activations.shape[2:]) for term in on_grids)

    def _enlarged(self, term: Array, grid: tuple[int, ...]) -> Array:
        xp, axes = namespace(term), grid_axes(term, 2)
        strength = xp.abs(term)
        if self.rescale:
            low, high = (bound(strength, axis=axes, keepdims=True) for bound in (xp.min, xp.max))
            span = high - low
            strength = (strength - low) / xp.where(span > 0, span, xp.ones_like(span))
        return resample(xp.sum(strength, axis=2), tuple(map(int, grid)), "linear")
