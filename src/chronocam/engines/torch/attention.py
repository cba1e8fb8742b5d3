"""A function mode that sees attention: fused, as softmax and product, or as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from chronocam.engines.torch.modes import Args, Function, Kwargs

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}
_PRODUCT = {torch.matmul, Tensor.matmul, torch.bmm, Tensor.bmm, torch.einsum}


class AttentionSeen(TorchFunctionMode):
    """Keeps the weights of every attention in the order of the calls: `(rows, query, key)`, means over heads.

    They are kept in float32 (float64 where the model is), before any dropout and free of the graph. Rows are
    what the
    model has in front of the heads: samples, or what it folds into them. A softmax counts where a product
    follows it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []
        self._softmax: Tensor | None = None  # the last one, before dropout and casts
        self._followed: Tensor | None = None  # what became of it

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self._keep(_of_fused, args, kwargs)
        elif func is F.multi_head_attention_forward:
            self._keep(_of_module, args, kwargs)
        elif func in _SOFTMAX and result.ndim > 2 and _over_keys(result, args, kwargs):
            self._softmax = self._followed = result
        elif self._softmax is not None and any(x is self._followed for x in pytree.tree_leaves(args)):
            if func in _PRODUCT:
                self._keep(_mean_over_heads, (self._softmax,), {})
                self._softmax = self._followed = None
            elif isinstance(result, Tensor) and result.shape == self._softmax.shape:
                self._followed = result
        return result

    def _keep(self, weights: Callable[..., Tensor | None], args: Args, kwargs: Kwargs) -> None:
        """Keep what `weights` returns, hidden from the graph, from autocast and from other modes."""
        detached, named = pytree.tree_map_only(Tensor, Tensor.detach, (args, kwargs))
        device = next(x for x in pytree.tree_leaves(args) if isinstance(x, Tensor)).device.type
        with torch._C.DisableTorchFunction(), torch.autocast(device, enabled=False):
            means = weights(*detached, **named)
        if means is not None:
            self.weights.append(means)


class UnfusedAttention(TorchFunctionMode):
    """Runs attention as products and a softmax: fused kernels have no second derivative.

    PyTorch's own switch, `torch.nn.attention.sdpa_kernel`, is one for all threads.
    """

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_attention_math(*args, **kwargs)[0]
        if func is F.multi_head_attention_forward:
            output, weights = func(*args, **{**kwargs, "need_weights": True})
            return output, weights if kwargs.get("need_weights", True) else None
        return func(*args, **kwargs)


def _over_keys(result: Tensor, args: Args, kwargs: Kwargs) -> bool:
    """Say whether a softmax is over the last axis."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return dim in (-1, result.ndim - 1)


def _mean_over_heads(weights: Tensor) -> Tensor:
    """Return `(rows, query, key)` of `(…, head, query, key)`; without an axis of heads there is one."""
    precision = torch.promote_types(weights.dtype, torch.float32)
    mean = weights.mean(-3, dtype=precision) if weights.ndim > 3 else weights.to(precision)
    return mean.flatten(0, -3)


def _of_fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(q kᵀ·scale + mask), head by head: all at once take the memory that fusing saves."""
    precision = torch.promote_types(query.dtype, torch.float32)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if query.ndim == 3:
        query, key = query[:, None], key[:, None]
        attn_mask = attn_mask[:, None] if attn_mask is not None and attn_mask.ndim == 3 else attn_mask
    heads, sizes = query.shape[-3], (query.shape[-2], key.shape[-2])
    shared = heads // key.shape[-3]
    if is_causal:
        attn_mask = torch.ones(sizes, dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        lead = (query[..., 0, 0, 0] + key[..., 0, 0, 0]).shape
        attn_mask = attn_mask.expand(*lead, heads, *sizes)
    total = query.new_zeros((), dtype=precision)
    for head in range(heads):
        scores = (
            query[..., head, :, :].to(precision) @ key[..., head // shared, :, :].to(precision).mT * scale
        )
        if attn_mask is not None:
            mask = attn_mask[..., head, :, :]
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        total = total + scores.softmax(-1)
    return (total / heads).flatten(0, -3)


def _of_module(*args: Any, **kwargs: Any) -> Tensor | None:
    """Return the weights of `nn.MultiheadAttention`; None for an input without a batch axis."""
    options = {"need_weights": True, "average_attn_weights": True, "training": False}
    weights = F.multi_head_attention_forward(*args, **{**kwargs, **options})[1]
    return None if weights is None or weights.ndim < 3 else _mean_over_heads(weights)
