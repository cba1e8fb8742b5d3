"""The PyTorch engine: one forward pass, and a backward pass that ends at the layer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chronocam.engines.base import Adds, AxisOrder, LayerCall, Learned
from chronocam.engines.misfit import out_of_memory
from chronocam.engines.recording import Call, Feed, Recording, Request, Score, as_given
from chronocam.engines.scoped import scoped
from chronocam.engines.torch.biases import biases_of
from chronocam.engines.torch.closed_form import closed_form
from chronocam.engines.torch.forward import ForwardPass
from chronocam.engines.torch.geometry import TorchGeometry
from chronocam.engines.torch.layers import LayerLike, Layers
from chronocam.engines.torch.modes import MovesSeen
from chronocam.engines.torch.obstacles import obstacle
from chronocam.engines.torch.passes import TorchPass
from chronocam.engines.torch.replica import ACTING
from chronocam.engines.torch.resume import TorchRest
from chronocam.engines.torch.scope import device_of, kind_of, settle
from chronocam.engines.torch.speech import generated
from chronocam.engines.torch.tensors import map_leaves
from chronocam.engines.torch.towers import Towers, towers_of
from chronocam.engines.torch.trace import Trace, order_of
from chronocam.errors import ChronocamError, InputError, ModelError
from chronocam.layouts.base import Stem
from chronocam.types import INPUT, Inputs

_AT_ONCE = 950_000
"""Values of inputs run at once: 6 pictures of 224 × 224.

What their first layers make of them stays below 32 MB, beyond which the C library asks the system for new
memory each time: among 32 pictures, each takes up to 3.3 times as long.
"""


class TorchEngine(TorchGeometry):
    """Runs a `torch.nn.Module`. Wrappers (DataParallel, torch.compile) are looked through."""

    framework = "torch"
    axes: str | None = None
    channels_last = False

    def __init__(self, model: nn.Module, output_layer: LayerLike | None = None) -> None:
        self.layers = Layers(model)
        self.model: nn.Module = self.layers.model
        self.output_layer: str | None = None if output_layer is None else self.resolve(output_layer)
        self.feed: Feed = as_given
        self.learned: Learned = Learned()

    @property
    def may_move(self) -> bool:
        """Whether the model may move places; True until known."""
        return self.learned.moves is not False

    def structure(self) -> Hashable:
        """Return what tells the model from itself after a change; see `Engine.structure`."""
        return self.layers.begin().fingerprint

    def hooks(self) -> Hashable:
        """Return the numbers of the hooks that change what they see; see `Engine.hooks`."""
        if not ACTING:  # hooks that only look are the most
            return ()
        return tuple([key for key in self.layers.latest.hooks if key in ACTING])

    @property
    def labels(self) -> Sequence[str] | None:
        """The class names that the model carries; a model of two towers has those that it is given."""
        return self.layers.labels if self.towers is None else getattr(self.model, "labels", None)

    @cached_property
    def towers(self) -> Towers | None:
        """What embeds texts, where the model has two towers."""
        return towers_of(self.model)

    @property
    def stem(self) -> Stem | None:
        """The first convolution; None for a model without any."""
        return self.layers.stem

    @cached_property
    def features(self) -> int | None:
        """How many features of each step a model of sequences takes; see `Engine.features`."""
        return self.layers.features

    @cached_property
    def rescales(self) -> bool:
        """Whether the first layer scales the inputs: a normalisation, or one of a model's own making."""
        first = next((m for m in self.layers.walk() if not m._modules), None)
        name = type(first).__name__.lower()
        return "norm" in name or "scal" in name

    @property
    def inputs(self) -> Sequence[str]:
        """The names of the arguments of `forward`, as far as they can be given by position."""
        parameters = signature(self.model.forward).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    def kernels(self) -> dict[str, Tensor]:
        """Return the kernels `(filter, channel, *grid)` of the convolutions by path, in their order."""
        return self.layers.kernels()

    def biases(self) -> dict[str, Adds]:
        """Return what layers add to what is proportional to their input; see `Engine.biases`."""
        return biases_of(self.layers.replica())

    def resolve(self, layer: LayerLike) -> str:
        """Return the path of a layer given by path (`layer4`, `relu#1` for its second call), object or index.

        `fpn[1]` and `fpn[p3]` are one of several outputs, by index or key. An index alone counts the model's
        top-level layers. Raises LayerError for an unknown one.
        """
        return self.layers.resolve(layer)

    def adapt(self, inputs: Inputs) -> Inputs:
        """Return inputs as tensors on the model's device, floating-point ones in its precision.

        Raises InputError for arrays that are not numbers, and for an image without a batch axis.
        """
        device, dtype = kind_of(self.model)
        if device.type == "meta":
            raise ModelError(
                "the model is on the meta device, where weights have no values; load them before "
                '(model.to_empty(device="cpu"), then load_state_dict)'
            )

        def convert(x: Any) -> Any:
            if not isinstance(x, (Tensor, np.generic)) and hasattr(x, "__array__") and hasattr(x, "dtype"):
                x = _from_numpy(np.asarray(x))
            if not isinstance(x, Tensor):
                return x
            if x.is_meta:
                raise InputError(
                    "inputs are on the meta device, where numbers have no values; give real ones"
                )
            return x.to(device=device, dtype=dtype if x.is_floating_point() else x.dtype)

        # Hugging Face's BatchEncoding is a Mapping that the tree functions would take for a leaf.
        plain = isinstance(inputs, Tensor) or not isinstance(inputs, Mapping)
        converted = map_leaves(convert, inputs if plain else dict(inputs))
        if isinstance(converted, Tensor):
            self._refuse_unbatched(converted)
        return converted

    def _refuse_unbatched(self, x: Tensor) -> None:
        # PyTorch's convolutions take an unbatched input without a word, and the map would be of no sample.
        # (1, …) may be one sample, to which the model adds the axis.
        stem = self.stem
        if stem is None or stem.channels == 1 or x.ndim != stem.rank + 1 or x.shape[0] != stem.channels:
            return
        # As many signals of as many channels, of which the model makes spectra, are a batch.
        if x.ndim < 3 or x.shape[1] != stem.channels:
            raise InputError(
                f"inputs have shape {tuple(x.shape)} and no batch axis; expected "
                f"(batch, {', '.join(map(str, x.shape))}): give inputs[None]"
            )

    def trace(
        self,
        inputs: Inputs,
        score: Score | None = None,
        call: Call | None = None,
        reads: Sequence[str] = (),
        keep: Sequence[str] = (),
    ) -> list[LayerCall]:
        """Return the layers in the order in which they finish, from one forward pass; see `Engine.trace`."""
        return scoped(self._traced)(self._forward(call, reads), inputs, score, keep)

    def _traced(
        self, scope: ExitStack, forward: ForwardPass, inputs: Inputs, score: Score | None, keep: Sequence[str]
    ) -> list[LayerCall]:
        settle(scope, self.model)
        calls = Trace(forward, inputs, score, keep).calls()
        self.learned.may_end_in_gate |= forward.may_end_in_gate
        return calls

    def order(self, layer: str) -> AxisOrder | None:
        """Return where the kind of a layer says that its channels are; see `Engine.order`."""
        return None if layer == INPUT else order_of(self.layers[layer])

    def obstacle(self) -> str | None:
        """Say what keeps layers or gradients from view; see `Engine.obstacle`."""
        return obstacle(self.model, self.layers.walk())

    def frame_wise(self, layer: str) -> bool:
        """PyTorch has no such layers: frames are folded into the batch, or run one by one."""
        return False

    def generate(self, inputs: Inputs) -> tuple[Tensor, int, Sequence[int]]:
        """Return the tokens of the prompts and of what the model says; see `Engine.generate`."""
        return scoped(generated)(self.layers.replica(), self.feed(inputs))

    def record(self, inputs: Inputs, score: Score, request: Request) -> Recording:
        """Record one pass; see `Engine.record`. Raises LayerError for a layer that is not called."""
        return scoped(self._recorded)(inputs, score, request)

    def _recorded(self, scope: ExitStack, inputs: Inputs, score: Score, request: Request) -> Recording:
        settle(scope, self.model)
        forward = self._forward(request.call, request.reads)
        forward.moves = MovesSeen() if self.learned.moves is None else None
        state = forward.layers.begun()
        recording = closed_form(scope, forward, state, inputs, score, request)
        if recording is None:
            rests = {
                layer: TorchRest(self._forward(request.call, request.reads), inputs, layer)
                for layer in request.resumes
            }
            recording = TorchPass(scope, forward, state, inputs, request, rests).run(score)
        if forward.moves is not None:
            self.learned.moves = forward.moves.any
        self.learned.may_end_in_gate |= forward.may_end_in_gate
        return recording

    @property
    def values_at_once(self) -> int | None:
        """What a CPU runs without new memory for the first layers each time; see `Engine`."""
        return _AT_ONCE if device_of(self.model).type == "cpu" else None

    def scores(
        self, inputs: Inputs, score: Score, call: Call | None = None, reads: Sequence[str] = ()
    ) -> Tensor:
        """Return the scores `(batch, target)` from a forward pass without a graph; see `Engine.scores`."""
        request = Request(reads=reads, call=call)
        if not self.learned.channels_last:
            return self.record(inputs, score, request).scores
        # A CPU convolves pictures up to twice as fast with their channels last. A model that asks how its
        # values lie in memory, as `view` does, may refuse them: from then on it gets them as they were.
        try:
            return self.record(map_leaves(_channels_last, inputs), score, request).scores
        except (RuntimeError, ChronocamError) as error:
            if out_of_memory(error):
                raise
        scores: Tensor = self.record(inputs, score, request).scores
        self.learned.channels_last = False
        return scores

    def resume(
        self, inputs: Inputs, layer: str, call: Call | None = None, reads: Sequence[str] = ()
    ) -> TorchRest:
        """Return the rest of the model after `layer`; see `Engine.resume`."""
        forward = self._forward(call, reads)
        resumed = TorchRest(forward, inputs, layer).run_once()
        self.learned.may_end_in_gate |= forward.may_end_in_gate
        return resumed

    def _forward(self, call: Call | None, reads: Sequence[str]) -> ForwardPass:
        return ForwardPass(
            self.layers, self.output_layer, call, reads, self.learned.may_end_in_gate, self.feed
        )


def _channels_last(x: Any) -> Any:
    plain = isinstance(x, Tensor) and x.ndim == 4 and x.dtype == torch.float32 and x.device.type == "cpu"
    return x.contiguous(memory_format=torch.channels_last) if plain else x


def _from_numpy(x: np.ndarray) -> Tensor:
    """Return an array as a tensor, whatever its byte order; a copy where it may not be written into."""
    if x.dtype.kind not in "fiub":
        raise InputError(f"inputs have dtype {x.dtype}; expected numbers")
    dtype = x.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > 8:  # long doubles
        dtype = np.dtype(np.float64)
    return torch.from_numpy(np.require(x, dtype, ["C", "W"]))
