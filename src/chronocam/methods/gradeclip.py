"""Grad-ECLIP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
from jaxtyping import Float

from chronocam.errors import ModelError
from chronocam.maps.arrays import in_full_precision, namespace, placed, relu, to_numpy
from chronocam.maps.attended import Attended
from chronocam.methods._attention import (
    AttendedMethod,
    check_layers,
    on_grid,
    patches_in,
    reading,
    up_to_last_on_grid,
)
from chronocam.types import Array, Capture, Need

_EVERY: Final = 2**31
"""Of the last attentions, more than there are."""


@dataclass(kw_only=True, eq=False)
class GradECLIP(AttendedMethod):
    """Grad-ECLIP: the values that raise the score, weighted by how alike their keys are to the query.

    In the last attention over the patches, with g = ∂score/∂(output of the heads, before they are joined) at
    the class token, the map is max(λ_i Σ_d g_d v_{i,d}, 0) for patch i, v all heads' values. λ is the cosine
    of W q and W k_i, W the matrix that joins the heads, scaled to [0, 1] over the patches. In place of the
    class token stands the one query of a model that pools by attention (SigLIP); of two tokens that are read
    (a distilled DeiT's) both are added up before negative values are dropped. Made for CLIP and captions; any
    score will do.

    layers: how many of the last attentions count, whose maps are added up before negative values are dropped;
        None is the last one, and for the words of a caption (`on="text"`) all, as in the paper.

    Raises ModelError for models that read patches, or that score keys in a way of their own.
    Source: Zhao et al. 2025 (arXiv:2502.18816), section 3; with the model's own heads, where the released
    code recomputes the block with one head.

    Example:
    >>> from torchvision.models import VisionTransformer
    >>> vit = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16).eval()
    >>> cc.GradECLIP(vit).explain(images).maps.shape
    (2, 1, 4, 4)
    """

    layers: int | None = None
    name: ClassVar[str] = "gradeclip"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False, attended=True),)

    def __post_init__(self) -> None:
        check_layers(self.layers)
        super().__post_init__()

    def of_words(self) -> GradECLIP:
        """Return the method of all attentions, where none were said."""
        return self if self.layers is not None else replace(self, layers=_EVERY)

    def attributed(self, capture: Capture, target: int) -> Float[Any, batch * grid]:
        """Return max(Σ λ_i g·v_i, 0)."""
        calls, divided = up_to_last_on_grid(capture, self.name)
        last = calls[-1]
        rows, _, keys = last.shape
        patches = patches_in(capture, rows, keys, divided)
        read = self._read(last, target, patches)
        alike = [call for call in calls if call.shape == last.shape]
        weighted = [
            _weighted(call, target, at, patches) for call in alike[-(self.layers or 1) :] for at in read
        ]
        return on_grid(capture, relu(sum(weighted[1:], start=weighted[0])), divided)

    def _read(self, call: Attended, target: int, patches: np.ndarray) -> list[int]:
        """Return which queries the score reads; the first for none."""
        read = np.flatnonzero(to_numpy(reading(call, target)).any(axis=0)).tolist()
        _, queries, keys = call.shape
        if len(read) > 1 and (queries != keys or not set(patches.tolist()).isdisjoint(read)):
            raise ModelError(
                f"the score reads {len(read)} tokens of the last attention, and gradeclip is defined for "
                "one, such as a class token; choose legrad or attentionrelevance"
            )
        return read or [0]


@in_full_precision
def _joined(x: Float[Any, "row head token channel"], join: Array) -> Float[Any, "row token channel"]:
    xp = namespace(x)
    flat = xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (x.shape[0], x.shape[2], -1))
    return flat if join is None else xp.matmul(flat, xp.matrix_transpose(xp.astype(join, x.dtype)))


def _weighted(call: Attended, target: int, at: int, patches: np.ndarray) -> Float[Any, "row key"]:
    if call.query is None or call.query.shape[3] != call.value.shape[3]:
        raise ModelError(
            "gradeclip compares queries with keys, and this model scores keys in another way; load "
            'transformers of Hugging Face with attn_implementation="sdpa", or choose legrad'
        )
    g = call.gradients[target][:, :, at : at + 1]
    xp = namespace(g)
    agreement = xp.sum(g * xp.astype(call.value, g.dtype), axis=(1, 3))
    q = _joined(xp.astype(call.query[:, :, at : at + 1], g.dtype), call.join)
    k = _joined(xp.astype(call.key, g.dtype), call.join)
    sizes = xp.sqrt(xp.sum(q * q, axis=2)) * xp.sqrt(xp.sum(k * k, axis=2))
    cosine = xp.sum(q * k, axis=2) / xp.where(sizes == 0, xp.ones_like(sizes), sizes)
    own = xp.take(cosine, placed(patches, cosine), axis=1)
    low, high = xp.min(own, axis=1, keepdims=True), xp.max(own, axis=1, keepdims=True)
    share = (cosine - low) / xp.where(high == low, xp.ones_like(high), high - low)
    return agreement * share
