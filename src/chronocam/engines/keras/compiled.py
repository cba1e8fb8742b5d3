"""Compiled passes of Keras models, kept as long as the model: what TensorFlow and JAX have in common."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import keras
import numpy as np

from chronocam.engines.keras.backend import Backend
from chronocam.engines.keras.pooled import head_of
from chronocam.engines.keras.program import BackendRecording, Passed, Program
from chronocam.engines.recording import Result, Score
from chronocam.types import Array, Inputs

T = TypeVar("T")

MANY = 8
"""Targets from which on gradients in closed form are faster than a compiled way back."""

Offsets = Mapping[str, Sequence[Array]]
"""What is added to the outputs of layers, one per call."""

_COMPILED: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def compiled(program: Program, key: object, make: Callable[[], T]) -> T:
    """Return what is compiled for a model under this key; it is kept unless `call` replaces the model's."""
    if program.call is not None:
        return make()
    known: dict[Any, T] = _COMPILED.setdefault(program.model, {})
    # Another layer, another setting or another activation makes it another model.
    parts = tuple([(id(node), id(node.__dict__.get("activation"))) for node in program.nodes.values()])
    taps = program.layers, program.entry, program.output_layer, program.reads
    full = (type(program), taps, program.guided is not None, program.feed, key, program.state, parts)
    found = known.get(full)
    return known.setdefault(full, make()) if found is None else found  # threads share what was made first


def signature(inputs: Inputs) -> tuple[Any, ...]:
    """Return the shapes and types of inputs."""
    return tuple((tuple(x.shape), str(x.dtype)) for x in keras.tree.flatten(inputs))


def upstream_of_classes(
    score: Score, passed: Passed, floats: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """Return scores that are logits of classes, and ∂score/∂output `(target, *shape)` of each output.

    Their gradient is one-hot, so nothing need be differentiated. None for other scores.

    passed: what the pass gave, as NumPy arrays. floats: the floating-point outputs among these.
    """
    ask = getattr(score, "classes", None)
    if ask is None:
        return None
    classes = ask(passed.result)
    if classes is None:  # a score of other kinds may read outputs that hold no logits
        return None
    batch, targets = classes.shape
    upstream = [np.zeros((targets, *x.shape), x.dtype) for x in floats]
    # Those of the pass itself, unless the score says that it is of others.
    for one in [passed] if not hasattr(score, "differentiated") else score.differentiated(passed):
        logits = one.read()
        at = next((i for i, x in enumerate(floats) if x is logits), None)
        if at is None:  # they were cast, and are not among the outputs any more
            return None
        upstream[at][np.arange(targets)[:, None], np.arange(batch), classes.T] = 1
    return np.take_along_axis(passed.read(), classes, axis=1), upstream


class NoScore:
    """Stands in for a score where only what layers return is asked for."""

    def __call__(self, result: Result) -> Array:
        """Return a score that depends on nothing."""
        return keras.ops.zeros((1, 1))


class OrEagerly:
    """Runs compiled, or eagerly where the model decides by values, which compiling refuses."""

    def __init__(
        self,
        program: Program,
        compiled: Callable[..., Any],
        plain: Callable[..., Any],
        refusal: type[Exception],
        compiles: bool = True,
    ) -> None:
        self._compiles = compiles and program.call is None
        self._compiled = compiled
        self._plain = plain
        self._refusal = refusal

    def __call__(self, *args: Any) -> Any:
        """Return what the function returns."""
        if self._compiles:
            try:
                return self._compiled(*args)
            except self._refusal:
                self._compiles = False
        return self._plain(*args)


@dataclass
class Differentiated:
    """One pass and its way back.

    outputs: the floating-point outputs that scores are made of.
    upstream: ∂score/∂output `(target, *shape)` of each.
    gradients: `(target, *shape)` per call of each layer.
    """

    passed: Passed
    scores: Array
    outputs: Sequence[Array]
    upstream: Sequence[Array] = ()
    gradients: Mapping[str, list[np.ndarray]] = field(default_factory=dict)


class OffsetPass(ABC):
    """A forward pass of the inputs and of what is added to the outputs of the layers to differentiate at.

    A gradient at an offset of zero is the gradient at the layer, and needs no variable within the model.
    """

    def __init__(self, backend: Backend, program: Program, layers: Sequence[str]) -> None:
        self.backend = backend
        self.program = program
        self.layers = layers
        self.traces = 0
        self._shapes: dict[Any, Shapes] = {}
        self._head = head_of(program, layers)
        self._targets = 0  # of the last pass; how many there are is known only when it has run
        self._plain = backend.function(program, self._seen)

    def _seen(self, inputs: Inputs) -> tuple[Any, ...]:
        """Return what the forward pass gives."""
        self.traces += 1
        passed = self.program.forward(inputs)
        return *passed.seen, passed.activations

    @abstractmethod
    def differentiated(self, inputs: Inputs, score: Score) -> Differentiated:
        """Run the pass and differentiate its scores."""

    @abstractmethod
    def outputs(self, inputs: Inputs, offsets: Offsets) -> Sequence[Array]:
        """Return the floating-point outputs."""

    @abstractmethod
    def curvature(
        self, inputs: Inputs, score: Score, layer: str, at: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the Hessian of every score times the activations, per call, `(target, *shape)`."""

    @abstractmethod
    def array(self, values: np.ndarray, dtype: Any) -> Array:
        """Return numbers as an array of the backend."""

    def offsets(self, inputs: Inputs) -> Offsets:
        """Return zeros for the calls of each layer to differentiate at."""
        known = signature(inputs)
        if known not in self._shapes:
            shapes = Shapes(self.layers)
            if self.layers and self.program.call is None:
                self.backend.once(partial(shapes.note, self.program), self.program, inputs)
            elif self.layers:
                shapes.note(self.program, inputs)
            self._shapes[known] = shapes
        return {
            layer: [self.array(np.zeros(shape, np.float32), dtype) for shape, dtype in calls]
            for layer, calls in self._shapes[known].calls.items()
        }

    def record(
        self, inputs: Inputs, score: Score, gradients: Sequence[str], curvature: Sequence[str]
    ) -> BackendRecording:
        """Run once and differentiate the scores."""
        many = self._targets >= MANY and not curvature
        if many and getattr(score, "picks", False):
            recording = self._in_closed_form(inputs, score)
            if recording is not None:
                self._targets = recording.scores.shape[1]
                return recording
        result = self.differentiated(inputs, score)
        self._targets = int(result.scores.shape[1])
        # One pass gives everything but curvature, which needs gradients of gradients.
        recording = self.backend.recording(result.passed, result.scores)
        # Zeros are a gradient, or say that nothing leads from the layer to the scores.
        silent = [layer for layer in gradients if not any(g.any() for g in result.gradients[layer])]
        apart = set(silent).difference(self._leading(inputs, silent, result, score))
        recording.gradients.update((at, result.gradients[at]) for at in gradients if at not in apart)
        for layer in curvature:
            at = recording.activations[layer]
            recording.curvature[layer] = self.curvature(inputs, score, layer, at)
        return recording

    def _in_closed_form(self, inputs: Inputs, score: Any) -> BackendRecording | None:
        """Record a pass without a way back; None where the gradients have no closed form."""
        if self._head is None:
            return None
        passed = Passed(*keras.tree.map_structure(self.backend.numpy, self._plain(inputs)))
        classes, logits = score.classes(passed.result), passed.read()
        (layer,) = self.layers
        if classes is None or len(passed.activations[layer]) != 1:
            return None
        scores = np.take_along_axis(logits, classes, axis=1)
        (activations,), largest = passed.activations[layer], float(np.abs(logits).max())
        gradients = self._head.gradients(classes, scores, activations, largest)
        if gradients is None:
            return None
        recording = self.backend.recording(passed, scores)
        recording.gradients[layer] = [gradients]
        return recording

    def _leading(
        self, inputs: Inputs, layers: Sequence[str], result: Differentiated, score: Score
    ) -> list[str]:
        """Return those of some layers that lead to what the scores were made of.

        All are moved at once, and halves of them only where that changes something: of a network with several
        heads, a pass tells those of the others.
        """
        if not layers or isinstance(score, NoScore) or not self._moves(inputs, layers, result):
            return []
        if len(layers) == 1:
            return list(layers)
        half = len(layers) // 2
        return [
            layer
            for some in (layers[:half], layers[half:])
            for layer in self._leading(inputs, some, result, score)
        ]

    def _moves(self, inputs: Inputs, layers: Sequence[str], result: Differentiated) -> bool:
        """Say whether other outputs of layers change what the scores were made of.

        The noise is a thousand times as strong as activations usually are, so that it gets through what lets
        nothing through at the activations themselves: a dead ReLU, a saturated gate.
        """
        rng, offsets = np.random.default_rng(0), self.offsets(inputs)
        noise = {
            layer: [
                self.array(1e3 * rng.standard_normal(tuple(x.shape), dtype=np.float32), x.dtype)
                for x in offsets[layer]
            ]
            for layer in layers
        }
        after = self.outputs(inputs, {**offsets, **noise})
        used = [bool(np.any(np.asarray(gradient))) for gradient in result.upstream]
        counts = used if any(used) else [True] * len(used)
        return any(
            used and not np.array_equal(a, b)
            for used, a, b in zip(counts, result.outputs, after, strict=True)
        )


class Shapes:
    """Notes the shape and type of every tapped output, and leaves it as it is."""

    def __init__(self, layers: Sequence[str]) -> None:
        self.calls: dict[str, list[tuple[tuple[int, ...], str]]] = {layer: [] for layer in layers}

    def note(self, program: Program, inputs: Inputs) -> None:
        """Run a program and note what its layers return, instead of what was noted before."""
        for calls in self.calls.values():
            calls.clear()
        program.forward(inputs, self)

    def __call__(self, layer: str, x: Array) -> Array:
        """Note the output of a layer."""
        if layer in self.calls:
            self.calls[layer].append((tuple(x.shape), keras.backend.standardize_dtype(x.dtype)))
        return x


class Start:
    """Adds what is given to the outputs of layers; the first of them is cut off from what comes before it."""

    def __init__(self, offsets: Offsets, cut: Callable[[Array], Array]) -> None:
        self.offsets = offsets
        self.cut = cut
        self.started: bool = False
        self.calls: defaultdict[str, int] = defaultdict(int)

    def __call__(self, layer: str, x: Array) -> Array:
        """Return the output that the model goes on with."""
        if layer not in self.offsets:
            return x
        offset = self.offsets[layer][self.calls[layer]]
        self.calls[layer] += 1
        # What comes before the first layer gets no gradient; the layers after it are on the way to the
        # scores, so cutting there would lose the gradient of the first.
        if not self.started:
            self.started, x = True, self.cut(x)
        return x + offset
