"""Keras on JAX: the stateless call, compiled, with `jax.vjp` from the layers on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.ad_checkpoint import checkpoint_name

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
from chronocam.engines.keras.program import BackendRecording, Passed, Program
from chronocam.engines.recording import Score
from chronocam.errors import ModelError
from chronocam.types import Array, Inputs

_MARK = "chronocam marks "

_guided_relu = jax.custom_vjp(lambda x: jnp.maximum(x, 0))
_guided_relu.defvjp(
    lambda x: (jnp.maximum(x, 0), x > 0), lambda positive, upstream: (jnp.maximum(upstream, 0) * positive,)
)


class JaxBackend(Backend):
    """Keras on JAX. What is compiled takes the values of the variables as arguments, so new weights count."""

    def tensor(self, x: Array) -> np.ndarray:
        """Return an array as NumPy, which the pass turns into arrays on the device."""
        return np.asarray(x)

    def guided_relu(self, x: Array) -> Array:
        """Return max(x, 0), with guided backpropagation's gradient."""
        return _guided_relu(x)

    def numpy(self, x: Array) -> np.ndarray:
        """Return an array as NumPy, also while it is traced."""
        return super().numpy(jax.lax.stop_gradient(x))

    def once(self, run: Callable[[Inputs], None], program: Program, inputs: Inputs) -> None:
        """Run a function of the inputs once on shapes alone, or eagerly where the model decides by values."""

        def stateless(values: list[Array], inputs: Inputs) -> None:
            with _holding(program, values):
                run(inputs)

        inputs = keras.tree.map_structure(jnp.asarray, inputs)
        try:
            jax.eval_shape(stateless, _values(program), inputs)
        except jax.errors.ConcretizationTypeError:
            stateless(_values(program), inputs)

    def made_of(
        self, run: Callable[[Inputs, Mark], Sequence[Array]], program: Program, inputs: Inputs
    ) -> list[set[int]]:
        """Follow the equations of a jaxpr, in which names are marks; see `Backend.made_of`."""

        def stateless(values: list[Array], inputs: Inputs) -> Sequence[Array]:
            with _holding(program, values):
                return run(inputs, lambda number, x: checkpoint_name(x, f"{_MARK}{number}"))

        inputs = keras.tree.map_structure(jnp.asarray, inputs)
        try:
            jaxpr = jax.make_jaxpr(stateless)(_values(program), inputs).jaxpr
        except jax.errors.ConcretizationTypeError as error:
            raise ModelError(BY_VALUES) from error
        of: dict[int, set[int]] = {}  # by variable, whose literals have no hash
        for equation in jaxpr.eqns:
            marks = set[int]().union(*(of.get(id(x), ()) for x in equation.invars))
            name = str(equation.params.get("name", ""))
            if name.startswith(_MARK):
                marks = {int(name.removeprefix(_MARK))}
            of |= {id(x): marks for x in equation.outvars}
        return [of.get(id(x), set()) for x in jaxpr.outvars]

    def function(
        self, program: Program, run: Callable[..., Any], compiles: bool = True
    ) -> Callable[..., Any]:
        """Return `run`, compiled, or eager where the model decides by values."""

        def stateless(values: list[Array], *args: Any) -> Any:
            with _holding(program, values):
                return run(*args)

        refusal = jax.errors.ConcretizationTypeError
        tried = OrEagerly(program, jax.jit(stateless), stateless, refusal, compiles)
        return lambda *args: tried(_values(program), *jax.tree.map(jnp.asarray, args))

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
        run = compiled(program, layers, lambda: JaxPass(self, program, layers))
        return run.record(keras.tree.map_structure(jnp.asarray, inputs), score, gradients, curvature)


def _values(program: Program) -> list[Array]:
    return [v.value for v in program.model.variables]


def _holding(program: Program, values: Sequence[Array]) -> AbstractContextManager[Any]:
    scope: AbstractContextManager[Any] = keras.StatelessScope(
        state_mapping=list(zip(program.model.variables, values, strict=True))
    )
    return scope


# The pull-back of a compiled pass is a pytree, so that it can be an argument of a compiled function itself.
_pulled = jax.jit(lambda pull, cotangents: pull(cotangents)[0])


class JaxPass(OffsetPass):
    """Compiles the pass together with its pull-back; the score is differentiated outside of it."""

    def __init__(self, backend: Backend, program: Program, layers: Sequence[str]) -> None:
        super().__init__(backend, program, layers)
        refusal = jax.errors.ConcretizationTypeError
        self._run = OrEagerly(program, jax.jit(self._forward), self._forward, refusal)
        self._tree: Any = None
        self._floats: list[bool] = []

    def array(self, values: np.ndarray, dtype: Any) -> Array:
        """Return numbers as an array on the device."""
        return jnp.asarray(values, dtype)

    def _split(self, values: list[Array], inputs: Inputs, offsets: Offsets) -> tuple[list[Array], Any]:
        """Return the floating-point outputs; and the others, with the activations."""
        with _holding(self.program, values):
            passed = self.program.forward(inputs, Start(offsets, jax.lax.stop_gradient))
        # Integer outputs have no gradient, and a pull-back takes none for them: they go the other way.
        leaves, self._tree = jax.tree.flatten(passed.seen)
        self._floats = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]
        floats = [x for x, is_float in zip(leaves, self._floats, strict=True) if is_float]
        others = [x for x, is_float in zip(leaves, self._floats, strict=True) if not is_float]
        return floats, (others, passed.activations)

    def _forward(self, values: list[Array], inputs: Inputs, offsets: Offsets) -> Any:
        """Return the floating-point outputs, their pull-back to the offsets, and the rest."""
        self.traces += 1
        return jax.vjp(lambda offsets: self._split(values, inputs, offsets), offsets, has_aux=True)

    def _passed(self, outputs: Sequence[Array], rest: Any) -> Passed:
        floats, others = iter(outputs), iter(rest[0])
        leaves = [next(floats) if is_float else next(others) for is_float in self._floats]
        raw, logits, read = jax.tree.unflatten(self._tree, leaves)
        return Passed(raw, logits, read, rest[1])

    def outputs(self, inputs: Inputs, offsets: Offsets) -> Sequence[Array]:
        """Return the floating-point outputs."""
        outputs: Sequence[Array] = self._run(_values(self.program), inputs, offsets)[0]
        return outputs

    def differentiated(self, inputs: Inputs, score: Score) -> Differentiated:
        """Run the pass and differentiate its scores."""
        outputs, pull, rest = self._run(_values(self.program), inputs, self.offsets(inputs))
        passed = self._passed(outputs, rest)
        if not self.layers:
            return Differentiated(passed, score(passed.result), outputs)
        known = list(map(np.asarray, outputs))
        found = upstream_of_classes(score, self._passed(known, rest), known)
        scores, upstream = self._scored(score, outputs, rest) if found is None else found
        # NumPy has no bfloat16, so that cotangents of it come as float32.
        typed = [jnp.asarray(one, x.dtype) for one, x in zip(upstream, outputs, strict=True)]
        pulled = [_pulled(pull, list(cotangents)) for cotangents in zip(*typed, strict=True)]
        gradients = {layer: self._stacked([g[layer] for g in pulled]) for layer in self.layers}
        return Differentiated(passed, scores, outputs, upstream, gradients)

    def _scored(self, score: Score, outputs: Sequence[Array], rest: Any) -> tuple[Array, list[np.ndarray]]:
        """Return the scores, and ∂score/∂output `(target, *shape)` of each output."""
        scores, pull = jax.vjp(lambda outputs: score(self._passed(outputs, rest).result), outputs)
        columns = np.eye(scores.shape[1], dtype=scores.dtype)
        return scores, self._stacked([pull(jnp.broadcast_to(column, scores.shape))[0] for column in columns])

    def _stacked(self, per_target: Sequence[Sequence[Array]]) -> list[np.ndarray]:
        """Return one array `(target, *shape)` per call."""
        return [np.stack([self.backend.numpy(g) for g in calls]) for calls in zip(*per_target, strict=True)]

    def curvature(
        self, inputs: Inputs, score: Score, layer: str, at: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the Hessian of every score times the activations, per call, `(target, *shape)`."""
        offsets = self.offsets(inputs)

        def scores(offset: Array, call: int) -> Array:
            calls = [offset if i == call else x for i, x in enumerate(offsets[layer])]
            outputs, _, rest = self._run(_values(self.program), inputs, {**offsets, layer: calls})
            return score(self._passed(outputs, rest).result)

        def product(call: int, k: int) -> np.ndarray:
            start = offsets[layer][call]
            along = jnp.asarray(at[call], start.dtype)
            gradient = jax.grad(lambda offset: scores(offset, call)[:, k].sum())
            return self.backend.numpy(jax.jvp(gradient, (start,), (along,))[1])

        targets = range(scores(offsets[layer][0], 0).shape[1])
        return [np.stack([product(call, k) for k in targets]) for call in range(len(at))]


BACKEND = JaxBackend()
