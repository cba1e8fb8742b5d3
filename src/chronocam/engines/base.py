"""What an engine does, and what it knows of layers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from chronocam.engines.recording import Call, Feed, Recording, Request, Resumed, Score
from chronocam.errors import TargetError
from chronocam.layouts.base import Stem
from chronocam.types import Array, Inputs, Model, Window

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
