"""One pass of a PyTorch model: a forward pass with taps, and the backward passes from its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from chronocam.engines.base import Recording, Request, Result, Score
from chronocam.engines.torch.attention import AttentionSeen
from chronocam.engines.torch.chunks import Chunks
from chronocam.engines.torch.modes import (
    FrameAttention,
    GuidedReLUs,
    SoftmaxSeen,
    ThroughNoGrad,
    looks_like_probabilities,
)
from chronocam.engines.torch.scope import couples_samples, differentiable_rnns
from chronocam.engines.torch.taps import Cut, Tap
from chronocam.engines.torch.tensors import (
    call_model,
    first_tensor,
    keep_all,
    keep_output,
    main_output,
    own_copy,
    replace_tensor,
    split_call,
    vjp,
)
from chronocam.errors import InputError, LayerError, ModelError
from chronocam.types import INPUT, Inputs

if TYPE_CHECKING:
    from chronocam.engines.torch.engine import TorchEngine

_BEFORE_SOFTMAX = "scores are logits, read before the model's final softmax"
_NO_SOFTMAX = "scores look like probabilities and no final softmax was found; name output_layer="


class TorchPass:
    """One forward pass with taps, and the backward passes from its scores."""

    def __init__(self, engine: TorchEngine, inputs: Inputs, request: Request) -> None:
        self.engine = engine
        self.inputs = inputs
        self.request = request
        self.differentiate = request.differentiates
        self.through_no_grad = False
        self.relus = GuidedReLUs() if request.guided else None
        # Scores are read from the model's output, so a final softmax is looked behind.
        self.plain = engine.output_layer is None and request.call is None
        self.couples = couples_samples(engine.model)
        self.notes: list[str] = []
        self.taps: dict[str, Tap] = {}
        self.chunks: Chunks | None = None
        self.attention: FrameAttention | None = None
        self.attentions: AttentionSeen | None = None

    def run(self, score: Score) -> Recording:
        """Run the model, score its outputs, and return what is recorded.

        No graph is built before the first layer. Where that leaves a layer without a gradient, it may lie
        before or within the model's own no_grad(), or within a fused inference path: then all is run once
        more with a graph from the start.
        """
        asked = self.request
        recording = self._attempt(score)
        connected = {*recording.gradients, *recording.guided} == {*asked.gradients, *asked.guided}
        if self.chunks is None and not (connected and all(tap.seen for tap in self.taps.values())):
            self.through_no_grad = True
            recording = self._attempt(score)
        if self.chunks is not None and self.chunks.features is None:
            raise LayerError(
                f"no module on the way to `{asked.layers[0]}` gets {self.chunks.rows} frames folded into the "
                "batch, so chunk_frames= has nothing to cut; leave it out, or explain a layer of the 2D network"
            )
        for layer, tap in self.taps.items():
            if not tap.seen:
                raise LayerError(
                    f"layer `{layer}` was called {tap.calls} times, so nothing was recorded there; "
                    "choose a layer that the forward pass uses (`chronocam layers SPEC`)"
                )
        return recording

    def _attempt(self, score: Score) -> Recording:
        asked = self.request
        self.notes.clear()
        self._forward(score)
        gradients = self._backward(asked.gradients)
        curvature = self._curvature(asked.curvature)
        guided = self._guided(asked.guided)
        weights, along = self._attention_over_frames() or (None, None)
        return Recording(
            self.scores.detach(),
            {layer: [t.detach() for t in tap.seen] for layer, tap in self.taps.items()},
            gradients,
            guided,
            curvature,
            attention=weights,
            attention_gradients=along,
            attentions=tuple(self.attentions.seen) if self.attentions is not None else (),
            notes=tuple(self.notes),
        )

    def _forward(self, score: Score) -> None:
        engine, model, asked = self.engine, self.engine.model, self.request
        cut = Cut() if self.differentiate else None
        self.taps = {layer: Tap(split_call(layer)[1], cut) for layer in asked.layers}
        self.chunks = self._cut_into_chunks()
        output: list[Tensor] = []
        reads: dict[str, list[Any]] = {path: [] for path in asked.reads}
        softmax = SoftmaxSeen() if engine._ends_in_softmax else None
        if asked.clips is not None:
            self.attention = FrameAttention(asked.clips.frames, asked.clips.detach_attention)
        self.attentions = AttentionSeen() if asked.attentions else None
        grad = self.through_no_grad or (INPUT in asked.layers and self.differentiate)
        modes = self.attention, softmax, self.attentions
        with torch.set_grad_enabled(grad), self._watching(output, reads, *modes):
            inputs = pytree.tree_map(own_copy, self.inputs)
            if INPUT in asked.layers:
                inputs = self._tapped(inputs)
            raw = (asked.call or call_model)(model, inputs)
            if self.attention is not None:
                self.attention.end(main_output(raw, strict=False))
            if engine.output_layer is not None:
                raw = self._read(output)
            if self._must_look_behind_softmax(raw):
                engine._ends_in_softmax = True
            else:
                self.scores = score(Result(raw, lambda: self._logits(raw, softmax), reads))
                return
        self._forward(score)

    @contextmanager
    def _watching(
        self,
        output: list[Tensor],
        reads: dict[str, list[Any]],
        *modes: AbstractContextManager[Any] | None,
    ) -> Iterator[None]:
        """Look at the model while it runs, with these modes and those of the pass."""
        through = ThroughNoGrad() if self.through_no_grad else None
        with ExitStack() as scope:
            if self.differentiate:
                scope.enter_context(differentiable_rnns(self.engine.model))
            for mode in (self.relus, *modes, through):
                if mode is not None:
                    scope.enter_context(mode)
            for undo in self._hooks(output, reads):
                scope.callback(undo)
            yield

    def _hooks(self, output: list[Tensor], reads: dict[str, list[Any]]) -> Iterator[Callable[[], None]]:
        """Attach what looks at the layers, and yield what undoes each."""
        engine = self.engine
        for layer in self.request.layers:
            if layer != INPUT:
                module = engine._modules[split_call(layer)[0]]
                yield module.register_forward_hook(self.taps[layer]).remove
        if engine.output_layer is not None:
            module = engine._modules[split_call(engine.output_layer)[0]]
            yield module.register_forward_hook(keep_output(output)).remove
        for path, outputs in reads.items():
            yield engine._modules[path].register_forward_hook(keep_all(outputs)).remove
        if self.chunks is not None:
            parts = [split_call(layer)[0].split(".") for layer in self.request.layers]
            for path in dict.fromkeys(
                ".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)
            ):
                yield self.chunks.attach(path, engine._modules[engine.resolve(path)])

    def _cut_into_chunks(self) -> Chunks | None:
        """Return how the frames are run in chunks, where that was asked for."""
        clips = self.request.clips
        if clips is None or clips.chunk is None:
            return None
        if INPUT in self.request.layers:
            raise LayerError(
                "chunk_frames= keeps no gradient at the input; explain a layer: give conv_layer="
            )
        if self.couples:
            raise ModelError("chunk_frames= cannot cut BatchNorm in training mode; call model.eval() first")
        first = first_tensor(self.inputs)
        rows = 0 if first is None else len(first) * clips.frames
        return Chunks(rows, clips.chunk, self.taps, self.differentiate)

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
        inner = self.chunks.inner if self.chunks is not None else {}
        outer = [layer for layer in layers if layer not in inner]
        joined = iter(self._gradients([t for layer in outer for t in self.taps[layer].seen]))
        found = {layer: [next(joined) for _ in self.taps[layer].seen] for layer in outer}
        if self.chunks is not None and self.chunks.features is not None and len(outer) < len(layers):
            (upstream,) = self._gradients([self.chunks.features])
            if upstream is not None:
                with self._watching([], {}):
                    found |= self.chunks.gradients(upstream)
        return {
            layer: [
                _or_zeros(g, t, self.scores) for g, t in zip(found[layer], self.taps[layer].seen, strict=True)
            ]
            for layer in layers
            if any(g is not None for g in found.get(layer, ()))
        }

    def _gradients(self, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """Return ∂score/∂tensor for every target, `(target, *shape)`; None where nothing connects."""
        found = vjp(self.scores, tensors, self._columns()) if tensors else []
        return [None if g is None else self._own_sample(g) for g in found]

    def _attention_over_frames(self) -> tuple[Tensor, Tensor | None] | None:
        """Return attention weights `(batch, time)` and ∂score/∂weights `(target, batch, time)`, where there are any."""
        seen = [] if self.attention is None else self.attention.seen
        for weights in reversed([w for w in seen if len(w) == len(self.scores)]):
            (gradient,) = self._gradients([weights]) if weights.requires_grad else (None,)
            if gradient is not None or not self.differentiate:
                return weights.detach().flatten(1), None if gradient is None else gradient.flatten(2)
        return None

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

    def _curvature(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return the Hessian of every score times the activations, by differentiating the gradient once more."""
        if layers and self.chunks is not None:
            raise LayerError(
                "chunk_frames= takes first derivatives only; choose another method than shapleycam"
            )
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
                (second,) = torch.autograd.grad(
                    first, tensor, tensor.detach(), retain_graph=True, allow_unused=True
                )
            products.append(torch.zeros_like(tensor) if second is None else second)
        return torch.stack(products).detach()


def _or_zeros(gradient: Tensor | None, tensor: Tensor, scores: Tensor) -> Tensor:
    return tensor.new_zeros(scores.shape[1], *tensor.shape) if gradient is None else gradient
