"""Keras on JAX: the stateless call, compiled, with `jax.vjp` from the layers on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

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
from chronocam.types import Inputs

guided_relu = jax.custom_vjp(lambda x: jnp.maximum(x, 0))
"""max(x, 0), with guided backpropagation's gradient."""

guided_relu.defvjp(
    lambda x: (jnp.maximum(x, 0), x > 0), lambda positive, upstream: (jnp.maximum(upstream, 0) * positive,)
)


def tensor(x: Any) -> np.ndarray:
    """Return an array as NumPy, which the pass turns into arrays on the device."""
    return np.asarray(x)


def once(run: Callable[[Inputs], Any], program: Program, inputs: Inputs) -> None:
    """Run a function of the inputs once, on shapes alone, or eagerly where the model decides by values."""

    def stateless(values: list[Any], inputs: Inputs) -> None:
        with _holding(program, values):
            run(inputs)

    inputs = keras.tree.map_structure(jnp.asarray, inputs)
    try:
        jax.eval_shape(stateless, _values(program), inputs)
    except jax.errors.ConcretizationTypeError:
        stateless(_values(program), inputs)


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
    return run.record(keras.tree.map_structure(jnp.asarray, inputs), score, gradients, curvature)


def _values(program: Program) -> list[Any]:
    return [v.value for v in program.model.variables]


def _holding(program: Program, values: Sequence[Any]) -> Any:
    return keras.StatelessScope(state_mapping=list(zip(program.model.variables, values, strict=True)))


_pulled = jax.jit(lambda pull, cotangents: pull(cotangents)[0])


class Forward:
    """A forward pass of the inputs and of what is added to the outputs of the layers to differentiate at."""

    def __init__(self, program: Program, wanted: Sequence[str]) -> None:
        self.program, self.wanted = program, wanted
        self.function = jax.jit(self._forward)
        self.traceable = program.call is None
        self.traces = 0
        self.shapes: dict[Any, Shapes] = {}
        self.tree: Any = None
        self.floats: list[bool] = []

    def _outputs(self, values: list[Any], inputs: Inputs, offsets: Any) -> tuple[list[Any], Any]:
        """Return the floating-point outputs; and the others, with the activations."""
        with _holding(self.program, values):
            passed = self.program.forward(inputs, Start(offsets, jax.lax.stop_gradient))
        leaves, self.tree = jax.tree.flatten(passed.seen)
        self.floats = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]
        others = [x for x, is_float in zip(leaves, self.floats, strict=True) if not is_float]
        return [x for x, is_float in zip(leaves, self.floats, strict=True) if is_float], (
            others,
            passed.activations,
        )

    def _forward(self, values: list[Any], inputs: Inputs, offsets: Any) -> tuple[list[Any], Any, Any]:
        self.traces += 1
        return jax.vjp(lambda offsets: self._outputs(values, inputs, offsets), offsets, has_aux=True)

    def run(self, inputs: Inputs, offsets: Any) -> tuple[list[Any], Any, Any]:
        """Run compiled, or eagerly where the model decides by values; give outputs, pull-back and the rest."""
        if self.traceable:
            try:
                return self.function(_values(self.program), inputs, offsets)
            except jax.errors.ConcretizationTypeError:
                self.traceable = False
        return self._forward(_values(self.program), inputs, offsets)

    def _passed(self, outputs: Sequence[Any], rest: Any) -> Passed:
        floats, others = iter(outputs), iter(rest[0])
        raw, logits, read = jax.tree.unflatten(
            self.tree, [next(floats) if f else next(others) for f in self.floats]
        )
        return Passed(raw, logits, read, rest[1])

    def offsets(self, inputs: Inputs) -> dict[str, list[Any]]:
        """Return zeros for the calls of each layer to differentiate at."""
        known = signature(inputs)
        if known not in self.shapes:
            shapes = Shapes(self.wanted)
            if self.wanted and self.program.call is None:
                once(lambda x: self.program.forward(x, shapes.anew()), self.program, inputs)
            elif self.wanted:
                self.program.forward(inputs, shapes)
            self.shapes[known] = shapes
        return self.shapes[known].map(lambda shape, dtype: jnp.zeros(shape, dtype))

    def record(
        self, inputs: Inputs, score: Score, gradients: Sequence[str], curvature: Sequence[str]
    ) -> Found:
        """Run once and differentiate the scores."""
        offsets = self.offsets(inputs)
        outputs, pull, rest = self.run(inputs, offsets)

        def scores_of(outputs: list[Any]) -> Any:
            passed = self._passed(outputs, rest)
            return score(passed.result)

        if not self.wanted:
            scores, each = scores_of(outputs), []
        else:
            scores, pull_score = jax.vjp(scores_of, outputs)
            columns = np.eye(scores.shape[1], dtype=scores.dtype)
            each = [pull_score(jnp.broadcast_to(column, scores.shape))[0] for column in columns]
        passed = self._passed(outputs, rest)
        activations = {layer: [_numpy(x) for x in calls] for layer, calls in rest[1].items()}
        found = Found(_numpy(scores), activations, softmax=passed.logits is not None)
        pulled = [_pulled(pull, cotangents) for cotangents in each]
        found.gradients = {layer: _stacked([g[layer] for g in pulled]) for layer in gradients}
        for layer in disconnected(
            found.gradients, lambda layer: self._moves(inputs, offsets, layer, outputs, each)
        ):
            del found.gradients[layer]
        for layer in curvature:
            found.curvature[layer] = self._curvature(inputs, offsets, score, layer, activations[layer])
        main = main_output(passed.raw, strict=False)
        found.main = None if main is None else _numpy(main)
        return found

    def _moves(
        self, inputs: Inputs, offsets: Any, layer: str, before: list[Any], cotangents: list[list[Any]]
    ) -> bool:
        """Say whether other outputs of the layer change what the scores were made of."""
        moved = {**offsets, layer: [jnp.asarray(random_offset(x.shape), x.dtype) for x in offsets[layer]]}
        after, _, _ = self.run(inputs, moved)
        used = scored(
            [np.stack([_numpy(g) for g in of_output]) for of_output in zip(*cotangents, strict=True)]
        )
        return any(u and not np.array_equal(a, b) for u, a, b in zip(used, before, after, strict=True))

    def _curvature(
        self, inputs: Inputs, offsets: Any, score: Score, layer: str, at: list[np.ndarray]
    ) -> list[Any]:
        """Return the Hessian of every score times the activations, per call, `(target, *shape)`."""

        def column(offset: Any, call: int, k: int) -> Any:
            calls = [offset if i == call else x for i, x in enumerate(offsets[layer])]
            outputs, _, rest = self.run(inputs, {**offsets, layer: calls})
            passed = self._passed(outputs, rest)
            return score(passed.result)[:, k].sum()

        def product(call: int, k: int) -> Any:
            start, along = offsets[layer][call], jnp.asarray(at[call], offsets[layer][call].dtype)
            return jax.jvp(jax.grad(lambda offset: column(offset, call, k)), (start,), (along,))[1]

        outputs, _, rest = self.run(inputs, offsets)
        passed = self._passed(outputs, rest)
        targets = range(score(passed.result).shape[1])
        return [np.stack([_numpy(product(call, k)) for k in targets]) for call in range(len(at))]


def _stacked(per_target: Sequence[Sequence[Any]]) -> list[np.ndarray]:
    """Return one array `(target, *shape)` per call."""
    return [np.stack([_numpy(g) for g in of_call]) for of_call in zip(*per_target, strict=True)]


def _numpy(x: Any) -> np.ndarray:
    values = np.asarray(jax.lax.stop_gradient(x))
    return values.astype(np.float32) if "bfloat16" in str(values.dtype) else values
