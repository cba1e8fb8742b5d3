"""A Keras model from one of its layers on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from chronocam.engines.keras.backend import Backend
from chronocam.engines.keras.layers import Node, Wrap, first_tensor, nodes_of, replace_tensor
from chronocam.engines.keras.program import Passed, Program
from chronocam.engines.keras.taps import after
from chronocam.engines.names import part_at, split_entry
from chronocam.engines.recording import Result, Score
from chronocam.engines.resumption import Counting, Recorder, Rest, Run, Stored, replaying
from chronocam.errors import LayerError
from chronocam.types import Array, Inputs


class KerasRest(Rest[Any]):
    """The rest of a Keras model; layers and operations that do not run have their `call` replaced.

    What is stored enters the compiled rest as its arguments: copies of what only layers read which do not
    run are never made, since the compiler drops them.
    """

    def __init__(self, backend: Backend, program: Program, inputs: Inputs, layer: str) -> None:
        first = first_tensor(inputs)
        super().__init__(inputs, None if first is None else first.shape[0], layer)
        self._backend = backend
        self._program = program
        self._path, self._entry = split_entry(layer)
        self._node = program.nodes[self._path]
        self._hidden = {path: node for path, node in program.nodes.items() if not self._holds(node)}
        self._compiled: Run = self._rest
        self._keep(*self._recorded(1))

    def _holds(self, node: Node) -> bool:
        return node is not self._node and any(inner is self._node for inner in nodes_of(node).values())

    def _recorded(self, times: int) -> tuple[Recorder[Any], list[Array], Result]:
        recorder: Recorder[Any] = Recorder(self._node, self._call, _copied)
        activations: list[Array] = []

        def keep(number: int, x: Array) -> Array:
            activations.append(self._backend.out(x))
            return x

        around: dict[str, list[Wrap]] = {
            path: [partial(recording, recorder, node)] for path, node in self._hidden.items()
        }
        around[self._path].append(self._at_layer(keep))

        def run(inputs: Inputs) -> Passed:
            return self._program.forward(self._repeated_inputs(inputs, times), around=around)

        passed = self._backend.function(self._program, run, compiles=False)(self._inputs)
        return recorder, activations, passed.result

    def _store(self, calls: Any, axis: Callable[[Array], int | None]) -> None:
        super()._store(calls, axis)
        self._compiled = self._backend.function(self._program, self._rest)

    def _rest(self, inputs: Inputs, outputs: Sequence[Sequence[Array]], changed: Sequence[Array]) -> Any:
        """Return what scores are made of, given the inputs, what is stored and the layer's activations."""
        times = changed[0].shape[0] // len(self.activations[0])
        around: dict[str, list[Wrap]] = {}
        paths = {id(node): path for path, node in self._hidden.items()}
        for (node, stored), given in zip(self._stored.items(), outputs, strict=True):
            now = [Stored(output, call.axes) for output, call in zip(given, stored, strict=True)]
            around[paths[id(node)]] = [self._replaying(now, times)]
        around[self._path].append(self._at_layer(lambda number, x: keras.ops.cast(changed[number], x.dtype)))
        return self._program.forward(self._repeated_inputs(inputs, times), around=around).seen

    def _replaying(self, stored: Sequence[Stored], times: int) -> Wrap:
        def repeated(call: Stored) -> Any:
            axes = iter(call.axes)
            return keras.tree.map_structure(
                lambda x: self._backend.repeated(x, times, next(axes)) if _is_tensor(x) else x, call.output
            )

        return lambda node, run: replaying(stored, repeated, run)

    def _run(self, changed: Sequence[Array], times: int) -> Result:
        outputs = [[call.output for call in calls] for calls in self._stored.values()]
        return Passed.of(self._compiled(self._inputs, outputs, list(changed))).result

    def _scored(self, changed: Sequence[Array], times: int, score: Score) -> Array:
        return self._backend.out(score(self._run(changed, times)))

    def _tensors(self, output: Any) -> list[Array]:
        return [x for x in keras.tree.flatten(output) if _is_tensor(x)]

    def _values(self, result: Result) -> list[np.ndarray]:
        floats = [x for x in self._tensors(result.raw) if "float" in str(x.dtype)]
        return [self._backend.numpy(x) for x in floats]

    def _at_layer(self, change: Callable[[int, Array], Array]) -> Wrap:
        counted = Counting(self._call, change)

        def changed(output: object) -> object:
            tensor = first_tensor(part_at(output, self._entry))
            if tensor is None:
                raise LayerError(
                    f"layer `{self._layer}` returns no floating-point tensor; choose another layer"
                )
            return replace_tensor(output, tensor, counted(tensor))

        return after(changed)

    def _repeated_inputs(self, inputs: Inputs, times: int) -> Inputs:
        def repeated(x: Array) -> Array:
            axis = 0 if len(x.shape) and x.shape[0] == self._samples else None
            return self._backend.repeated(x, times, axis)

        return keras.tree.map_structure(repeated, inputs)


def recording(recorder: Recorder[Any], node: Node, copy: Node, run: Run) -> Run:
    """Record under the model's own node what its copy does."""
    return recorder.around(node, run)


def _is_tensor(x: object) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _copied(output: Any) -> Any:
    return keras.tree.map_structure(lambda x: keras.ops.copy(x) if _is_tensor(x) else x, output)
