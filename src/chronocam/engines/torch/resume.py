"""A PyTorch model from one of its layers on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from operator import methodcaller
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from chronocam.engines.misfit import out_of_memory
from chronocam.engines.names import split_entry
from chronocam.engines.recording import Result, Score
from chronocam.engines.resumption import Counting, Recorder, Rest, Stored, replaying
from chronocam.engines.scoped import scoped
from chronocam.engines.torch.ablated import Ablated
from chronocam.engines.torch.forward import ForwardPass
from chronocam.engines.torch.one_cell import OneCell
from chronocam.engines.torch.repeated import Repeated
from chronocam.engines.torch.replica import Replica
from chronocam.engines.torch.scope import couples_samples, settle, training_note, walk
from chronocam.engines.torch.spectral import Spectral
from chronocam.engines.torch.tensors import first_tensor, own_copy, replace_tensor, tensor_at
from chronocam.errors import LayerError, ModelError
from chronocam.types import Inputs

T = TypeVar("T")


class TorchRest(Rest[nn.Module]):
    """The rest of a PyTorch model; modules that do not run have their `forward` replaced.

    What came before the layer is noted in a pass of any kind, between `noted` and `keep`, or in one that
    `run_once` is for.
    """

    def __init__(self, forward: ForwardPass, inputs: Inputs, layer: str) -> None:
        first = first_tensor(inputs)
        super().__init__(inputs, None if first is None else len(first), layer)
        self._forward = forward
        self._model = forward.layers.model
        self._modules = forward.layers.walk()
        self._module = forward.layers[layer]
        self._stands_in = True  # whether the model takes what stands for copies
        if couples_samples(self._model, self._modules):
            raise ModelError("BatchNorm in training mode mixes the samples; call model.eval() first")

    def run_once(self) -> TorchRest:
        """Run the whole model for this alone, and return this."""
        scoped(self._settled)(lambda: self._keep(*self._recorded(1)))
        return self

    def noted(self, replica: Replica) -> Recorder[nn.Module]:
        """Return what notes all that comes before the layer, in the next run of a replica of the model."""
        recorder = Recorder(self._module, self._call, partial(pytree.tree_map, own_copy))
        for module in self._modules:
            if self._can_be_replaced(module):
                replica.replace(module, partial(recorder.around, module))
        return recorder

    def keep(
        self, recorder: Recorder[nn.Module], activations: Sequence[Tensor], result: Result, gated: bool
    ) -> None:
        """Take what a run gave; see `noted`.

        activations: what the layer returned, per call. gated: whether the model may end in a gate.
        """
        self._forward.may_end_in_gate, self._forward.settled = gated, True
        copies = [own_copy(x) for x in activations]
        scoped(self._settled)(lambda: self._keep(recorder, copies, result))

    def _settled(self, scope: ExitStack, run: Callable[[], T]) -> T:
        """Return what `run` returns, without a graph."""
        settle(scope, self._model)
        scope.enter_context(torch.no_grad())
        return run()

    def _recorded(self, times: int) -> tuple[Recorder[nn.Module], list[Tensor], Result]:
        while True:
            recorders: list[Recorder[nn.Module]] = []
            activations: list[Tensor] = []

            def keep(number: int, x: Tensor, kept: list[Tensor] = activations) -> Tensor:
                kept[number:] = [x.clone()]  # anew, where the model's own hooks made something else of it
                return x

            def note(replica: Replica, made: list[Recorder[nn.Module]] = recorders) -> None:
                made.append(self.noted(replica))

            raw = scoped(self._called)(note, keep, pytree.tree_map(own_copy, self._repeated_inputs(times)))
            result = self._forward.result(raw)
            if result is not None:
                self._forward.settled = True
                return recorders[0], activations, result

    def _can_be_replaced(self, module: nn.Module) -> bool:
        """Say whether what a module returned can be given in the place of its run.

        One that holds the layer must run, or the layer would not be called; so must one that holds others
        with hooks of their own, which may keep features for later. What TorchScript calls cannot be replaced.
        """
        if isinstance(module, torch.jit.ScriptModule):
            return False
        within = walk(module)[1:]
        return self._module not in within and not any(one._forward_hooks for one in within)

    def _called(
        self,
        scope: ExitStack,
        prepare: Callable[[Replica], object],
        change: Callable[[int, Tensor], Tensor],
        inputs: Inputs,
    ) -> Any:
        """Run a replica of the model that `prepare` got, the layer's outputs changed."""
        self._forward.start(scope)
        prepare(self._forward.replica)
        changed = Counting(self._call, change)
        self._forward.replica.tap(self._layer, self._at_layer(changed), changed.undo)
        self._forward.watch(scope)
        scope.enter_context(Spectral())
        return self._forward.run(inputs)

    def _run(self, changed: Sequence[Tensor], times: int) -> Result:
        repeated = partial(_repeated, times)

        def replay(replica: Replica) -> None:
            for module, stored in self._stored.items():
                replica.replace(module, partial(replaying, stored, repeated))

        def own(number: int, x: Tensor) -> Tensor:
            one = changed[number]
            return one if isinstance(one, Repeated) else own_copy(one)

        raw = scoped(self._called)(replay, own, self._repeated_inputs(times))
        # An output that does not depend on the layer comes as it was stored.
        result = self._forward.result(pytree.tree_map_only(Repeated, methodcaller("copies"), raw))
        assert result is not None  # the recording has settled whether a gate is looked for
        return result

    def _scored(self, changed: Sequence[Tensor], times: int, score: Score) -> Tensor:
        return scoped(self._settled)(lambda: score(self._run(changed, times)))

    def without(self, channels: Sequence[int], axis: int, calls: int, score: Score) -> Tensor:
        """Return the scores `(channel · batch, target)` without each channel; see `Resumed`."""
        return self._standing_in(partial(super().without, channels, axis, calls, score))

    def masked(self, masks: np.ndarray, score: Score) -> Tensor:
        """Return the scores `(mask · batch, target)` through each mask; see `Resumed`."""
        return self._standing_in(partial(super().masked, masks, score))

    def _standing_in(self, scored: Callable[[], Tensor]) -> Tensor:
        """Return scores of what stands for copies; of the copies where the model does not take that."""
        try:
            return scored()
        except Exception as error:
            if not self._stands_in or out_of_memory(error):
                raise
        # What takes a tensor by its memory, as `torch.vmap` does, sees too few rows: it gets copies.
        self._stands_in = False
        return scored()

    def _ablated(self, x: Tensor, channels: np.ndarray, axis: int) -> Tensor:
        # Of a single channel the rows are as many as those of the whole, and would be taken for it.
        if not self._stands_in or axis != 1 or len(channels) == 1:
            return super()._ablated(x, channels, axis)
        return Ablated.without(x, torch.as_tensor(channels, device=x.device))

    def _through(self, x: Tensor, masks: np.ndarray) -> Tensor:
        one = None
        if self._stands_in and len(masks) > 1:
            one = OneCell.masked(x, torch.as_tensor(masks, dtype=x.dtype, device=x.device))
        return super()._through(x, masks) if one is None else one

    def _remedy(self) -> str:
        return "call model.eval() first" if training_note(self._modules) else super()._remedy()

    def _tensors(self, output: Any) -> list[Tensor]:
        return [x for x in pytree.tree_leaves(output) if isinstance(x, Tensor)]

    def _at_layer(self, changed: Callable[[Tensor], Tensor]) -> Callable[..., object]:
        """Return a hook: the layer's output goes through `changed`."""
        entry = split_entry(self._layer)[1]

        def hook(module: nn.Module, args: object, output: object) -> object:
            tensor = tensor_at(output, entry)
            if tensor is None:
                kind = type(module).__name__
                raise LayerError(f"a {kind} returns no floating-point tensor; choose another layer")
            return replace_tensor(output, tensor, changed(tensor))

        return hook

    def _repeated_inputs(self, times: int) -> Inputs:
        def repeated(x: Tensor) -> Tensor:
            return Repeated.of(x, times, 0 if x.ndim and len(x) == self._samples else None)

        return pytree.tree_map_only(Tensor, repeated, self._inputs)


def _repeated(times: int, stored: Stored) -> Any:
    """Return an output for the samples `times` over; what is not per sample stays as it is."""
    axes = iter(stored.axes)
    return pytree.tree_map_only(Tensor, lambda x: Repeated.of(x, times, next(axes)), stored.output)
