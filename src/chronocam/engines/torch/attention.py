"""A function mode that sees attention: fused, as softmax and product, or as a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from string import ascii_letters
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from chronocam.engines.scoped import scoped
from chronocam.engines.torch.modes import Args, Function, Kwargs
from chronocam.errors import ModelError

_SOFTMAX = {F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax}
_PRODUCT = {torch.matmul, Tensor.matmul, torch.bmm, Tensor.bmm, torch.einsum, torch.baddbmm}
_SLICES = {Tensor.__getitem__, torch.narrow, Tensor.narrow}
_ROUNDING = 0.01  # of a sum of weights in half precision

# A function hands itself to a mode before anything else, so that what it calls is never seen. With another
# answer to whether there is a mode its own lines run, and the mode sees them.
_MODULE = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "has_torch_function": lambda tensors: False},
    argdefs=F.multi_head_attention_forward.__defaults__,
)
_PARAMETERS = tuple(inspect.signature(F.multi_head_attention_forward).parameters)


@dataclass
class Mixing:
    """One call of attention.

    output: what it returned, as the model has it; value, query, key: what it was given, by head, see
        `by_head`. Queries and keys are None where the model computes its scores otherwise.
    softmax: the weights, where the model computes them. masked: what else fused attention was given.
    heads: how many are folded into the first axis, of arrays that have no axis of heads or one of size 1.
    axes: the order of axes that brings outputs to `(…, head, token, channel)`; None as it is.
    join: the matrix that joins the heads, `(channel, head · channel)`.
    sinks: how many of the last keys are learned, and not of tokens (`add_bias_kv`).
    """

    output: Tensor
    value: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    softmax: Tensor | None = None
    masked: dict[str, Any] = field(default_factory=dict)
    heads: int = 1
    axes: Sequence[int] | None = None
    join: Tensor | None = None
    sinks: int = 0

    def by_head(self, x: Tensor) -> Tensor:
        """Return `(row, head, token, channel)` of `(…, head, …)`, or of heads folded into the first axis."""
        x = x[:, 0] if self.heads > 1 and x.ndim == 4 and x.shape[1] == 1 else x
        x = x.reshape(-1, self.heads, *x.shape[1:]) if x.ndim == 3 else x
        return x.flatten(0, -4) if x.ndim > 4 else x

    @property
    def values(self) -> Tensor:
        """The values, `(row, head, key, channel)`."""
        return self._of_tokens(self.by_head(self.value), -2)

    @property
    def keys(self) -> Tensor | None:
        """The keys, `(row, head, key, channel)`."""
        return None if self.key is None else self._of_tokens(self.by_head(self.key), -2)

    def _of_tokens(self, x: Tensor, axis: int) -> Tensor:
        return x.narrow(axis, 0, x.shape[axis] - self.sinks)

    def outputs(self, x: Tensor) -> Tensor:
        """Return what is shaped like the output as `(row, head, query, channel)`."""
        return self.by_head(x if self.axes is None else x.permute(*self.axes))

    @property
    def weights(self) -> Tensor:
        """The weights, `(row, head, query, key)`, before any dropout; in float32 at least."""
        if self.softmax is None:
            return self._of_tokens(self.by_head(torch.stack(list(self._each_head()), dim=-3)), -1)
        weights = self._of_tokens(self.by_head(self.softmax), -1)
        return weights.to(torch.promote_types(weights.dtype, torch.float32))

    @property
    def means(self) -> Tensor:
        """The means of the weights over heads, `(row, query, key)`."""
        if self.softmax is not None:
            return self.weights.mean(1)
        # Head by head: all at once would take the memory that fusing saves.
        heads = self._each_head()
        total, count = next(heads), 1
        for head in heads:
            total, count = total + head, count + 1
        return self._of_tokens((total / count).flatten(0, -3), -1)

    def _each_head(self) -> Iterator[Tensor]:
        assert self.query is not None
        assert self.key is not None
        return _each_head(self.query, self.key, **self.masked)


class AttentionSeen(TorchFunctionMode):
    """Gives every attention of the model to `see`, in the order of the calls; what that returns goes on.

    A softmax counts where a product follows it, and the weights are what is multiplied: heads may be mixed,
    and weights scaled, in between. It is to be the first mode that is entered: others then see a module's
    attention as it is called.
    """

    def __init__(self, see: Callable[[Mixing], Tensor]) -> None:
        super().__init__()
        self._see = see
        self._heads, self._sinks = 1, 0  # of the module that runs
        self._product: tuple[Tensor, Args] | None = None  # the last one: what became of it, and of what
        self._scored: Args = ()  # what the scores of the last softmax are the product of
        # What became of that softmax, the same by way of dropout and casts, and the weights without these.
        self._weights: list[tuple[Tensor, Tensor]] = []
        self._apart: Mixing | None = None  # the last one, whose heads are not joined

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return scoped(self._through_module)(*args, **kwargs)
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._seen(_fused(result, *args, **kwargs))
        if func is F.linear and self._apart is not None:
            self._joined(args[0], args[1])
        if not isinstance(result, Tensor) or result.ndim < 3:
            return result
        if func in _SOFTMAX and _over_keys(result, args, kwargs):
            scores, of = self._product or (None, ())
            given = args[0] if args else kwargs["input"]
            self._scored, self._weights = (of if given is scores else ()), [(result, result)]
        elif func in _PRODUCT:
            tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            if func is torch.einsum:
                return self._summed(result, args[0], tensors)
            return self._multiplied(result, tensors)
        else:
            self._follow(result, func, (*args, *kwargs.values()))
        return result

    def _through_module(self, scope: ExitStack, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        given = dict(zip(_PARAMETERS, args, strict=False)) | kwargs
        scope.callback(self._leave_module)
        self._heads = given["num_heads"]
        self._sinks = (given["bias_k"] is not None) + bool(given["add_zero_attn"])
        scope.enter_context(self)
        returned: tuple[Tensor, Tensor | None] = _MODULE(*args, **kwargs)
        return returned

    def _leave_module(self) -> None:
        self._heads, self._sinks = 1, 0

    def _follow(self, result: Tensor, func: Function, args: Args) -> None:
        """Follow scores on their way to a softmax, and weights on theirs to a product."""
        for x in args:
            if self._product is not None and x is self._product[0] and result.shape == x.shape:
                self._product = (result, self._product[1])
            made = self._weights_in(x)
            if made is not None and (result.numel() == made.numel() or _drops_keys(func, x, result)):
                kept = func is F.dropout or result.dtype != x.dtype
                self._weights.append((result, made if kept else result))

    def _weights_in(self, x: Any) -> Tensor | None:
        """Return the weights that a tensor is, without dropout and casts; None for other tensors."""
        return next((weights for became, weights in self._weights if became is x), None)

    def _multiplied(self, result: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """Look at a product of matrices, the last two of some tensors."""
        weights, value = tensors[-2:]
        softmax, axes = self._weights_in(weights), None
        if softmax is None:  # values may come first, `(…, channel, key)`
            softmax, value = _turned(self._weights_in(value)), weights.mT
            axes = [*range(result.ndim - 2), result.ndim - 1, result.ndim - 2]
        if softmax is None:
            self._product = (result, tuple(tensors[-2:]))
            return result
        return self._mixed(Mixing(result, value, softmax=softmax, heads=self._heads, axes=axes))

    def _summed(self, result: Tensor, equation: str, tensors: Sequence[Tensor]) -> Tensor:
        """Look at a sum in Einstein's convention: weights and values, in any order of their axes."""
        at = next((i for i, x in enumerate(tensors) if self._weights_in(x) is not None), None)
        if at is None:
            self._product = None
            return result
        *terms, made = _spelled(equation, tensors)
        weights, other, softmax = terms[at], terms[1 - at], self._weights_in(tensors[at])
        if weights[-1] not in other or weights[-1] in made:
            self._follow(result, torch.einsum, (tensors[at],))  # heads are mixed
            return result
        values, axes = _by_letters(weights, other, made, tensors[1 - at], tensors[at])
        return self._mixed(Mixing(result, values, softmax=softmax, heads=self._heads, axes=axes))

    def _mixed(self, mixing: Mixing) -> Tensor:
        """Take note of a call whose scores and softmax were seen."""
        scored, self._scored, self._weights = self._scored, (), []
        if scored:
            mixing.query, mixing.key = scored[0], scored[1].mT
        return self._seen(mixing)

    def _seen(self, mixing: Mixing) -> Tensor:
        """Give a call to `see`; this mode is left meanwhile."""
        mixing.sinks = self._sinks
        fresh = scoped(self._shown)(mixing)
        self._apart = mixing
        return fresh

    def _shown(self, scope: ExitStack, mixing: Mixing) -> Tensor:
        """Return what goes on, hidden from autocast."""
        scope.enter_context(torch.autocast(mixing.output.device.type, enabled=False))
        return self._see(mixing)

    def _joined(self, x: Tensor, weight: Tensor) -> None:
        """Take a linear layer that follows for the one that joins the heads, where it is given them."""
        mixing = self._apart
        if mixing is not None and x.numel() == mixing.output.numel():
            output = mixing.outputs(mixing.output)
            heads, left = divmod(x.shape[-1], output.shape[3])
            if heads > output.shape[1] == 1 and not left and not output.shape[0] % heads:
                apart = output[:, 0].reshape(-1, heads, *output.shape[2:])
                if (apart.transpose(1, 2).reshape(x.shape) == x).all():
                    mixing.heads, output = heads, apart
            if x.shape[-1] == output.shape[1] * output.shape[3]:
                mixing.join, self._apart = weight.detach(), None


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


def _drops_keys(func: Function, weights: Tensor, result: Tensor) -> bool:
    """Say whether a result is the weights of some keys, without those of a sink."""
    return func in _SLICES and weights.ndim == result.ndim and weights.shape[:-1] == result.shape[:-1]


def _turned(weights: Tensor | None) -> Tensor | None:
    """Return weights `(…, key, query)` as `(…, query, key)`; None for others: those of a query sum to one."""
    if weights is None or (weights.detach().sum(-2) - 1).abs().max() > _ROUNDING:
        return None
    return weights.mT


def _spelled(equation: str, tensors: Sequence[Tensor]) -> list[str]:
    """Return the letters of two tensors, and of their product, in an equation such as `bhij,bjhc->bihc`.

    Those that `...` stands for are spelled out, and so is a product that is not named. Raises ModelError for
    other numbers of tensors.
    """
    named, arrow, made = equation.replace(" ", "").partition("->")
    terms = named.split(",")
    if len(terms) != 2:
        raise _no_rule(equation)
    free = [letter for letter in ascii_letters if letter not in equation]
    counts = [x.ndim - len(term) + 3 if "." in term else 0 for term, x in zip(terms, tensors, strict=True)]
    most = max(counts)
    if not arrow:
        once = sorted(x for x in {*named} - {*",."} if named.count(x) == 1)
        made = ("..." if most else "") + "".join(once)
    spelled = [
        term.replace("...", "".join(free[most - count : most]))
        for term, count in zip([*terms, made], [*counts, most], strict=True)
    ]
    return spelled


def _by_letters(
    weights: str, value: str, made: str, values: Tensor, like: Tensor
) -> tuple[Tensor, Sequence[int]]:
    """Return values as `(…, head, key, channel)`, and the order of axes that brings outputs there.

    Values that heads share are repeated as a view. Raises ModelError for attention whose values differ from
    query to query, or whose result is not that of each head and query.
    """
    *lead, query, key = list(weights)
    channel = [x for x in value if x not in weights]
    if (
        len(channel) != 1
        or query in value
        or {*made} != {*lead, query, *channel}
        or len(made) != len({*made})
    ):
        raise _no_rule(f"{weights},{value}->{made}")
    order = [x for x in (*lead, key, *channel) if x in value]
    values = values.permute(*(value.index(x) for x in order))
    for at, letter in enumerate(lead):
        if letter not in value:
            values = values.unsqueeze(at)
    sizes = [like.shape[weights.index(x)] for x in (*lead, key)]
    return values.expand(*sizes, -1), [made.index(x) for x in (*lead, query, *channel)]


def _no_rule(equation: str) -> ModelError:
    return ModelError(
        f"attention weights go through the einsum `{equation}`, for which there is no rule; choose gradcam"
    )


def _fused(
    output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Mixing:
    """Return what `F.scaled_dot_product_attention` was given; keys and values that heads share, for each."""
    if query.ndim == 3:
        attn_mask = attn_mask[:, None] if attn_mask is not None and attn_mask.ndim == 3 else attn_mask
        query, key, value = query[:, None], key[:, None], value[:, None]
    heads = query.shape[-3]
    if key.shape[-3] != heads:
        key, value = (x.repeat_interleave(heads // x.shape[-3], -3) for x in (key, value))
    masked = {"mask": attn_mask, "is_causal": is_causal, "scale": scale}
    return Mixing(output, value, query, key, masked=masked)


def _each_head(
    query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None
) -> Iterator[Tensor]:
    """Yield softmax(q kᵀ·scale + mask) of each head, `(…, query, key)`."""
    precision = torch.promote_types(query.dtype, torch.float32)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    heads, sizes = query.shape[-3], (query.shape[-2], key.shape[-2])
    if is_causal:
        mask = torch.ones(sizes, dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        lead = (query[..., 0, 0, 0] + key[..., 0, 0, 0]).shape
        mask = mask.expand(*lead, heads, *sizes)
    for head in range(heads):
        scores = query[..., head, :, :].to(precision) @ key[..., head, :, :].to(precision).mT * scale
        if mask is not None:
            own = mask[..., head, :, :]
            scores = scores.masked_fill(~own, -torch.inf) if own.dtype == torch.bool else scores + own
        yield scores.softmax(-1)
