"""One forward pass of a Keras model with taps, the same for every backend."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import keras

from chronocam.engines.base import Call, Result, scores_in, split_call
from chronocam.engines.keras.layers import (
    Wrap,
    attribute,
    first_tensor,
    frames_at_once,
    intercepted,
    is_float,
    own_errors,
    path_of,
    replace_tensor,
)
from chronocam.errors import InputError, LayerError
from chronocam.types import INPUT, Array, Inputs

Change = Callable[[str, Any], Any]
"""From a tapped layer and its output to what the model goes on with."""

_SOFTMAXES = ("softmax", "log_softmax")
_GATES = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
_LAST_IS_ACTIVATION = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Activation,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)


@dataclass
class Passed:
    """What one forward pass gave.

    raw: what the model returned.
    logits: what went into its final softmax, None where there is none.
    outputs: what the modules that the score reads returned, by path, one per call.
    activations: by layer, one per call.
    """

    raw: Any
    logits: Any
    outputs: dict[str, list[Any]]
    activations: dict[str, list[Any]]

    @classmethod
    def of(cls, seen: tuple[Any, Any, dict[str, list[Any]]]) -> Passed:
        """Return what was `seen` in another pass, without activations."""
        raw, logits, outputs = seen
        return cls(raw, logits, outputs, {})

    @property
    def result(self) -> Result:
        """What a score function sees of it."""
        return Result(self.raw, self.read, self.outputs)

    @property
    def seen(self) -> tuple[Any, Any, dict[str, list[Any]]]:
        """All that scores are made of."""
        return self.raw, self.logits, self.outputs

    def read(self) -> Array:
        """Return the main output, before a final softmax, in float32 at least."""
        main = main_output(self.raw) if self.logits is None else self.logits
        return keras.ops.cast(main, "float32") if "float16" in str(main.dtype) else main


@dataclass
class Found:
    """What a backend recorded; gradients `(target, *shape)` per call of each layer that the scores depend on."""

    scores: Array
    activations: dict[str, list[Array]]
    gradients: dict[str, list[Array]] = field(default_factory=dict)
    curvature: dict[str, list[Array]] = field(default_factory=dict)
    main: Any = None
    softmax: bool = False


class Program:
    """A forward pass that can be run, traced and compiled; it does not keep the model alive.

    layers: what is tapped, `relu#1` for the second call. guided: a backend's ReLU that takes the place of the
    model's. call: what is called in the place of the model. reads: nodes whose outputs the score reads.
    """

    def __init__(
        self,
        model: Any,
        nodes: Mapping[str, Any],
        layers: Sequence[str],
        output_layer: str | None = None,
        guided: Callable[[Any], Any] | None = None,
        call: Call | None = None,
        reads: Sequence[str] = (),
    ) -> None:
        self._model = weakref.ref(model)
        self.nodes = nodes
        self.layers: tuple[Any, ...] = tuple(layers)
        self.output_layer = output_layer
        self.guided = guided
        self.call = call
        self.reads: tuple[Any, ...] = tuple(reads)

    @property
    def model(self) -> Any:
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
        seen: dict[str, list[Any]] = {layer: [] for layer in self.layers}
        outputs: list[Any] = []
        reads: dict[str, list[Any]] = {path: [] for path in self.reads}
        softmaxes: list[tuple[Any, Any]] = []
        wraps = self._wraps(seen, outputs, reads, softmaxes, change, around)
        with own_errors(), intercepted(wraps, self.nodes):
            if INPUT in self.layers:
                inputs = _tapped_input(inputs, seen, change)
            raw = call_model(self.model, inputs) if self.call is None else self.call(self.model, inputs)
        if self.output_layer is not None:
            raw = self._read(outputs)
        for layer, calls in seen.items():
            if not calls:
                raise LayerError(
                    f"layer `{layer}` was not called, so nothing was recorded there; choose a layer that the forward "
                    "pass uses (`chronocam layers SPEC`)"
                )
        main = main_output(raw, strict=False)
        plain = self.output_layer is None and self.call is None
        logits = next((before for after, before in softmaxes if plain and after is main), None)
        return Passed(raw, logits, reads, seen)

    def _read(self, outputs: list[Any]) -> Any:
        _, number = split_call(str(self.output_layer))
        if len(outputs) <= (number or 0):
            raise LayerError(f"output layer `{self.output_layer}` returned no scores; choose another")
        return outputs[-1 if number is None else number]

    def _wraps(
        self,
        seen: dict[str, list[Any]],
        outputs: list[Any],
        reads: dict[str, list[Any]],
        softmaxes: list[tuple[Any, Any]],
        change: Change,
        around: Mapping[str, Sequence[Wrap]],
    ) -> dict[str, list[Wrap]]:
        wraps: dict[str, list[Wrap]] = {path: [] for path in self.nodes}
        for path, node in self.nodes.items():
            if type(node) is keras.layers.TimeDistributed:
                wraps[path].append(frames_at_once)
            if self.guided is not None and (wrap := guided_relu(node, self.guided)) is not None:
                wraps[path].append(wrap)
            if is_softmax(node):
                wraps[path].append(noting_logits(softmaxes))
        for path in dict.fromkeys(split_call(layer)[0] for layer in self.layers if layer != INPUT):
            taps = [layer for layer in self.layers if split_call(layer)[0] == path]
            wraps[path].append(_tap(taps, seen, change))
        for path, further in around.items():
            wraps[path] += further
        if self.output_layer is not None:
            wraps[split_call(self.output_layer)[0]].append(_keeping(outputs))
        for name, calls in reads.items():
            wraps[path_of(name, self.nodes)].append(_keeping_all(calls))
        return {path: wraps_of for path, wraps_of in wraps.items() if wraps_of}


def trace(program: Program, inputs: Inputs) -> tuple[list[tuple[str, Any]], Any]:
    """Return every call of every node with its output, in the order in which they finish, and the main output."""
    calls: list[tuple[str, Any]] = []

    def note(path: str) -> Wrap:
        def wrap(node: Any, call: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                output = call(*args, **kwargs)
                tensor = first_tensor(output)
                if tensor is not None:
                    calls.append((path, tensor))
                return output

            return run

        return wrap

    nodes = program.nodes
    wraps: dict[str, list[Wrap]] = {
        path: [*([frames_at_once] if type(node) is keras.layers.TimeDistributed else []), note(path)]
        for path, node in nodes.items()
    }
    with own_errors(), intercepted(wraps, nodes):
        final = first_tensor(call_model(program.model, inputs))
    return calls, final


def call_model(model: Any, inputs: Inputs) -> Any:
    """Call the model in inference mode with one input, several, or several by name."""
    return model(list(inputs) if isinstance(inputs, (tuple, list)) else inputs, training=False)


def main_output(raw: Any, strict: bool = True) -> Any:
    """Return the tensor that holds the scores: `logits`, or the only tensor; the first of a plain list."""
    if is_float(raw):
        return raw
    return scores_in(raw, keras.tree.flatten(raw), is_float, strict)


def gate_of(node: Any) -> str | None:
    """Return the last thing that a layer or operation does, where that is a softmax, a log-softmax or a sigmoid."""
    if type(node).__name__ in _GATES:
        return _GATES[type(node).__name__]
    name = getattr(getattr(node, "activation", None), "__name__", "")
    return name if isinstance(node, _LAST_IS_ACTIVATION) and name in _GATES.values() else None


def is_softmax(node: Any) -> bool:
    """Say whether the last thing that a layer or operation does is a softmax."""
    return gate_of(node) in _SOFTMAXES


def guided_relu(node: Any, relu: Callable[[Any], Any]) -> Wrap | None:
    """Return what gives a layer another ReLU, or None for one that has no ReLU.

    Known are ReLU and ReLU6, as layers, as operations of a functional model, and as `activation=` of other
    layers.
    """
    if type(node).__name__ in ("ReLU", "Relu", "Relu6"):
        if getattr(node, "negative_slope", 0) or getattr(node, "threshold", 0):
            return None
        return lambda node, call: lambda x, *args, **kwargs: _capped(node, relu(x))
    activation = node.__dict__.get("activation")
    if activation not in (keras.activations.relu, keras.activations.relu6):
        return None
    six = activation is keras.activations.relu6

    def wrap(node: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with attribute(node, "activation", lambda x: keras.ops.minimum(relu(x), 6.0) if six else relu(x)):
                return call(*args, **kwargs)

        return run

    return wrap


def _capped(node: Any, x: Any) -> Any:
    highest = 6.0 if type(node).__name__ == "Relu6" else getattr(node, "max_value", None)
    return x if highest is None else keras.ops.minimum(x, highest)


def noting_logits(gates: list[tuple[Any, Any]], gated: Callable[[Any], Any] = lambda output: output) -> Wrap:
    """Note what a node with a final gate returns, and what goes into the gate. gated: what is done to the former."""

    def wrap(node: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            activation = node.__dict__.get("activation")
            if activation is None:
                output, logits = call(*args, **kwargs), (*args, *kwargs.values())[0]
            else:
                with attribute(node, "activation", keras.activations.linear):
                    logits = call(*args, **kwargs)
                output = gated(activation(logits))
            gates.append((output, logits))
            return output

        return run

    return wrap


def _tap(layers: Sequence[str], seen: dict[str, list[Any]], change: Change) -> Wrap:
    counts: Counter[str] = Counter()

    def wrap(node: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            output = call(*args, **kwargs)
            old = tensor = first_tensor(output)
            if tensor is None:
                raise LayerError(
                    f"layer `{layers[0]}` returns no floating-point tensor; choose another layer"
                )
            for layer in layers:
                if split_call(layer)[1] in (None, counts["calls"]):
                    tensor = change(layer, tensor)
                    seen[layer].append(tensor)
            counts["calls"] += 1
            return replace_tensor(output, old, tensor)

        return run

    return wrap


def _keeping(outputs: list[Any]) -> Wrap:
    def wrap(node: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            output = call(*args, **kwargs)
            tensor = first_tensor(output)
            if tensor is not None:
                outputs.append(tensor)
            return output

        return run

    return wrap


def _keeping_all(calls: list[Any]) -> Wrap:
    def wrap(node: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            output = call(*args, **kwargs)
            calls.append(output)
            return output

        return run

    return wrap


def _tapped_input(inputs: Inputs, seen: dict[str, list[Any]], change: Change) -> Inputs:
    first = first_tensor(inputs)
    if first is None:
        raise InputError("no floating-point input to differentiate; explain a layer: give conv_layer=")
    seen[INPUT].append(change(INPUT, first))
    return replace_tensor(inputs, first, seen[INPUT][0])
