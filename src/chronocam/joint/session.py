"""Make explanations of inputs: one pass per batch serves all methods, layers and targets.

The plan says what to record, the engine records it, layouts put it on grids, methods turn it into maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from chronocam.engines import Call
from chronocam.errors import ChronocamError, InputError, LayerError, TargetError
from chronocam.explanation import COPIES, Explanation, concatenate, on_one_grid
from chronocam.joint.branches import is_zero
from chronocam.joint.choices import Choices
from chronocam.joint.copies import copies_of
from chronocam.joint.default_layer import Asked, Chosen, default_layer
from chronocam.joint.diagnose import diagnose, first_order
from chronocam.joint.encoder import Encoder
from chronocam.joint.inputs import Batch, batches, main_array, refuse_endless, samples_listed
from chronocam.joint.levels import MOST_LEVELS, UNKNOWN, Levels, by_level, known_of, levels_in, tiled, used
from chronocam.joint.look import Look
from chronocam.joint.passes import Recorded, record, silent_in
from chronocam.joint.recipe import Recipe
from chronocam.joint.scoring import OperatorScore, Scoring, confidences, frame_attention
from chronocam.joint.several import Place, look_on, place_of
from chronocam.joint.stages import places
from chronocam.joint.subject import Subject
from chronocam.joint.view import LayerView
from chronocam.joint.viewed import maps_of, refuse_views
from chronocam.joint.words import are_of_words, by_word, over_words
from chronocam.maps.arrays import Origin, all_to_numpy, namespace, placed, relu, to_numpy, widen
from chronocam.maps.frames import frame_spans
from chronocam.maps.fuse import check_fuse, fuse
from chronocam.maps.views import views_named
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess
from chronocam.targets import parse
from chronocam.targets._parse import differentiable
from chronocam.targets.classes import PredictedOrAll
from chronocam.targets.composed import over_steps
from chronocam.targets.tasks import task
from chronocam.targets.words import speaks
from chronocam.types import Array, Capture, Finding, Inputs, Need, Target, Targets, Window, missing_in, note

CLIP_OPTIONS = ("pool", "chunk_frames", "detach_attention")


class Session:
    """A method bound to its model; what `Method.explain` calls."""

    def __init__(self, method: Recipe) -> None:
        self.method = method
        check_fuse(method.fuse)
        self.subject: Subject = Subject(
            method.model,
            method.output_layer,
            method.frames,
            method.fast,
            method.precision,
            method.operator,
        )
        self.layers: list[str | None] = self._resolve(method)
        if method.align not in ("half_pixel", "receptive_field"):
            raise InputError(f"no alignment `{method.align}`; choose half_pixel or receptive_field")
        if method.align != "half_pixel" and len(self.layers) > 1:
            raise InputError(
                'fused layers are aligned by half pixels only; give one layer, or align="half_pixel"'
            )
        if method.views is not None:
            views_named(method.views)
            if method.align != "half_pixel":
                raise InputError('views= are aligned by half pixels only; give align="half_pixel"')

    def _resolve(self, method: Recipe) -> list[str | None]:
        named, resolve = method.conv_layer, self.subject.engine.resolve
        if named is None:
            named = method.default_layer
        if isinstance(named, (list, tuple)):
            if not named:
                raise LayerError("conv_layer is an empty list; name at least one layer")
            return [resolve(layer) for layer in named]
        return [None if named is None else resolve(named)]

    def explain(self, inputs: Inputs, targets: Targets) -> Explanation:
        """Explain all of `inputs` and join the batches."""
        return explain_all([self.method], inputs, targets)[0]

    def explain_batches(self, dataset: Inputs, targets: Targets) -> Iterator[Explanation]:
        """Yield one Explanation per batch of the data set."""
        for (explanation,) in _by_batch([self.method], dataset, targets):
            yield explanation


def explain_all(methods: Sequence[Recipe], inputs: Inputs, targets: Targets) -> list[Explanation]:
    """Explain all of `inputs` by each method, from one pass per batch, and join the batches."""
    refuse_endless(inputs)
    parts = list(zip(*_by_batch(methods, inputs, targets), strict=True))
    if not parts:
        raise InputError("there is nothing to explain: the inputs hold no batch")
    first = methods[0]
    # Batches of several sizes of a data set are refused: its maps are seldom wanted all at once.
    listed = samples_listed(inputs, first.preprocess, first.session.subject.stem) is not None
    joined = [concatenate(on_one_grid(part) if listed else part) for part in parts]
    if missing_in(joined[0].targets).all():
        what = joined[0].targets[0][0]
        raise TargetError(
            f"the model finds {what} in any sample; ask for another class, or for boxes of a lower min_score="
        )
    return joined


def _by_batch(methods: Sequence[Recipe], inputs: Inputs, targets: Targets) -> Iterator[list[Explanation]]:
    """Yield, per batch, one Explanation for each method. The first one's options are those of the pass."""
    first = methods[0]
    subject = first.session.subject
    how = first.batch_size, first.preprocess, subject.as_clips, subject.stem
    for batch in batches(inputs, targets, *how):
        if are_of_words(first, batch.inputs):
            look = Look(subject, _adapted(subject, batch), shared=batch.shared)
            yield over_words(methods, batch, look)
        else:
            explaining = Explaining(methods, batch)
            yield [by_word(one, explaining.look) for one in explaining.explanations()]


class Explaining:
    """One batch under all methods: the plan, the pass, and the maps made of it."""

    def __init__(self, methods: Sequence[Recipe], batch: Batch) -> None:
        self.methods = methods
        self.batch = batch
        options = methods[0]
        subject = options.session.subject
        # Inputs come first: of one sample without a batch axis, the targets would seem too few.
        inputs = _adapted(subject, batch)
        self.target: Target
        self.target, call = _target_and_call(options, batch)
        agnostic = all(method.class_agnostic for method in methods)
        if agnostic and batch.targets is None and options.operator is None:
            self.target = PredictedOrAll()
        self.encoder: Encoder = Encoder(subject.engine, len(main_array(inputs).shape), options.preprocess)
        if call is None and speaks(self.target):
            inputs = self.encoder.answered(inputs, batch.rows.start)
        self.look: Look = Look(
            subject,
            inputs,
            chunk_frames=options.chunk_frames,
            detach_attention=options.detach_attention,
            call=call,
            channels=None if subject.fold is None else subject.fold.channel_axis,
            shared=batch.shared,
        )
        self.look = look_on(self.look, options.on)
        if self.look.clips is None:
            _refuse_clip_options(methods, self.look)
        else:
            self.target = over_steps(self.target)
        if options.views is not None:
            refuse_views(self.look, self.target)
        model = getattr(self.look.engine, "model", options.model)
        if call is None:
            self.target = self.target.of_model(model, self.look.grid, batch.samples)
        self.choices: Choices = Choices(self.look)
        self.levels: Levels | None = self._levels()
        self.layers: list[list[str]] = self._layers()

    @property
    def _labels(self) -> Sequence[str] | None:
        labels = self.methods[0].labels
        return self.look.engine.labels if labels is None else labels

    def _layers(self) -> list[list[str]]:
        """Return the layers of each method; where none is named, the one of the target."""

        def default() -> list[str]:
            if self.levels is not None:
                return list(dict.fromkeys(self.levels.values()))
            if self.target.layer is not None:
                return [Chosen(self.target.layer)]
            return [self.choices.of(self.target, self._search)]

        return [
            default() if method.session.layers == [None] else list(filter(None, method.session.layers))
            for method in self.methods
        ]

    def _levels(self) -> Levels | None:
        """Return the layer of each level that boxes come from; None where a layer is named, or for others.

        What the target does not name is searched for once: the layer of each level by its best row.
        """
        boxes = levels_in(self.target)
        if boxes is None or all(method.session.layers != [None] for method in self.methods):
            return None
        if boxes.layers:
            return dict(enumerate(boxes.layers))

        def of_level(level: int) -> str:
            layer, count = self.choices.at_level(boxes, level, self._search)
            boxes.count = max(boxes.count, count)
            return layer

        first = {0: of_level(0)} if boxes.levels is None else {}
        return first | {
            level: of_level(level)
            for level in (range(1, boxes.count) if boxes.levels is None else boxes.levels)
        }

    def _search(self, target: Target) -> Chosen:
        """Search with the first sample and its own target; with two where the model cannot take one alone."""
        try:
            return self._search_with(1, target)
        except (RuntimeError, ValueError, IndexError) as error:
            if isinstance(error, ChronocamError) or self.look.shape[0] < 2:
                raise
            return self._search_with(2, target)

    def _search_with(self, samples: int, target: Target) -> Chosen:
        start = self.batch.rows.start
        first = replace(self.batch, rows=slice(start, start + min(samples, self.look.shape[0])))
        call = _target_and_call(self.methods[0], first)[1]
        scoring = replace(self._scoring((target,)), rows=first.rows)
        asked = Asked(lambda result: scoring(result)[0], call, scoring.reads)
        chosen = default_layer(self.look.few(samples), asked)
        if call is None:
            # Asked while passes are of one sample; the answer is kept.
            self.look.sights.sight(chosen)
        return chosen

    def _scoring(self, targets: tuple[Target, ...]) -> Scoring:
        return Scoring(
            targets,
            self.batch.rows,
            self._labels,
            self.look.engine.channels_last,
            encoder=self.encoder,
            samples=self.batch.samples,
        )

    def explanations(self) -> list[Explanation]:
        """Record once and return one Explanation per method."""
        scoring, recorded = self._recorded()
        return [
            self._explanation(method, layers, scoring.alone(which, recorded.columns), recorded, which)
            for which, (method, layers) in enumerate(zip(self.methods, self.layers, strict=True))
        ]

    def _recorded(self) -> tuple[Scoring, Recorded]:
        """Record what all methods need.

        The default layer may be that of another target, which reads other outputs: where that has no
        influence on the scores, the search is done once more, for this one.
        """
        scoring = self._scoring(tuple(method.retarget(self.target) for method in self.methods))
        recorded = record(self._input_look(), scoring, self._needs(), levels=self.levels)
        if self.look.subject.changed():
            self.levels, self.layers = self._levels(), self._layers()
            recorded = record(self._input_look(), scoring, self._needs(), levels=self.levels)
        if self._chose_again(recorded):
            recorded = record(self._input_look(), scoring, self._needs())
        while self._moved_boxes(recorded):
            recorded = record(self._input_look(), scoring, self._needs(), levels=self.levels)
        return scoring, recorded.connected()

    def _chose_again(self, recorded: Recorded) -> bool:
        """Replace a known layer that such scores do not depend on; say whether another one was chosen."""
        every = dict.fromkeys(layer for layers in self.layers for layer in layers)
        known = [layer for layer in every if isinstance(layer, Chosen)]
        named = self.levels is not None or self.target.layer is not None
        if named or self.choices.searched or not known:
            return False
        (before,) = known
        places = zip(self.methods, self.layers, strict=True)
        flat = _is_flat(recorded, next(self._place(m, before).layer for m, own in places if before in own))
        if flat in (None, before.flat):
            return False
        after = self.choices.again(self.target, flat, self._search)
        self.layers = [[after if layer is before else layer for layer in layers] for layers in self.layers]
        return after != before

    def _moved_boxes(self, recorded: Recorded) -> bool:
        """Move boxes whose scores do not depend on their level's layer to another; say whether any moved.

        Models that suppress boxes themselves return those of several levels together, and do not say which
        level each comes from.
        """
        boxes, levels = levels_in(self.target), self.levels
        if boxes is None or levels is None or boxes.levelled or boxes.layers or len(levels) == MOST_LEVELS:
            return False
        silent = silent_in(recorded, levels)
        if not silent:
            return False
        (at, first), level = silent[0], len(levels)
        start = self.batch.rows.start
        try:
            layer = self.choices.at_new_level(
                boxes, level, lambda: self._search_with(at + 1, boxes.alone(start + at, first))
            )
        except LayerError:  # of a score that is flat
            return False
        if layer in levels.values():
            return False
        boxes.lift([(start + i, info) for i, info in silent], level)
        self.levels = {**levels, level: layer}
        self.layers = self._layers()
        return True

    def _needs(self) -> list[tuple[Need, str]]:
        return [
            (need, layer)
            for method, layers in zip(self.methods, self.layers, strict=True)
            for need in method.needs
            for place in map(partial(self._place, method), layers)
            for layer in places(place.look, need, place.layer)
        ]

    def _input_look(self) -> Look:
        """Return the look at the input that is recorded: that of the layer, where a method needs both."""
        pairs = zip(self.methods, self.layers, strict=True)
        looks = [
            self._place(method, layers[0]).look
            for method, layers in pairs
            if any(need.at_input for need in method.needs)
        ]
        return looks[0] if looks else self.look

    def _place(self, method: Recipe, layer: str) -> Place:
        return place_of(self.look, layer, self.methods[0].on, getattr(method, "regions", None) == "features")

    def _explanation(
        self, method: Recipe, layers: Sequence[str], scoring: Scoring, recorded: Recorded, which: int
    ) -> Explanation:
        """Return what one method makes of the pass."""
        recording, columns = recorded.recording, recorded.columns.slices[which]
        infos = tuple(row[columns] for row in recorded.columns.infos)
        join: Callable[[Sequence[Array]], Array] = partial(_fused, how=method.fuse)
        known = UNKNOWN
        if self.levels is not None and method.session.layers == [None]:
            # Where no sample has a box, the first level still says what the grid is.
            levels = used(self.levels, infos) or list(self.levels)[:1]
            layers = [self.levels[level] for level in levels]
            join, known = by_level(infos, levels), known_of(infos, self.target)
        at = [self._place(method, layer) for layer in layers]
        look = at[0].look
        views = [LayerView(one.look, method, one.layer, scoring, recording, columns, known) for one in at]
        maps = [maps_of(method, view) for view in views]
        raw = join(maps)
        kept = _signs_kept(raw, maps, join, [method.keeps_signs(info) for info in infos[0]])
        centers = views[-1].centers if len(maps) == 1 and not method.maps_input else None
        if len(maps) > 1 and known.extent is not None:
            centers = tiled(tuple(raw.shape[2:]), known.extent)
        name = "+".join(layers)
        moved = first_order([capture for view in views for capture in _plain(method, view)], look.shape[0])
        notes = [*_assumed(method, self.batch), *recording.notes, *_pooled(method, self.target)]
        of_grids = [finding for view in views for finding in view.remarks(alone=len(views) == 1)]
        arrays = [raw, kept, widen(recording.scores[:, columns]), *([] if moved is None else [moved])]
        whole, positive, scores, *moves = all_to_numpy(arrays)
        scores, missing = scores.astype(np.float32), missing_in(infos)
        on_host = _without(positive.astype(np.float32), missing)
        of_maps = diagnose(whole, positive, scores, infos, name, self.batch.rows.start, *moves)
        return Explanation(
            on_host,
            _without(scores, missing),
            infos,
            method.name,
            name,
            look.grid,
            centers=centers,
            windows=_windows(maps, views, method),
            frame_spans=_spans(look, kept, centers),
            attention=frame_attention(recording, columns),
            findings=tuple(dict.fromkeys([*_remarks(layers, notes, views, at), *of_maps, *of_grids])),
            confidences=confidences(recorded.columns, infos),
            preprocess=method.preprocess,
            copies=copies_of(look, method.preprocess) if self.batch.rows.start < COPIES else None,
            on=look.number,
            axes=("time", "feature") if look.by_feature else None,
            interval=_interval(views),
            origin=Origin(placed(on_host, kept) if missing.any() else _single(kept), on_host),
        )


def _adapted(subject: Subject, batch: Batch) -> Inputs:
    try:
        return subject.adapt(batch.inputs)
    except InputError:
        subject.adapt(batch.given)  # raises with the shape that the user gave
        raise


def _target_and_call(options: Recipe, batch: Batch) -> tuple[Target, Call | None]:
    """Return the target of the call, and how the model is called where the operator does that."""
    operator, targets = options.operator, batch.targets
    if operator is None:
        return parse(targets, batch.samples), None
    if isinstance(operator, str):
        return task(operator)(targets, batch.samples), None
    sliced = hasattr(targets, "__getitem__") and not isinstance(targets, (str, dict))
    rows = targets[batch.rows] if sliced else targets
    return OperatorScore(operator), lambda model, inputs: differentiable(
        "the operator", lambda: operator(model, inputs, rows)
    )


def _refuse_clip_options(methods: Sequence[Recipe], look: Look) -> None:
    """Raise InputError where options of clips are given for other inputs."""
    names = {f"{name}=" for method in methods for name in CLIP_OPTIONS if getattr(method, name, None)}
    if names:
        expected = "expected (batch, channel, time, height, width) or (batch, time, channel, height, width)"
        raise InputError(
            f"{', '.join(sorted(names))} is for clips; inputs have shape {look.shape}: {expected}"
        )


def _is_flat(recorded: Recorded, layer: str) -> bool | None:
    """Say whether no score depends on anything at a layer; None where no gradient was recorded."""
    gradients = recorded.recording.gradients.get(layer)
    if gradients is None:
        return True if recorded.unconnected == layer else None
    return all(map(is_zero, gradients))


def _fused(maps: Sequence[Array], how: str) -> Array:
    return maps[0] if len(maps) == 1 else fuse(maps, how)


def _without(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return values `(batch, target, …)` with NaN for what a sample does not have."""
    if missing.any():
        values = values.copy()
        values[missing] = np.nan
    return values


def _signs_kept(
    raw: Array, maps: Sequence[Array], join: Callable[[Sequence[Array]], Array], signs: Sequence[bool]
) -> Array:
    """Return the maps with both signs for the targets that keep them, else with their positive part.

    Maps of several layers lose their negative part before they are joined, as each would by itself.
    """
    if all(signs):
        return raw
    positive = join([relu(one) for one in maps])
    if not any(signs):
        return positive
    return namespace(raw).stack([(raw if sign else positive)[:, k] for k, sign in enumerate(signs)], axis=1)


def _plain(method: Recipe, view: LayerView) -> list[Capture]:
    """Return the captures that hold the score's own gradients."""
    pairs = zip(method.needs, view.captures, strict=True)
    return [capture for need, capture in pairs if need.gradients and not need.guided]


def _single(maps: Array) -> Array:
    """Return maps in float32."""
    xp = namespace(maps)
    return maps if maps.dtype == xp.float32 else xp.astype(maps, xp.float32)


def _interval(views: Sequence[LayerView]) -> np.ndarray | None:
    """Return the half-widths that a method knows of its maps; of fused maps nothing is known."""
    known = views[0].interval if len(views) == 1 else None
    return None if known is None else to_numpy(known).astype(np.float32)


def _windows(maps: Sequence[Array], views: Sequence[LayerView], method: Recipe) -> tuple[Window, ...] | None:
    """Return what the cells of the maps see of the input; None where that is not known."""
    field = views[0].field
    alone = len(maps) == 1 and not method.maps_input
    return field if alone and field is not None and len(field) == maps[0].ndim - 2 else None


def _spans(
    look: Look, maps: Array, centers: tuple[tuple[float, ...], ...] | None
) -> tuple[tuple[int, int], ...] | None:
    """Return the first and last frame that each time slice of maps covers; None for inputs without time."""
    if look.clips is None or maps.ndim != 5:
        return None
    return frame_spans(maps.shape[2], look.grid[0], None if centers is None else centers[0])


def _assumed(method: Recipe, batch: Batch) -> Iterator[str]:
    """Yield what was assumed of the preprocessing that made the inputs."""
    preprocess = method.preprocess
    if batch.prepared and isinstance(preprocess, (Preprocess, ClipPreprocess)) and preprocess.assumption:
        yield preprocess.assumption


def _pooled(method: Recipe, target: Target) -> Iterator[str]:
    """Yield that a method forgets the place that a score is of."""
    if target.has_place and getattr(method, "pools", False):
        yield (
            f"{method.name} averages gradients over the grid, and so forgets the place that the score is of: "
            "its map may lie on another object of the class; take ODAM or HiResCAM"
        )


def _remarks(
    layers: Sequence[str], notes: Sequence[str], views: Sequence[LayerView], at: Sequence[Place]
) -> Iterator[Finding]:
    """Yield what concerns all maps: the choice of the layer, and notes of the engine and of the views."""
    for layer in layers:
        if isinstance(layer, Chosen) and layer.why:
            yield Finding("default layer", None, None, layer.why)
    yield from (Finding("input", None, None, place.note) for place in at if place.note)
    yield from map(note, [*notes, *(text for view in views for text in view.notes)])
