"""One forward pass of a PyTorch model, and what a score function sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from chronocam.engines.names import split_call
from chronocam.engines.outputs import NO_SOFTMAX, logits_note
from chronocam.engines.recording import Call, Feed, Result
from chronocam.engines.scoped import scoped
from chronocam.engines.torch.layers import Layers
from chronocam.engines.torch.modes import GatesSeen, MovesSeen, looks_like_probabilities, may_be_gated
from chronocam.engines.torch.obstacles import unlike_scores
from chronocam.engines.torch.replica import Replica
from chronocam.engines.torch.state import State
from chronocam.engines.torch.tensors import call_model, keep_all, keep_output, main_output
from chronocam.errors import LayerError, ModelError
from chronocam.types import Inputs


class ForwardPass:
    """Runs a model and reads what a score function sees: at the output layer, before a softmax or sigmoid.

    reads: modules whose outputs the score function reads.
    may_end_in_gate: whether a softmax or sigmoid at the end is looked for; once one may be there, always.
    feed: see `Engine.feed`.
    """

    def __init__(
        self,
        layers: Layers,
        output_layer: str | None,
        call: Call | None,
        reads: Sequence[str],
        may_end_in_gate: bool,
        feed: Feed,
    ) -> None:
        self.layers = layers
        self.output_layer = output_layer
        self.call = call
        self.reads = reads
        self.may_end_in_gate: bool = may_end_in_gate
        self.feed = feed
        self.notes: list[str] = []
        self.settled = False  # whether it was decided before this pass if a gate is looked for
        self.moves: MovesSeen | None = None  # where it is asked whether places are moved
        self.replica: Replica
        self._gates: GatesSeen | None = None
        self._outputs: list[Tensor] = []
        self._read: dict[str, list[Any]] = {}

    def start(self, scope: ExitStack, state: State | None = None) -> None:
        """Begin with a replica of the model, into which what looks at it is put while `scope` is entered.

        state: see `Layers.replica`.
        """
        self.replica = self.layers.replica(state)
        scope.callback(self.replica.close)
        self.notes.clear()
        self._outputs = []
        self._read = {path: [] for path in self.reads}

    def watch(self, scope: ExitStack) -> None:
        """Look at the replica while it runs, for as long as `scope` is entered."""
        self._gates = scope.enter_context(GatesSeen()) if self.may_end_in_gate else None
        for path, calls in self._read.items():
            self.replica.hook(self.layers.resolve(path), keep_all(calls))
        if self.output_layer is not None:
            self.replica.hook(self.output_layer, keep_output(self._outputs))

    def run(self, inputs: Inputs) -> Any:
        """Call the replica."""

        def called() -> Any:
            return (self.call or call_model)(self.replica.model, self.feed(inputs))

        def watched(scope: ExitStack, moves: MovesSeen) -> Any:
            scope.enter_context(moves)
            return called()

        return called() if self.moves is None else scoped(watched)(self.moves)

    def result(self, raw: Any) -> Result | None:
        """Return what the score function sees of `raw`, what the model returned.

        None where that may come out of a gate nobody looked for: then the model must be run again.
        """
        if isinstance(raw, Tensor) and raw.is_nested:
            raise ModelError(unlike_scores(raw))
        if self.output_layer is not None:
            raw = self._output()
            return Result(raw, lambda: self._logits(raw, None), self._read)
        if self.call is not None:
            return Result(raw, lambda: self._logits(raw, None), self._read)
        main = main_output(raw, strict=False)
        if not (self.may_end_in_gate or self.settled) and main is not None and may_be_gated(main):
            # Looking for gates slows every operation down, so a model is first run without.
            self.may_end_in_gate = True
            return None
        before = None if self._gates is None or main is None else self._gates.before(main)
        if main is None or before is None:
            return Result(raw, lambda: self._logits(raw, None), self._read)
        returned = partial(_full, main)
        return Result(raw, lambda: self._logits(raw, before), self._read, before[1], returned)

    @property
    def _may_be_shares(self) -> bool:
        """Whether what the model returned may be probabilities: not where it cannot come out of a gate."""
        plain = self.output_layer is None and self.call is None
        return plain and (self.may_end_in_gate or self.settled)

    def _output(self) -> Tensor:
        layer = str(self.output_layer)
        call = split_call(layer)[1]
        if len(self._outputs) <= (call or 0):
            raise LayerError(f"output layer `{layer}` returned no scores; choose another")
        return self._outputs[-1 if call is None else call]

    def _logits(self, raw: Any, before: tuple[Tensor, str] | None) -> Tensor:
        """Return the main output, or what was `before` the gate that it came out of, one row per sample."""
        main = main_output(raw)
        assert main is not None
        if before is not None:
            main, gate = before
            self.notes.append(logits_note(gate))
        elif self._may_be_shares and looks_like_probabilities(main):
            self.notes.append(NO_SOFTMAX)
        return _full(main)


def _full(main: Tensor) -> Tensor:
    """Return outputs in float32 at least; a number without axes, as of `squeeze()`, is one sample's."""
    main = main if main.ndim else main[None]
    return main.float() if main.dtype in (torch.float16, torch.bfloat16) else main
