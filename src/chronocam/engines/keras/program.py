"""One forward pass of a Keras model with taps, the same for every backend."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from chronocam.engines.keras.attention import attends_at, seen_by
from chronocam.engines.keras.gates import (
    Gated,
    changed_after_gates,
    gate_of,
    gates_pass,
    noting_gate,
    passing_on,
)
from chronocam.engines.keras.layers import (
    Nodes,
    Wrap,
    first_tensor,
    is_float,
    path_of,
    replace_tensor,
    show_own_errors,
)
from chronocam.engines.keras.replica import Replica
from chronocam.engines.keras.taps import (
    Change,
    after,
    all_frames,
    before_activation,
    guided_relu,
    keeping,
    keeping_all,
    see,
    tap,
)
from chronocam.engines.misfit import FAILURES, NO_FLOATS, failure, out_of_memory
from chronocam.engines.names import part_at, split_call, split_entry
from chronocam.engines.outputs import scores_in
from chronocam.engines.recording import Call, Entry, Feed, Result, as_given, changed_at
from chronocam.engines.scoped import scoped
from chronocam.errors import ChronocamError, InputError, LayerError
from chronocam.types import INPUT, Array, Inputs

_REFUSALS = ("OperatorNotAllowedInGraphError", "ConcretizationTypeError")
"""What TensorFlow and JAX raise where a model cannot be compiled, and is run eagerly instead."""

LINEAR = "#linear"
"""After the path of a layer with an activation of its own: what it returns before that."""


@dataclass
class Passed:
    """What one forward pass gave.

    raw: what the model returned.
    logits: what went into its final softmax or sigmoid, by the name of that; empty where there is none.
    outputs: what the modules that the score reads returned, by path, one per call.
    activations: by layer, one per call.
    """

    raw: Any
    logits: Mapping[str, Array]
    outputs: dict[str, list[Array]]
    activations: dict[str, list[Array]]

    @classmethod
    def of(cls, seen: tuple[Any, Mapping[str, Array], dict[str, list[Array]]]) -> Passed:
        """Return what was `seen` in another pass, without activations."""
        raw, logits, outputs = seen
        return cls(raw, logits, outputs, {})

    @property
    def result(self) -> Result:
        """What a score function sees of it."""
        returned = None if self.gate is None else lambda: _full(main_output(self.raw))
        return Result(self.raw, self.read, self.outputs, self.gate, returned)

    @property
    def gate(self) -> str | None:
        """What the model ends in, before which logits are read: a softmax, a log-softmax or a sigmoid."""
        return next(iter(self.logits), None)

    @property
    def seen(self) -> tuple[Any, Mapping[str, Array], dict[str, list[Array]]]:
        """All that scores are made of."""
        return self.raw, self.logits, self.outputs

    def read(self) -> Array:
        """Return the main output, before a final softmax or sigmoid, in float32 at least."""
        return _full(main_output(self.raw) if self.gate is None else self.logits[self.gate])


@dataclass
class BackendRecording:
    """What a backend recorded; gradients `(target, *shape)` per call of each layer that scores depend on."""

    scores: Array
    activations: dict[str, list[Array]]
    gradients: dict[str, list[Array]] = field(default_factory=dict)
    curvature: dict[str, list[Array]] = field(default_factory=dict)
    main: np.ndarray | None = None
    gate: str | None = None


def _full(main: Array) -> Array:
    """Return outputs in float32 at least; a number without axes, as of a squeeze, is one sample's."""
    main = main if len(main.shape) else main[None]
    if "float16" not in str(main.dtype):
        return main
    return main.astype(np.float32) if isinstance(main, np.ndarray) else keras.ops.cast(main, "float32")


class Program:
    """A forward pass that can be run, traced and compiled; it does not keep the model alive.

    layers: what is tapped, `relu#1` for the second call. guided: a backend's ReLU that takes the place of the
    model's. call: what is called in the place of the model. reads: nodes whose outputs the score reads.
    feed: see `Engine.feed`. entry: see `Request`. state: see `Engine.structure`.
    """

    def __init__(
        self,
        model: keras.Model,
        nodes: Nodes,
        layers: Sequence[str],
        output_layer: str | None = None,
        guided: Callable[[Array], Array] | None = None,
        call: Call | None = None,
        reads: Sequence[str] = (),
        feed: Feed = as_given,
        entry: Entry | None = None,
        state: Hashable = None,
    ) -> None:
        self._model = weakref.ref(model)  # what is compiled is kept by model, and must not keep it alive
        self.nodes = nodes
        self.layers: tuple[Any, ...] = tuple(layers)
        self.output_layer = output_layer
        self.guided = guided
        self.call = call
        self.reads: tuple[Any, ...] = tuple(reads)
        self.feed = feed
        self.entry = entry
        self.state = state

    @property
    def model(self) -> keras.Model:
        """The model."""
        return self._model()

    def forward(
        self,
        inputs: Inputs,
        change: Change = lambda layer, tensor: tensor,
        around: Mapping[str, Sequence[Wrap]] = MappingProxyType({}),
    ) -> Passed:
        """Run the model once, in inference mode, each tapped output going through `change`.

        around: what else the calls of nodes go through, by path.
        """
        seen: dict[str, list[Array]] = {layer: [] for layer in self.layers}
        outputs: list[Array] = []
        reads: dict[str, list[Array]] = {path: [] for path in self.reads}
        gates: list[Gated] = []
        wraps = self._wraps(seen, outputs, reads, gates, partial(changed_after_gates, change, gates), around)
        if INPUT in self.layers:
            inputs = self._tapped(inputs, seen[INPUT], change)
        raw = self.run(inputs, wraps)
        if self.output_layer is not None:
            raw = self._read(outputs)
        for layer, calls in seen.items():
            if not calls:
                raise LayerError(
                    f"layer `{layer}` was not called, so nothing was recorded there; choose a layer that the "
                    "forward pass uses (`chronocam layers SPEC`)"
                )
        main = main_output(raw, strict=False)
        plain = self.output_layer is None and self.call is None
        last = next((gate for gate in reversed(gates) if plain and gate[0] is main), None)
        return Passed(raw, {} if last is None else {last[2]: last[1]}, reads, seen)

    def run(self, inputs: Inputs, wraps: Mapping[str, Sequence[Wrap]], call: Call | None = None) -> Any:
        """Return what a replica of the model returns, calls of its nodes going through `wraps`.

        call: what is called in its place; `run_model` by default.
        """

        def called(scope: ExitStack) -> Any:
            show_own_errors(scope)
            replica = Replica(self.model, self.nodes, wraps)
            return (call or self.call or run_model)(replica.model, self.feed(inputs))

        return scoped(called)()

    def _tapped(self, inputs: Inputs, seen: list[Array], change: Change) -> Inputs:
        def tap(x: Array) -> Array:
            seen.append(change(INPUT, x))
            return seen[0]

        if self.entry is not None:
            return changed_at(inputs, self.entry, tap)
        first = first_tensor(inputs)
        if first is None:
            raise InputError(NO_FLOATS)
        return replace_tensor(inputs, first, tap(first))

    def _read(self, outputs: list[Array]) -> Array:
        _, number = split_call(str(self.output_layer))
        if len(outputs) <= (number or 0):
            raise LayerError(f"output layer `{self.output_layer}` returned no scores; choose another")
        return outputs[-1 if number is None else number]

    def _wraps(
        self,
        seen: dict[str, list[Array]],
        outputs: list[Array],
        reads: dict[str, list[Array]],
        gates: list[Gated],
        change: Change,
        around: Mapping[str, Sequence[Wrap]],
    ) -> dict[str, list[Wrap]]:
        # The first wrap is the innermost. So a tap sees what guided ReLUs return, the rest of a resumed model
        # replaces all of that, and what scores are made of is read last, as the model itself reads it.
        wraps: dict[str, list[Wrap]] = {path: [] for path in self.nodes}
        for path, node in self.nodes.items():
            wraps[path] += all_frames(node)
            if self.guided is not None and (wrap := guided_relu(node, self.guided)) is not None:
                wraps[path].append(wrap)
            if (gate := gate_of(node)) is not None:
                wraps[path].append(noting_gate(gate, gates))
            elif gates_pass(node):
                wraps[path].append(passing_on(gates))
        for path in dict.fromkeys(filter(None, map(attends_at, self.layers))):
            wraps[path].append(seen_by(partial(see, path, seen, change)))
        plain_layers = [layer for layer in self.layers if layer != INPUT and attends_at(layer) is None]
        for path in dict.fromkeys(map(path_at, plain_layers)):
            taps = [layer for layer in plain_layers if path_at(layer) == path]
            linear = path + LINEAR
            if linear in taps:
                taps.remove(linear)
                wraps[path].insert(0, before_activation(tap([linear], seen, change)))
            if taps:
                wraps[path].append(tap(taps, seen, change))
        for path, further in around.items():
            wraps[path] += further
        if self.output_layer is not None:
            wraps[split_call(self.output_layer)[0]].append(keeping(outputs))
        for name, calls in reads.items():
            wraps[path_of(name, self.nodes)].append(keeping_all(calls))
        return {path: wraps_of for path, wraps_of in wraps.items() if wraps_of}


def path_at(layer: str) -> str:
    """Return the path of the node at which a layer is tapped."""
    return split_entry(layer.removesuffix(LINEAR))[0]


def trace(
    program: Program, inputs: Inputs, entries: Sequence[str] = ()
) -> tuple[list[tuple[str, Array]], Array]:
    """Return the calls of nodes with their outputs, in the order in which they end, and the main output.

    entries: layers that are one of several outputs, such as `fpn[1]`, which are calls too.
    """
    calls: list[tuple[str, Array]] = []

    def noted(path: str, output: object) -> object:
        for name in (path, *(one for one in entries if path_at(one) == path)):
            tensor = first_tensor(part_at(output, split_entry(name)[1]))
            if tensor is not None:
                calls.append((name, tensor))
        return output

    nodes = program.nodes
    wraps = {path: [*all_frames(node), after(partial(noted, path))] for path, node in nodes.items()}
    return calls, first_tensor(program.run(inputs, wraps))


def call_model(model: keras.Model, inputs: Inputs) -> Any:
    """Call the model in inference mode with one input, several, or several by name."""
    return model(list(inputs) if isinstance(inputs, (tuple, list)) else inputs, training=False)


def run_model(model: keras.Model, inputs: Inputs) -> Any:
    """Call the model. Raises InputError, which says what the model saw, where it fails on that."""
    try:
        return call_model(model, inputs)
    # TensorFlow's errors derive from Exception alone, so nothing narrower catches them.
    except Exception as error:
        kind = type(error)
        fails = issubclass(kind, FAILURES) or kind.__module__.startswith("tensorflow.")
        compiling = any(base.__name__ in _REFUSALS for base in kind.__mro__)
        if not fails or compiling or isinstance(error, ChronocamError) or out_of_memory(error):
            raise
        raise InputError(_of_one_size(model, inputs) or failure(inputs, error)) from error


def _of_one_size(model: keras.Model, inputs: Inputs) -> str | None:
    """Say that a model was built for batches of one size, where it failed on another; None where it was not.

    Most such models run on batches of any size: Keras does not mind.
    """
    sizes = {spec.shape[0] for spec in getattr(model, "inputs", None) or ()} - {None}
    rows = {x.shape[0] for x in keras.tree.flatten(inputs) if len(x.shape)}
    if len(sizes) != 1 or rows == sizes:
        return None
    size = sizes.pop()
    return (
        f"the model runs on batches of {size} alone: give batch_size={size}, as many samples or a multiple, "
        "and conv_layer=, which is searched for with one; or build it anew with keras.Input(shape), and give "
        "that its weights, new.set_weights(model.get_weights())"
    )


def main_output(raw: Any, strict: bool = True) -> Array:
    """Return the tensor that holds the scores: `logits`, or the only tensor; the first of a plain list."""
    if is_float(raw):
        return raw
    return scores_in(raw, keras.tree.flatten(raw), is_float, strict)
