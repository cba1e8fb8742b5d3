"""One batch under all methods: where maps come from, the pass, and what each method makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Final

from chronocam.engines import Call
from chronocam.errors import ChronocamError, InputError, LayerError, TargetError
from chronocam.explanation import Explanation
from chronocam.joint.inputs.batches import Batch, main_array
from chronocam.joint.layers.branches import is_zero
from chronocam.joint.layers.choices import Choices
from chronocam.joint.layers.default_layer import Asked, Chosen, default_layer
from chronocam.joint.layers.several import Place, look_on, place_of
from chronocam.joint.layers.time_axis import channels_of
from chronocam.joint.look.look import Look
from chronocam.joint.look.subject import Subject
from chronocam.joint.outcome import Seen, explanation_of, fused
from chronocam.joint.passes.encoder import Encoder
from chronocam.joint.passes.levels import MOST_LEVELS, UNKNOWN, Levels, by_level, known_of, levels_in, used
from chronocam.joint.passes.mean_of_views import refuse_views
from chronocam.joint.passes.record import Needs, Recorded, record, recorded_at, silent_in
from chronocam.joint.passes.scoring import OperatorScore, Scoring
from chronocam.joint.passes.view import LayerView
from chronocam.joint.plan import Plan, key_of
from chronocam.joint.recipe import Recipe
from chronocam.targets import parse
from chronocam.targets._parse import differentiable
from chronocam.targets.boxes import BoxesOf
from chronocam.targets.classes import PredictedOrAll
from chronocam.targets.composed import over_steps
from chronocam.targets.tasks import task
from chronocam.targets.words import speaks
from chronocam.types import INPUT, Array, Inputs, Target

CLIP_OPTIONS: Final = ("pool", "chunk_frames", "detach_attention")


class Explaining:
    """One batch under all methods.

    What does not hang on values is worked out at the first call, and taken from its `Plan` in calls alike.
    The first method's options are those of the pass.
    """

    def __init__(self, methods: Sequence[Recipe], batch: Batch) -> None:
        self.methods = methods
        self.batch = batch
        options = methods[0]
        subject = options.session.subject
        # Inputs come first: of one sample without a batch axis, the targets would seem too few.
        inputs = adapted(subject, batch)
        self.target: Target
        self.target, call = _target_and_call(options, batch)
        agnostic = all(method.class_agnostic for method in methods)
        if agnostic and batch.targets is None and options.operator is None:
            self.target = PredictedOrAll()
        self._key = key_of(methods, batch, inputs, self.target) if call is None else None
        self._plan: Plan | None = None
        self.levels: Levels | None = None
        plan: Plan | None = None if self._key is None else subject.own.known(self._key)
        if plan is None:
            rank = len(main_array(inputs).shape)
            self.encoder: Encoder = Encoder(subject.engine, rank, options.preprocess)
            self.look: Look = self._look(inputs, call)
            self._mean(call)
            if self.look.time_is_unsaid and call is None:
                self.look = self._look_in_time()
            self.levels = self._levels()
            self.layers: list[list[str]] = self._layers()
        else:
            self.encoder = Encoder(subject.engine, len(plan.look.shape), options.preprocess)
            self._plan = plan.of(inputs)
            self.look, self.layers = self._plan.look, plan.layers
            self.target = _of_all_steps(self.target, self.look)

    def _look(self, inputs: Inputs, call: Call | None) -> Look:
        """Return the look at the inputs; with the text that the model says, where targets are of that."""
        options, batch = self.methods[0], self.batch
        subject = options.session.subject
        if call is None and speaks(self.target):
            self._key = None
            inputs = self.encoder.answered(inputs, batch.rows.start)
        look = Look(
            subject,
            inputs,
            chunk_frames=options.chunk_frames,
            detach_attention=options.detach_attention,
            call=call,
            channels=None if subject.fold is None else subject.fold.channel_axis,
            shared=batch.shared,
        )
        return look_on(look, options.on)

    def _mean(self, call: Call | None) -> None:
        """Let the target be what is meant of this model and batch. Raises InputError for unfit options."""
        options, look = self.methods[0], self.look
        if look.clips is None:
            _refuse_clip_options(self.methods, look)
        self.target = _of_all_steps(self.target, look)
        if call is None:
            model = getattr(look.engine, "model", options.model)
            meant = self.target.of_model(model, look.grid, self.batch.samples)
            if meant is not self.target:
                self._key = None
            self.target = meant
        if options.views is not None:
            refuse_views(look, self.target)

    def _look_in_time(self) -> Look:
        """Return the look with the axis of time that the layers follow, where that decides it."""
        every = [layer for method in self.methods for layer in method.session.layers]
        named = [layer for layer in every if layer is not None and layer != INPUT]
        if not named and None not in every:  # maps at the input, which need no layer
            return self.look

        def choose(look: Look) -> str:
            return named[-1] if named else self._search(self.target, look)

        look = self.look
        key = "axis of channels", look.sizes, look.number, *named
        axis = look.subject.once(key, lambda: channels_of(look, choose))
        return look if axis is None else replace(look, channels=axis)

    @cached_property
    def choices(self) -> Choices:
        """The default layers of this call."""
        return Choices(self.look)

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

    def _search(self, target: Target, look: Look | None = None) -> Chosen:
        """Search with the first sample and its own target; with all where that cannot be had of one alone."""
        try:
            return self._search_with(1, target, look)
        except LayerError:
            boxes = levels_in(target)
            if boxes is None or not boxes.empty:
                raise
            return self._search_in_all(target, boxes, look)
        except InputError as error:
            if self._runs_together():
                raise InputError(
                    f"the model runs on the {self.look.shape[0]} samples of the call together, not on one of "
                    "them, with which the layer is searched for: name conv_layer=, or build the model for "
                    f"batches of any size ({error})"
                ) from error
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            if isinstance(error, ChronocamError) or self.look.shape[0] < 2:
                raise
            return self._search_with(self.look.shape[0], target, look)

    def _runs_together(self) -> bool:
        """Say whether the model runs on all samples at once, as one that was built for so many."""
        if self.look.shape[0] < 2:
            return False
        try:
            self.look.engine.trace(self.look.inputs)
        except InputError:
            return False
        return True

    def _search_in_all(self, target: Target, boxes: BoxesOf, look: Look | None) -> Chosen:
        """Search with all samples, where a detector leaves nothing of the first."""
        try:
            return self._search_with(self.look.shape[0], target, look)
        except LayerError:
            if boxes.empty:
                raise TargetError(
                    "the model finds no box in any sample; give other images, or lower its own threshold"
                ) from None
            raise

    def _search_with(self, samples: int, target: Target, look: Look | None = None) -> Chosen:
        look = self.look if look is None else look
        start = self.batch.rows.start
        first = replace(self.batch, rows=slice(start, start + min(samples, look.shape[0])))
        call = _target_and_call(self.methods[0], first)[1]
        scoring = replace(self._scoring((target,)), rows=first.rows)
        asked = Asked(lambda result: scoring(result)[0], call, scoring.reads)
        chosen = default_layer(look.few(samples), asked)
        if call is None:
            # Asked while passes are of one sample; the answer is kept.
            look.places.sight(chosen)
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
        made = [self._explanation(which, scoring, recorded) for which in range(len(self.methods))]
        self._keep()
        return made

    def _keep(self) -> None:
        """Keep the plan for the next call alike."""
        facts, plan = self.look.subject.own, self._plan
        if self._key is None or plan is None or self.levels is not None:
            return
        known: Plan | None = facts.known(self._key)
        if known is None or known.needs is not plan.needs:
            facts.keep(self._key, plan.outline())

    def _recorded(self) -> tuple[Scoring, Recorded]:
        """Record what all methods need.

        The default layer may be that of another target, which reads other outputs: where that has no
        influence on the scores, the search is done once more, for this one.
        """
        scoring = self._scoring(tuple([method.retarget(self.target) for method in self.methods]))
        recorded = self._pass(scoring)
        if self.look.subject.changed():
            self.levels, self.layers, self._plan = self._levels(), self._layers(), None
            recorded = self._pass(scoring)
        if self._chose_again(recorded):
            recorded = self._pass(scoring)
        while self._moved_boxes(recorded):
            recorded = self._pass(scoring)
        return scoring, recorded.connected()

    def _pass(self, scoring: Scoring) -> Recorded:
        """Record once, at the layers of now."""
        if self._plan is None:
            self._plan = self._planned(scoring.reads)
        return record(self._plan.recorded, scoring, self._plan.needs, levels=self.levels)

    def _planned(self, reads: Sequence[str]) -> Plan:
        """Work out where the maps come from, and what is recorded for them."""
        pairs = list(zip(self.methods, self.layers, strict=True))
        at = [[self._place(method, layer) for layer in layers] for method, layers in pairs]
        needs = [
            (need, layer)
            for method, own in zip(self.methods, at, strict=True)
            for need in method.needs
            for place in own
            for layer in recorded_at(place.look, need, place.layer)
        ]
        # Where a method needs the input besides a layer, that is the input which the layer's map is of.
        at_input = (k for k, method in enumerate(self.methods) if any(need.at_input for need in method.needs))
        of_input = next(at_input, None)
        look = self.look if of_input is None else at[of_input][0].look
        return Plan(self.look, self.layers, at, Needs(look, needs, reads), of_input, [{} for _ in pairs])

    def _chose_again(self, recorded: Recorded) -> bool:
        """Replace a known layer that such scores do not depend on; say whether another one was chosen."""
        every = dict.fromkeys([layer for layers in self.layers for layer in layers])
        known = [layer for layer in every if isinstance(layer, Chosen)]
        named = self.levels is not None or self.target.layer is not None
        if named or not known or self.choices.searched:
            return False
        (before,) = known
        flat = _is_flat(recorded, self._place_at(before).layer)
        if flat in (None, before.flat):
            return False
        after = self.choices.again(self.target, flat, self._search)
        self.layers = [[after if layer is before else layer for layer in layers] for layers in self.layers]
        self._plan = None
        return after != before

    def _moved_boxes(self, recorded: Recorded) -> bool:
        """Move boxes whose scores do not depend on their level's layer to another; say whether any moved.

        Models that suppress boxes themselves return those of several levels together, and do not say which
        level each comes from.
        """
        levels = self.levels
        boxes = None if levels is None else levels_in(self.target)
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
        self.layers, self._plan = self._layers(), None
        return True

    def _place(self, method: Recipe, layer: str) -> Place:
        return place_of(self.look, layer, self.methods[0].on, getattr(method, "regions", None) == "features")

    def _place_at(self, layer: str) -> Place:
        """Return where the map of a layer comes from, in the plan."""
        assert self._plan is not None
        pairs = zip(self.layers, self._plan.at, strict=True)
        return next(at[layers.index(layer)] for layers, at in pairs if layer in layers)

    def _explanation(self, which: int, scoring: Scoring, recorded: Recorded) -> Explanation:
        """Return what one method makes of the pass."""
        method, plan = self.methods[which], self._plan
        assert plan is not None
        columns = recorded.columns.slices[which]
        infos = tuple([row[columns] for row in recorded.columns.infos])
        layers, at, atlas, known = self.layers[which], plan.at[which], plan.atlas[which], UNKNOWN
        join: Callable[[Sequence[Array]], Array] = partial(fused, how=method.fuse)
        if self.levels is not None and method.session.layers == [None]:
            # Where no sample has a box, the first level still says what the grid is.
            levels = used(self.levels, infos) or list(self.levels)[:1]
            layers = [self.levels[level] for level in levels]
            at, atlas = [self._place(method, layer) for layer in layers], {}
            join, known = by_level(infos, levels), known_of(infos, self.target)
        alone, recording = scoring.alone(which, recorded.columns), recorded.recording
        views = [
            LayerView(one.look, method, one.layer, alone, recording, columns, known, atlas) for one in at
        ]
        seen = Seen(method, self.batch, self.target, recorded, columns, infos, layers, at, views, known)
        return explanation_of(seen, join)


def adapted(subject: Subject, batch: Batch) -> Inputs:
    """Return the inputs of a batch as arrays of the model's framework."""
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


def _of_all_steps(target: Target, look: Look) -> Target:
    """Return the target with classes meant of a whole clip or signal, where outputs are of each step."""
    if len(look.grid) == 2:
        return target
    return over_steps(target, look.grid[0] if look.clips is None else None)


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
