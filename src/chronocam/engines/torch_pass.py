"""One pass of a PyTorch model: a forward pass with taps, and the backward passes from its scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from chronocam.engines.base import Score
from chronocam.engines.torch_modes import GuidedReLUs, SoftmaxSeen, ThroughNoGrad, looks_like_probabilities
from chronocam.engines.torch_scope import couples_samples
from chronocam.engines.torch_tensors import (
    call_model,
    first_tensor,
    keep_output,
    main_output,
    own_copy,
    replace_tensor,
    split_call,
)
from chronocam.errors import InputError, LayerError, ModelError
from chronocam.types import INPUT, Inputs

if TYPE_CHECKING:
    from chronocam.engines.torch import TorchEngine

TARGETS_PER_PASS = 16  # how many targets' backward passes are batched: bounds the memory of many classes
_BEFORE_SOFTMAX = "scores are logits, read before the model's final softmax"
_NO_SOFTMAX = "scores look like probabilities and no final softmax was found; name output_layer="


class _Cut:
    """Whether some tap of a pass has made its output the leaf at which the graph begins."""

    made = False


class _Tap:
    """A forward hook that captures a layer's output and lets the graph begin there.

    The first tap to fire cuts the graph: its output becomes a leaf, and gradients are recorded from there on.
    What goes on into the model is a clone, so that in-place operations after the layer cannot overwrite what
    was captured.
    """

    def __init__(self, call: int | None, cut: _Cut | None) -> None:
        self.call = call
        self.calls = 0
        self.cut = cut
        self.seen: list[Tensor] = []

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        self.calls += 1
        if self.call is not None and self.calls - 1 != self.call:
            return None
        tensor = first_tensor(output)
        if tensor is None:
            raise LayerError(f"a {type(module).__name__} returns no floating-point tensor; choose another layer")
        fresh = self.capture(tensor)
        return fresh if output is tensor else replace_tensor(output, tensor, fresh)

    def capture(self, tensor: Tensor) -> Tensor:
        """Keep `tensor` and return what the model goes on with."""
        if self.cut is not None:
            torch.set_grad_enabled(True)
            if not (self.cut.made and tensor.requires_grad):
                tensor = tensor.detach().requires_grad_()
                self.cut.made = True
        self.seen.append(tensor)
        return tensor.clone()


class Pass:
    """One forward pass with taps, and the backward passes from its scores."""

    def __init__(
        self,
        engine: TorchEngine,
        inputs: Inputs,
        layers: Sequence[str],
        call: Callable[[Any, Inputs], Any] | None,
        *,
        guided: bool,
        differentiate: bool,
    ) -> None:
        self.engine, self.layers, self.call = engine, layers, call
        self.inputs = inputs
        self.differentiate = differentiate
        self.through_no_grad = False
        self.relus = GuidedReLUs() if guided else None
        self.plain = engine.output_layer is None and call is None  # scores are read from the model's output
        self.couples = couples_samples(engine.model)
        self.notes: list[str] = []
        self.taps: dict[str, _Tap] = {}

    def run(
        self, score: Score, gradients: Sequence[str], guided: Sequence[str], curvature: Sequence[str]
    ) -> dict[str, dict[str, list[Tensor]]]:
        """Run the model, score its outputs, and return what is recorded of each, by layer, one array per call.

        No graph is built before the first layer. Where that leaves a layer without a gradient, it may lie before
        or within the model's own no_grad(), or within a fused inference path: then all is run once more with a
        graph from the start.
        """
        found = self._attempt(score, gradients, guided, curvature)
        connected = {*found["gradients"], *found["guided"]} == {*gradients, *guided}
        if not (connected and all(tap.seen for tap in self.taps.values())):
            self.through_no_grad = True
            found = self._attempt(score, gradients, guided, curvature)
        for layer, tap in self.taps.items():
            if not tap.seen:
                raise LayerError(
                    f"layer `{layer}` was called {tap.calls} times, so nothing was recorded there; "
                    "choose a layer that the forward pass uses (`chronocam layers SPEC`)"
                )
        return found

    def _attempt(
        self, score: Score, gradients: Sequence[str], guided: Sequence[str], curvature: Sequence[str]
    ) -> dict[str, dict[str, list[Tensor]]]:
        self.notes.clear()
        self._forward(score)
        return {
            "gradients": self._backward(gradients),
            "curvature": self._curvature(curvature),
            "guided": self._guided(guided),
        }

    def _forward(self, score: Score) -> None:
        engine, model = self.engine, self.engine.model
        cut = _Cut() if self.differentiate else None
        self.taps = {layer: _Tap(split_call(layer)[1], cut) for layer in self.layers}
        output: list[Tensor] = []
        softmax = SoftmaxSeen() if engine._ends_in_softmax else None
        with ExitStack() as scope:
            grad = self.through_no_grad or (INPUT in self.layers and self.differentiate)
            scope.enter_context(torch.set_grad_enabled(grad))
            for mode in (self.relus, softmax, ThroughNoGrad() if self.through_no_grad else None):
                if mode is not None:
                    scope.enter_context(mode)
            for layer in self.layers:
                if layer != INPUT:
                    module = engine._modules[split_call(layer)[0]]
                    scope.callback(module.register_forward_hook(self.taps[layer]).remove)
            if engine.output_layer is not None:
                module = engine._modules[split_call(engine.output_layer)[0]]
                scope.callback(module.register_forward_hook(keep_output(output)).remove)
            inputs = pytree.tree_map(own_copy, self.inputs)
            if INPUT in self.layers:
                inputs = self._tapped(inputs)
            raw = (self.call or call_model)(model, inputs)
            if engine.output_layer is not None:
                raw = self._read(output)
            if self._must_look_behind_softmax(raw):
                engine._ends_in_softmax = True
            else:
                self.scores = score(raw, lambda: self._logits(raw, softmax))
                return
        self._forward(score)

    def _read(self, output: list[Tensor]) -> Tensor:
        layer = str(self.engine.output_layer)
        call = split_call(layer)[1]
        if len(output) <= (call or 0):
            raise LayerError(f"output layer `{layer}` returned no scores; choose another")
        return output[-1 if call is None else call]

    def _tapped(self, inputs: Inputs) -> Inputs:
        first = first_tensor(inputs)
        if first is None:
            raise InputError("no floating-point input to differentiate; explain a layer: give conv_layer=")
        return replace_tensor(inputs, first, self.taps[INPUT].capture(first))

    def _must_look_behind_softmax(self, raw: Any) -> bool:
        if self.engine._ends_in_softmax or not self.plain:
            return False
        main = main_output(raw, strict=False)
        return main is not None and looks_like_probabilities(main)

    def _logits(self, raw: Any, softmax: SoftmaxSeen | None) -> Tensor:
        main = main_output(raw)
        assert main is not None
        if softmax is not None and softmax.result is main and softmax.logits is not None:
            self.notes.append(_BEFORE_SOFTMAX)
            main = softmax.logits
        elif self.plain and looks_like_probabilities(main):
            self.notes.append(_NO_SOFTMAX)
        return main.float() if main.dtype in (torch.float16, torch.bfloat16) else main

    def _guided(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return gradients whose backward pass goes through guided ReLUs."""
        if self.relus is None:
            return {}
        if not self.relus.seen:
            self.notes.append("the model calls no ReLU: guided backpropagation equals the plain gradient")
        self.relus.on = True
        try:
            return self._backward(layers)
        finally:
            self.relus.on = False

    def _backward(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return ∂score/∂activations for every target, `(target, *shape)` per call of each layer that has one."""
        tensors = [t for layer in layers for t in self.taps[layer].seen]
        if not tensors:
            return {}
        columns = self._columns()
        starts = range(0, len(columns), TARGETS_PER_PASS)
        parts = [self._vjp(tensors, columns[i : i + TARGETS_PER_PASS]) for i in starts]
        joined = iter(
            [None if part[0] is None else self._own_sample(torch.cat(part)) for part in zip(*parts, strict=True)]
        )
        found = {layer: [next(joined) for _ in self.taps[layer].seen] for layer in layers}
        return {
            layer: [_or_zeros(g, t, self.scores) for g, t in zip(gradients, self.taps[layer].seen, strict=True)]
            for layer, gradients in found.items()
            if any(g is not None for g in gradients)
        }

    def _columns(self) -> Tensor:
        """Return one cotangent per backward pass: one-hot over targets, and over samples where they couple."""
        batch, targets = self.scores.shape
        eye = torch.eye(targets, dtype=self.scores.dtype, device=self.scores.device)
        if not self.couples:
            return eye[:, None, :].expand(targets, batch, targets)
        own = torch.eye(batch, dtype=eye.dtype, device=eye.device)
        return (eye[:, None, None, :] * own[None, :, :, None]).reshape(targets * batch, batch, targets)

    def _own_sample(self, gradients: Tensor) -> Tensor:
        """Where samples couple, keep of every sample's gradient the part at its own activations."""
        if not self.couples:
            return gradients
        batch, targets = self.scores.shape
        if gradients.shape[1] != batch:
            raise ModelError(
                f"BatchNorm in training mode mixes the samples, and a layer returns {tuple(gradients.shape[1:])}, "
                f"which is not one row for each of {batch} samples; call model.eval() first"
            )
        split = gradients.reshape(targets, batch, *gradients.shape[1:])
        return torch.stack([split[:, i, i] for i in range(batch)], dim=1)

    def _vjp(self, tensors: list[Tensor], columns: Tensor) -> list[Tensor | None]:
        """Return vector-Jacobian products `(column, *shape)` for each tensor; None where nothing connects."""
        if not self.scores.requires_grad:
            return [None] * len(tensors)
        grad = partial(torch.autograd.grad, self.scores, tensors, retain_graph=True, allow_unused=True)
        if len(columns) == 1:
            return [None if g is None else g[None] for g in grad(columns[0])]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # operators without a batching rule are only slower
                return list(grad(columns, is_grads_batched=True))
        except RuntimeError:  # an operator that cannot be batched
            each = [grad(column) for column in columns]
            return [None if part[0] is None else torch.stack(part) for part in zip(*each, strict=True)]

    def _curvature(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return the Hessian of every score times the activations, by differentiating the gradient once more."""
        return {
            layer: [self._own_sample(self._hessian_product(t)) for t in self.taps[layer].seen]
            for layer in layers
            if self.scores.requires_grad
        }

    def _hessian_product(self, tensor: Tensor) -> Tensor:
        products = []
        for column in self._columns():
            (first,) = torch.autograd.grad(self.scores, tensor, column, create_graph=True, allow_unused=True)
            second = None
            if first is not None and first.requires_grad:
                (second,) = torch.autograd.grad(first, tensor, tensor.detach(), retain_graph=True, allow_unused=True)
            products.append(torch.zeros_like(tensor) if second is None else second)
        return torch.stack(products).detach()


def _or_zeros(gradient: Tensor | None, tensor: Tensor, scores: Tensor) -> Tensor:
    return tensor.new_zeros(scores.shape[1], *tensor.shape) if gradient is None else gradient
