"""Keras on TensorFlow: compiled once per model, layers and shapes, differentiated from the layers on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from chronocam.engines.keras.backend import BY_VALUES, Backend, Mark
from chronocam.engines.keras.compiled import (
    Differentiated,
    OffsetPass,
    Offsets,
    OrEagerly,
    Start,
    compiled,
    upstream_of_classes,
)
from chronocam.engines.keras.layers import is_float
from chronocam.engines.keras.program import BackendRecording, Passed, Program
from chronocam.engines.keras.taps import Change
from chronocam.engines.recording import Score
from chronocam.errors import ModelError
from chronocam.types import INPUT, Array, Inputs

_OF_SHAPES = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike")
"""Operations whose outputs say nothing of the values that they take."""

_REFUSAL = tf.errors.OperatorNotAllowedInGraphError


def _guided(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    return tf.nn.relu(x), lambda upstream: tf.nn.relu(upstream) * tf.cast(x > 0, upstream.dtype)


_guided_relu = tf.custom_gradient(_guided)


class TensorFlowBackend(Backend):
    """Keras on TensorFlow."""

    def tensor(self, x: Array) -> np.ndarray:
        """Return an array as NumPy, which the pass turns into tensors."""
        return np.asarray(x)

    def guided_relu(self, x: Array) -> Array:
        """Return max(x, 0), with guided backpropagation's gradient."""
        return _guided_relu(x)

    def once(self, run: Callable[[Inputs], None], program: Program, inputs: Inputs) -> None:
        """Run a function of the inputs once, eagerly."""
        with keras.StatelessScope():
            run(keras.tree.map_structure(tf.convert_to_tensor, inputs))

    def made_of(
        self, run: Callable[[Inputs, Mark], Sequence[Array]], program: Program, inputs: Inputs
    ) -> list[set[int]]:
        """Follow the operations of a traced graph; see `Backend.made_of`."""
        numbers: dict[str, int] = {}
        found: list[set[int]] = []

        def mark(number: int, x: Array) -> Array:
            x = tf.identity(x)
            numbers[x.op.name] = number
            return x

        def traced(inputs: Inputs) -> None:
            found[:] = [_made_of(x, numbers) for x in run(inputs, mark)]

        inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
        try:
            tf.function(traced, autograph=False).get_concrete_function(inputs)
        except _REFUSAL as error:
            raise ModelError(BY_VALUES) from error
        return found

    def function(
        self, program: Program, run: Callable[..., Any], compiles: bool = True
    ) -> Callable[..., Any]:
        """Return `run`, compiled, or eager where the model decides by values."""

        def stateless(*args: Any) -> Any:
            with keras.StatelessScope():
                return run(*args)

        tried = OrEagerly(program, _Concrete(stateless), stateless, _REFUSAL, compiles)
        return lambda *args: tried(*keras.tree.map_structure(_tensor, args))

    def record(
        self,
        program: Program,
        inputs: Inputs,
        score: Score,
        gradients: Sequence[str],
        curvature: Sequence[str],
    ) -> BackendRecording:
        """Run the program and differentiate its scores."""
        layers = tuple(dict.fromkeys([*gradients, *curvature]))
        run = compiled(program, layers, lambda: TensorFlowPass(self, program, layers))
        inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
        return run.record(inputs, score, gradients, curvature)


class TensorFlowPass(OffsetPass):
    """Compiles the pass and the way back to one function, whose middle calls the score."""

    def __init__(self, backend: Backend, program: Program, layers: Sequence[str]) -> None:
        super().__init__(backend, program, layers)
        self._run = OrEagerly(program, _Concrete(self._moved), self._moved, _REFUSAL)
        both = self._there_and_back
        self._run_both = OrEagerly(program, _Concrete(both), both, _REFUSAL)
        self._scored: dict[int, _Scored] = {}
        self._numbers = count()

    def array(self, values: np.ndarray, dtype: Any) -> Array:
        """Return numbers as a tensor."""
        return tf.constant(values, dtype)

    def _forward(self, inputs: Inputs, change: Change, state: Sequence[Any] = ()) -> tuple[Any, ...]:
        self.traces += 1
        with keras.StatelessScope(state_mapping=state):
            passed = self.program.forward(inputs, change)
        return *passed.seen, passed.activations

    def _moved(self, inputs: Inputs, offsets: Offsets) -> tuple[Any, ...]:
        """Return what the forward pass gives with offsets."""
        # A tape around a compiled function prepares gradients of all its inputs, the variables too, unless
        # these are constants.
        constants = [(v, tf.stop_gradient(v.value)) for v in self.program.model.variables]
        if INPUT not in self.layers:
            inputs = keras.tree.map_structure(tf.stop_gradient, inputs)
        return self._forward(inputs, Start(offsets, tf.stop_gradient), constants)

    def _there_and_back(self, number: Array, inputs: Inputs) -> tuple[Any, ...]:
        """Return what the forward pass gives and, per call, the gradients `(target, *shape)`."""
        # A score is the user's Python and cannot be traced. It is called through numpy_function from the
        # middle of the compiled function: it leaves its values in `_scored`, under the number of the call
        # (other threads call it, too), and sends back its gradients in the outputs, one per target, which the
        # tape carries on to the layers. So nothing is compiled anew for another target, and a backward pass
        # per target needs neither a second forward pass nor a persistent tape around the compiled function,
        # for which TensorFlow prepares gradients of gradients.
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            passed = self._forward(inputs, _Watched(tape, self.layers))
        at = {layer: passed[-1][layer] for layer in self.layers}
        flat = keras.tree.flatten(at)
        leaves = _leaves(passed[:3])
        floats = _floats(leaves)
        upstream_of = partial(self._upstream, passed[:3])
        called = tf.numpy_function(upstream_of, [number, *leaves], [x.dtype for x in floats])
        upstream = keras.tree.flatten(called)  # in eager mode a single output comes back bare, not in a list
        for gradient, x in zip(upstream, floats, strict=True):
            gradient.set_shape((None, *x.shape))

        def pulled(of_target: list[Array]) -> list[Array]:
            return tape.gradient(floats, flat, output_gradients=of_target, unconnected_gradients="zero")

        dtypes = [x.dtype for x in flat]
        gradients = (
            tf.map_fn(pulled, upstream, fn_output_signature=dtypes, parallel_iterations=1) if flat else []
        )
        return *passed, keras.tree.pack_sequence_as(at, gradients)

    def _upstream(self, structure: Any, number: np.ndarray, *leaves: np.ndarray) -> list[np.ndarray]:
        """Score the outputs; return ∂score/∂output `(target, *shape)` of the floating-point ones."""
        return self._scored[int(number)].gradients(structure, leaves)

    def outputs(self, inputs: Inputs, offsets: Offsets) -> Sequence[Array]:
        """Return the floating-point outputs."""
        return _floats(_leaves(self._run(inputs, offsets)[:3]))

    def differentiated(self, inputs: Inputs, score: Score) -> Differentiated:
        """Run the pass and differentiate its scores."""
        number, scored = next(self._numbers), _Scored(score)
        self._scored[number] = scored
        try:
            *outputs, pulled = self._run_both(tf.constant(number, tf.int64), inputs)
        finally:
            del self._scored[number]
        if scored.error is not None:
            raise scored.error
        passed = Passed(*outputs)
        gradients = {layer: [self.backend.numpy(g) for g in calls] for layer, calls in pulled.items()}
        return Differentiated(
            passed, scored.scores, _floats(_leaves(passed.seen)), scored.upstream, gradients
        )

    def curvature(
        self, inputs: Inputs, score: Score, layer: str, at: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the Hessian of every score times the activations, per call, `(target, *shape)`."""
        products, offsets = [], self.offsets(inputs)
        for offset, a in zip(offsets[layer], at, strict=True):
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
                outer.watch(offset)
                with tf.GradientTape(persistent=True, watch_accessed_variables=False) as inner:
                    inner.watch(offset)
                    scores = score(Passed(*self._run(inputs, offsets)).result)
                    columns = tf.unstack(scores, axis=1)
                along = [_along(inner.gradient(column, offset), a) for column in columns]
            each = [None if y is None else outer.gradient(y, offset) for y in along]
            products.append(
                np.stack([np.zeros_like(a) if g is None else self.backend.numpy(g) for g in each])
            )
        return products


class _Concrete:
    """A function that is compiled once for each signature.

    The compiled functions are kept here by signature. `tf.function` would look them up in each call by all
    that the function captures, the model's variables too.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self._function = tf.function(run, autograph=False)
        self._known: dict[str, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        """Return what the function returns."""
        known = str(keras.tree.map_structure(lambda x: x if x is None else (*x.shape, x.dtype.name), args))
        if known not in self._known:
            self._known[known] = self._function.get_concrete_function(*args)
        return self._known[known](*args)


class _Watched:
    """Makes a tape watch the outputs of layers. The first is detached, so that gradients end there."""

    def __init__(self, tape: Any, layers: Sequence[str]) -> None:
        self._tape = tape
        self._layers = layers
        self._started = False

    def __call__(self, layer: str, x: Array) -> Array:
        """Return the output that the model goes on with."""
        if layer not in self._layers:
            return x
        # What used the output within the layer does not count, and keeps the old tensor.
        x = tf.identity(x) if self._started else tf.stop_gradient(x)
        self._started = True
        self._tape.watch(x)
        return x


class _Scored:
    """A score, called from within a compiled function, and what it gave."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.scores: Array = None
        self.upstream: list[np.ndarray] = []
        self.error: Exception | None = None

    def gradients(self, structure: Any, leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return ∂score/∂output `(target, *shape)` of floating-point outputs; no target after an error."""
        floats = list(filter(is_float, leaves))
        try:
            known = upstream_of_classes(self.score, _passed(structure, leaves), floats)
            if known is not None:
                self.scores, self.upstream = known
            else:
                self.upstream = self._gradients(structure, [tf.constant(x) for x in leaves])
        except Exception as error:  # through a compiled function it would lose its type
            self.error = error
            self.upstream = [np.zeros((0, *x.shape), x.dtype) for x in floats]
        return self.upstream

    def _gradients(self, structure: Any, leaves: list[Array]) -> list[np.ndarray]:
        floats = _floats(leaves)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(floats)
            self.scores = self.score(_passed(structure, leaves).result)
        targets = self.scores.shape[1]
        columns = np.broadcast_to(np.eye(targets, dtype=np.float32)[:, None], (targets, *self.scores.shape))
        each = [
            tape.gradient(self.scores, floats, tf.constant(column, self.scores.dtype), "zero")
            for column in columns
        ]
        return [np.stack(of_output) for of_output in zip(*each, strict=True)]


def _made_of(x: Array, numbers: Mapping[str, int]) -> set[int]:
    ahead, seen, found = [x.op], set[str](), set[int]()
    while ahead:
        operation = ahead.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.name in numbers:
            found.add(numbers[operation.name])
        elif operation.type not in _OF_SHAPES:
            ahead.extend(before.op for before in operation.inputs)
    return found


def _passed(structure: Any, leaves: Sequence[Array]) -> Passed:
    """Return what a pass gave, with other arrays in the places of its own."""
    values = iter(leaves)
    return Passed.of(keras.tree.map_structure(lambda x: None if x is None else next(values), structure))


def _tensor(x: Array) -> Array:
    return None if x is None else tf.convert_to_tensor(x)


def _leaves(seen: Any) -> list[Array]:
    return [x for x in keras.tree.flatten(seen) if x is not None]


def _floats(leaves: Sequence[Array]) -> list[Array]:
    return [x for x in leaves if x.dtype.is_floating]


def _along(gradient: Array, a: np.ndarray) -> Array:
    return None if gradient is None else tf.reduce_sum(tf.cast(gradient, tf.float32) * a)


BACKEND = TensorFlowBackend()
