"""What an engine does, what it is asked for and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from chronocam.errors import TargetError
from chronocam.layouts.base import Stem
from chronocam.maps.attended import Attended
from chronocam.types import Array, Inputs, Model, Window


@dataclass(frozen=True)
class Result:
    """What a model returned for one batch, as a score function sees it.

    raw: the output as the model returned it.
    logits: returns the main output `(batch, …)`, before a final softmax or sigmoid.
    outputs: what the modules in `reads` returned, by path, one entry per call.
    gate: the final softmax, log-softmax or sigmoid before which logits are read; None where there is none.
    returned: returns the main output as the model returned it; None where that is the logits.

    Example:
        >>> scores = lambda result: result.logits()[:, :2]
        >>> tuple(cc.engines.engine_for(model).scores(images, scores).shape)
        (2, 2)
    """

    raw: Any
    logits: Callable[[], Array]
    outputs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    gate: str | None = None
    returned: Callable[[], Array] | None = None


Score: TypeAlias = Callable[[Result], Array]
"""Makes scores `(batch, target)` of what a model returned."""

Call: TypeAlias = Callable[[Any, Inputs], Any]
"""`call(model, inputs)`, in the place of a plain call of the model."""

Entry: TypeAlias = tuple[int | str, ...]
"""Indices and keys that lead to one of several inputs."""

Feed: TypeAlias = Callable[[Inputs], Inputs]
"""Makes of the inputs that are looked at what the model gets, as of clips the pictures in them."""

Calls: TypeAlias = Mapping[str, Sequence[Array]]
"""Layer name to one array per call of the layer."""

Adds: TypeAlias = Callable[[Array], Array]
"""What a layer adds to what is proportional to its input, as a function of what it returned, and shaped to
broadcast to that."""


AxisOrder: TypeAlias = Literal["channels_first", "channels_last"]
"""Where the channels of a layer's output are: right after the batch, or last."""


@dataclass(frozen=True)
class Sight:
    """What a layer sees of the input.

    field: what each cell sees along the last axes of the input; None where that is not known.
    keeps_places: whether all that lies in between is of a kind that leaves places where they are. Others may
        flip or crop the input.
    extent: the first and last place, along each axis of the input, that any cell sees; None where it is not
        known, and where places are kept.

    Example:
        >>> engine = cc.engines.engine_for(model)
        >>> cc.engines.geometry_of(engine).sight(images, "conv2", 2).keeps_places
        True
    """

    field: tuple[Window, ...] | None = None
    keeps_places: bool = True
    extent: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer in a forward pass.

    path: the layer's path.
    type: the name of its class.
    shape: of what it returned.
    changes: False for layers that only pass on, drop, reorder or resample their input, and for the output of
        the model.
    recurrent: whether it returned the steps of a sequence, as recurrent layers do; they are not places.
    order: where its channels are, as its kind says, or that of the layer whose output it only activates.
    output: what it returned, where that was to be kept or a score was given to `trace`.
    gradient: ∂score/∂output, all targets in one random combination; None where the score does not depend on
        it.
    parents: the calls of the trace, by number, whose outputs this one is made of with no other in between,
        −1 − k for input k; None where the engine does not know.
    scored: whether the score is made of this output with no other in between.
    keeps_places: whether all that leads to it leaves places of the input where they are; None where no graph
        was built that says it.
    sight: returns what it sees of the input along so many last axes, as the graph of this pass says, which it
        holds; None where that does not say it.

    Example:
        >>> call = cc.engines.engine_for(model).trace(images)[0]
        >>> call.path, call.type, call.shape
        ('conv1', 'Conv2d', (2, 8, 16, 16))
    """

    path: str
    type: str
    shape: tuple[int, ...]
    changes: bool
    recurrent: bool = False
    order: AxisOrder | None = None
    output: Array = None
    gradient: Array = None
    parents: tuple[int, ...] | None = None
    scored: bool = False
    keeps_places: bool | None = None
    sight: Callable[[int], Sight | None] | None = None


@dataclass
class Learned:
    """What passes have shown of a model, so that the next need not run twice to find it again.

    may_end_in_gate: whether a softmax or sigmoid may be at its end.
    moves: whether it may move places, as a flip does; None until a pass was watched.
    channels_last: whether it takes pictures whose channels lie last in memory.

    Example:
        >>> cc.engines.engine_for(model).learned
        Learned(may_end_in_gate=False, moves=None, channels_last=True)
    """

    may_end_in_gate: bool = False
    moves: bool | None = None
    channels_last: bool = True


@dataclass(frozen=True)
class Recording:
    """What one pass recorded, in the layers' native layouts and free of any graph.

    scores: `(batch, target)`.
    activations: one array per call of each layer.
    gradients, guided, curvature: `(target, *activation shape)` per call of each layer; see `Request`.
    attention: the weights `(batch, time)` of a model that attends over the frames of a clip.
    attention_gradients: ∂score/∂weights, `(target, batch, time)`.
    attentions: the weights of every attention within the model in the order of the calls,
        `(rows, query, key)`, means over heads.
    attended, blocks: every attention, and those of each block of the last row; see `Request`.
    rests: of a model after each layer that it is to be resumed from.
    notes: what a user should know about the scores.

    Example:
        >>> request = cc.engines.Request(["conv2"], gradients=["conv2"])
        >>> recording = cc.engines.engine_for(model).record(images, lambda result: result.logits(), request)
        >>> tuple(recording.scores.shape), tuple(recording.gradients["conv2"][0].shape)
        ((2, 3), (3, 2, 6, 8, 8))
    """

    scores: Array
    activations: Calls
    gradients: Calls = field(default_factory=dict)
    guided: Calls = field(default_factory=dict)
    curvature: Calls = field(default_factory=dict)
    attention: Array = None
    attention_gradients: Array = None
    attentions: tuple[Array, ...] = ()
    attended: tuple[Attended, ...] = ()
    blocks: tuple[tuple[Attended, ...], ...] = ()
    rests: Mapping[str, Resumed] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipOptions:
    """How an engine treats clips.

    frames: how many frames a clip has.
    chunk: run the part that sees frames one by one on so many at a time, with exact gradients; None for all
        at once.
    detach_attention: hold attention weights over the frames constant while gradients are taken.

    Example:
        >>> clip_options = cc.engines.ClipOptions(frames=8, chunk=2)
        >>> cc.engines.Request(["conv1"], clips=clip_options).clips.frames
        8
    """

    frames: int
    chunk: int | None = None
    detach_attention: bool = False


@dataclass(frozen=True)
class Request:
    """What one pass shall record, and how the model is run for it.

    layers: where activations are recorded; the layers named below are among them.
    gradients: where ∂score/∂activations are.
    guided: where gradients through guided ReLUs are.
    curvature: where the Hessian of the score times the activations is.
    reads: modules whose outputs the score function reads, in `Result.outputs`.
    resumes: from which of the layers the model is to be resumed, as by `Engine.resume`.
    attentions: whether the weights of every attention within the model are recorded.
    attended: whether every attention is, with the gradients of the score. origins: whether also which token
        of one became which of the next, where there are more or fewer.
    blocks: scores what the head makes of the tokens of one block; given, the attention of every block of the
        model's last row of them is recorded with the gradients of its own score. None where it is not.
    call: replaces the plain call of the model.
    clips: how clips are treated; None for other inputs.
    entry: which of several inputs the layer `input` is, by the indices and keys that lead to it; None is the
        first of floating point.
    wanted: says, once there are scores, of which of them a layer's gradients are needed; those of others may
        be zero. None for all.

    Example:
        >>> cc.engines.Request(["conv1", "conv2"], gradients=["conv2"]).differentiates
        True
    """

    layers: Sequence[str] = ()
    gradients: Sequence[str] = ()
    guided: Sequence[str] = ()
    curvature: Sequence[str] = ()
    reads: Sequence[str] = ()
    resumes: Sequence[str] = ()
    attentions: bool = False
    attended: bool = False
    origins: bool = False
    blocks: Score | None = None
    call: Call | None = None
    clips: ClipOptions | None = None
    entry: Entry | None = None
    wanted: Callable[[str], Sequence[int]] | None = None

    @property
    def differentiates(self) -> bool:
        """Whether any gradient is asked for."""
        return bool(self.gradients or self.guided or self.curvature or self.attended or self.blocks)

    @property
    def only_gradients(self) -> bool:
        """Whether the gradients at its layers are all that is asked for, of a plain call of the model."""
        recorded = self.guided, self.curvature, self.resumes, self.sees_attention
        how = self.reads, self.call, self.clips, self.entry, self.wanted
        return list(self.layers) == list(self.gradients) and not any((*recorded, *how))

    @property
    def sees_attention(self) -> bool:
        """Whether anything of attention is asked for."""
        return self.attentions or self.attended or self.blocks is not None


@runtime_checkable
class Resumed(Protocol):
    """The rest of a model after one of its layers; `resumed(activations, score)` runs it.

    activations: what the layer returned for the inputs, one per call, in its native layout.

    Example:
        >>> resumed = cc.engines.engine_for(model).resume(images, "conv2")
        >>> changed = torch.cat([resumed.activations[0] * 0, resumed.activations[0]])
        >>> tuple(resumed(changed, lambda result: result.logits()).shape)
        (4, 3)
    """

    activations: Sequence[Array]

    def __call__(self, activations: Array | Sequence[Array], score: Score) -> Array:
        """Return the scores `(change · batch, target)` for changed activations.

        activations: one array per call of the layer, or the only one; `(change · row, …)` where the layer
            returned `(row, …)`, all rows of the first change first.
        """

    def without(self, channels: Sequence[int], axis: int, calls: int, score: Score) -> Array:
        """Return the scores `(channel · batch, target)` with each channel set to zero, one at a time.

        axis: that of the channels. calls: in how many of the layer's calls they are, the last ones.
        """

    def masked(self, masks: np.ndarray, score: Score) -> Array:
        """Return the scores `(mask · batch, target)` with what the last call returned times each mask.

        masks: `(mask, *grid)`, of a layer that returns `(row, channel, *grid)`.
        """


@runtime_checkable
class TextTower(Protocol):
    """What embeds texts, in a model that embeds pictures or clips as well.

    Example:
        >>> cc.engines.engine_for(model).towers is None
        True
    """

    @property
    def template(self) -> str:
        """What class names stand in, as in `"a photo of a {}."`."""

    @property
    def scale(self) -> tuple[Any, Any]:
        """By what the model multiplies cosines, and what it adds, to make logits of them."""

    @property
    def network(self) -> Model:
        """What embeds texts as a model of its own, which takes what `tokens` returns."""

    def tokens(self, texts: Sequence[str]) -> Inputs:
        """Return the inputs of that model, a row for each text."""

    def encode(self, texts: Sequence[str]) -> Array:
        """Return the embeddings `(text, channel)`."""


@runtime_checkable
class Engine(Protocol):
    """Runs a model and records what methods need; leaves the model as it was found.

    framework: its name, `torch` or `keras`.
    model: what it runs.
    learned: what passes have shown of that.
    labels: the class names that the model carries, or None.
    channels_last: whether layers return their channels last.
    stem: the first convolution; None for a model without any.
    features: how many features of each step a model of sequences takes, `(batch, step, feature)`, as its
        first layer says; None for others.
    axes: the order of the axes of one input, a letter each, where it was said; see `cc.blackbox`.
    inputs: what the model calls its inputs, in order.
    towers: what embeds texts, where the model has a tower for them beside that for pictures; else None.

    Example:
        >>> isinstance(cc.engines.engine_for(model), cc.engines.Engine)
        True
    """

    framework: str
    model: Any
    learned: Learned
    labels: Sequence[str] | None
    channels_last: bool
    stem: Stem | None
    features: int | None
    axes: str | None
    rescales: bool
    """Whether the model begins with layers that scale its inputs, so that those may be raw pixels."""
    inputs: Sequence[str]
    towers: TextTower | None
    feed: Feed
    """What inputs go through right before the model gets them; see `as_given`."""
    values_at_once: int | None
    """How many values of inputs are scored at once at most for speed's sake; None for any number."""

    def structure(self) -> Hashable:
        """Return what tells the model from itself after a change of its layers or settings.

        It holds no array, and nothing that leads to the model.
        """

    def hooks(self) -> Hashable:
        """Return which hooks of the model change what they see, as far as passes have shown."""

    def resolve(self, layer: object) -> str:
        """Return the path of a layer given by path, object or index. Raises LayerError for an unknown one."""

    def kernels(self) -> dict[str, Array]:
        """Return the kernels `(filter, channel, *grid)` of the convolutions by path, in their order."""

    def biases(self) -> dict[str, Adds]:
        """Return what layers add, by the names under which `record` takes their outputs.

        Those are biases, what a BatchNorm adds (β − μγ/√(σ² + ε)), and the bounds at which a ReLU6 is flat.
        Raises ModelError for a BatchNorm in training mode, which adds what depends on the batch.
        """

    def adapt(self, inputs: Inputs) -> Inputs:
        """Return inputs as the framework's arrays, where the model is and in its precision."""

    def trace(
        self,
        inputs: Inputs,
        score: Score | None = None,
        call: Call | None = None,
        reads: Sequence[str] = (),
        keep: Sequence[str] = (),
    ) -> list[LayerCall]:
        """Return the layers in the order in which they finish, from one forward pass.

        keep: layers whose outputs are returned as well.
        score: is differentiated by what every layer returned, each taken by itself: what used an output
            within the layer that returned it does not count, since it would not see a change of it.
        call, reads: see `Request`; of use with a score.
        """

    def order(self, layer: str) -> AxisOrder | None:
        """Return where the kind of a layer says that its channels are; None for a kind that may be either."""

    def frame_wise(self, layer: str) -> bool:
        """Say whether the kind of a layer, and of those before, says that it saw each frame by itself."""

    def obstacle(self) -> str | None:
        """Say what keeps layers or gradients from view, such as quantised layers, and what to do about it."""

    def generate(self, inputs: Inputs) -> tuple[Array, int, Sequence[int]]:
        """Return the tokens `(batch, token)` of the prompts and of what the model says.

        And where that begins, and where it ends for each sample. Raises TargetError for a model that
        generates none.
        """

    def record(self, inputs: Inputs, score: Score, request: Request) -> Recording:
        """Run the model once and record what is requested.

        Layers that the score does not depend on are left out of `gradients` and `guided`.
        """

    def scores(
        self, inputs: Inputs, score: Score, call: Call | None = None, reads: Sequence[str] = ()
    ) -> Array:
        """Return the scores `(batch, target)` from a forward pass without a graph.

        call, reads: see `Request`.
        """

    def resume(
        self, inputs: Inputs, layer: str, call: Call | None = None, reads: Sequence[str] = ()
    ) -> Resumed:
        """Run the model once, and keep what came before `layer`, so that only the rest need run again.

        Raises LayerError for a layer from which the model cannot be resumed.
        """


class Speechless:
    """An engine of models that generate no text."""

    def generate(self, inputs: Inputs) -> tuple[Array, int, Sequence[int]]:
        """Raise TargetError."""
        raise TargetError("a word is of a text that the model generates; this model generates none")


def as_given(inputs: Inputs) -> Inputs:
    """Return inputs as they are: what most models are fed."""
    return inputs


def changed_at(inputs: Inputs, entry: Entry, change: Callable[[Array], Array]) -> Inputs:
    """Return inputs after a change of one of them."""
    if not entry:
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {
            key: changed_at(one, entry[1:], change) if key == entry[0] else one for key, one in inputs.items()
        }
    parts = list(inputs)
    parts[int(entry[0])] = changed_at(parts[int(entry[0])], entry[1:], change)
    return parts if isinstance(inputs, list) else tuple(parts)
