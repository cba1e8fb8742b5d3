"""Keras on TensorFlow: compiled once per model, layers and input signature, differentiated from the layers on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from chronocam.engines.base import Score
from chronocam.engines.keras.compiled import (
    Shapes,
    Start,
    compiled,
    disconnected,
    random_offset,
    scored,
    signature,
)
from chronocam.engines.keras.program import Found, Passed, Program, main_output
from chronocam.types import INPUT, Inputs


def _guided(x: Any) -> Any:
    return tf.nn.relu(x), lambda upstream: tf.nn.relu(upstream) * tf.cast(x > 0, upstream.dtype)


guided_relu = tf.custom_gradient(_guided)
"""max(x, 0), with guided backpropagation's gradient."""


def tensor(x: Any) -> np.ndarray:
    """Return an array as NumPy, which the pass turns into tensors."""
    return np.asarray(x)


def once(run: Callable[[Inputs], Any], program: Program, inputs: Inputs) -> None:
    """Run a function of the inputs once, without gradients."""
    run(keras.tree.map_structure(tf.convert_to_tensor, inputs))


def record(
    program: Program,
    inputs: Inputs,
    score: Score,
    gradients: Sequence[str],
    curvature: Sequence[str],
) -> Found:
    """Run the program and differentiate its scores."""
    wanted = tuple(dict.fromkeys([*gradients, *curvature]))
    run = compiled(program, wanted, lambda: Forward(program, wanted))
    return run.record(keras.tree.map_structure(tf.convert_to_tensor, inputs), score, gradients, curvature)


class Forward:
    """A forward pass of the inputs and of what is added to the outputs of the layers to differentiate at.

    The pass and the way back are one compiled function. The score, which is not traceable, is called from its
    middle: it leaves its values and sends back its gradients in the outputs, one per target. So nothing is
        compiled
    anew for another target, and a backward pass per target needs neither a second forward pass nor a
    persistent tape around the compiled function, for which TensorFlow prepares gradients of gradients.
    """

    def __init__(self, program: Program, wanted: Sequence[str]) -> None:
        self.program, self.wanted = program, wanted
        self.forward = tf.function(self._forward, autograph=False)
        self.there_and_back = tf.function(self._there_and_back, autograph=False)
        self.traceable = program.call is None
        self.traces = 0
        self.shapes: dict[Any, Shapes] = {}
        self.scored: _Scored | None = None

    def _forward(
        self, inputs: Inputs, offsets: dict[str, list[Any]]
    ) -> tuple[Any, Any, dict[str, list[Any]], dict[str, list[Any]]]:
        self.traces += 1
        # Neither what comes before the first layer nor a parameter is differentiated: no gradient leads
        # there.
        constants = [(v, tf.stop_gradient(v.value)) for v in self.program.model.variables]
        if INPUT not in self.wanted:
            inputs = keras.tree.map_structure(tf.stop_gradient, inputs)
        with keras.StatelessScope(state_mapping=constants):
            passed = self.program.forward(inputs, Start(offsets, tf.stop_gradient))
        return *passed.seen, passed.activations

    def _there_and_back(self, inputs: Inputs, offsets: dict[str, list[Any]]) -> tuple[Any, ...]:
        """Return what the forward pass gives and, per offset, the gradients `(target, *shape)`."""
        flat = keras.tree.flatten(offsets)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(flat)
            passed = self._forward(inputs, offsets)
        leaves = _leaves(Passed(*passed))
        floats = _floats(leaves)
        called = tf.numpy_function(partial(self._upstream, passed[:3]), leaves, [x.dtype for x in floats])
        upstream = keras.tree.flatten(called)  # eagerly, a single one comes without its list
        for gradient, x in zip(upstream, floats, strict=True):
            gradient.set_shape((None, *x.shape))

        def pulled(of_target: list[Any]) -> list[Any]:
            return tape.gradient(floats, flat, output_gradients=of_target, unconnected_gradients="zero")

        dtypes = [x.dtype for x in flat]
        gradients = (
            tf.map_fn(pulled, upstream, fn_output_signature=dtypes, parallel_iterations=1) if flat else []
        )
        return *passed, keras.tree.pack_sequence_as(offsets, gradients)

    def _upstream(self, structure: Any, *leaves: np.ndarray) -> list[np.ndarray]:
        """Score the outputs; return ∂score/∂output `(target, *shape)` of the floating-point ones."""
        assert self.scored is not None
        return self.scored.gradients(structure, [tf.constant(x) for x in leaves])

    def run(self, compiled: Any, plain: Any, inputs: Inputs, offsets: dict[str, list[Any]]) -> Any:
        """Run compiled, or eagerly where the model decides by values."""
        if self.traceable:
            try:
                return compiled(inputs, offsets)
            except tf.errors.OperatorNotAllowedInGraphError:
                self.traceable = False
        return plain(inputs, offsets)

    def offsets(self, inputs: Inputs) -> dict[str, list[Any]]:
        """Return zeros for the calls of each layer to differentiate at."""
        known = signature(inputs)
        if known not in self.shapes:
            shapes = Shapes(self.wanted)
            if self.wanted:
                self.program.forward(inputs, shapes)
            self.shapes[known] = shapes
        return self.shapes[known].map(lambda shape, dtype: tf.zeros(shape, dtype))

    def record(
        self, inputs: Inputs, score: Score, gradients: Sequence[str], curvature: Sequence[str]
    ) -> Found:
        """Run once and differentiate the scores."""
        offsets = self.offsets(inputs)
        done = self.scored = _Scored(score)
        *outputs, pulled = self.run(self.there_and_back, self._there_and_back, inputs, offsets)
        self.scored = None
        if done.error is not None:
            raise done.error
        passed = Passed(*outputs)
        activations = {layer: [_numpy(x) for x in calls] for layer, calls in passed.activations.items()}
        found = Found(_numpy(done.scores), activations, softmax=passed.logits is not None)
        found.gradients = {layer: [_numpy(g) for g in pulled[layer]] for layer in gradients}
        moves = partial(self._moves, inputs, offsets, _leaves(passed), done.upstream)
        for layer in disconnected(found.gradients, moves):
            del found.gradients[layer]
        for layer in curvature:
            found.curvature[layer] = self._curvature(inputs, offsets, score, layer, activations[layer])
        main = main_output(passed.raw, strict=False)
        found.main = None if main is None else _numpy(main)
        return found

    def _forward_only(self, inputs: Inputs, offsets: dict[str, list[Any]]) -> Passed:
        return Passed(*self.run(self.forward, self._forward, inputs, offsets))

    def _moves(
        self, inputs: Inputs, offsets: Any, before: list[Any], upstream: list[np.ndarray], layer: str
    ) -> bool:
        """Say whether other outputs of the layer change what the scores were made of."""
        moved = {
            **offsets,
            layer: [tf.constant(random_offset(tuple(x.shape)), x.dtype) for x in offsets[layer]],
        }
        after = _leaves(self._forward_only(inputs, moved))
        each = zip(scored(upstream), _floats(before), _floats(after), strict=True)
        return any(used and not np.array_equal(a, b) for used, a, b in each)

    def _curvature(
        self, inputs: Inputs, offsets: Any, score: Score, layer: str, at: list[np.ndarray]
    ) -> list[Any]:
        """Return the Hessian of every score times the activations, per call, `(target, *shape)`."""
        products = []
        for offset, a in zip(offsets[layer], at, strict=True):
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
                outer.watch(offset)
                with tf.GradientTape(persistent=True, watch_accessed_variables=False) as inner:
                    inner.watch(offset)
                    passed = self._forward_only(inputs, offsets)
                    columns = tf.unstack(score(passed.result), axis=1)
                along = [_along(inner.gradient(column, offset), a) for column in columns]
            each = [None if y is None else outer.gradient(y, offset) for y in along]
            products.append(np.stack([np.zeros_like(a) if g is None else _numpy(g) for g in each]))
        return products


class _Scored:
    """A score, called from within a compiled function, and what it gave."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.scores: Any = None
        self.upstream: list[np.ndarray] = []
        self.error: Exception | None = None

    def gradients(self, structure: Any, leaves: list[Any]) -> list[np.ndarray]:
        """Return ∂score/∂output `(target, *shape)` of the floating-point outputs; of no target after an error."""
        floats = _floats(leaves)
        try:
            self.upstream = self._gradients(structure, leaves, floats)
        except Exception as error:  # through a compiled function it would lose its type
            self.error = error
            self.upstream = [np.zeros((0, *x.shape), x.dtype.as_numpy_dtype) for x in floats]
        return self.upstream

    def _gradients(self, structure: Any, leaves: list[Any], floats: list[Any]) -> list[np.ndarray]:
        values = iter(leaves)
        raw, logits, outputs = keras.tree.map_structure(
            lambda x: None if x is None else next(values), structure
        )
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(floats)
            self.scores = self.score(Passed(raw, logits, outputs, {}).result)
            columns = tf.unstack(self.scores, axis=1)
        each = [tape.gradient(column, floats, unconnected_gradients="zero") for column in columns]
        return [np.stack(of_output) for of_output in zip(*each, strict=True)]


def _leaves(passed: Passed) -> list[Any]:
    return [x for x in keras.tree.flatten(passed.seen) if x is not None]


def _floats(leaves: Sequence[Any]) -> list[Any]:
    return [x for x in leaves if x.dtype.is_floating]


def _along(gradient: Any, a: np.ndarray) -> Any:
    return None if gradient is None else tf.reduce_sum(tf.cast(gradient, tf.float32) * a)


def _numpy(x: Any) -> np.ndarray:
    values = np.asarray(x)
    return values.astype(np.float32) if "bfloat16" in str(values.dtype) else values
