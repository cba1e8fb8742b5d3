"""A pass without a graph, where an earlier one has proven what follows the layer."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor

from chronocam.engines.names import split_call, split_entry
from chronocam.engines.recording import Recording, Request, Score
from chronocam.engines.torch.cotangents import Cotangents
from chronocam.engines.torch.forward import ForwardPass
from chronocam.engines.torch.pooled import Head
from chronocam.engines.torch.state import State
from chronocam.engines.torch.taps import Tap, note_of_levels
from chronocam.engines.torch.tensors import as_leaf, map_leaves, own_copy
from chronocam.types import Inputs


def may_be_proven(forward: ForwardPass, state: State, request: Request) -> bool:
    """Say whether the gradients at one layer are all that is asked for, of what the model returns."""
    others = state.couples or state.hooked_backward or forward.output_layer is not None
    return request.only_gradients and len(request.layers) == 1 and not others


def closed_form(
    scope: ExitStack, forward: ForwardPass, state: State, inputs: Inputs, score: Score, request: Request
) -> Recording | None:
    """Return what one pass records, its gradients rows of the weight of the head behind the layer.

    None where nothing was proven of the model as it is, or where the head has not made these outputs: then
    the pass is to be run with a graph. scope: puts the grad mode back.
    """
    head = state.heads.get(request.layers[0]) if len(request.layers) == 1 else None
    if head is None or forward.may_end_in_gate or not may_be_proven(forward, state, request):
        return None
    recording = _recorded(scope, forward, state, inputs, score, request.layers[0], head)
    if recording is None:
        forward.replica.close()
        state.heads.pop(request.layers[0], None)
    return recording


def _recorded(
    scope: ExitStack,
    forward: ForwardPass,
    state: State,
    inputs: Inputs,
    score: Score,
    layer: str,
    head: Head,
) -> Recording | None:
    torch.set_grad_enabled(False)
    forward.start(scope, state)
    tap = _Glance(split_call(layer)[1], None, split_entry(layer)[1])
    forward.replica.tap(layer, tap, tap.undo)
    outputs = forward.run(map_leaves(own_copy, inputs))
    if not isinstance(outputs, Tensor) or len(tap.outputs) != 1 or not tap.is_untouched:
        return None
    # Scores alone are differentiated, by the outputs.
    torch.set_grad_enabled(True)
    outputs = as_leaf(outputs)
    result = forward.result(outputs)
    if result is None:
        return None
    scores, (activations,) = score(result), tap.outputs
    gradients = head.gradients(scores, outputs, activations, Cotangents(scores, couples=False).columns)
    if gradients is None:
        return None
    notes = (*forward.notes, *note_of_levels(layer, tap), *filter(None, [state.training_note]))
    return Recording(scores.detach(), {layer: [activations]}, {layer: [gradients]}, notes=notes)


class _Glance(Tap):
    """A tap that captures what the layer returned without a copy, and sees whether that is written into."""

    version: int | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether what was captured is as the layer returned it."""
        return self.version is not None and self.outputs[-1]._version == self.version

    def capture(self, tensor: Tensor) -> Tensor:
        """Keep `tensor` and return it: the model goes on with the same."""
        self.version = None if tensor.is_inference() else tensor._version
        self.outputs.append(tensor)
        self.passed.append(tensor)
        return tensor
