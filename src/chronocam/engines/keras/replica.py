"""Replicas of Keras models: layers and operations are copies, the variables are the model's own.

All that a pass does to a model is done to its replica: calls that are looked into, other activations. So
another thread that runs the model meets none of it, nothing has to be undone afterwards, and an interrupt
leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from chronocam.engines.keras.layers import Node, Nodes, Run, Wrap
from chronocam.engines.twins import Twins


class Replica:
    """A copy of a model in which calls of the `nodes` go through `wraps`, by path, the first innermost."""

    def __init__(self, model: keras.Model, nodes: Nodes, wraps: Mapping[str, Sequence[Wrap]]) -> None:
        self._copies: dict[int, Node] = {}
        self._twins = Twins(keras.Operation, self._copy)
        self.model: keras.Model = self._copy(model)
        for path, around in wraps.items():
            node = self._copy(nodes[path])
            # Layers look up `self.call` when they are called, so an attribute of the instance goes before the
            # method of its class, and masks, dtypes and names are handled by Keras as ever.
            call: Run = node.call
            for wrap in around:
                call = wrap(node, call)
            node.__dict__["call"] = call

    def _copy(self, node: Node) -> Node:
        """Return the copy of a layer, an operation or a model; made where it is met first."""
        if id(node) not in self._copies:
            copy = self._copies[id(node)] = object.__new__(type(node))
            attributes = copy.__dict__
            attributes.update(node.__dict__)
            for name, value in node.__dict__.items():
                attributes[name] = self._twins.of(value)
            # What a call adds to the losses is its own.
            attributes |= {"_losses": [], "_loss_ids": set()}
            if hasattr(node, "_run_through_graph"):
                attributes["_run_through_graph"] = self._through_copies(copy)
        return self._copies[id(node)]

    def _through_copies(self, function: Node) -> Run:
        """Return what runs the graph of a functional model, whose nodes hold the model's own operations."""
        run = type(function)._run_through_graph

        def through(
            inputs: Any, operation_fn: Callable[[Node], Run] = lambda node: node, **options: Any
        ) -> Any:
            return run(function, inputs, lambda node: operation_fn(self._copy(node)), **options)

        return through
