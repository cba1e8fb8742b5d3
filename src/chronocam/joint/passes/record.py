"""One pass of the model for all methods, layers and targets: what is recorded, and the scores it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chronocam.engines import Recording, Request, Result
from chronocam.errors import InputError, LayerError
from chronocam.joint.layers.stages import stages
from chronocam.joint.look.look import Look
from chronocam.joint.passes.diagnose import of_inputs
from chronocam.joint.passes.levels import Levels, columns_at, level_of, used
from chronocam.joint.passes.scoring import Columns, Scoring
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.maps.attended import Link
from chronocam.types import INPUT, Array, BoxInfo, Inputs, Need


@dataclass(frozen=True)
class Recorded:
    """What one pass recorded, and what the columns of its scores are.

    notes: what is to be said of the model, of the scores and of the inputs.
    unconnected: a layer whose gradient is needed, and on which the scores do not depend; None without one.
    obstacle: what keeps gradients from it, where the model shows it.
    """

    recording: Recording
    columns: Columns
    notes: tuple[str, ...] = ()
    unconnected: str | None = None
    obstacle: str | None = None

    def connected(self) -> Recorded:
        """Return this. Raises LayerError where the scores depend on too few of the layers."""
        if self.unconnected is not None:
            todo = self.obstacle or "choose one on the path to the output"
            raise LayerError(f"the score does not depend on layer `{self.unconnected}`; {todo}")
        return self


class PassScore:
    """The score of a pass.

    columns: of the last call alone: an engine may score twice, the second time with a graph.
    """

    def __init__(self, scoring: Scoring) -> None:
        self.scoring = scoring
        self.columns: list[Columns] = []

    def __call__(self, result: Result) -> Array:
        """Return the scores `(batch, column)`."""
        values, about = self.scoring(result)
        self.columns[:] = [about]
        return values

    @property
    def picks(self) -> bool:
        """Whether each score is the logit of a class, as far as the targets say."""
        return all(target.picks for target in self.scoring.targets)

    def classes(self, result: Result) -> np.ndarray | None:
        """Return of which class each score is the logit, `(batch, column)`, for outputs that are NumPy's.

        None where a score is, or may be, anything else.
        """
        if not self.picks:
            return None
        values, logits = self(result), result.logits()
        named = [info.index for row in self.columns[0].infos for info in row]
        numbers = [index for index in named if index is not None]
        if len(numbers) < len(named) or logits.ndim != 2 or max(numbers) >= logits.shape[1]:
            return None
        classes = np.asarray(numbers).reshape(values.shape)
        return classes if np.array_equal(np.take_along_axis(logits, classes, axis=1), values) else None


def recorded_at(look: Look, need: Need, layer: str) -> list[str]:
    """Return the layers at which `need` is recorded for a method at `layer`."""
    if need.at_input:
        return [INPUT, *(look.biases() if need.biases else ())]
    return list(stages(look, layer)) if need.stages else [layer]


class Needs:
    """What a pass records, and at which layers: the same for all looks at inputs of the same shapes.

    look: one of them. needs: each with its layer. reads: the modules whose outputs the score reads.

    Attributes: request is for the engine, but for what hangs on the scores of a pass; connecting are the
    needs of gradients at layers on which the scores have to depend.

    """

    def __init__(self, look: Look, needs: Iterable[tuple[Need, str]], reads: Sequence[str]) -> None:
        self.needs: tuple[tuple[Need, str], ...] = tuple(needs)

        def layers(which: Callable[[Need], bool]) -> list[str]:
            return list(dict.fromkeys(layer for need, layer in self.needs if which(need)))

        # What a layer adds to its input may have no influence.
        self.connecting: list[tuple[Need, str]] = [
            (need, layer)
            for need, layer in self.needs
            if need.gradients and not (need.biases and layer != INPUT)
        ]
        self.scores_blocks: bool = any(need.blocks for need, _ in self.needs)
        self.request: Request = Request(
            layers(lambda need: True),
            gradients=layers(lambda need: need.gradients and not need.guided),
            guided=layers(lambda need: need.guided),
            curvature=layers(lambda need: need.curvature),
            reads=reads,
            resumes=layers(lambda need: need.resumes),
            attentions=any(need.attentions for need, _ in self.needs),
            attended=any(need.attended for need, _ in self.needs),
            origins=any(need.origins for need, _ in self.needs),
            call=look.call,
            clips=look.clips,
            entry=look.entry,
        )

    def asked_by(self, score: PassScore, levels: Levels | None) -> Request:
        """Return the request of one pass. levels: the layers on which boxes of each level are explained."""
        request, columns = self.request, score.columns
        if self.scores_blocks:

            def block(result: Result) -> Array:
                # Of the classes that the whole network chose: what the head makes of a block may be others.
                return replace(score.scoring, clean=columns[-1].logits)(result)[0]

            request = replace(request, blocks=block)
        if levels is not None:
            request = replace(request, wanted=lambda layer: columns_at(levels, layer, columns[0].infos))
        return request


def record(
    look: Look, scoring: Scoring, needs: Needs, inputs: Inputs | None = None, levels: Levels | None = None
) -> Recorded:
    """Record what is needed at each layer.

    inputs: other inputs of the same shapes, in the place of those looked at.
    levels: the layers on which boxes of each level are explained, and no others.
    """
    score = PassScore(scoring)
    request = needs.asked_by(score, levels)
    recording = look.engine.record(look.inputs if inputs is None else inputs, score, request)
    columns = score.columns[0]
    if levels is not None and not used(levels, columns.infos):
        recording = replace(recording, gradients=_zeros(recording, request.gradients))
    if look.detach_attention and recording.attention is None:
        raise InputError("detach_attention= found no attention weights over the frames; leave it out")
    for need, layer in needs.connecting:
        wanted = request.wanted is None or request.wanted(layer)
        if wanted and layer not in (recording.guided if need.guided else recording.gradients):
            return Recorded(recording, columns, (), layer, look.engine.obstacle())
    notes = dict.fromkeys([*recording.notes, *columns.notes, *of_inputs(look)])
    return Recorded(recording, columns, tuple(notes))


def links(look: Look, scoring: Scoring) -> tuple[Link, ...]:
    """Return where each attention of a pass stands among the others, as the graph says."""

    def together(result: Result) -> Array:
        # One backward pass is enough: it is asked for what the scores depend on, not by how much.
        values = scoring(result)[0]
        return namespace(values).sum(values, axis=1, keepdims=True)

    request = Request(attended=True, reads=scoring.reads, call=look.call, clips=look.clips)
    calls = look.engine.record(look.inputs, together, request).attended
    return tuple(
        Link(*call.sources, call.gradients is not None, call.in_order, call.of_input) for call in calls
    )


def silent_in(recorded: Recorded, levels: Levels) -> list[tuple[int, BoxInfo]]:
    """Return boxes, each with its place in the batch, whose scores do not depend on their level's layer."""
    infos = recorded.columns.infos
    silent: list[tuple[int, BoxInfo]] = []
    for level, layer in levels.items():
        calls = recorded.recording.gradients.get(layer)
        if calls is None and recorded.unconnected != layer:
            continue
        moving = np.any([_moving(one, len(infos)) for one in calls or ()], axis=0)
        silent += [
            (i, info)
            for i, row in enumerate(infos)
            for k, info in enumerate(row)
            if isinstance(info, BoxInfo) and level_of(info) == level and not (calls and moving[k, i])
        ]
    return silent


def _moving(gradient: Array, samples: int) -> np.ndarray:
    """Return where a gradient `(target, sample, …)` is not zero, `(target, sample)`."""
    if gradient.shape[1] != samples:
        return np.ones((gradient.shape[0], samples), bool)
    return to_numpy(namespace(gradient).any(gradient != 0, axis=tuple(range(2, gradient.ndim))))


def _zeros(recording: Recording, layers: Sequence[str]) -> dict[str, list[Array]]:
    """Return gradients of batches in which nothing was found: maps have a grid, and no values."""
    targets = recording.scores.shape[1]
    return {
        layer: [
            namespace(a).stack([namespace(a).zeros_like(a)] * targets) for a in recording.activations[layer]
        ]
        for layer in layers
    }
