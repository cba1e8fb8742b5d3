"""Which layers a PyTorch model runs, what they return, and what its score depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from chronocam.engines.base import AxisOrder, LayerCall
from chronocam.engines.names import split_entry
from chronocam.engines.recording import Score
from chronocam.engines.scoped import scoped
from chronocam.engines.torch.forward import ForwardPass
from chronocam.engines.torch.graph import all_parents, that_keep_places
from chronocam.engines.torch.modes import ThroughNoGrad, WithoutChance, differentiable_rnns, may_be_gated
from chronocam.engines.torch.obstacles import refuse_cut_off, refuse_model
from chronocam.engines.torch.sights import Sights
from chronocam.engines.torch.tensors import (
    as_leaf,
    first_tensor,
    main_output,
    own_copy,
    replace_tensor,
    tensor_at,
)
from chronocam.errors import InputError, LayerError
from chronocam.types import Inputs

_SAME = (nn.Identity, nn.modules.dropout._DropoutNd)
_REORDER = (nn.Unfold, nn.PixelUnshuffle)
_RESAMPLE = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)
_POOLS = (
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._LPPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LocalResponseNorm)
_CHANNELS_FIRST = (nn.modules.conv._ConvNd, *_POOLS, *_NORMS, nn.Upsample, nn.PixelShuffle, nn.PReLU)
_ELEMENTWISE = (*_SAME, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid)


def order_of(module: nn.Module) -> AxisOrder | None:
    """Return where a module has its channels; None for one that takes them anywhere.

    A row of modules has them where the last one that says so has.
    """
    if isinstance(module, nn.Sequential):
        for child in reversed(module):
            if not isinstance(child, _ELEMENTWISE):
                return order_of(child)
    if isinstance(module, nn.Embedding):
        return "channels_last"
    return "channels_first" if isinstance(module, _CHANNELS_FIRST) else None


class Trace:
    """One forward pass that looks at every layer and, with a score, one backward pass to all of them."""

    def __init__(
        self, forward: ForwardPass, inputs: Inputs, score: Score | None, keep: Sequence[str] = ()
    ) -> None:
        self.forward = forward
        self.inputs = inputs
        self.score = score
        self.keep: frozenset[str] = frozenset(keep)
        self._entries: dict[str, list[str]] = {}  # of modules, which of several outputs are kept
        for name in keep:
            path, entry = split_entry(name)
            if entry:
                self._entries.setdefault(path, []).append(name)
        self.from_inputs: bool = True  # whether the graph begins at the inputs, and not at the first layers
        self._inputs: list[Tensor] = []
        self._calls: list[LayerCall] = []
        self._returned: list[Tensor] = []
        self._passed_on: list[Tensor] = []
        self._taps: list[Tensor] = []
        self._main: Tensor | None = None
        self._ended = False

    def calls(self) -> list[LayerCall]:
        """Return the calls of the layers in the order in which they finish."""
        if self.score is None:
            scoped(self._run)(None)
            return self._own()
        try:
            calls = scoped(self._scored)(self.score, through_no_grad=False)
        except (RuntimeError, InputError) as error:
            if "requires grad" not in str(error):
                raise
            # The model does to its input what cannot be differentiated, such as `x.numpy()`.
            self.from_inputs = False
            calls = scoped(self._scored)(self.score, through_no_grad=False)
        if calls is None:  # the model switches gradients off by itself
            calls = scoped(self._scored)(self.score, through_no_grad=True)
        assert calls is not None
        return calls

    def _scored(self, scope: ExitStack, score: Score, through_no_grad: bool) -> list[LayerCall] | None:
        """Return the calls with their gradients; None where the model may have switched them off.

        They are taken while the replica is whole: where activations are checkpointed it runs again.
        """
        scores = self._scores(scope, score, through_no_grad)
        if not (scores.requires_grad or through_no_grad):
            return None
        known = self._parents(scores)
        keep_places = that_keep_places(self._taps) if known is not None else None
        gradients, of_inputs = self._gradients(scores, hold=known is not None)
        calls = self._own(gradients)
        reached = [call for call in calls if call.changes and call.gradient is not None]
        if not (through_no_grad or any(len(call.shape) > 2 for call in reached)):
            return None
        if not reached:
            refuse_cut_off(scores, any(tensor.is_inference() for tensor in self._returned))
        if known is None or keep_places is None:
            return calls
        *parents, scored = known
        sights = None
        if len(self._inputs) == 1 and self._inputs[0].requires_grad:
            sights = Sights(self._taps, self._inputs[0], of_inputs[0], parents, scored, keep_places)
        return [
            replace(
                call,
                parents=parents[at],
                scored=at in scored,
                keeps_places=keep_places[at],
                sight=None if sights is None else partial(sights.of, at),
            )
            for at, call in enumerate(calls)
        ]

    def _scores(self, scope: ExitStack, score: Score, through_no_grad: bool) -> Tensor:
        """Run with a graph and return the scores.

        A softmax at the end is looked for at once: in a pass of one sample that costs less than another pass.
        """
        known, self.forward.may_end_in_gate = self.forward.may_end_in_gate, True
        scores = self._run(scope, score, through_no_grad)
        main = self._main
        self.forward.may_end_in_gate = known or (main is not None and may_be_gated(main))
        assert scores is not None
        return scores

    def _run(self, scope: ExitStack, score: Score | None, through_no_grad: bool = False) -> Tensor | None:
        """Run the model; return its scores, or None without a score."""
        self._calls, self._returned, self._passed_on, self._taps = [], [], [], []
        self._ended = False
        self.forward.start(scope)
        for path, module in self.forward.replica.items():
            of_weights = ".parametrizations." in f".{path}"  # they return weights, such as a norm of them
            if path and not of_weights and not isinstance(module, torch.jit.ScriptModule):
                self.forward.replica.tap(path, self._note(path), partial(self._forget, path))
        scope.enter_context(torch.set_grad_enabled(score is not None))
        scope.enter_context(WithoutChance())
        if score is not None:
            rnns = differentiable_rnns(self.forward.layers.values())
            for mode in (rnns, ThroughNoGrad() if through_no_grad else None):
                if mode is not None:
                    scope.enter_context(mode)
            self.forward.watch(scope)
        raw = self.forward.run(self._given())
        main = main_output(raw, strict=False)
        self._main = first_tensor(raw) if main is None else main
        result = None if score is None else self.forward.result(raw)
        return None if result is None or score is None else score(result)

    def _given(self) -> Inputs:
        """Return copies of the inputs; where a graph is built, it begins at them."""
        copies = pytree.tree_map(own_copy, self.inputs)
        self._inputs = [x for x in pytree.tree_leaves(copies) if isinstance(x, Tensor)]
        if self.score is None or not self.from_inputs:
            return copies
        for x in self._inputs:
            x.requires_grad_(x.is_floating_point())
        return pytree.tree_map_only(Tensor, Tensor.clone, copies)  # which the model can write into

    def _note(self, path: str) -> Callable[..., Any]:
        names = [path, *self._entries.get(path, ())]

        def hook(module: nn.Module, args: object, output: Any) -> Any:
            if self._ended or first_tensor(output) is None:
                return None
            order = self._order(module, first_tensor(args))
            changes, recurrent = (
                not isinstance(module, _SAME + _REORDER + _RESAMPLE),
                isinstance(module, nn.RNNBase),
            )
            for name in names:
                tensor = tensor_at(output, split_entry(name)[1])
                if tensor is None:
                    raise LayerError(f"`{name}` is not a floating-point tensor; choose another output")
                call = LayerCall(name, type(module).__name__, tuple(tensor.shape), changes, recurrent, order)
                if name in self.keep:
                    call = replace(call, output=tensor.detach().clone())
                self._calls.append(call)
                self._returned.append(tensor)
                self._passed_on.append(tensor)
                if self.score is not None:
                    output = self._tapped(tensor, output)
            return None if self.score is None else output

        return hook

    def _forget(self, path: str) -> None:
        """Take back the notes of the last call of a layer."""
        for noted in (self._calls, self._returned, self._passed_on, self._taps):
            for _ in range(min(1 + len(self._entries.get(path, ())), len(noted))):
                noted.pop()

    def _order(self, module: nn.Module, given: Tensor | None) -> AxisOrder | None:
        """Return where a call has its channels; an activation has them where what it gets has them."""
        if not isinstance(module, _ELEMENTWISE):
            return order_of(module)
        made = zip(reversed(self._passed_on), reversed(self._calls), strict=True)
        return next((call.order for tensor, call in made if tensor is given), None)

    def _tapped(self, tensor: Tensor, output: Any) -> Any:
        # The graph begins at the first layer. What goes on is a copy behind a node of its own: whatever used
        # the tensor before the layer returned it, such as a pooler within, then does not reach that node, and
        # no operation in place after it can change it.
        tap = tensor.view_as(tensor) if tensor.requires_grad else as_leaf(tensor)
        self._taps.append(tap)
        fresh = tap.clone()
        self._passed_on[-1] = fresh
        return fresh if output is tensor else replace_tensor(output, tensor, fresh)

    def _parents(self, scores: Tensor) -> list[tuple[int, ...]] | None:
        """Return the parents of every call, and of the scores; before gradients are taken."""
        if not (self.from_inputs and scores.requires_grad):
            return None
        return all_parents(self._taps, self._inputs, scores)

    def _gradients(self, scores: Tensor, hold: bool) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Return the gradients of the scores by what layers returned, and by the inputs.

        hold: whether the graph is held, and begins at the inputs.
        """
        self._ended = True  # what runs once more on the way back, from a checkpoint, has been noted
        count, inputs = len(self._taps), self._inputs if hold else []
        if not (scores.requires_grad and self._taps):
            return [None] * count, [None] * len(inputs)
        # In a sum of all classes gradients may cancel; in a random combination they do not.
        generator = torch.Generator().manual_seed(0)
        factors = torch.rand(scores.shape, generator=generator).to(scores) + 0.5
        places = {at: x for at, x in enumerate(inputs) if x.requires_grad}
        wanted = [*self._taps, *places.values()]
        try:
            found = torch.autograd.grad(scores, wanted, factors, retain_graph=hold, allow_unused=True)
        except RuntimeError as error:
            refuse_model(error)
            raise
        of_inputs = dict(zip(places, found[count:], strict=True))
        return list(found[:count]), [of_inputs.get(at) for at in range(len(inputs))]

    def _own(self, gradients: list[Tensor | None] | None = None) -> list[LayerCall]:
        """Return the calls with all that is known of them; what returns the output changes nothing."""
        outputs = {id(self._main)}
        for tensor, fresh in zip(reversed(self._returned), reversed(self._passed_on), strict=True):
            if id(fresh) in outputs:  # and a layer within that returned the same, such as the last of a row
                outputs.add(id(tensor))
        calls = [
            replace(call, changes=call.changes and id(fresh) not in outputs)
            for call, fresh in zip(self._calls, self._passed_on, strict=True)
        ]
        if gradients is None:
            return calls
        return [
            replace(call, output=tap.detach(), gradient=gradient)
            for call, tap, gradient in zip(calls, self._taps, gradients, strict=True)
        ]
