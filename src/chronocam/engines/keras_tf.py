"""Keras on TensorFlow: compiled once per model, layers and input signature, differentiated from the layers on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from chronocam.engines.base import Score
from chronocam.engines.keras_pass import Found, Passed, Program, main_output
from chronocam.engines.keras_programs import Shapes, Start, compiled, disconnected, random_offset, signature
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
    program: Program, inputs: Inputs, score: Score, gradients: Sequence[str], curvature: Sequence[str], key: object
) -> Found:
    """Run the program and differentiate its scores."""
    wanted = tuple(dict.fromkeys([*gradients, *curvature]))
    run = compiled(program, (key, wanted), lambda: Forward(program, wanted))
    return run.record(keras.tree.map_structure(tf.convert_to_tensor, inputs), score, gradients, curvature)


class Forward:
    """A forward pass of the inputs and of what is added to the outputs of the layers to differentiate at."""

    def __init__(self, program: Program, wanted: Sequence[str]) -> None:
        self.program, self.wanted = program, wanted
        self.function = tf.function(self._forward, autograph=False)
        self.traceable = program.call is None
        self.traces = 0
        self.shapes: dict[Any, Shapes] = {}

    def _forward(self, inputs: Inputs, offsets: dict[str, list[Any]]) -> tuple[Any, Any, dict[str, list[Any]]]:
        self.traces += 1
        # Neither what comes before the first layer nor a parameter is differentiated: no gradient leads there.
        constants = [(v, tf.stop_gradient(v.value)) for v in self.program.model.variables]
        if INPUT not in self.wanted:
            inputs = keras.tree.map_structure(tf.stop_gradient, inputs)
        with keras.StatelessScope(state_mapping=constants):
            passed = self.program.forward(inputs, Start(offsets, tf.stop_gradient))
        return passed.raw, passed.logits, passed.activations

    def run(self, inputs: Inputs, offsets: dict[str, list[Any]]) -> Passed:
        """Run compiled, or eagerly where the model decides by values."""
        if self.traceable:
            try:
                return Passed(*self.function(inputs, offsets))
            except tf.errors.OperatorNotAllowedInGraphError:
                self.traceable = False
        return Passed(*self._forward(inputs, offsets))

    def offsets(self, inputs: Inputs) -> dict[str, list[Any]]:
        """Return zeros for the calls of each layer to differentiate at."""
        known = signature(inputs)
        if known not in self.shapes:
            shapes = Shapes(self.wanted)
            if self.wanted:
                self.program.forward(inputs, shapes)
            self.shapes[known] = shapes
        return self.shapes[known].map(lambda shape, dtype: tf.zeros(shape, dtype))

    def record(self, inputs: Inputs, score: Score, gradients: Sequence[str], curvature: Sequence[str]) -> Found:
        """Run once and differentiate the scores."""
        offsets = self.offsets(inputs)
        flat = [x for layer in gradients for x in offsets[layer]]
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(flat)
            passed = self.run(inputs, offsets)
            scores = score(passed.raw, passed.read)
            columns = tf.unstack(scores, axis=1)
        activations = {layer: [_numpy(x) for x in calls] for layer, calls in passed.activations.items()}
        found = Found(_numpy(scores), activations, softmax=passed.logits is not None)
        each = [tape.gradient(column, flat, unconnected_gradients="zero") for column in columns] if flat else []
        stacked = iter([np.stack([_numpy(g) for g in of_call]) for of_call in zip(*each, strict=True)])
        found.gradients = {layer: [next(stacked) for _ in offsets[layer]] for layer in gradients}

        def moves(layer: str) -> bool:
            used = [x for x in _leaves(passed) if tape.gradient(scores, x) is not None]
            return self._moves(inputs, offsets, layer, used, _leaves(passed))

        for layer in disconnected(found.gradients, moves):
            del found.gradients[layer]
        for layer in curvature:
            found.curvature[layer] = self._curvature(inputs, offsets, score, layer, activations[layer])
        main = main_output(passed.raw, strict=False)
        found.main = None if main is None else _numpy(main)
        return found

    def _moves(self, inputs: Inputs, offsets: Any, layer: str, used: list[Any], before: list[Any]) -> bool:
        """Say whether other outputs of the layer change what the scores were made of."""
        moved = {**offsets, layer: [tf.constant(random_offset(tuple(x.shape)), x.dtype) for x in offsets[layer]]}
        passed = self.run(inputs, moved)
        pairs = [(a, b) for a, b in zip(before, _leaves(passed), strict=True) if any(a is x for x in used)]
        return any(not np.array_equal(a, b) for a, b in pairs)

    def _curvature(self, inputs: Inputs, offsets: Any, score: Score, layer: str, at: list[np.ndarray]) -> list[Any]:
        """Return the Hessian of every score times the activations, per call, `(target, *shape)`."""
        products = []
        for offset, a in zip(offsets[layer], at, strict=True):
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
                outer.watch(offset)
                with tf.GradientTape(persistent=True, watch_accessed_variables=False) as inner:
                    inner.watch(offset)
                    passed = self.run(inputs, offsets)
                    columns = tf.unstack(score(passed.raw, passed.read), axis=1)
                along = [_along(inner.gradient(column, offset), a) for column in columns]
            each = [None if y is None else outer.gradient(y, offset) for y in along]
            products.append(np.stack([np.zeros_like(a) if g is None else _numpy(g) for g in each]))
        return products


def _leaves(passed: Passed) -> list[Any]:
    return [x for x in keras.tree.flatten((passed.raw, passed.logits)) if x is not None]


def _along(gradient: Any, a: np.ndarray) -> Any:
    return None if gradient is None else tf.reduce_sum(tf.cast(gradient, tf.float32) * a)


def _numpy(x: Any) -> np.ndarray:
    values = np.asarray(x)
    return values.astype(np.float32) if "bfloat16" in str(values.dtype) else values
