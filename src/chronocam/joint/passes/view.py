"""What a method sees of one layer: the captures of a pass, on the layer's grid."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import count
from math import prod
from typing import Any, TypeAlias
from weakref import WeakMethod

import numpy as np

from chronocam.engines import Recording, Resumed, Score
from chronocam.engines.recording import Calls
from chronocam.errors import InputError, LayoutError
from chronocam.joint.inputs.batches import arrays_of, has_samples, is_floating, map_arrays
from chronocam.joint.layers.choices import kind_of
from chronocam.joint.layers.stages import stages
from chronocam.joint.look.look import Look
from chronocam.joint.look.placement import BESIDE
from chronocam.joint.passes.bearings import Bearings, Centers
from chronocam.joint.passes.biases import bias_terms
from chronocam.joint.passes.changes import ScoresOfChanges
from chronocam.joint.passes.levels import UNKNOWN, Known
from chronocam.joint.passes.record import Needs, links, record, recorded_at
from chronocam.joint.passes.scoring import Scoring
from chronocam.joint.recipe import Recipe
from chronocam.layouts.base import channels_in, inverse, joined
from chronocam.layouts.tokens import Tokens
from chronocam.maps.arrays import like, namespace, to_numpy, widen
from chronocam.maps.attended import Link
from chronocam.maps.frames import frames_as_samples, samples_as_frames
from chronocam.maps.resample import resample
from chronocam.types import INPUT, Array, Capture, Change, Finding, Need, Stage, Window

Atlas: TypeAlias = dict[tuple[str, tuple[int, ...], int], Bearings]
"""The bearings of layers, as one method asks for them, by what each returned and in how many calls."""


class LayerView:
    """What a method sees of one layer: a `View`.

    scoring: the target of the method alone, for further passes.
    recording: what the pass recorded. columns: of its scores, those of the method's target.
    known: what an adapter knows of the layer's grid.
    atlas: the bearings that are known from other calls alike; those worked out here are added.
    """

    def __init__(
        self,
        look: Look,
        recipe: Recipe,
        layer: str,
        scoring: Scoring,
        recording: Recording,
        columns: slice,
        known: Known = UNKNOWN,
        atlas: Atlas | None = None,
    ) -> None:
        self._look = look
        self._known = known
        self._atlas: Atlas = {} if atlas is None else atlas
        self._recipe = recipe
        self._layer = layer
        self._scoring = scoring
        self._rest: Resumed | None = recording.rests.get(layer)
        self.targets: int = columns.stop - columns.start
        self.notes: list[str] = []
        self.interval: Array = None
        # The captures say what the layer's grid is, and whether it saw the frames of clips one by one.
        self._bearings: Bearings | None = None
        self.captures: tuple[Capture, ...] = self._captures(recording, columns)

    @property
    def by_feature(self) -> bool:
        """Whether the input is a sequence, each feature of which is a place; see `View`."""
        return self._look.by_feature

    @property
    def centers(self) -> Centers | None:
        """Where the cells lie in the input, per axis; None where they tile it evenly."""
        return None if self._bearings is None else self._bearings.centers(self._look)

    @property
    def field(self) -> tuple[Window, ...] | None:
        """What the cells of a layer see of the input; see `Bearings.windows`."""
        return None if self._bearings is None else self._bearings.windows(self._look)

    def remarks(self, alone: bool) -> tuple[Finding, ...]:
        """Return what is to be said of the layer's grid; see `Bearings.remarks`."""
        return () if self._bearings is None else self._bearings.remarks(self._look, alone)

    @property
    def _grid(self) -> tuple[int, ...]:
        return () if self._bearings is None else self._bearings.grid

    @property
    def _by_frame(self) -> bool:
        """Whether the method gets each time slice as a sample of its own."""
        return self._bearings is not None and self._bearings.by_frame

    def unfolded(self, maps: Array) -> Array:
        """Return the method's maps with the time slices of each clip together again."""
        return samples_as_frames(maps, self._look.shape[0]) if self._by_frame else maps

    def _captures(self, recording: Recording, columns: slice) -> tuple[Capture, ...]:
        return tuple(
            [
                self._capture(INPUT if need.at_input else self._layer, need, recording, columns)
                for need in self._recipe.needs
            ]
        )

    def _capture(self, layer: str, need: Need, recording: Recording, columns: slice) -> Capture:
        calls = recording.activations[layer]
        bearings = self._bearings_of(layer, calls)
        self.notes.extend(bearings.notes)
        placed = bearings.on_grid(calls)
        activations = widen(placed)
        samples = self._look.shape[0]
        if activations.shape[0] != samples:
            raise LayoutError(f"layout= gives {activations.shape[0]} samples for a batch of {samples}")
        if layer == self._layer:
            self._bearings = bearings
        if need.attentions:
            self.notes.append("attention knows no class: the map is the same for every target")

        def per_target(recorded: Calls) -> Array:
            return self._folded(_per_target(recorded[layer], columns, placed is calls[-1], bearings.layout))

        activations = self._folded(activations)
        gradients = recording.guided if need.guided else recording.gradients
        return Capture(
            activations,
            per_target(gradients) if need.gradients else None,
            per_target(recording.curvature) if need.curvature else None,
            **self._attention(layer, need, recording, columns),
            stages=self._stages(recording) if need.stages else (),
            biases=bias_terms(self._look, recording, columns) if need.biases else (),
        )

    def _bearings_of(self, layer: str, calls: Sequence[Array]) -> Bearings:
        key = layer, tuple(calls[-1].shape), len(calls)
        bearings = self._atlas.get(key)
        if bearings is None:
            bearings = Bearings(self._look, self._recipe, layer, self._known, key[1], key[2])
            self._atlas[key] = bearings
        return bearings

    def _folded(self, array: Array) -> Array:
        """Return an array with the time slices of clips as samples, where the method gets them so."""
        return frames_as_samples(array) if self._by_frame else array

    def _attention(self, layer: str, need: Need, recording: Recording, columns: slice) -> dict[str, Any]:
        """Return what a capture holds of attention, for methods that need any."""
        if not (need.attentions or need.attended or need.blocks):
            return {}
        shape = tuple(recording.activations[layer][-1].shape)
        return {
            "attentions": recording.attentions if need.attentions else (),
            "layout_of": partial(_called, WeakMethod(self._layout_of_tokens), layer, shape),
            "links": partial(_called, WeakMethod(self._links)),
            "attended": tuple(one.of(columns) for one in recording.attended),
            "blocks": tuple(tuple(one.of(columns) for one in block) for block in recording.blocks),
        }

    def _stages(self, recording: Recording) -> tuple[Stage, ...]:
        self.notes.append("class-agnostic: the same for every target")
        look, passed, bearings = self._look, list[Stage](), self._bearings
        for layer, windows in stages(look, self._layer).items():
            stated = None if bearings is None else bearings.stated
            activations = widen(look.on_grid(layer, recording.activations[layer], stated))
            grid = look.grid
            if bearings is not None and bearings.per_frame:
                # Of frames that were thinned out before the 2D network, none are made up.
                grid = (activations.shape[2], *grid[1:])
            before = tuple(passed[-1].activations.shape[2:]) if passed else grid
            passed.append(Stage(activations, before, windows))
            if windows is None:
                self.notes.append(
                    f"what layer `{layer}` sees of the one before is not known: resampled linearly"
                )
        return tuple(passed)

    def _layout(
        self, layer: str, shape: tuple[int, ...], order: str | None = None, *, calls: int
    ) -> Callable[[Array], Array]:
        return self._look.layout(layer, shape, calls, self._recipe.layout or self._known.layout, order)

    def _layout_of_tokens(
        self, layer: str, own: tuple[int, ...], shape: tuple[int, ...], order: str | None = None
    ) -> Callable[[Array], Array]:
        """Return the layout of tokens `(row, token, channel)` that attend to each other.

        They need not be those that the layer returned, of shape `own`: a class token may be left out there.
        Then a layer that returned as many says where they lie, and where there is none, a token for each cell
        of the layer's grid is one.
        """
        if self._recipe.layout is not None or order is not None:
            return self._layout(layer, shape, order, calls=1)
        known = self._layout(layer, own, order, calls=1)
        if isinstance(known, Tokens) and known.length == shape[1]:
            return _by_row(known)
        if len(own) == 3 and shape[:2] == own[:2]:
            return _by_row(known)
        one = self._look.few(1)
        rows, samples = shape[0], self._look.shape[0]
        alike = {call.path: call.shape for call in one.calls() if _as_many(call.shape, shape, samples)}
        # The first ones, before attention mixes what the tokens hold: places stay the same.
        for path in list(alike)[:BESIDE]:
            with suppress(LayoutError):
                return _by_row(self._layout(path, (*shape[:2], alike[path][2]), calls=1))
        if rows == samples and shape[1] == prod(self._grid):
            return Tokens(self._grid)
        raise LayoutError(f"no layer returns {shape[1]} tokens that follow the places of the input")

    def _links(self) -> tuple[Link, ...]:
        """Return where each attention stands; found out once per input size and kind of target."""
        kinds = tuple(map(kind_of, self._scoring.targets))
        key = "links", self._look.number, self._look.sizes, kinds
        return self._look.subject.once(key, lambda: links(self._look, self._further))

    def note(self, text: str) -> None:
        """Add a remark to the explanation's findings."""
        self.notes.append(text)

    def on_main(self, change: Change) -> Change:
        """Return the change of the inputs that is one of the explained input, `(batch, channel, *grid)`."""
        main, axis = self._look.main, self._look.channel_axis

        def changed(x: Array) -> Array:
            if x is not main:
                return x
            xp = namespace(x)
            if axis is None:
                return xp.astype(change(x[:, None])[:, 0], x.dtype)
            return xp.astype(xp.moveaxis(change(xp.moveaxis(x, axis, 1)), 1, axis), x.dtype)

        return changed

    def laid(self, values: Any) -> Array:
        """Return values shaped like samples of the explained input, or one, as `(n, channel, *grid)`."""
        look = self._look
        given = np.asarray(to_numpy(values) if hasattr(values, "dtype") else values, np.float32)
        sample = look.shape[1:]
        try:
            samples = given.shape[0] if given.ndim == len(look.shape) else 1
            whole = np.broadcast_to(given, (samples, *sample))
        except ValueError:
            raise InputError(
                f"baseline= has shape {given.shape}; expected that of one input {sample}, of several, or one "
                "that broadcasts to it"
            ) from None
        whole = whole[:, None] if look.channel_axis is None else np.moveaxis(whole, look.channel_axis, 1)
        return like(whole, widen(look.main))

    def upsample(self, maps: Array) -> Array:
        """Return maps of the layer on the input's grid."""
        return resample(maps, self._look.grid, "linear", self.centers)

    def again(self, change: Change) -> tuple[Capture, ...]:
        """Record the same needs and targets once more, after `change` of every floating-point input."""
        changed = map_arrays(lambda x: change(x) if is_floating(x) else x, self._look.inputs)
        recorded = record(self._look, self._further, self._needs, changed).connected()
        return self._captures(recorded.recording, recorded.columns.slices[0])

    def moved(self, change: Change) -> LayerView:
        """Return the view of the same layer and targets after a change of the explained input."""
        look = replace(self._look, inputs=map_arrays(self.on_main(change), self._look.inputs))
        scoring = self._further
        recorded = record(look, replace(scoring, moved=look.grid[-2:]), self._needs).connected()
        columns = recorded.columns.slices[0]
        more = self._known, self._atlas
        return LayerView(look, self._recipe, self._layer, scoring, recorded.recording, columns, *more)

    @property
    def _needs(self) -> Needs:
        needs = [
            (need, layer)
            for need in self._recipe.needs
            for layer in recorded_at(self._look, need, self._layer)
        ]
        return Needs(self._look, needs, self._scoring.reads)

    @property
    def _further(self) -> Scoring:
        """The scoring of further passes."""
        # Where a model gives scores at every step, a noisy look chooses its classes by what it sees itself.
        clean = self._scoring.clean
        return replace(self._scoring, clean=None if clean is None or clean.ndim == 3 else clean)

    def scores(self, changes: Iterable[Change]) -> Array:
        """Return the targets' scores `(change, batch, target)` after each change of the inputs."""
        look = self._look
        floating = [
            x for i, x in enumerate(arrays_of(look.inputs)) if is_floating(x) and i not in look.shared
        ]
        at_once = self._at_once(all(has_samples(x, look.shape[0]) for x in floating))
        if look.engine.values_at_once is not None:
            at_once = max(1, min(at_once, look.engine.values_at_once // prod(look.shape)))

        def scored(part: Sequence[Change], score: Score) -> Array:
            numbers = count()
            inputs = map_arrays(
                lambda x: x if next(numbers) in look.shared else _changed_input(x, part, look.shape[0]),
                look.inputs,
            )
            return look.engine.scores(inputs, score, look.call, self._scoring.reads)

        return self._changes.of(changes, at_once, scored)

    def resume(self, changes: Iterable[Change]) -> Array:
        """Return the targets' scores `(change, batch, target)` after each change of the layer's activations.

        A change is of `(batch, channel, *grid)`. Raises LayerError for a layer from which the model cannot be
        resumed, LayoutError for a layout that cannot be undone.
        """
        resumed, layout, calls = self._resumed()
        put_back = inverse(layout, calls)
        activations = widen(layout(joined(calls, layout)))

        def scored(part: Sequence[Change], score: Score) -> Array:
            changed = zip(*(put_back(change(activations)) for change in part), strict=True)
            return resumed([namespace(call[0]).concat(call, axis=0) for call in map(list, changed)], score)

        return self._changes.of(changes, self._at_once_from(layout, calls), scored)

    def without(self, channels: Iterable[int]) -> Array:
        """Return the targets' scores `(channel, batch, target)` without each channel of the layer's output.

        Raises as `resume` does.
        """
        resumed, layout, calls = self._resumed()
        axis = channels_in(layout, calls)
        count = len(calls) if getattr(layout, "takes_all_calls", False) else 1

        def scored(part: Sequence[int], score: Score) -> Array:
            return resumed.without(part, axis, count, score)

        return self._changes.of(channels, self._at_once_from(layout, calls), scored)

    def masked(self, masks: Iterable[np.ndarray]) -> Array:
        """Return the targets' scores `(mask, batch, target)` of the layer's output times each mask `(*grid)`.

        Raises as `resume` does.
        """
        resumed, layout, calls = self._resumed()
        taken = joined(calls, layout)
        if layout(taken) is not taken:
            return self.resume(partial(_times, mask) for mask in masks)

        def scored(part: Sequence[np.ndarray], score: Score) -> Array:
            return resumed.masked(np.stack(part), score)

        return self._changes.of(masks, self._at_once_from(layout, calls), scored)

    def _resumed(self) -> tuple[Resumed, Callable[[Array], Array], list[Array]]:
        """Return the rest of the model after the layer, the layer's layout, and what it returned."""
        look = self._look
        # What came before the layer is stored, so that each change costs the rest of the model alone.
        if self._rest is None:
            self._rest = look.engine.resume(look.inputs, self._layer, look.call, self._scoring.reads)
        calls = list(self._rest.activations)
        return self._rest, self._layout(self._layer, tuple(calls[-1].shape), calls=len(calls)), calls

    def _at_once_from(self, layout: Callable[[Array], Array], calls: Sequence[Array]) -> int:
        """Return how many changes of a layer go through the rest of the model at once."""
        # Three times as many values at once as so many inputs have, about what first layers return: of a
        # small layer more than of a large one.
        at_once = self._at_once(getattr(layout, "batch_axis", 0) == 0)
        values = prod(joined(calls, layout).shape)
        share = max(1, 3 * prod(self._look.shape) // values) if 1 < at_once < sys.maxsize else 1
        return at_once * share

    def _at_once(self, repeatable: bool) -> int:
        """Return how many changes go through the model at once; one where the batch cannot be repeated."""
        if not repeatable or self._look.call is not None:  # an operator was given the targets of one batch
            return 1
        size = self._recipe.batch_size
        return sys.maxsize if size is None else max(1, size // self._look.shape[0])

    @cached_property
    def _changes(self) -> ScoresOfChanges:
        return ScoresOfChanges(self._scoring, self._look.shape[0], self.notes.append)


def _per_target(
    calls: Sequence[Array], columns: slice, as_it_is: bool, layout: Callable[[Array], Array]
) -> Array:
    """Return recorded gradients as `(batch, target, channel, *grid)`.

    as_it_is: whether what the layer returned lies on its grid already. Else a layout, which takes that, deals
        with targets one by one.
    """
    arrays = [call[columns] for call in calls]
    if as_it_is:
        return widen(namespace(arrays[-1]).moveaxis(arrays[-1], 0, 1))
    each = [widen(layout(joined([a[k] for a in arrays], layout))) for k in range(arrays[0].shape[0])]
    return namespace(each[0]).stack(each, axis=1)


def _changed_input(x: Array, changes: Sequence[Change], samples: int) -> Array:
    """Return an input after each of the changes, one copy of the batch after the other."""
    change_all = [change(x) for change in changes] if is_floating(x) else [x] * len(changes)
    if len(change_all) == 1 or not has_samples(x, samples):
        return change_all[0]
    return namespace(x).concat(change_all, axis=0)


def _times(mask: np.ndarray, activations: Array) -> Array:
    return activations * like(mask, activations)


def _by_row(layout: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return the same layout of tokens for arrays `(row, token, channel)`."""
    return replace(layout, batch_axis=0, token_axis=1) if isinstance(layout, Tokens) else layout


def _as_many(one: tuple[int, ...], shape: tuple[int, ...], samples: int) -> bool:
    """Say whether a layer returns as many tokens for one sample as `shape` has for all."""
    return len(one) == 3 and one[0] * samples == shape[0] and one[1] == shape[1]


def _called(method: WeakMethod[Any], *args: Any, **kwargs: Any) -> Any:
    """Call a method of a view from what the view holds, without a cycle that waits for the collector."""
    bound = method()
    assert bound is not None
    return bound(*args, **kwargs)
