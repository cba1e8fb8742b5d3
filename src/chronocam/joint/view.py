"""What a method sees of one layer: the captures of a pass, on the layer's grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from chronocam.engines import Recording
from chronocam.errors import LayoutError
from chronocam.joint.inputs import is_floating, map_arrays
from chronocam.joint.scoring import Scoring
from chronocam.layouts import Site, Stepped, VideoTokens, infer, joined, named
from chronocam.maps.arrays import namespace, widen
from chronocam.maps.frames import frames_as_samples, samples_as_frames
from chronocam.maps.resample import resample
from chronocam.methods import Method
from chronocam.types import INPUT, Array, Capture, Need, Stage

if TYPE_CHECKING:
    from chronocam._explain import Pass


class LayerView:
    """What a method sees of one layer: a `View`."""

    def __init__(
        self,
        pass_: Pass,
        method: Method,
        layer: str,
        recording: Recording,
        scoring: Scoring,
        logits: Array | None,
        columns: slice,
    ) -> None:
        self._pass, self._method, self._layer, self._scoring = pass_, method, layer, scoring
        self._logits = logits
        self.targets = columns.stop - columns.start
        self._grid: tuple[int, ...] = ()
        self._per_frame = False
        self.notes: list[str] = []
        self.captures = self._captures(recording, columns)

    @cached_property
    def centers(self) -> tuple[tuple[float, ...], ...] | None:
        """Where the cells lie in the input, per axis; None where they tile it evenly."""
        if self._method.align == "half_pixel" or self._layer == INPUT:
            return None
        pass_, grid = self._pass, self._grid
        if not self._per_frame:
            return pass_.subject.centers(pass_.inputs, self._layer, grid)
        times: tuple[float, ...] = tuple(map(float, range(grid[0])))
        if grid[0] < pass_.grid[0]:  # thinned out before the 2D network
            times = pass_.subject.frame_centers(pass_.inputs, self._layer, grid[0], pass_.frame_axis)
        return times, *pass_.subject.centers(pass_.inputs, self._layer, grid[1:])

    @property
    def _by_frame(self) -> bool:
        """Whether the method gets each time slice as a sample of its own."""
        if not hasattr(self._method, "pool") or self._pass.clips is None:
            return False
        return self._per_frame if self._method.pool is None else self._method.pool == "frame"

    def unfolded(self, maps: Array) -> Array:
        """Return the method's maps with the time slices of each clip together again."""
        return samples_as_frames(maps, self._pass.shape[0]) if self._by_frame else maps

    def _captures(self, recording: Recording, columns: slice) -> tuple[Capture, ...]:
        return tuple(
            self._capture(INPUT if need.at_input else self._layer, need, recording, columns)
            for need in self._method.needs
        )

    def _capture(self, layer: str, need: Need, recording: Recording, columns: slice) -> Capture:
        calls = recording.activations[layer]
        layout = self._layout(layer, tuple(calls[-1].shape), calls=len(calls))
        if len(calls) > 1 and not isinstance(layout, Stepped):
            self.notes.append(
                f"layer `{layer}` is called {len(calls)} times; its last call is explained (`{layer}#0` is the first)"
            )
        activations = widen(layout(joined(calls, layout)))
        if activations.shape[0] != self._pass.shape[0]:
            raise LayoutError(
                f"layout= gives {activations.shape[0]} samples for a batch of {self._pass.shape[0]}"
            )
        if layer == self._layer:
            self._grid = tuple(activations.shape[2:])
            self._per_frame = getattr(layout, "per_frame", False)
        folded = frames_as_samples if self._by_frame else _as_it_is
        if need.attentions:
            self.notes.append("attention knows no class: the map is the same for every target")

        def per_target(recorded: Any) -> Array:
            arrays = [call[columns] for call in recorded[layer]]
            each = [widen(layout(joined([a[k] for a in arrays], layout))) for k in range(arrays[0].shape[0])]
            return folded(namespace(each[0]).stack(each, axis=1))

        gradients = recording.guided if need.guided else recording.gradients
        return Capture(
            folded(activations),
            per_target(gradients) if need.gradients else None,
            per_target(recording.curvature) if need.curvature else None,
            recording.attentions if need.attentions else (),
            partial(self._layout, layer, calls=1) if need.attentions else None,
            self._stages(recording) if need.stages else (),
        )

    def _stages(self, recording: Recording) -> tuple[Stage, ...]:
        self.notes.append("class-agnostic: the same for every target")
        found: list[Stage] = []
        for layer, windows in self._pass.stages(self._layer).items():
            calls = recording.activations[layer]
            layout = self._layout(layer, tuple(calls[-1].shape), calls=len(calls))
            activations = widen(layout(joined(calls, layout)))
            grid = self._pass.grid
            if self._per_frame:  # of frames that were thinned out before the 2D network, none are made up
                grid = (activations.shape[2], *grid[1:])
            found.append(
                Stage(activations, tuple(found[-1].activations.shape[2:]) if found else grid, windows)
            )
            if windows is None:
                self.notes.append(
                    f"what layer `{layer}` sees of the one before is not known: resampled linearly"
                )
        return tuple(found)

    def _layout(
        self, layer: str, shape: tuple[int, ...], order: str | None = None, *, calls: int
    ) -> Callable[[Array], Array]:
        pass_, given = self._pass, self._method.layout
        if layer == INPUT:
            axis = pass_.channel_axis
            return lambda array: array[:, None] if axis is None else namespace(array).moveaxis(array, axis, 1)
        site = Site(layer, shape, pass_.shape[0], pass_.grid, calls, pass_.engine.channels_last)
        layout = infer(site) if given is None else named(given, site)
        if isinstance(layout, VideoTokens) and layout is not given:
            return layout.ordered(order or pass_.subject.order(pass_.inputs, layer, layout, pass_.frame_axis))
        return layout

    def upsample(self, maps: Array) -> Array:
        """Return maps of the layer on the input's grid."""
        return resample(maps, self._pass.grid, "linear", self.centers)

    def again(self, change: Callable[[Array], Array]) -> tuple[Capture, ...]:
        """Record the same needs and targets once more, after `change` of every floating-point input."""
        changed = map_arrays(lambda x: change(x) if is_floating(x) else x, self._pass.inputs)
        target = self._scoring.targets[self._pass.methods.index(self._method)]
        scoring = replace(self._scoring, targets=(target,), clean=self._logits)
        places = self._pass.places
        needs = [(need, layer) for need in self._method.needs for layer in places(need, self._layer)]
        recording, columns = self._pass.record(changed, scoring, needs)
        return self._captures(recording, columns.slices[0])


def _as_it_is(array: Array) -> Array:
    return array
