"""Keras on PyTorch: the graph begins at the first tapped layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, TypeVar

import keras
import numpy as np
import torch
from torch import Tensor

from chronocam.engines.keras.backend import Backend, Mark
from chronocam.engines.keras.program import BackendRecording, Passed, Program
from chronocam.engines.recording import Score
from chronocam.engines.scoped import scoped
from chronocam.engines.torch.attended import made_of
from chronocam.engines.torch.repeated import Repeated
from chronocam.engines.torch.tensors import hessian_product, vjp
from chronocam.types import Array, Inputs

T = TypeVar("T")


class _KerasGuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Array, x: Tensor) -> Tensor:
        """Return max(x, 0)."""
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Array, gradient: Tensor) -> Tensor:
        """Pass back only positive gradients of positive inputs."""
        (x,) = ctx.saved_tensors
        return gradient.clamp(min=0) * (x > 0)


class TorchBackend(Backend):
    """Keras on PyTorch; nothing is compiled."""

    def tensor(self, x: Array) -> Tensor:
        """Return an array where and how Keras has its tensors."""
        tensor: Tensor = keras.ops.convert_to_tensor(x)
        return tensor.detach()

    def guided_relu(self, x: Tensor) -> Tensor:
        """Return max(x, 0), with guided backpropagation's gradient."""
        return _KerasGuidedReLU.apply(x)

    def out(self, x: Tensor) -> Tensor:
        """Return a tensor without its graph."""
        return x.detach()

    def numpy(self, x: Tensor) -> np.ndarray:
        """Return a tensor as NumPy."""
        return np.asarray(x.detach().float().cpu())

    def once(self, run: Callable[[Inputs], None], program: Program, inputs: Inputs) -> None:
        """Run a function of the inputs once, without gradients."""
        self.function(program, run)(inputs)

    def values(self, x: Array) -> Array:
        """Return a tensor as it is, anything else as NumPy."""
        return x if isinstance(x, Tensor) else super().values(x)

    def repeated(self, x: Tensor, times: int, axis: int | None) -> Tensor:
        """Return copies that are made where something computes with them: nothing else drops them here."""
        return Repeated.of(self.tensor(x), times, axis)

    def made_of(
        self, run: Callable[[Inputs, Mark], Sequence[Array]], program: Program, inputs: Inputs
    ) -> list[set[int]]:
        """Follow the graph of a pass; see `Backend.made_of`."""
        numbers: dict[Any, int] = {}

        def mark(number: int, x: Tensor) -> Tensor:
            torch.set_grad_enabled(True)
            x = x.detach().requires_grad_().clone()
            numbers[x.grad_fn] = number
            return x

        def marked(scope: ExitStack) -> list[set[int]]:
            scope.enter_context(torch.inference_mode(False))
            scope.enter_context(torch.set_grad_enabled(False))
            return [made_of(x, numbers) for x in run(inputs, mark)]

        return scoped(marked)()

    def function(
        self, program: Program, run: Callable[..., Any], compiles: bool = True
    ) -> Callable[..., Any]:
        """Return `run`, without gradients."""

        def plain(*args: Any) -> Any:
            args = keras.tree.map_structure(lambda x: self.tensor(x) if hasattr(x, "shape") else x, args)
            output = scoped(_without_graph)(run, *args)
            if isinstance(output, Passed):
                return output
            return keras.tree.map_structure(lambda x: x.copies() if isinstance(x, Repeated) else x, output)

        return plain

    def record(
        self,
        program: Program,
        inputs: Inputs,
        score: Score,
        gradients: Sequence[str],
        curvature: Sequence[str],
    ) -> BackendRecording:
        """Run the program and differentiate its scores."""
        return scoped(self._record)(program, inputs, score, gradients, curvature)

    def _record(
        self,
        scope: ExitStack,
        program: Program,
        inputs: Inputs,
        score: Score,
        gradients: Sequence[str],
        curvature: Sequence[str],
    ) -> BackendRecording:
        cut: list[Tensor] = []
        layers = {*gradients, *curvature}

        def change(layer: str, x: Tensor) -> Tensor:
            if layer in layers:
                torch.set_grad_enabled(True)
                if not (cut and x.requires_grad):
                    x = x.detach().requires_grad_()
                    cut.append(x)
            return x

        scope.enter_context(keras.StatelessScope())
        scope.enter_context(torch.inference_mode(False))
        scope.enter_context(torch.set_grad_enabled(False))
        passed = program.forward(inputs, change)
        scores = score(passed.result)
        recording = self.recording(passed, scores)
        columns = torch.eye(scores.shape[1], dtype=scores.dtype, device=scores.device)
        columns = columns[:, None, :].expand(-1, *scores.shape)
        # One backward pass for all layers.
        flat = [x for layer in gradients for x in passed.activations[layer]]
        found = iter(vjp(scores, flat, columns, keep=bool(curvature)))
        for layer in gradients:
            calls = passed.activations[layer]
            each = list(islice(found, len(calls)))
            if any(g is not None for g in each):
                recording.gradients[layer] = [
                    x.new_zeros(len(columns), *x.shape) if g is None else g.detach()
                    for g, x in zip(each, calls, strict=True)
                ]
        for layer in curvature:
            if scores.requires_grad:
                calls = passed.activations[layer]
                recording.curvature[layer] = [hessian_product(scores, x, columns) for x in calls]
        return recording


def _without_graph(scope: ExitStack, run: Callable[..., T], *args: Any) -> T:
    scope.enter_context(keras.StatelessScope())
    scope.enter_context(torch.inference_mode(False))
    scope.enter_context(torch.no_grad())
    return run(*args)


BACKEND = TorchBackend()
