"""The model that is explained, and what is found out about it once and for all."""

from __future__ import annotations

from typing import Any

from chronocam.engines import Engine, engine_for
from chronocam.joint.default_layer import default_layer
from chronocam.joint.inputs import first_samples, main_array
from chronocam.joint.stages import stages
from chronocam.layouts import VideoTokens
from chronocam.types import Inputs, Window


class Subject:
    """A model as it is explained: its engine, and what is found out about it once."""

    def __init__(self, model: Any, output_layer: Any) -> None:
        self.engine: Engine = engine_for(model, output_layer)
        self._default: str | None = None
        self._centers: dict[Any, tuple[tuple[float, ...], ...]] = {}
        self._orders: dict[Any, str] = {}
        self._stages: dict[Any, dict[str, tuple[Window, ...] | None]] = {}

    def default_layer(self, inputs: Inputs) -> str:
        """Return the last layer that still has a grid on which the score depends, found once."""
        if self._default is None:
            self._default = default_layer(self.engine, inputs)
        return self._default

    def stages(self, inputs: Inputs, layer: str) -> dict[str, tuple[Window, ...] | None]:
        """Return the layers up to `layer` after which the grid shrinks, with their windows; once per input size."""
        key = (layer, tuple(main_array(inputs).shape[1:]))
        if key not in self._stages:
            self._stages[key] = stages(self.engine, inputs, layer)
        return self._stages[key]

    def centers(self, inputs: Inputs, layer: str, grid: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
        """Return where the cells of a layer lie in the input, per axis, found once per input size."""
        key = (layer, grid, tuple(main_array(inputs).shape[1:]))
        if key not in self._centers:
            self._centers[key] = self.engine.centers(first_samples(inputs), layer, grid)
        return self._centers[key]

    def frame_centers(self, inputs: Inputs, layer: str, rows: int, frame_axis: int) -> tuple[float, ...]:
        """Return at which frame each row of a layer with folded frames looks, found once per input size."""
        key = (layer, rows, tuple(main_array(inputs).shape[1:]))
        if key not in self._centers:
            self._centers[key] = (
                self.engine.frame_centers(first_samples(inputs, 1), layer, rows, frame_axis),
            )
        return self._centers[key][0]

    def order(self, inputs: Inputs, layer: str, tokens: VideoTokens, frame_axis: int) -> str:
        """Return in which order the tokens of a layer lie, found once per layer."""
        if layer not in self._orders:
            sample = first_samples(inputs, 1)
            by_patch = self.engine.tokens_by_patch(sample, layer, tokens.prefix, frame_axis)
            self._orders[layer] = "patch" if by_patch else "time"
        return self._orders[layer]
