"""The joint: the only place where engines, layouts, methods and targets meet.

One pass per batch serves all methods, layers and targets: the plan says what to record, the engine records
it, layouts put it on grids, methods turn it into maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chronocam.engines import ClipOptions, Recording, Request, Result
from chronocam.errors import InputError, LayerError
from chronocam.explanation import Explanation, concatenate
from chronocam.joint.default_layer import Chosen
from chronocam.joint.diagnose import diagnose, first_order
from chronocam.joint.inputs import Batch, batches, main_array, map_arrays, refuse_endless
from chronocam.joint.scoring import Columns, OperatorScore, Scoring, confidences, frame_attention
from chronocam.joint.subject import Subject
from chronocam.joint.view import LayerView
from chronocam.layouts import channel_axis, input_grid
from chronocam.maps.arrays import namespace, relu, to_numpy, widen
from chronocam.maps.frames import frame_spans
from chronocam.maps.fuse import fuse
from chronocam.methods import Method
from chronocam.methods._base import method_named
from chronocam.targets._parse import parse
from chronocam.targets.composed import over_steps
from chronocam.targets.tasks import task
from chronocam.types import INPUT, Array, Capture, Finding, Inputs, Need, Target, Window, note

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

    inputs: one array of the model's framework or NumPy, a tuple or dict of them (several inputs), or an
        iterable of batches, each inputs or (inputs, targets).
    targets: None (the predicted class), an int, a label, a list of targets, labels and callables, integers
        `(batch,)` or `(batch, k)`, or one-hot floats `(batch, classes)`. Of clips, where a model gives logits
        at every step, None is the class by majority vote (`cc.targets.MajorityVote`) and a class its logit
        averaged over the steps; `cc.targets.Step` and `EveryStep` explain single ones.
    methods: command-line names, method classes, or anything that makes a method of a model, a layer and
        options.
    layers: layers to explain one by one; None is each method's default. Pixel-level methods stay at the
        input.
    options: what every method takes: `output_layer`, `operator`, `batch_size`, `layout`, `align`,
        `chunk_frames`, `detach_attention`; and what all of the given methods take.

    Returns explanations by method name; by `"gradcam@layer3"` where layers are given more than one.
    Raises a ChronocamError that says what to change.
    """
    refuse_endless(inputs)
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
    named = {
        f"{e.method}@{e.layer}" if len(places) > 1 and e.layer != INPUT else e.method: e for e in explanations
    }
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
            raise InputError(
                'fused layers are aligned by half pixels only; give one layer, or align="half_pixel"'
            )

    def _resolve(self, method: Method) -> list[str | None]:
        given = method.conv_layer if method.conv_layer is not None else method.default_layer
        if isinstance(given, (list, tuple)):
            if not given:
                raise LayerError("conv_layer is an empty list; name at least one layer")
            return [self.subject.engine.resolve(layer) for layer in given]
        return [None if given is None else self.subject.engine.resolve(given)]

    def explain(self, inputs: Inputs, targets: Any) -> Explanation:
        """Explain all of `inputs` and join the batches."""
        refuse_endless(inputs)
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
        yield Pass(methods, subject, batch).explanations()


class Pass:
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
            [
                subject.default_layer(self._few_frames()) if layer is None else layer
                for layer in _session(m).layers
            ]
            for m in methods
        ]

    @property
    def frame_axis(self) -> int:
        """Which axis of a clip the frames are on."""
        return 2 if self.channel_axis == 1 else 1

    def _clips(self) -> ClipOptions | None:
        """Return what the engine is told of clips; None for other inputs, which options of clips do not fit."""
        if len(self.grid) == 3:
            return ClipOptions(self.grid[0], self.options.chunk_frames, self.options.detach_attention)
        given = {f"{name}=" for m in self.methods for name in CLIP_OPTIONS if getattr(m, name, None)}
        if given:
            expected = (
                "expected (batch, channel, time, height, width) or (batch, time, channel, height, width)"
            )
            raise InputError(
                f"{', '.join(sorted(given))} is for clips; inputs have shape {self.shape}: {expected}"
            )
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
            target = parse(given, self.batch.samples)
            return (target if self.clips is None else over_steps(target)), None
        if isinstance(operator, str):
            return task(operator)(given, self.batch.samples), None
        rows = (
            given[self.batch.rows]
            if hasattr(given, "__getitem__") and not isinstance(given, (str, dict))
            else given
        )
        return OperatorScore(operator), lambda model, inputs: operator(model, inputs, rows)

    def explanations(self) -> list[Explanation]:
        """Record once and return one Explanation per method."""
        targets, engine = [m.retarget(self.target) for m in self.methods], self.engine
        scoring = Scoring(tuple(targets), self.batch.rows, engine.labels, engine.channels_last)
        needs = [
            (need, layer)
            for m, layers in zip(self.methods, self.layers, strict=True)
            for need in m.needs
            for place in layers
            for layer in self.places(need, place)
        ]
        recording, columns = self.record(self.inputs, scoring, needs)
        return [self._explanation(i, recording, scoring, columns) for i in range(len(self.methods))]

    def places(self, need: Need, layer: str) -> list[str]:
        """Return the layers at which `need` is recorded for a method at `layer`."""
        if need.at_input:
            return [INPUT]
        return list(self.stages(layer)) if need.stages else [layer]

    def stages(self, layer: str) -> dict[str, tuple[Window, ...] | None]:
        """Return the layers from the input to `layer` after which the grid shrinks, and their windows."""
        return self.subject.stages(self._few_frames(), layer)

    def record(
        self, inputs: Inputs, scoring: Scoring, needs: Sequence[tuple[Need, str]]
    ) -> tuple[Recording, Columns]:
        """Record what is needed at each layer. Raises LayerError for one that the score does not depend on."""

        def layers(wanted: Callable[[Need], bool]) -> list[str]:
            return list(dict.fromkeys(layer for need, layer in needs if wanted(need)))

        columns: list[Columns] = []  # of the last look: an engine may look twice

        def score(result: Result) -> Array:
            values, about = scoring(result)
            columns[:] = [about]
            return values

        recording = self.engine.record(
            inputs,
            score,
            Request(
                layers(lambda need: True),
                gradients=layers(lambda need: need.gradients and not need.guided),
                guided=layers(lambda need: need.guided),
                curvature=layers(lambda need: need.curvature),
                attentions=any(need.attentions for need, _ in needs),
                call=self.call,
                clips=self.clips,
            ),
        )
        if self.options.detach_attention and recording.attention is None:
            raise InputError("detach_attention= found no attention weights over the frames; leave it out")
        for need, layer in needs:
            if need.gradients and layer not in (recording.guided if need.guided else recording.gradients):
                raise LayerError(
                    f"the score does not depend on layer `{layer}`; choose one on the path to the output"
                )
        return recording, columns[0]

    def _explanation(self, which: int, recording: Recording, scoring: Scoring, of: Columns) -> Explanation:
        method, layers = self.methods[which], self.layers[which]
        columns = of.slices[which]
        views = [LayerView(self, method, layer, recording, scoring, of.logits, columns) for layer in layers]
        maps = [view.unfolded(method.maps(view)) for view in views]
        raw = _one(maps)
        infos = tuple(row[columns] for row in of.infos)
        kept = _kept(raw, maps, [method.keeps_signs(info) for info in infos[0]])
        scores = to_numpy(widen(recording.scores[:, columns])).astype(np.float32)
        name = "+".join(layers)
        moved = first_order([capture for view in views for capture in _plain(method, view)], self.shape[0])
        findings = diagnose(to_numpy(raw), to_numpy(kept), scores, infos, name, self.batch.rows.start, moved)
        choice = [
            Finding("default layer", None, None, layer.why)
            for layer in layers
            if isinstance(layer, Chosen) and layer.why
        ]
        remarks = [*recording.notes, *(text for view in views for text in view.notes)]
        centers = views[-1].centers if len(maps) == 1 and not method.maps_input else None
        slices = kept.shape[2] if self.clips is not None and kept.ndim == 5 else None
        return Explanation(
            to_numpy(kept).astype(np.float32),
            scores,
            infos,
            method.name,
            name,
            self.grid,
            centers=centers,
            frame_spans=None
            if slices is None
            else frame_spans(slices, self.grid[0], None if centers is None else centers[0]),
            attention=frame_attention(recording, columns),
            findings=tuple(dict.fromkeys([*choice, *map(note, remarks), *findings])),
            confidences=confidences(of.logits, infos),
        )


def _one(maps: Sequence[Array]) -> Array:
    return maps[0] if len(maps) == 1 else fuse(maps)


def _kept(raw: Array, maps: Sequence[Array], signs: Sequence[bool]) -> Array:
    """Return the maps with both signs for the targets that keep them, and with their positive part for the others."""
    if all(signs):
        return raw
    positive = _one([relu(m) for m in maps])
    return namespace(raw).stack([(raw if sign else positive)[:, k] for k, sign in enumerate(signs)], axis=1)


def _plain(method: Method, view: LayerView) -> list[Capture]:
    """Return the captures that hold the score's own gradients."""
    pairs = zip(method.needs, view.captures, strict=True)
    return [capture for need, capture in pairs if need.gradients and not need.guided]
