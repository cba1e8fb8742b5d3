"""One forward pass of a PyTorch model, and what a score function sees of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from chronocam.engines.base import LOGITS, NO_SOFTMAX, Call, Result, split_call
from chronocam.engines.torch.layers import Layers
from chronocam.engines.torch.modes import SoftmaxSeen, looks_like_probabilities
from chronocam.engines.torch.tensors import call_model, keep_all, keep_output, main_output
from chronocam.errors import LayerError
from chronocam.types import Inputs


class ForwardPass:
    """Runs a model and reads what a score function sees: at the output layer, before a final softmax.

    reads: modules whose outputs the score function reads.
    ends_in_softmax: whether the model is known to end in a softmax; once it is found to, it stays so.
    """

    def __init__(
        self,
        layers: Layers,
        output_layer: str | None,
        call: Call | None,
        reads: Sequence[str],
        ends_in_softmax: bool,
    ) -> None:
        self.layers = layers
        self.output_layer = output_layer
        self.call = call
        self.reads = reads
        self.ends_in_softmax: bool = ends_in_softmax
        self.notes: list[str] = []
        self._softmax: SoftmaxSeen | None = None
        self._outputs: list[Tensor] = []
        self._read: dict[str, list[Any]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the model while it runs."""
        self.notes.clear()
        self._softmax = SoftmaxSeen() if self.ends_in_softmax else None
        self._outputs = []
        self._read = {path: [] for path in self.reads}
        with self._softmax or nullcontext(), ExitStack() as hooks:
            for path, calls in self._read.items():
                module = self.layers[self.layers.resolve(path)]
                hooks.callback(module.register_forward_hook(keep_all(calls)).remove)
            if self.output_layer is not None:
                hook = keep_output(self._outputs)
                hooks.callback(self.layers[self.output_layer].register_forward_hook(hook).remove)
            yield

    def run(self, inputs: Inputs) -> Any:
        """Call the model."""
        return (self.call or call_model)(self.layers.model, inputs)

    def result(self, raw: Any) -> Result | None:
        """Return what the score function sees of `raw`, what the model returned.

        None where that turns out to be a softmax nobody looked for: then the model must be run again.
        """
        if self.output_layer is not None:
            raw = self._output()
        elif self.call is None and not self.ends_in_softmax:
            main = main_output(raw, strict=False)
            if main is not None and looks_like_probabilities(main):
                # Looking for a softmax slows every operation down, so a model is first run without.
                self.ends_in_softmax = True
                return None
        return Result(raw, lambda: self._logits(raw), self._read)

    def _output(self) -> Tensor:
        layer = str(self.output_layer)
        call = split_call(layer)[1]
        if len(self._outputs) <= (call or 0):
            raise LayerError(f"output layer `{layer}` returned no scores; choose another")
        return self._outputs[-1 if call is None else call]

    def _logits(self, raw: Any) -> Tensor:
        main = main_output(raw)
        assert main is not None
        softmax = self._softmax
        if softmax is not None and softmax.result is main and softmax.logits is not None:
            self.notes.append(LOGITS)
            main = softmax.logits
        elif self.output_layer is None and self.call is None and looks_like_probabilities(main):
            self.notes.append(NO_SOFTMAX)
        return main.float() if main.dtype in (torch.float16, torch.bfloat16) else main
