"""The joint: the only place where engines, layouts, methods and targets meet.

One pass per batch serves all methods, layers and targets: the plan says what to record, the engine records it,
layouts put it on grids, methods turn it into maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from chronocam.diagnose import diagnose
from chronocam.engines import Clips, Recording
from chronocam.errors import InputError, LayerError, LayoutError
from chronocam.explanation import Explanation, concatenate
from chronocam.inputs import Batch, batches, is_floating, main_array, map_arrays
from chronocam.layouts import Site, Stepped, VideoTokens, channel_axis, infer, input_grid, joined, named
from chronocam.maps.arrays import namespace, relu, to_numpy, widen
from chronocam.maps.attention import Attention
from chronocam.maps.frames import frame_spans, frames_as_samples, samples_as_frames
from chronocam.maps.fuse import fuse
from chronocam.maps.resample import resample
from chronocam.methods import Method, method_named
from chronocam.scoring import OperatorScore, Scoring
from chronocam.subject import Subject
from chronocam.targets.parse import parse
from chronocam.targets.tasks import task
from chronocam.types import INPUT, Array, Capture, Inputs, Need, Target

CLIP_OPTIONS = ("pool", "chunk_frames", "detach_attention")


def explain(
    model: Any,
    inputs: Any,
    targets: Any = None,
    *,
    methods: str | Sequence[str | Callable[..., Method]] = ("gradcam",),
    layers: Sequence[Any] | None = None,
    **options: Any,
) -> dict[str, Explanation]:
    """Explain several targets, layers and methods from one forward pass.

    inputs: one array of the model's framework or NumPy, a tuple or dict of them (several inputs), or an iterable
        of batches, each inputs or (inputs, targets).
    targets: None (the predicted class), an int, a label, a list of targets, labels and callables, integers
        `(batch,)` or `(batch, k)`, or one-hot floats `(batch, classes)`.
    methods: command-line names, method classes, or anything that makes a method of a model, a layer and options.
    layers: layers to explain one by one; None is each method's default. Pixel-level methods stay at the input.
    options: what every method takes: `output_layer`, `operator`, `batch_size`, `layout`, `align`, `chunk_frames`,
        `detach_attention`; and what all of the given methods take.

    Returns explanations by method name; by `"gradcam@layer3"` where layers are given more than one.
    Raises a ChronocamError that says what to change.
    """
    makers = [method_named(m) if isinstance(m, str) else m for m in _listed(methods)]
    places = [None] if layers is None else _listed(layers)
    if not makers or not places:
        raise InputError("nothing to explain: methods or layers is empty")
    bound = [make(model, place, **options) for place in places for make in makers if not _at_input(make)]
    bound += [make(model, **options) for make in makers if _at_input(make)]
    subject = _session(bound[0]).subject
    for method in bound:
        _session(method).subject = subject
    explanations = _joined(_run(bound, inputs, targets))
    named = {f"{e.method}@{e.layer}" if len(places) > 1 and e.layer != INPUT else e.method: e for e in explanations}
    if len(named) < len(explanations):
        raise InputError("two of the explanations have the same name; ask for each method and layer once")
    return named


def _listed(given: Any) -> list[Any]:
    return [given] if isinstance(given, str) else list(given)


def _at_input(make: Callable[..., Method]) -> bool:
    return getattr(getattr(make, "func", make), "default_layer", None) == INPUT


class Session:
    """A method bound to its model; what `Method.explain` calls."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.subject = Subject(method.model, method.output_layer)
        self.layers = self._resolve(method)
        if method.align not in ("half_pixel", "receptive_field"):
            raise InputError(f"no alignment `{method.align}`; choose half_pixel or receptive_field")
        if method.align != "half_pixel" and len(self.layers) > 1:
            raise InputError('fused layers are aligned by half pixels only; give one layer, or align="half_pixel"')

    def _resolve(self, method: Method) -> list[str | None]:
        given = method.conv_layer if method.conv_layer is not None else method.default_layer
        if isinstance(given, (list, tuple)):
            if not given:
                raise LayerError("conv_layer is an empty list; name at least one layer")
            return [self.subject.engine.resolve(layer) for layer in given]
        return [None if given is None else self.subject.engine.resolve(given)]

    def explain(self, inputs: Inputs, targets: Any) -> Explanation:
        """Explain all of `inputs` and join the batches."""
        return _joined(_run([self.method], inputs, targets))[0]

    def explain_batches(self, dataset: Any, targets: Any) -> Iterator[Explanation]:
        """Yield one Explanation per batch of the data set."""
        for (explanation,) in _run([self.method], dataset, targets):
            yield explanation


Method.open_session = Session


def _session(method: Method) -> Session:
    session = method.session
    assert isinstance(session, Session)
    return session


def _joined(runs: Iterator[list[Explanation]]) -> list[Explanation]:
    parts = list(zip(*runs, strict=True))
    if not parts:
        raise InputError("there is nothing to explain: the inputs hold no batch")
    return [concatenate(part) for part in parts]


def _run(methods: Sequence[Method], inputs: Any, targets: Any) -> Iterator[list[Explanation]]:
    """Yield, per batch, one Explanation for each method."""
    options, subject = methods[0], _session(methods[0]).subject
    for batch in batches(inputs, targets, options.batch_size):
        yield _Pass(methods, subject, batch).explanations()


class _Pass:
    """One batch under all methods: the plan, the pass, and the maps made of it."""

    def __init__(self, methods: Sequence[Method], subject: Subject, batch: Batch) -> None:
        self.methods, self.subject, self.engine, self.batch = methods, subject, subject.engine, batch
        self.options = methods[0]
        self.inputs = subject.engine.adapt(batch.inputs)
        self.array = main_array(self.inputs)
        self.channel_axis = channel_axis(self.shape, self.engine.channels_last, self.engine.stem)
        self.grid = input_grid(self.shape, self.engine.channels_last, self.engine.stem)
        self.clips = self._clips()
        self.target, self.call = self._target()
        self.layers = [
            [subject.default_layer(self._few_frames()) if layer is None else layer for layer in _session(m).layers]
            for m in methods
        ]

    @property
    def frame_axis(self) -> int:
        """Which axis of a clip the frames are on."""
        return 2 if self.channel_axis == 1 else 1

    def _clips(self) -> Clips | None:
        """Return what the engine is told of clips; None for other inputs, which options of clips do not fit."""
        if len(self.grid) == 3:
            return Clips(self.grid[0], self.options.chunk_frames, self.options.detach_attention)
        given = {f"{name}=" for m in self.methods for name in CLIP_OPTIONS if getattr(m, name, None)}
        if given:
            expected = "expected (batch, channel, time, height, width) or (batch, time, channel, height, width)"
            raise InputError(f"{', '.join(sorted(given))} is for clips; inputs have shape {self.shape}: {expected}")
        return None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the main input."""
        return tuple(self.array.shape)

    def _few_frames(self) -> Inputs:
        """Return the inputs, cut to one chunk of frames where clips are too long for one look at all of them."""
        if self.clips is None or self.clips.chunk is None:
            return self.inputs
        index = (slice(None),) * self.frame_axis + (slice(max(self.clips.chunk, 2)),)
        return map_arrays(lambda x: x[index] if tuple(x.shape) == self.shape else x, self.inputs)

    def _target(self) -> tuple[Target, Callable[[Any, Inputs], Any] | None]:
        """Return the target of the call, and how the model is called where the operator does that."""
        operator, given = self.options.operator, self.batch.targets
        if operator is None:
            return parse(given, self.batch.samples), None
        if isinstance(operator, str):
            return task(operator)(given, self.batch.samples), None
        rows = given[self.batch.rows] if hasattr(given, "__getitem__") and not isinstance(given, (str, dict)) else given
        return OperatorScore(), lambda model, inputs: operator(model, inputs, rows)

    def explanations(self) -> list[Explanation]:
        """Record once and return one Explanation per method."""
        scoring = Scoring([m.retarget(self.target) for m in self.methods], self.batch.rows, self.engine.labels)
        needs = [
            (need, layer)
            for m, layers in zip(self.methods, self.layers, strict=True)
            for need in m.needs
            for layer in ([INPUT] if need.at_input else layers)
        ]
        recording = self._record(self.inputs, scoring, needs)
        return [self._explanation(i, recording, scoring) for i in range(len(self.methods))]

    def _record(self, inputs: Inputs, scoring: Scoring, needs: Sequence[tuple[Need, str]]) -> Recording:
        def layers(wanted: Callable[[Need], bool]) -> list[str]:
            return list(dict.fromkeys(layer for need, layer in needs if wanted(need)))

        recording = self.engine.record(
            inputs,
            scoring,
            layers(lambda need: True),
            gradients=layers(lambda need: need.gradients and not need.guided),
            guided=layers(lambda need: need.guided),
            curvature=layers(lambda need: need.curvature),
            attentions=any(need.attentions for need, _ in needs),
            call=self.call,
            clips=self.clips,
        )
        if self.options.detach_attention and recording.attention is None:
            raise InputError("detach_attention= found no attention weights over the frames; leave it out")
        for need, layer in needs:
            if need.gradients and layer not in (recording.guided if need.guided else recording.gradients):
                raise LayerError(f"the score does not depend on layer `{layer}`; choose one on the path to the output")
        return recording

    def _explanation(self, which: int, recording: Recording, scoring: Scoring) -> Explanation:
        method, layers = self.methods[which], self.layers[which]
        columns = scoring.columns[which]
        views = [_LayerView(self, method, layer, recording, scoring, columns) for layer in layers]
        signed = method.keeps_signs(scoring.targets[which])
        maps = [view.unfolded(method.maps(view)) for view in views]
        raw = _one(maps)
        kept = raw if signed else _one([relu(m) for m in maps])
        scores = to_numpy(widen(recording.scores[:, columns])).astype(np.float32)
        infos = tuple(row[columns] for row in scoring.infos)
        name = "+".join(layers)
        findings = diagnose(to_numpy(raw), to_numpy(kept), scores, infos, name, self.batch.rows.start)
        notes = dict.fromkeys([*recording.notes, *(note for view in views for note in view.notes), *findings])
        centers = views[-1].centers if len(maps) == 1 and not method.maps_input else None
        slices = kept.shape[2] if self.clips is not None and kept.ndim == 5 else None
        return Explanation(
            to_numpy(kept).astype(np.float32),
            scores,
            infos,
            method.name,
            name,
            self.grid,
            centers,
            None if slices is None else frame_spans(slices, self.grid[0], None if centers is None else centers[0]),
            _attention(recording, columns),
            tuple(notes),
        )


def _attention(recording: Recording, columns: slice) -> Attention | None:
    """Return the evidence of attention over frames, where there is any."""
    if recording.attention is None or recording.attention_gradients is None:
        return None
    weights = to_numpy(widen(recording.attention)).astype(np.float32)
    along = to_numpy(widen(recording.attention_gradients[columns])).astype(np.float32)
    return Attention(weights, np.moveaxis(along, 0, 1) * weights[:, None])


def _one(maps: Sequence[Array]) -> Array:
    return maps[0] if len(maps) == 1 else fuse(maps)


class _LayerView:
    """What a method sees of one layer: a `View`."""

    def __init__(
        self,
        pass_: _Pass,
        method: Method,
        layer: str,
        recording: Recording,
        scoring: Scoring,
        columns: slice,
    ) -> None:
        self._pass, self._method, self._layer, self._scoring = pass_, method, layer, scoring
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
            raise LayoutError(f"layout= gives {activations.shape[0]} samples for a batch of {self._pass.shape[0]}")
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
        )

    def _layout(
        self, layer: str, shape: tuple[int, ...], order: str | None = None, *, calls: int
    ) -> Callable[[Array], Array]:
        pass_, given = self._pass, self._method.layout
        if layer == INPUT:
            axis = pass_.channel_axis
            return lambda array: array[:, None] if axis is None else namespace(array).moveaxis(array, axis, 1)
        site = Site(layer, shape, pass_.shape[0], pass_.grid, calls)
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
        scoring = Scoring([target], self._scoring.rows, self._scoring.labels, self._scoring.logits)
        needs = [(need, INPUT if need.at_input else self._layer) for need in self._method.needs]
        recording = self._pass._record(changed, scoring, needs)
        return self._captures(recording, scoring.columns[0])


def _as_it_is(array: Array) -> Array:
    return array
