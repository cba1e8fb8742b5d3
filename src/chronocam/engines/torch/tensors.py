"""Finding and replacing tensors in what PyTorch models take and return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.utils import _pytree as pytree

from chronocam.engines.misfit import FAILURES, failure, misfit, out_of_memory
from chronocam.engines.names import part_at, parts_of
from chronocam.engines.outputs import scores_in
from chronocam.engines.torch.obstacles import reason_of, unlike_scores
from chronocam.engines.torch.towers import image_tower
from chronocam.errors import ChronocamError, InputError, ModelError, first_line
from chronocam.layouts.base import Stem
from chronocam.types import Inputs

TARGETS_PER_PASS = 16  # how many targets' backward passes are batched: bounds the memory of many classes


def call_model(model: nn.Module, inputs: Inputs) -> Any:
    """Call the model with one input, several, or several by name: in one dict where it takes that.

    A model of two towers gets pictures alone: what is called is the tower that embeds them.

    Raises InputError, which says what the model saw, where it fails on other inputs than it takes: their
    number, names, types, sizes, channels, frames or order of axes. ModelError where the model cannot run.
    """
    embed = image_tower(model, inputs)
    try:
        if embed is not None:
            return embed(inputs)
        if isinstance(inputs, Mapping):
            return model(inputs) if _takes_one_dict(model, inputs) else model(**inputs)
        if isinstance(inputs, (tuple, list)):
            return model(list(inputs)) if _takes_one_list(model, inputs) else model(*inputs)
        return model(inputs)
    except FAILURES as error:
        if isinstance(error, ChronocamError) or out_of_memory(error):
            raise
        if (reason := reason_of(error)) is not None:
            raise ModelError(reason) from error
        raise InputError(_reason(model, inputs, error)) from error


def _reason(model: nn.Module, inputs: Inputs, error: Exception) -> str:
    """Return why a model failed on inputs, as far as it shows."""
    problem = _fixed_by_export(error) or _misnamed(model, inputs, error) or _misfit(model, inputs)
    if problem is not None:
        return problem
    mode = "; the model is in training mode: try model.eval() first" if model.training else ""
    clip = first_tensor(inputs)
    if clip is None or clip.ndim != 5:
        return failure(inputs, error) + mode
    return (
        f"the model fails on clips of shape {tuple(clip.shape)} ({first_line(error)}); expected the frames "
        "it takes, as (batch, channel, time, height, width) for 3D networks, (batch, time, channel, height, "
        f"width) for others{mode}"
    )


def _misnamed(model: nn.Module, inputs: Inputs, error: Exception) -> str | None:
    """Return what is wrong with the number of inputs or with their names; None where they fit."""
    names = ", ".join(f"`{name}`" for name in signature(model.forward).parameters)
    if isinstance(inputs, Mapping):
        if isinstance(error, KeyError):
            names = f"{first_line(error)} among them"
        elif not _is_refused(error) if _takes_one_dict(model, inputs) else _binds(model, **inputs):
            return None
        others = ", ".join(f"`{name}`" for name in inputs)
        return f"the model fails on inputs by the names {others} ({first_line(error)}); expected {names}"
    every = inputs if isinstance(inputs, (tuple, list)) else [inputs]
    if not _is_refused(error) if _takes_one_list(model, every) else _binds(model, *every):
        return None
    todo = ": give a tuple, or a dict by these names" if "," in names else ""
    return f"the model fails on {len(every)} inputs ({first_line(error)}); expected {names}{todo}"


def _is_refused(error: Exception) -> bool:
    """Say whether a model failed because it got a dict or list where it takes tensors."""
    return isinstance(error, (TypeError, AttributeError))


def _binds(model: nn.Module, *args: Any, **options: Any) -> bool:
    """Say whether `forward` can be called with so many inputs, or with those of these names."""
    try:
        signature(model.forward).bind(*args, **options)
    except TypeError:
        return False
    return True


def _takes_one_dict(model: nn.Module, inputs: Mapping[str, Any]) -> bool:
    """Say whether `forward` has one argument, whose name is not among the inputs'."""
    parameters = list(signature(model.forward).parameters.values())
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    names = {p.name for p in parameters}
    open_ended = any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    return len(needed) == 1 and not open_ended and not names.intersection(inputs)


def _takes_one_list(model: nn.Module, inputs: Sequence[Any]) -> bool:
    """Say whether `forward` has one argument, where several inputs are given: the pathways of SlowFast."""
    if len(inputs) < 2:
        return False
    parameters = list(signature(model.forward).parameters.values())
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(places) == 1 and not any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _fixed_by_export(error: Exception) -> str | None:
    """Return what is wrong where an exported model checks the sizes that it was exported for."""
    text = first_line(error)
    if not text.startswith(("Guard failed", "Expected input at")):
        return None
    return (
        f"the model was exported for one size of inputs, that of the batch too ({text}); export it with "
        "dynamic_shapes=, or with a single sample and batch_size=1"
    )


def _misfit(model: nn.Module, inputs: Inputs) -> str | None:
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor)]
    stem = next((m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
    # With several inputs it is not known which one the first convolution takes.
    if stem is None or len(tensors) != 1 or tensors[0].ndim == 5:
        return None
    x = tensors[0]
    rank = len(stem.kernel_size)
    return misfit(tuple(x.shape), str(x.dtype).removeprefix("torch."), Stem(rank, stem.in_channels))


def map_leaves(change: Callable[[Any], Any], inputs: Any) -> Any:
    """Return `inputs` with `change` applied to everything in them; the usual single tensor needs no walk."""
    return change(inputs) if isinstance(inputs, Tensor) else pytree.tree_map(change, inputs)


def own_copy(x: Any) -> Any:
    """Return a copy of `x`: free of the caller's graph and inference mode, and the model's to write into."""
    return x.detach().clone() if isinstance(x, Tensor) else x


def as_leaf(x: Tensor) -> Tensor:
    """Return `x` as the beginning of a graph."""
    if not x.is_inference():
        return x.detach().requires_grad_()
    with torch.inference_mode(False):  # where a copy of what was made in that mode is an ordinary tensor
        return x.clone().requires_grad_()


def with_graph(x: Any) -> Any:
    """Return floating-point `x` as the beginning of a graph, and still to be written into."""
    return x.requires_grad_().clone() if _is_float(x) else x


def keep_output(seen: list[Tensor], entry: Sequence[str] = ()) -> Callable[..., None]:
    """Return a forward hook that adds a tensor of what a layer returns to `seen`; see `tensor_at`."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        tensor = tensor_at(output, entry)
        if tensor is not None:
            seen.append(tensor)

    return hook


def keep_all(calls: list[Any]) -> Callable[..., None]:
    """Return a forward hook that adds a copy of what a layer returns to `calls`."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        calls.append(pytree.tree_map_only(Tensor, Tensor.clone, output))

    return hook


def _is_float(x: object) -> TypeGuard[Tensor]:
    """Say whether this is a tensor of floating-point numbers, neither sparse nor ragged."""
    return isinstance(x, Tensor) and x.is_floating_point() and x.layout == torch.strided and not x.is_nested


def first_tensor(output: Any) -> Tensor | None:
    """Return the first floating-point tensor in `output`, or None."""
    if isinstance(output, Tensor):
        return output if _is_float(output) else None
    return next((x for x in pytree.tree_leaves(output) if _is_float(x)), None)


def tensor_at(output: Any, entry: Sequence[str]) -> Tensor | None:
    """Return the floating-point tensor that indices or keys lead to, or None; the first without any.

    Raises LayerError for a step that does not exist.
    """
    return first_tensor(part_at(output, entry))


def levels(output: Any, first: Tensor) -> list[str]:
    """Return what leads to the tensors that have a grid as the first has: `[1]`, of levels of a pyramid."""
    if output is first or first.ndim < 4:
        return []
    found: dict[int, str] = {}
    for entry, x in _tensors(output):
        level = x.ndim == first.ndim and x.shape[0] == first.shape[0] and x.shape[2:].numel() > 1
        if level or x is first:
            found.setdefault(id(x), entry)
    return list(found.values())


def _tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    for key, part in parts_of(output).items():
        if _is_float(part):
            yield f"[{key}]", part
        else:
            yield from ((f"[{key}]{entry}", x) for entry, x in _tensors(part))


def replace_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """Return `output` with the tensor `new` in the place of `old`."""
    return pytree.tree_map(lambda x: new if x is old else x, output)


def main_output(raw: Any, strict: bool = True) -> Tensor | None:
    """Return the tensor that holds the scores: `logits`, `out`, the only one, or the first of a tuple."""
    if _is_float(raw):
        return raw
    if strict and isinstance(raw, Tensor):
        raise ModelError(unlike_scores(raw))
    return scores_in(raw, pytree.tree_leaves(raw), _is_float, strict)


def vjp(
    output: Tensor,
    tensors: Sequence[Tensor | GradientEdge],
    columns: Tensor,
    at_once: int = TARGETS_PER_PASS,
    keep: bool = True,
) -> list[Tensor | None]:
    """Return vector-Jacobian products `(column, *shape)` for each tensor; None where nothing connects.

    at_once: how many columns' backward passes are batched. keep: whether the graph is needed afterwards; what
        a single column's pass has gone through need not stay in memory until its end.
    """
    # Nothing led from the leaf to the scores: no graph was built at all.
    if not output.requires_grad:
        return [None] * len(tensors)
    if len(columns) <= at_once:
        return _vjp(output, tensors, columns, keep)
    parts = [_vjp(output, tensors, part) for part in torch.split(columns, at_once)]
    return [None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True)]


def _vjp(
    output: Tensor, tensors: Sequence[Tensor | GradientEdge], columns: Tensor, keep: bool = True
) -> list[Tensor | None]:
    grad = partial(torch.autograd.grad, output, tensors, retain_graph=True, allow_unused=True)
    # One column needs no batching, which costs time and fails for some operators.
    if len(columns) == 1:
        return [None if g is None else g[None] for g in grad(columns[0], retain_graph=keep)]
    try:
        return list(grad(columns, is_grads_batched=True))
    except RuntimeError:  # an operator that cannot be batched
        each = [grad(column) for column in columns]
        return [None if part[0] is None else torch.stack(part) for part in zip(*each, strict=True)]


def hessian_product(scores: Tensor, tensor: Tensor, columns: Tensor) -> Tensor:
    """Return the Hessian of the scores in `tensor`, times `tensor`, `(column, *shape)`."""
    products = []
    for column in columns:
        (first,) = torch.autograd.grad(scores, tensor, column, create_graph=True, allow_unused=True)
        second = None
        if first is not None and first.requires_grad:
            (second,) = torch.autograd.grad(
                first, tensor, tensor.detach(), retain_graph=True, allow_unused=True
            )
        products.append(torch.zeros_like(tensor) if second is None else second)
    return torch.stack(products).detach()
