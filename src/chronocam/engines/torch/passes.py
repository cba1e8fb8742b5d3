"""One pass of a PyTorch model: a forward pass with taps, and the backward passes from its scores."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from chronocam.engines.misfit import NO_FLOATS
from chronocam.engines.names import split_call, split_entry
from chronocam.engines.outputs import NO_RELU
from chronocam.engines.recording import Recording, Request, Result, Score, changed_at
from chronocam.engines.resumption import Recorder
from chronocam.engines.scoped import scoped
from chronocam.engines.torch.attended import TappedAttention
from chronocam.engines.torch.attention import AttentionSeen, Mixing, UnfusedAttention
from chronocam.engines.torch.blocks import Blocks, row_of_blocks
from chronocam.engines.torch.chunks import Chunks
from chronocam.engines.torch.closed_form import may_be_proven
from chronocam.engines.torch.cotangents import Cotangents
from chronocam.engines.torch.forward import ForwardPass
from chronocam.engines.torch.layers import Layers
from chronocam.engines.torch.modes import FrameAttention, GuidedReLUs, ThroughNoGrad, differentiable_rnns
from chronocam.engines.torch.obstacles import refuse_cut_off, refuse_model
from chronocam.engines.torch.pooled import Pooled, Users, pooled_in, users_in
from chronocam.engines.torch.resume import TorchRest
from chronocam.engines.torch.state import State
from chronocam.engines.torch.taps import Cut, Tap, note_of_levels
from chronocam.engines.torch.tensors import (
    first_tensor,
    main_output,
    map_leaves,
    own_copy,
    replace_tensor,
    with_graph,
)
from chronocam.errors import InputError, LayerError, ModelError
from chronocam.maps.attended import Attended
from chronocam.types import INPUT, Inputs


class TorchPass:
    """One forward pass with taps, and the backward passes from its scores.

    scope: entered for as long as anything is recorded.
    state: the model as it is now.
    rests: of the model after layers, which note what comes before these.
    """

    def __init__(
        self,
        scope: ExitStack,
        forward: ForwardPass,
        state: State,
        inputs: Inputs,
        request: Request,
        rests: Mapping[str, TorchRest],
    ) -> None:
        self.scope = scope
        self.forward = forward
        self.layers: Layers = forward.layers
        self.state = state
        self.inputs = inputs
        self.request = request
        self.rests = rests
        self.differentiate: bool = request.differentiates
        # Backward hooks of the model get gradients of what layers took, which only a whole graph has.
        self.through_no_grad: bool = self.differentiate and state.hooked_backward
        self.relus: GuidedReLUs | None = GuidedReLUs() if request.guided else None
        self.couples: bool = state.couples
        self.notes: list[str] = []
        self._training = state.training_note
        self.taps: dict[str, Tap] = {}
        self.chunks: Chunks | None = None
        self.attention: FrameAttention | None = None
        self.attentions: list[Tensor] = []
        self.tapped: TappedAttention | None = None
        self.blocks: Blocks | None = None
        self.scores: Tensor
        self.recorders: dict[str, Recorder[nn.Module]] = {}
        self.result: Result | None = None
        self.outputs: Tensor | None = None  # of the model, where they are one tensor

    def run(self, score: Score) -> Recording:
        """Run the model, score its outputs, and return what is recorded."""
        try:
            recording = self._recorded(score)
        except RuntimeError as error:
            refuse_model(error)
            raise
        self._hand_over()
        return recording

    @property
    def _shows_input(self) -> bool:
        """Whether this pass is to show which attention is over tokens of the input: the first of a model.

        Of words and other numbers without a gradient nothing shows it.
        """
        if not (self.request.attended or self.request.blocks) or self.state.of_input is not None:
            return False
        tensors = [x for x in pytree.tree_leaves(self.inputs) if isinstance(x, Tensor)]
        return all(x.is_floating_point() for x in tensors)

    @property
    def _from_input(self) -> bool:
        """Whether the graph begins at the input."""
        return self.through_no_grad or self._shows_input

    def _recorded(self, score: Score) -> Recording:
        request = self.request
        try:
            recording = self._attempt(score)
        except RuntimeError as error:
            if not self._shows_input or "requires grad" not in str(error):
                raise
            # The model does to its input what cannot be differentiated: what is of it stays unknown.
            self.state.of_input = ()
            recording = self._attempt(score)
        # The graph begins at the first layer: what comes before it costs no memory and no backward pass. A
        # layer without a gradient may only seem unconnected, because it lies before that layer, within the
        # model's own no_grad(), or within a fused inference path (nn.TransformerEncoderLayer's). So before it
        # is called unconnected, all runs once more with a graph from the start.
        needed = {layer for layer in (*request.gradients, *request.guided) if self._wanted(layer) != []}
        connected = {*recording.gradients, *recording.guided} >= needed
        connected &= not request.attended or any(x.gradients is not None for x in recording.attended)
        if self.chunks is None and not (connected and all(tap.outputs for tap in self.taps.values())):
            self.through_no_grad = True
            recording = self._attempt(score)
            if not {*recording.gradients, *recording.guided} >= needed:
                refuse_cut_off(self.scores, any(tap.in_inference for tap in self.taps.values()))
        if self.chunks is not None and self.chunks.features is None:
            raise LayerError(
                f"no module on the way to `{request.layers[0]}` gets {self.chunks.rows} frames folded into "
                "the batch, so chunk_frames= has nothing to cut; leave it out, or explain a layer of the 2D "
                "CNN"
            )
        for layer, tap in self.taps.items():
            if not tap.outputs:
                own = " and let operator= call the model that it is given" if request.call is not None else ""
                raise LayerError(
                    f"layer `{layer}` was called {tap.calls} times, so nothing was recorded there; "
                    f"choose a layer that the forward pass uses (`chronocam layers SPEC`){own}"
                )
        return recording

    def _attempt(self, score: Score) -> Recording:
        """Run forward and backward once.

        All gradients are taken here, while the graph lives: a recording holds tensors without any.
        """
        request = self.request
        self.notes.clear()
        self._forward(score)
        if self.tapped is not None and self.state.mixes_unseen:
            self.notes.append(
                "tokens are also mixed by attention without a softmax, or by other products of theirs, "
                "which is left out of the map"
            )
        self.notes += [note for layer, tap in self.taps.items() for note in note_of_levels(layer, tap)]
        gradients = self._backward(request.gradients)
        curvature = self._curvature(request.curvature) if request.curvature else {}
        guided = self._guided(request.guided) if request.guided else {}
        weights, along = self._attention_over_frames()
        return Recording(
            self.scores.detach(),
            {layer: [t.detach() for t in tap.outputs] for layer, tap in self.taps.items()},
            gradients,
            guided,
            curvature,
            attention=weights,
            attention_gradients=along,
            attentions=tuple(self.attentions),
            attended=self.tapped.attended(self._cotangents.gradients)
            if self.tapped and request.attended
            else (),
            blocks=() if self.blocks is None else self._of_blocks(self.blocks),
            rests=self.rests,
            notes=(*self.forward.notes, *self.notes, *([self._training] if self._training else [])),
        )

    def _forward(self, score: Score) -> None:
        """Run the model, twice where it may end in a softmax or sigmoid, and score its outputs."""
        look = scoped(self._look)
        while not look(score):
            pass

    def _look(self, scope: ExitStack, score: Score) -> bool:
        """Run the model; say whether its outputs could be scored.

        Not where they end in a gate for which no one looked.
        """
        self._prepare(scope)
        inputs = map_leaves(own_copy, self.inputs)
        if self._from_input:
            inputs = map_leaves(with_graph, inputs)
        if INPUT in self.request.layers:
            inputs = self._tapped(inputs)
        raw = self.forward.run(inputs)
        if self.tapped is not None and self._shows_input:
            self.tapped.end()
            self.state.of_input = tuple(self.tapped.of_input)
            self.state.mixes_unseen = self.tapped.mixes_unseen
        if any(tap.outputs for tap in self.taps.values()) and self.differentiate:
            # The graph begun at a layer goes on to the scores; a model's own no_grad() has ended it by then.
            torch.set_grad_enabled(True)
        if self.attention is not None:
            self.attention.end(main_output(raw, strict=False))
        self.outputs = raw if isinstance(raw, Tensor) else None
        self.result = self.forward.result(raw)
        if self.result is None:
            return False
        self.scores = score(self.result)
        return True

    def _prepare(self, scope: ExitStack) -> None:
        """Make a replica of the model, and put all that records into it."""
        request = self.request
        # With a graph from the start nothing is cut: what a layer returned may be used within it, before a
        # hook sees it, as by models that collect their hidden states.
        cut = Cut(leaf_exists=self.through_no_grad) if self.differentiate else None
        self.taps = {layer: Tap(split_call(layer)[1], cut, split_entry(layer)[1]) for layer in request.layers}
        self.chunks = self._cut_into_chunks()
        self.attentions = []
        self.tapped = None
        if request.attended or request.blocks:
            of_input = None if self._shows_input else self.state.of_input or ()
            self.tapped = TappedAttention(cut, request.origins, of_input)
        if request.clips is not None:
            self.attention = FrameAttention(request.clips.frames, request.clips.detach_attention)
        self.blocks = self._row_of_blocks()
        self.forward.start(self.scope, self.state)
        scope.enter_context(
            torch.set_grad_enabled(self._from_input or (INPUT in request.layers and self.differentiate))
        )
        if request.sees_attention:
            scope.enter_context(AttentionSeen(self._attends))
        self._watch(scope, self.attention)
        for layer, tap in self.taps.items():
            if layer != INPUT:
                self.forward.replica.tap(layer, tap, tap.undo)
        if self.chunks is not None:
            self.chunks.cut(self.forward.replica, self.layers)
        if self.blocks is not None:
            self.blocks.watch()
        # What runs in chunks does not return what it returns as a whole.
        noting = {} if self.chunks is not None else self.rests
        self.recorders = {layer: rest.noted(self.forward.replica) for layer, rest in noting.items()}
        self.forward.watch(scope)

    def _hand_over(self) -> None:
        """Let the model be resumed from the layers of which that is asked."""
        for layer, rest in self.rests.items():
            if layer in self.recorders and self.result is not None:
                gated = self.forward.may_end_in_gate
                rest.keep(self.recorders[layer], self.taps[layer].outputs, self.result, gated)
            else:
                rest.run_once()

    def _row_of_blocks(self) -> Blocks | None:
        """Return the blocks that are scored one by one, where that was asked for; found out once."""
        if self.request.blocks is None or self.tapped is None:
            return None
        near, rows = self.request.layers[0], self.layers.rows_of_blocks
        if near not in rows:
            rows[near] = row_of_blocks(copy.copy(self.forward), self.inputs, near)
        return Blocks(self.forward, self.inputs, rows[near], self.tapped)

    def _of_blocks(self, blocks: Blocks) -> tuple[tuple[Attended, ...], ...]:
        score = self.request.blocks
        return () if score is None else blocks.attended(score, self._gradients_of)

    def _gradients_of(self, scores: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        return Cotangents(scores, self.couples).gradients(tensors)

    def _attends(self, mixing: Mixing) -> Tensor:
        if self.request.attentions:
            self.attentions.append(mixing.means.detach())
        return mixing.output if self.tapped is None else self.tapped.see(mixing)

    def _watch(self, scope: ExitStack, *modes: TorchFunctionMode | None) -> None:
        """Enter what looks at operations, `modes` and those that any look needs."""
        twice = bool(self.request.curvature)
        recurrent = self.state.recurrent if self.differentiate else ()
        rnns = differentiable_rnns(recurrent, twice) if recurrent else None
        unfused = UnfusedAttention() if twice else None
        through = ThroughNoGrad() if self.through_no_grad else None
        for mode in (rnns, unfused, self.relus, *modes, through):
            if mode is not None:
                scope.enter_context(mode)

    def _cut_into_chunks(self) -> Chunks | None:
        """Return how the frames are run in chunks, where that was asked for."""
        clips = self.request.clips
        if clips is None or clips.chunk is None:
            return None
        if self.request.reads:
            raise LayerError("chunk_frames= and a target that reads other modules do not go together")
        if INPUT in self.request.layers:
            raise LayerError(
                "chunk_frames= keeps no gradient at the input; explain a layer: give conv_layer="
            )
        if self.couples:
            raise ModelError("chunk_frames= cannot cut BatchNorm in training mode; call model.eval() first")
        first = first_tensor(self.inputs)
        rows = 0 if first is None else len(first) * clips.frames
        return Chunks(rows, clips.chunk, self.taps, self.differentiate)

    def _tapped(self, inputs: Inputs) -> Inputs:
        if self.request.entry is not None:
            return changed_at(inputs, self.request.entry, self.taps[INPUT].capture)
        first = first_tensor(inputs)
        if first is None:
            raise InputError(NO_FLOATS)
        return replace_tensor(inputs, first, self.taps[INPUT].capture(first))

    def _guided(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return gradients whose backward pass goes through guided ReLUs."""
        if self.relus is None:
            return {}
        if not self.relus.count:
            self.notes.append(NO_RELU)
        self.relus.on = True
        try:
            return self._backward(layers)
        finally:
            self.relus.on = False

    def _backward(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return ∂score/∂activations, `(target, *shape)` per call of each layer that has a gradient."""
        inner = self.chunks.inner if self.chunks is not None else {}
        outer = [layer for layer in layers if layer not in inner]
        few = {layer: own for layer in outer if (own := self._wanted(layer)) is not None}
        whole = [layer for layer in outer if layer not in few]
        flat = iter(self._gradients_at([self.taps[layer] for layer in whole]))
        found = {layer: [next(flat) for _ in self.taps[layer].outputs] for layer in whole}
        found |= {
            layer: self._cotangents.of_some(own, self.taps[layer].outputs) for layer, own in few.items()
        }
        if len(outer) < len(layers):
            found |= self._backward_in_chunks()
        connected = [layer for layer in layers if any(g is not None for g in found.get(layer, ()))]
        return {layer: self._filled(found[layer], self.taps[layer].outputs) for layer in connected}

    def _backward_in_chunks(self) -> dict[str, list[Tensor | None]]:
        """Return the gradients at the layers within the module that sees the frames in chunks."""
        if self.chunks is None or self.chunks.features is None:
            return {}
        (upstream,) = self._cotangents.gradients([self.chunks.features])
        if upstream is None:
            return {}
        return scoped(self._second_look)(self.chunks, upstream)

    def _second_look(
        self, scope: ExitStack, chunks: Chunks, upstream: Tensor
    ) -> dict[str, list[Tensor | None]]:
        scope.enter_context(torch.set_grad_enabled(torch.is_grad_enabled()))
        self._watch(scope)
        return chunks.gradients(upstream)

    def _filled(self, gradients: Sequence[Tensor | None], calls: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of a layer's calls, zeros for those that the scores do not depend on."""
        targets = self.scores.shape[1]
        pairs = zip(gradients, calls, strict=True)
        return [t.new_zeros(targets, *t.shape) if g is None else g for g, t in pairs]

    @property
    def _cotangents(self) -> Cotangents:
        return Cotangents(self.scores, self.couples)

    def _wanted(self, layer: str) -> list[int] | None:
        """Return of which scores a layer's gradients are needed; None for all."""
        return None if self.request.wanted is None or self.couples else list(self.request.wanted(layer))

    def _gradients_at(self, taps: Sequence[Tap]) -> list[Tensor | None]:
        """Return ∂score/∂output for every call of the layers, in closed form where it has one."""
        outputs = [t for tap in taps for t in tap.outputs]
        passed = [t for tap in taps for t in tap.passed]
        users, cotangents = users_in(self.scores), self._cotangents
        pooled = [pooled_in(users, *pair) for pair in zip(outputs, passed, strict=True)]
        rest = [t for t, one in zip(outputs, pooled, strict=True) if one is None]
        others = iter(
            cotangents.gradients(rest, last=len(rest) == len(outputs) and self._differentiates_once)
        )
        found = [
            next(others)
            if one is None
            else one.gradients(
                self.scores, cotangents.columns, users, cotangents.own if self.couples else None
            )
            for one in pooled
        ]
        if len(pooled) == 1 and pooled[0] is not None and found[0] is not None:
            self._prove(pooled[0], users, outputs[0], found[0])
        return found

    def _prove(self, pooled: Pooled, users: Users, activations: Tensor, gradients: Tensor) -> None:
        """Note what follows the layer where the pass has proven it: the next ones need no graph."""
        plain = may_be_proven(self.forward, self.state, self.request) and not self.through_no_grad
        if self.outputs is None or not plain:
            return
        head = pooled.head(self.outputs, users, self.state.modules)
        if head is None:
            return
        own = head.gradients(self.scores, self.outputs, activations, self._cotangents.columns)
        if own is not None and head.same(own, gradients):
            self.state.heads[self.request.layers[0]] = head

    @property
    def _differentiates_once(self) -> bool:
        """Whether only gradients of layers are wanted, all at once: the graph can go while they are taken."""
        request = self.request
        others = request.guided or request.curvature or request.attended or request.blocks
        weights = self.attention is not None and self.attention.weights
        return not (others or weights or request.wanted is not None or self.chunks is not None)

    def _attention_over_frames(self) -> tuple[Tensor | None, Tensor | None]:
        """Return attention weights `(batch, time)` and ∂score/∂weights `(target, batch, time)`, if any."""
        if self.attention is None:
            return None, None
        rows = self.attention.weights
        # The last attention that the scores depend on: what a model pools its frames by comes last.
        for weights in reversed([w for w in rows if len(w) == len(self.scores)]):
            (gradient,) = self._cotangents.gradients([weights]) if weights.requires_grad else (None,)
            if gradient is not None or not self.differentiate:
                return weights.detach().flatten(1), None if gradient is None else gradient.flatten(2)
        return None, None

    def _curvature(self, layers: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return the Hessian of every score times the activations, by differentiating the gradient."""
        if layers and self.chunks is not None:
            raise LayerError(
                "chunk_frames= takes first derivatives only; choose another method than shapleycam"
            )
        return {
            layer: [self._cotangents.curvature(t) for t in self.taps[layer].outputs]
            for layer in layers
            if self.scores.requires_grad
        }
