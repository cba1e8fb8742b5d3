"""What the cells of a Keras layer see of its input: said by the layers before it, or by a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import keras
import numpy as np

from chronocam.engines.base import Sight
from chronocam.engines.geometry import Centers, UnknownGeometry
from chronocam.engines.keras.backend import Backend
from chronocam.engines.keras.field import Fields, fields_of, keep_places
from chronocam.engines.keras.layers import Nodes, first_tensor
from chronocam.engines.keras.program import Program
from chronocam.engines.names import part_at, split_call, split_entry
from chronocam.engines.recording import Feed, Recording, Request, Result, Score
from chronocam.errors import LayoutError
from chronocam.maps.arrays import to_numpy
from chronocam.types import INPUT, Array, Inputs, Window


class KerasGeometry(UnknownGeometry):
    """The verbs of `Geometry`, for an engine that holds the nodes of a model and records its passes."""

    model: keras.Model
    nodes: Nodes
    backend: Backend
    feed: Feed

    @cached_property
    def channels_last(self) -> bool:
        """Whether the model has its channels last."""
        raise NotImplementedError

    def record(self, inputs: Inputs, score: Score, request: Request) -> Recording:
        """Record one pass."""
        raise NotImplementedError

    @cached_property
    def may_move(self) -> bool:
        """Whether some layer may move places."""
        return not keep_places(self.model, self.channels_last)

    def centers(self, inputs: Inputs, layer: str, grid: Sequence[int]) -> tuple[Centers, ...]:
        """Return, per grid axis, where each cell's receptive field has its centre; see `Geometry.centers`.

        Raises LayoutError where a layer on the way is not known, or where no local path leads to the input.
        """
        fields = self._fields(inputs, layer, len(grid))
        if fields is None:
            raise LayoutError(
                f"what the cells of layer `{layer}` see of the input is unknown: some layer before it has "
                'no known extent; use align="half_pixel"'
            )
        return tuple(tuple(map(field.center, range(n))) for field, n in zip(fields, grid, strict=True))

    def sight(self, inputs: Inputs, layer: str, rank: int) -> Sight:
        """Return what a layer sees of the input, as the layers before it say; see `Geometry.sight`."""
        fields = self._fields(inputs, layer, rank)
        windows = None if fields is None else tuple(Window(f.stride, f.low, f.high) for f in fields)
        if not self.may_move:
            return Sight(windows)
        return Sight(windows, False, self._extent(inputs, layer))

    def _extent(self, inputs: Inputs, layer: str) -> tuple[tuple[int, int], ...] | None:
        """Return the first and last place that any cell of a layer sees, per axis of a sample."""
        (path, entry), (_, number) = split_entry(layer), split_call(layer)

        def score(result: Result) -> Array:
            output = first_tensor(part_at(result.outputs[path][-1 if number is None else number], entry))
            noise = np.random.default_rng(0).standard_normal(output.shape)
            return keras.ops.reshape(keras.ops.sum(output * keras.ops.cast(noise, output.dtype)), (1, 1))

        recording = self.record(inputs, score, Request([INPUT], gradients=[INPUT], reads=[path]))
        if INPUT not in recording.gradients:
            return None
        seen = to_numpy(recording.gradients[INPUT][0])[0] != 0
        each = [
            np.flatnonzero(seen.any(axis=tuple(i for i in range(seen.ndim) if i != axis)))
            for axis in range(1, seen.ndim)
        ]
        return tuple((int(at[0]), int(at[-1])) for at in each) if seen.any() else None

    def _fields(self, inputs: Inputs, layer: str, rank: int) -> Fields:
        calls: list[Fields] = []

        def run(inputs: Inputs) -> None:
            pictures = self.feed(inputs)
            calls[:] = fields_of(program, pictures, layer, rank, self.channels_last)

        program = Program(self.model, self.nodes, ())
        self.backend.once(run, program, inputs)
        return calls[-1] if calls else None
