"""Compiled passes of Keras models, kept as long as the model, and what they share on TensorFlow and JAX."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras
import numpy as np

from chronocam.engines.keras.program import Program
from chronocam.types import Inputs

T = TypeVar("T")

_COMPILED: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def compiled(program: Program, key: object, make: Callable[[], T]) -> T:
    """Return what was compiled of a model under this key; what calls something else than the model is not kept."""
    if program.call is not None:
        return make()
    known = _COMPILED.setdefault(program.model, {})
    # A layer that was added, or given another activation, makes it another model.
    parts = tuple(
        (path, id(node), id(node.__dict__.get("activation"))) for path, node in program.nodes.items()
    )
    full = (program.layers, program.output_layer, program.guided is not None, program.reads, key, parts)
    if full not in known:
        known[full] = make()
    return known[full]


def signature(inputs: Inputs) -> tuple[Any, ...]:
    """Return the shapes and types of inputs."""
    return tuple((tuple(x.shape), str(x.dtype)) for x in keras.tree.flatten(inputs))


class Shapes:
    """Notes the shape and type of every tapped output, and leaves it as it is."""

    def __init__(self, layers: Sequence[str]) -> None:
        self.found: dict[str, list[tuple[tuple[int, ...], Any]]] = {layer: [] for layer in layers}

    def anew(self) -> Shapes:
        """Forget what was noted."""
        for calls in self.found.values():
            calls.clear()
        return self

    def __call__(self, layer: str, x: Any) -> Any:
        """Note the output of a layer."""
        if layer in self.found:
            self.found[layer].append((tuple(x.shape), x.dtype))
        return x

    def map(self, make: Callable[[tuple[int, ...], Any], Any]) -> dict[str, list[Any]]:
        """Return one array per output."""
        return {layer: [make(*each) for each in calls] for layer, calls in self.found.items()}


class Start:
    """Adds what is given to the outputs of layers; the first of them is cut off from what comes before it."""

    def __init__(self, offsets: Mapping[str, Sequence[Any]], cut: Callable[[Any], Any]) -> None:
        self.offsets, self.cut, self.started = offsets, cut, False
        self.calls: defaultdict[str, int] = defaultdict(int)

    def __call__(self, layer: str, x: Any) -> Any:
        """Return the output that the model goes on with."""
        if layer not in self.offsets:
            return x
        offset = self.offsets[layer][self.calls[layer]]
        self.calls[layer] += 1
        if not self.started:
            self.started, x = True, self.cut(x)
        return x + offset


def disconnected(gradients: Mapping[str, Sequence[np.ndarray]], moves: Callable[[str], bool]) -> list[str]:
    """Return the layers whose gradient is zero because nothing connects them to the scores."""
    return [
        layer for layer, calls in gradients.items() if not any(g.any() for g in calls) and not moves(layer)
    ]


def scored(upstream: Sequence[Any]) -> list[bool]:
    """Say which outputs scores are made of, by ∂score/∂output: those with any; all, where it is zero everywhere."""
    used = [bool(np.any(np.asarray(gradient))) for gradient in upstream]
    return used if any(used) else [True] * len(used)


def random_offset(shape: Sequence[int]) -> np.ndarray:
    """Return what to add to a layer's output to see whether anything depends on it."""
    return 1e3 * np.random.default_rng(0).standard_normal(tuple(shape), dtype=np.float32)
