"""What the engine asks of Keras' backends: one class per backend, with the same verbs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeAlias

import keras
import numpy as np

from chronocam.engines.keras.program import BackendRecording, Passed, Program, main_output
from chronocam.engines.recording import Score
from chronocam.errors import ModelError
from chronocam.maps.arrays import to_numpy
from chronocam.types import Array, Inputs

Mark: TypeAlias = Callable[[int, Array], Array]
"""Marks a tensor with a number; the model goes on with what it returns."""

_BACKENDS = {"tensorflow": "on_tensorflow", "jax": "on_jax", "torch": "on_torch"}


class Backend(ABC):
    """One of Keras' backends.

    On TensorFlow and JAX arrays come out as NumPy; on PyTorch they are its tensors.
    """

    @abstractmethod
    def tensor(self, x: Array) -> Array:
        """Return an array as inputs reach a pass: NumPy, or a tensor on PyTorch."""

    @abstractmethod
    def guided_relu(self, x: Array) -> Array:
        """Return max(x, 0), with guided backpropagation's gradient."""

    @abstractmethod
    def once(self, run: Callable[[Inputs], None], program: Program, inputs: Inputs) -> None:
        """Run a function of the inputs once without gradients, on shapes alone where the backend can."""

    @abstractmethod
    def made_of(
        self, run: Callable[[Inputs, Mark], Sequence[Array]], program: Program, inputs: Inputs
    ) -> list[set[int]]:
        """Run a function once; return, for each tensor that it returns, the marked ones that it is made of.

        Those with no other marked one in between. Raises ModelError for a model that decides by values, where
        the backend compiles.
        """

    @abstractmethod
    def function(
        self, program: Program, run: Callable[..., Any], compiles: bool = True
    ) -> Callable[..., Any]:
        """Return `run`, a function of arrays that calls the model, without gradients.

        compiles: whether it is compiled, where the backend compiles.
        """

    @abstractmethod
    def record(
        self,
        program: Program,
        inputs: Inputs,
        score: Score,
        gradients: Sequence[str],
        curvature: Sequence[str],
    ) -> BackendRecording:
        """Run the program and differentiate its scores."""

    def values(self, x: Array) -> Array:
        """Return what a user gives as an array with a type and a shape."""
        return to_numpy(x)

    def repeated(self, x: Array, times: int, axis: int | None) -> Array:
        """Return copies of an array one after the other along `axis`; the array where that is None."""
        return x if axis is None else keras.ops.concatenate([x] * times, axis)

    def out(self, x: Array) -> Array:
        """Return an array as it leaves the engine."""
        return self.numpy(x)

    def numpy(self, x: Array) -> np.ndarray:
        """Return an array as NumPy, which has no bfloat16."""
        values = np.asarray(x)
        return values.astype(np.float32) if "bfloat16" in str(values.dtype) else values

    def recording(self, passed: Passed, scores: Array) -> BackendRecording:
        """Return what a pass gave, without gradients yet."""
        main = main_output(passed.raw, strict=False)
        return BackendRecording(
            self.out(scores),
            {layer: [self.out(x) for x in calls] for layer, calls in passed.activations.items()},
            main=None if main is None else self.numpy(main),
            gate=passed.gate,
        )


BY_VALUES = (
    "the model decides by values, so that its attention cannot be followed; choose a gradient method such as "
    "gradcam"
)


def backend() -> Backend:
    """Return the backend that Keras was started with. Raises ModelError for one without gradients here."""
    name = keras.backend.backend()
    if name not in _BACKENDS:
        known = ", ".join(_BACKENDS)
        raise ModelError(f"the Keras backend is {name}, which has no gradients here; choose one of {known}")
    # Imported only now: each of these modules imports the framework that it runs on.
    chosen: Backend = import_module(f"chronocam.engines.keras.{_BACKENDS[name]}").BACKEND
    return chosen
