"""The Keras 3 engine: one forward pass on any backend, and a backward pass that ends at the layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from numbers import Integral
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from chronocam.engines.base import Adds, AxisOrder, LayerCall, Learned, Speechless, TextTower
from chronocam.engines.keras.attended import AttentionCalls, attended_in, attention_in
from chronocam.engines.keras.attention import LAYERS, is_output
from chronocam.engines.keras.backend import Backend, backend
from chronocam.engines.keras.biases import biases_of
from chronocam.engines.keras.blocks import BlockProgram, BlockScore, row_of_blocks
from chronocam.engines.keras.compiled import NoScore, compiled, signature
from chronocam.engines.keras.geometry import KerasGeometry
from chronocam.engines.keras.inputs import adapted
from chronocam.engines.keras.kernels import kernels_of
from chronocam.engines.keras.layers import (
    axes_from,
    is_frame_wise,
    is_recurrent,
    nodes_of,
    path_of,
)
from chronocam.engines.keras.program import (
    BackendRecording,
    Passed,
    Program,
    path_at,
    trace,
)
from chronocam.engines.keras.resume import KerasRest
from chronocam.engines.keras.taps import guided_relu
from chronocam.engines.names import child_at, split_call, split_entry
from chronocam.engines.outputs import NO_RELU, NO_SOFTMAX, logits_note
from chronocam.engines.recording import Call, Entry, Feed, Recording, Request, Score, as_given
from chronocam.engines.structure import PlainStructure, plain_settings
from chronocam.errors import InputError, LayerError, ModelError
from chronocam.layouts.base import Stem
from chronocam.maps.arrays import to_numpy
from chronocam.maps.attended import Attended
from chronocam.types import INPUT, Array, Inputs

_PASS_ON = (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "Permute",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
)
_AT_ONCE = 24  # how many layers are differentiated at once, which are compiled together
_SCALE = ("Lambda", "BatchNormalization", "Divide", "TrueDivide", "Multiply", "Subtract", "Add", "GetItem")
_OF_TRAINING = {
    "compiled",
    "loss",
    "optimizer",
    "predict_function",
    "stop_evaluating",
    "stop_predicting",
    "stop_training",
    "test_function",
    "train_function",
}
"""What Keras sets on a model that is trained or run, beside names of its own with a `_` in front."""

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


class KerasEngine(Speechless, KerasGeometry):
    """Runs a `keras.Model` on the backend that Keras was started with.

    On TensorFlow and JAX arrays go in and come out as NumPy; on PyTorch they are its tensors.
    """

    framework = "keras"
    axes: str | None = None
    towers: TextTower | None = None
    values_at_once: int | None = None

    def __init__(self, model: keras.Model, output_layer: Any = None) -> None:
        if not model.built:
            raise ModelError(
                f"the {type(model).__name__} `{model.name}` is not built, so it has no layers yet; "
                "call it on a batch first, or give it an input shape"
            )
        self.backend: Backend = backend()
        self.model = model
        self.nodes = nodes_of(model)
        self.feed: Feed = as_given
        self.learned: Learned = Learned()
        self._structure = PlainStructure()
        self.output_layer: str | None = None if output_layer is None else self.resolve(output_layer)

    def structure(self) -> Hashable:
        """Return what tells the model from itself after a change; see `Engine.structure`."""
        return self._structure.of([self.model, *self.nodes.values()], self._fingerprint)

    def _fingerprint(self) -> Hashable:
        own = plain_settings(self.model).items()
        parts = ((type(node), *plain_settings(node).values()) for node in self.nodes.values())
        activations = (vars(node).get("activation") for node in self.nodes.values())
        return (
            tuple((name, value) for name, value in own if name[0] != "_" and name not in _OF_TRAINING),
            tuple(parts),
            tuple(getattr(one, "__code__", type(one)) for one in activations),
        )

    @property
    def labels(self) -> Sequence[str] | None:
        """The class names that the model carries, `model.labels`."""
        return getattr(self.model, "labels", None)

    @cached_property
    def channels_last(self) -> bool:
        """Whether the first layer that says has its channels last; what Keras is set to where none says."""
        formats = (getattr(node, "data_format", None) for node in self.nodes.values())
        return next(filter(None, formats), keras.config.image_data_format()) == "channels_last"

    @cached_property
    def stem(self) -> Stem | None:
        """The first convolution; None for a model without any."""
        first = next((node for node in self.nodes.values() if isinstance(node, _CONVOLUTIONS)), None)
        return None if first is None else Stem(first.rank, int(first.kernel.shape[-2]) * first.groups)

    @cached_property
    def _of_heads(self) -> set[str]:
        """The paths of the layers within attention."""
        holders = [f"{path}/" for path, node in self.nodes.items() if isinstance(node, LAYERS)]
        return {path for path in self.nodes if path.startswith(tuple(holders))}

    @cached_property
    def features(self) -> int | None:
        """How many features of each step a model of sequences takes; see `Engine.features`."""
        nodes = self.nodes.values()
        attends = any(isinstance(node, keras.layers.MultiHeadAttention) for node in nodes)
        if self.stem is not None or not (attends or any(map(is_recurrent, nodes))):
            return None
        kernels = (getattr(getattr(node, "cell", node), "kernel", None) for node in nodes)
        return next((int(kernel.shape[0]) for kernel in kernels if kernel is not None), None)

    @cached_property
    def rescales(self) -> bool:
        """Whether layers or operations scale the inputs before anything else."""
        kinds = [type(node).__name__ for node in self.nodes.values()]
        first = next((kind for kind in kinds if kind not in ("InputLayer", "ZeroPadding2D")), "")
        return first in _SCALE or any(kind in ("Rescaling", "Normalization") for kind in kinds)

    def hooks(self) -> Hashable:
        """Return nothing, since there are none."""
        return ()

    def resolve(self, layer: Any) -> str:
        """Return the path of a layer given by path (`backbone/conv1`, `relu#1`: 2nd call), object or index.

        The name of a nested layer alone does where no other has it. An index counts `model.layers`. Raises
        LayerError for an unknown one.
        """
        if isinstance(layer, keras.Operation):
            path = next((path for path, node in self.nodes.items() if node is layer), None)
            if path is None:
                raise LayerError(
                    f"the given {type(layer).__name__} is not a layer of this {type(self.model).__name__}"
                )
            return self._at_input(path)
        if isinstance(layer, Integral):
            return self.resolve(child_at(int(layer), self.model.layers))
        if layer == INPUT:
            return INPUT
        whole, call = split_call(str(layer))
        name, _ = split_entry(whole)
        path = self._at_input(path_of(name, self.nodes)) + whole.removeprefix(name)
        return path if call is None else f"{path}#{call}"

    def _at_input(self, path: str) -> str:
        return INPUT if isinstance(self.nodes[path], keras.layers.InputLayer) and "/" not in path else path

    @property
    def inputs(self) -> Sequence[str]:
        """The names of the model's inputs; none where it was not built from them."""
        return [spec.name for spec in getattr(self.model, "inputs", None) or ()]

    def kernels(self) -> dict[str, Array]:
        """Return the kernels `(filter, channel, *grid)` of the convolutions by path, in their order."""
        kernels = {path: kernels_of(node) for path, node in self.nodes.items()}
        return {path: array for path, array in kernels.items() if array is not None}

    def biases(self) -> dict[str, Adds]:
        """Return what layers add to what is proportional to their input; see `Engine.biases`."""
        return biases_of(self.nodes)

    def adapt(self, inputs: Inputs) -> Inputs:
        """Return inputs in the backend's own arrays (NumPy for TensorFlow and JAX), as the model takes them.

        Raises InputError for arrays that are not numbers or do not have the shape that the model was made
        for.
        """
        return adapted(self.model, self.backend, inputs)

    def trace(
        self,
        inputs: Inputs,
        score: Score | None = None,
        call: Call | None = None,
        reads: Sequence[str] = (),
        keep: Sequence[str] = (),
    ) -> list[LayerCall]:
        """Return the layers in the order in which they finish, from one forward pass; see `Engine.trace`.

        With a score, gradients are taken at the last layers on which it depends, a few at a time.
        """
        entries = tuple(name for name in keep if split_entry(name)[1])
        program, key = self._program(call), ("calls", signature(inputs), entries)
        calls = compiled(program, key, lambda: self._calls(program, inputs, entries))
        if keep:
            activations = self._activations(inputs, keep, call)
            return [_with(call, at, activations) for at, call in _numbered(calls)]
        return list(calls) if score is None else self._differentiated(calls, inputs, score, call, reads)

    def _calls(self, program: Program, inputs: Inputs, entries: Sequence[str]) -> tuple[LayerCall, ...]:
        """Return the layers in the order in which they finish, found once for inputs of a shape."""
        calls: list[LayerCall] = []

        def run(inputs: Inputs) -> None:
            calls.clear()
            each, final = trace(program, inputs, entries)
            for path, tensor in each:
                node = self.nodes[path_at(path)]
                kind = type(node).__name__
                # Queries, keys and values have an axis of heads, which are not places.
                changes = kind not in _PASS_ON and tensor is not final and path_at(path) not in self._of_heads
                shape, order = tuple(tensor.shape), self.order(path)
                calls.append(LayerCall(path, kind, shape, changes, is_recurrent(node), order))

        self.backend.once(run, program, inputs)
        return tuple(calls)

    def _activations(
        self, inputs: Inputs, layers: Sequence[str], call: Call | None
    ) -> Mapping[str, Sequence[Array]]:
        """Return what layers return, of each the arrays of all its calls."""
        program = self._program(call, layers=layers)
        if len(layers) == 1:
            # With gradients it is the pass that an explanation of this layer needs, compiled once for both.
            return self.backend.record(program, inputs, NoScore(), layers, ()).activations
        run = compiled(
            program,
            "activations",
            lambda: self.backend.function(program, lambda inputs: program.forward(inputs).activations),
        )
        return {layer: [self.backend.out(x) for x in calls] for layer, calls in run(inputs).items()}

    def _differentiated(
        self,
        calls: Sequence[LayerCall],
        inputs: Inputs,
        score: Score,
        call: Call | None,
        reads: Sequence[str],
    ) -> list[LayerCall]:
        """Return the calls with outputs and gradients, where the score depends on the last of them.

        On the last that have places: a picture that is small for its network has one cell in the last stage.
        """
        paths = list(dict.fromkeys(call.path for call in reversed(calls) if call.changes))
        connected: list[LayerCall] | None = None
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            recording = self.record(inputs, score, Request(some, gradients=some, call=call, reads=reads))
            if recording.gradients and connected is None:  # if only where the score is flat
                connected = _with_gradients(calls, recording)
            if any(
                _has_places(g) and to_numpy(g).any() for each in recording.gradients.values() for g in each
            ):
                return _with_gradients(calls, recording)
        return connected or list(calls)

    def order(self, layer: str) -> AxisOrder | None:
        """Return where the kind of a layer says that its channels are; see `Engine.order`."""
        if layer == INPUT:
            return None
        node = axes_from(self.nodes[path_at(layer)])
        while isinstance(node, keras.layers.TimeDistributed):
            node = node.layer
        if isinstance(node, keras.Sequential):
            said = [getattr(inner, "data_format", None) for inner in node.layers]
            return next(filter(None, reversed(said)), None)
        return getattr(node, "data_format", None)

    def frame_wise(self, layer: str) -> bool:
        """Say whether only TimeDistributed and pointwise layers lead to it; see `Engine.frame_wise`."""
        return layer != INPUT and is_frame_wise(self.nodes[path_at(layer)])

    def obstacle(self) -> str | None:
        """Say what keeps layers from view; see `Engine.obstacle`."""
        hidden = next((node for node in self.nodes.values() if type(node).__name__ == "TFSMLayer"), None)
        if hidden is None:
            return None
        return f"the TFSMLayer `{hidden.name}` hides its layers: give the Keras model that it was saved from"

    def record(self, inputs: Inputs, score: Score, request: Request) -> Recording:
        """Record one pass, and another one through guided ReLUs where those are requested too.

        Raises LayerError for a layer that is not called, ModelError for what Keras models do not support.
        """
        if request.clips is not None and request.clips.chunk is not None:
            raise InputError(
                "chunk_frames= is for PyTorch models; leave it out, or give a smaller batch_size="
            )

        calls = self._attention(inputs, request) if request.sees_attention else None
        taps = [] if calls is None else calls.taps(self.nodes, request)
        outputs = [tap for tap in taps if request.attended and is_output(tap)]

        def recorded(gradients: Sequence[str], curvature: Sequence[str], relu: Any) -> BackendRecording:
            layers = [*request.layers, *([] if relu else taps)]
            program = self._program(request.call, request.reads, layers, relu, request.entry)
            return self.backend.record(program, inputs, score, gradients, curvature)

        # Guided ReLUs change what flows back, not what is returned, but a compiled pass has either; and no
        # gradient flows between blocks that are scored one by one.
        plain = through = blocks = None
        if request.blocks is not None and calls is not None:
            blocks = self._through_blocks(inputs, score, request.blocks, request, calls)
        if request.gradients or request.curvature or taps or not (request.guided or blocks):
            plain = recorded([*request.gradients, *outputs], request.curvature, None)
        if request.guided:
            through = recorded(request.guided, (), self.backend.guided_relu)
        either = plain or through or (blocks and blocks[0])
        assert either is not None
        seen = {} if calls is None or plain is None else calls.seen(self.backend, self.nodes, plain, request)
        return Recording(
            either.scores,
            {layer: either.activations[layer] for layer in request.layers},
            {} if plain is None else {at: g for at, g in plain.gradients.items() if at not in outputs},
            {} if through is None else through.gradients,
            either.curvature,
            **seen,
            blocks=() if blocks is None else blocks[1],
            rests={
                layer: self.resume(inputs, layer, request.call, request.reads) for layer in request.resumes
            },
            notes=tuple(self._notes(either, request.call, bool(request.guided))),
        )

    def _attention(self, inputs: Inputs, request: Request) -> AttentionCalls:
        """Return the calls of attention, found once for inputs of a shape."""
        program = self._program(request.call)
        key = "attention", signature(inputs)
        return compiled(program, key, lambda: attention_in(self.backend, program, inputs))

    def _through_blocks(
        self, inputs: Inputs, score: Score, block: Score, request: Request, calls: AttentionCalls
    ) -> tuple[BackendRecording, tuple[tuple[Attended, ...], ...]]:
        """Record a pass, and the attention of each block with the gradients of its own score."""
        program = self._program(request.call, request.reads, request.layers, entry=request.entry)
        near, key = request.layers[0], ("blocks", signature(inputs), request.layers[0])
        row = compiled(program, key, lambda: row_of_blocks(self.backend, program, inputs, near, calls))
        blocks = BlockProgram(program, row)
        outputs = list(filter(is_output, blocks.parts))
        found = self.backend.record(blocks, inputs, BlockScore(score, block), outputs, ())
        each = (
            tuple(attended_in(self.backend, self.nodes, found, *call) for call in block)
            for block in row.calls
        )
        return found, tuple(each)

    def scores(
        self, inputs: Inputs, score: Score, call: Call | None = None, reads: Sequence[str] = ()
    ) -> Array:
        """Return the scores `(batch, target)` from a forward pass without a graph; see `Engine.scores`."""
        program = self._program(call, reads)
        run = compiled(
            program,
            "forward",
            lambda: self.backend.function(program, lambda inputs: program.forward(inputs).seen),
        )
        return self.backend.out(score(Passed.of(run(inputs)).result))

    def resume(
        self, inputs: Inputs, layer: str, call: Call | None = None, reads: Sequence[str] = ()
    ) -> KerasRest:
        """Return the rest of the model after `layer`; see `Engine.resume`."""
        return KerasRest(self.backend, self._program(call, reads), inputs, layer)

    def _program(
        self,
        call: Call | None,
        reads: Sequence[str] = (),
        layers: Sequence[str] = (),
        guided: Any = None,
        entry: Entry | None = None,
    ) -> Program:
        how = self.output_layer, guided, call, reads, self.feed, entry
        return Program(self.model, self.nodes, layers, *how, state=self.structure())

    def _notes(self, recording: BackendRecording, call: Call | None, guided: bool) -> list[str]:
        notes = [NO_RELU] if guided and not self._has_relu else []
        if recording.gate is not None:
            notes.append(logits_note(recording.gate))
        elif self.output_layer is None and call is None and _looks_like_probabilities(recording.main):
            notes.append(NO_SOFTMAX)
        return notes

    @cached_property
    def _has_relu(self) -> bool:
        return any(guided_relu(node, self.backend.guided_relu) is not None for node in self.nodes.values())


def _has_places(gradient: Array) -> bool:
    """Say whether a gradient `(target, batch, …)` has an axis beside one of channels."""
    return sum(n > 1 for n in gradient.shape[2:]) > 1


def _numbered(calls: Sequence[LayerCall]) -> Iterator[tuple[int, LayerCall]]:
    """Yield the calls, each with its number among those of its layer."""
    counts: Counter[str] = Counter()
    for call in calls:
        yield counts[call.path], call
        counts[call.path] += 1


def _with_gradients(calls: Sequence[LayerCall], recording: Recording) -> list[LayerCall]:
    """Return calls with the outputs and the gradients recorded for them."""
    gradients = {layer: [of_call.sum(0) for of_call in each] for layer, each in recording.gradients.items()}
    return [_with(call, at, recording.activations, gradients) for at, call in _numbered(calls)]


def _with(
    call: LayerCall,
    at: int,
    activations: Mapping[str, Sequence[Array]],
    gradients: Mapping[str, Sequence[Array]] = MappingProxyType({}),
) -> LayerCall:
    """Return a call, the `at`-th of its layer, with its output and its gradient, where there are any."""
    outputs = activations.get(call.path, ())
    if at >= len(outputs):
        return call
    each = gradients.get(call.path)
    return replace(call, output=outputs[at], gradient=None if each is None else each[at])


def _looks_like_probabilities(outputs: np.ndarray | None) -> bool:
    """Say whether the rows of `(batch, classes)` could have come out of a softmax or a log-softmax."""
    if outputs is None or outputs.ndim != 2 or outputs.shape[1] < 2:
        return False
    values = outputs.astype(np.float64)
    softmax = bool((values >= 0).all()) and np.allclose(values.sum(1), 1, atol=2e-2)
    log_softmax = bool((values <= 0).all()) and np.allclose(np.exp(values).sum(1), 1, atol=2e-2)
    return softmax or log_softmax
