"""Keras on PyTorch: the graph begins at the first tapped layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chronocam.engines.base import Score
from chronocam.engines.keras.program import Found, Program, main_output
from chronocam.engines.torch.tensors import vjp
from chronocam.types import Inputs


class _GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return max(x, 0)."""
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Pass back only positive gradients of positive inputs."""
        (x,) = ctx.saved_tensors
        return gradient.clamp(min=0) * (x > 0)


def guided_relu(x: Tensor) -> Tensor:
    """Return max(x, 0), with guided backpropagation's gradient."""
    return _GuidedReLU.apply(x)


def tensor(x: Any) -> Any:
    """Return an array where and how Keras has its tensors."""
    from keras import ops

    return ops.convert_to_tensor(x).detach()


def once(run: Callable[[Inputs], Any], program: Program, inputs: Inputs) -> None:
    """Run a function of the inputs once, without gradients."""
    with torch.no_grad():
        run(inputs)


def record(
    program: Program,
    inputs: Inputs,
    score: Score,
    gradients: Sequence[str],
    curvature: Sequence[str],
) -> Found:
    """Run the program and differentiate its scores."""
    cut: list[Tensor] = []
    wanted = {*gradients, *curvature}

    def change(layer: str, x: Tensor) -> Tensor:
        if layer in wanted:
            torch.set_grad_enabled(True)
            if not (cut and x.requires_grad):
                x = x.detach().requires_grad_()
                cut.append(x)
        return x

    with torch.inference_mode(False), torch.set_grad_enabled(False):
        passed = program.forward(inputs, change)
        scores = score(passed.result)
        found = Found(scores.detach(), _detached(passed.activations))
        columns = torch.eye(scores.shape[1], dtype=scores.dtype, device=scores.device)
        columns = columns[:, None, :].expand(-1, *scores.shape)
        for layer in gradients:
            calls = passed.activations[layer]
            each = vjp(scores, calls, columns)
            if any(g is not None for g in each):
                zeros = [x.new_zeros(len(columns), *x.shape) for x in calls]
                found.gradients[layer] = [
                    z if g is None else g.detach() for g, z in zip(each, zeros, strict=True)
                ]
        for layer in curvature:
            if scores.requires_grad:
                calls = passed.activations[layer]
                found.curvature[layer] = [_hessian_product(scores, columns, x) for x in calls]
    main = main_output(passed.raw, strict=False)
    found.main, found.softmax = None if main is None else _numpy(main), passed.logits is not None
    return found


def _detached(activations: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {layer: [x.detach() for x in calls] for layer, calls in activations.items()}


def _numpy(x: Tensor) -> np.ndarray:
    return np.asarray(x.detach().float().cpu())


def _hessian_product(scores: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """Return the Hessian of every score in `x`, times `x`."""
    products = []
    for column in columns:
        (first,) = torch.autograd.grad(scores, x, column, create_graph=True, allow_unused=True)
        second = None
        if first is not None and first.requires_grad:
            (second,) = torch.autograd.grad(first, x, x.detach(), retain_graph=True, allow_unused=True)
        products.append(torch.zeros_like(x) if second is None else second)
    return torch.stack(products).detach()
