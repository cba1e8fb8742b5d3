"""The contracts that the stages share: arrays, what a target sees and returns, what a method is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from chronocam.errors import TargetError

__all__ = [
    "INPUT",
    "Array",
    "BlackBox",
    "BoxInfo",
    "Capture",
    "Change",
    "Finding",
    "Inputs",
    "LayerLike",
    "Media",
    "Model",
    "Need",
    "Outputs",
    "Pool",
    "Rows",
    "Scored",
    "Stage",
    "Target",
    "TargetInfo",
    "Targets",
    "View",
    "Window",
]

Array: TypeAlias = Any
"""An array of any framework that array-api-compat knows (NumPy, PyTorch, JAX, …)."""

Pool: TypeAlias = Literal["clip", "frame"]
"""Over what weights are averaged: a whole clip, or each of its time slices by itself."""

Change: TypeAlias = Callable[[Array], Array]
"""Returns an array of the same shape, changed."""

Model: TypeAlias = Any
"""A `torch.nn.Module` or a `keras.Model`."""

LayerLike: TypeAlias = Any
"""A layer by its dotted path, by its index among the top-level layers, or the layer itself."""

Targets: TypeAlias = Any
"""What `targets=` takes; see `chronocam.explain`."""

Media: TypeAlias = Any
"""What is drawn on: pictures or clips, one per sample, as files hold them or as a model takes them."""

Inputs: TypeAlias = Any
"""What a model is called with: one array, or a tuple or dict of them (several inputs)."""

INPUT = "input"
"""The layer name under which pixel-level maps are recorded: the model's own input."""


@dataclass(eq=False)
class BlackBox:
    """A function from arrays to scores as a model; see `chronocam.blackbox`.

    labels: the names of the classes.
    channels_last: whether it takes inputs with their channels last.
    stem: how many axes the grid has that it sees at once (2 for frames, 3 for clips), and how many channels;
        None where that is not known.
    axes: the order of the axes of one input, a letter each, as `cc.blackbox` takes it; None where it was not
        said.
    why: why nothing but scores is seen of it, as messages say.

    Example:
        >>> cc.engines.engine_for(cc.engines.BlackBox(lambda x: x.mean((2, 3)))).framework
        'black box'
    """

    function: Callable[..., Any]
    labels: Sequence[str] | None = None
    channels_last: bool = False
    stem: tuple[int, int] | None = None
    axes: str | None = None
    why: str = "a black box has no layers and no gradients"


@dataclass(frozen=True)
class TargetInfo:
    """What one column of the scores explains, for one sample.

    name: in words.
    index: of the output, where it is a single one.
    signed: whether maps of this column keep both signs; it is written by `Target.scored`.

    Example:
    >>> str(cc.types.TargetInfo("dog", 1))
    'dog'
    """

    name: str
    index: int | None = None
    signed: bool = field(default=False, kw_only=True, compare=False, repr=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class BoxInfo(TargetInfo):
    """A box that one column of the scores explains, for one sample; or that there is nothing to explain.

    box: x0, y0, x1, y1 in pixels of the input; None where the sample has no such box, or nothing that is
        predicted as a class: the map is NaN.
    score: of the detection, a probability.
    row: which of the model's rows it is, before suppression. level: of a pyramid, the one it comes from.
    extent: height and width, in pixels of the input, of what the level's grid covers, from the upper left;
        None for the input's own.

    Example:
    >>> cc.types.BoxInfo("dog", 1, box=(0.0, 0.0, 8.0, 9.0), score=0.9).is_missing
    False
    """

    box: tuple[float, float, float, float] | None = field(default=None, kw_only=True, compare=False)
    score: float = field(default=math.nan, kw_only=True, compare=False)
    row: int = field(default=-1, kw_only=True, compare=False)
    level: int = field(default=0, kw_only=True, compare=False)
    extent: tuple[float, float] | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def is_missing(self) -> bool:
        """Whether the sample has no such box."""
        return self.box is None


WORDS = ("word",)
"""The axes of maps over the words of texts."""


@dataclass(frozen=True)
class WordsInfo(TargetInfo):
    """A text that one column of the scores explains, where the map is over its words.

    words: those of the text; places of the map beyond them are 0.

    Example:
    >>> cc.types.WordsInfo("“a red bus”", words=("a", "red", "bus")).words[1]
    'red'
    """

    words: tuple[str, ...] = field(default=(), kw_only=True, compare=False)

    def __str__(self) -> str:
        return self.name


NO_FURTHER = "no further box"
"""What a column is called in a sample that has fewer boxes than others."""


def is_missing(info: TargetInfo) -> bool:
    """Say whether a column explains nothing in a sample, since it has no such box or region."""
    return isinstance(info, BoxInfo) and info.is_missing


_WITHOUT_BOX = {TargetInfo}


def missing_in(infos: Sequence[Sequence[TargetInfo]]) -> np.ndarray:
    """Return which columns explain nothing, `(sample, target)`."""
    # Of a thousand classes none is looked at one by one.
    kinds = set(map(type, chain.from_iterable(infos)))
    if kinds <= _WITHOUT_BOX or not any(issubclass(kind, BoxInfo) for kind in kinds):
        return np.zeros((len(infos), len(infos[0]) if infos else 0), bool)
    return np.asarray([list(map(is_missing, row)) for row in infos])


@dataclass(frozen=True)
class Finding:
    """A remark on an explanation, such as a map that is zero everywhere.

    kind: `"not finite"`, `"zero map"`, `"small gradient"`, `"cancelled"` or `"negative evidence"` for a
        single map; `"default layer"` for the choice of a layer; `"coarse grid"` for a layer of one or two
        rows, columns or slices; `"wide field"` for one whose cells see as much as the whole input; `"note"`
        for all others.
    sample, target: which of the call's samples and the name of its target; None where it concerns all.
    text: the remark in words, complete by itself.

    Example:
    >>> from torch.nn.init import zeros_
    >>> _ = zeros_(model.conv2.weight), zeros_(model.conv2.bias)
    >>> cc.GradCAM(model, "conv2").explain(images[:1], 0).findings[0].kind
    'zero map'
    """

    kind: str
    sample: int | None
    target: str | None
    text: str

    def __str__(self) -> str:
        return self.text


def note(text: str) -> Finding:
    """Return a finding that concerns all samples and targets."""
    return Finding("note", None, None, text)


def of_sample(findings: Iterable[Finding], sample: int) -> list[str]:
    """Return the texts of the findings that concern a sample, without its number."""
    return [
        finding.text.removeprefix(f"sample {sample}, ")
        for finding in findings
        if finding.sample in (None, sample)
    ]


Rows: TypeAlias = slice | np.ndarray
"""Which samples of a call a batch holds: a slice, or their numbers, where some come several times."""


class Outputs:
    """What a target sees of one batch.

    raw: the output as the model returned it.
    logits: returns the model's main output `(batch, …)`, before a final softmax.
    rows: which samples of the whole call the batch holds.
    labels: the class names that the model carries.
    clean: the logits of the unperturbed inputs, where this pass is over perturbed ones: classes are chosen by
        these, so that a noisy look explains the same class.
    channels_last: whether dense outputs have their channels last, as those of Keras do.
    read: what the modules that the target `reads` returned, by the name it gave them.
    gate: the function at the model's end that the logits are read before, `"softmax"`, `"log_softmax"` or
        `"sigmoid"`; None where there is none.
    returned: returns the main output as the model returned it; None where that is the logits.
    encode: returns the embeddings, free of any graph, that the model makes of a list of texts or of one more
        input; None where the model cannot be asked.
    embeddings: returns the main output of a network that embeds; None where that is the logits.
    answer: the text that the model generated; None where no target is of one.
    samples: how many the whole call has; None where that is not known yet.

    Example:
    >>> outputs = cc.types.Outputs(None, lambda: torch.tensor([[1.0, 2.0]]), slice(0, 1), ["cat", "dog"])
    >>> cc.targets.Predicted()(outputs).infos[0][0].name
    'dog'
    """

    def __init__(
        self,
        raw: Any,
        logits: Callable[[], Array],
        rows: Rows,
        labels: Sequence[str] | None = None,
        clean: Array | None = None,
        channels_last: bool = False,
        read: Mapping[str, Any] = MappingProxyType({}),
        gate: str | None = None,
        returned: Callable[[], Array] | None = None,
        encode: Callable[[Any], Array] | None = None,
        embeddings: Callable[[], Array] | None = None,
        answer: Any = None,
        samples: int | None = None,
    ) -> None:
        self.answer = answer
        self.samples = samples
        self.raw = raw
        self.encode = encode
        self._embeddings = embeddings
        self.rows = rows
        self.labels = labels
        self.channels_last = channels_last
        self.read = read
        self.gate = gate
        self.chose: bool = False
        self._logits = logits
        self._clean = clean
        self._returned = returned

    @property
    def batch(self) -> int:
        """How many samples the batch holds."""
        return self.rows.stop - self.rows.start if isinstance(self.rows, slice) else len(self.rows)

    @property
    def least(self) -> int:
        """How many rows an array for all samples of the call has at least."""
        return int(self.rows.stop if isinstance(self.rows, slice) else self.rows.max() + 1)

    def own(self, values: Any, what: str) -> Any:
        """Return the batch's rows of what has a row for every sample of the call.

        what: what they are called, such as `"y"`. Raises TargetError where there are fewer or more rows.
        """
        count, samples = len(values), self.samples
        if count < self.least or (samples is not None and count > samples):
            expected = f"at least {self.least}" if samples is None else samples
            raise TargetError(f"{what} has {count} rows; expected {expected}, one per sample")
        if isinstance(self.rows, slice) or hasattr(values, "shape"):
            return values[self.rows]
        return [values[int(row)] for row in self.rows]

    def of(self, logits: Array, clean: Array | None) -> Outputs:
        """Return the same outputs with other logits, such as those of one step."""
        more = (self.labels, clean, self.channels_last, self.read, self.gate)
        return Outputs(logits, lambda: logits, self.rows, *more, samples=self.samples)

    @cached_property
    def logits(self) -> Array:
        """The model's main output, `(batch, …)`."""
        return self._logits()

    @property
    def embeddings(self) -> Array:
        """The main output of a network that embeds, `(batch, channel)`: not what classes are made of it."""
        return self.logits if self._embeddings is None else self._embeddings()

    @property
    def seen(self) -> Array | None:
        """The logits, where a target has read them."""
        return self.__dict__.get("logits")

    @property
    def quantities(self) -> Array:
        """The main output as numbers that mean something by themselves: as returned, not before a sigmoid."""
        if self.gate != "sigmoid" or self._returned is None:
            return self.logits
        return self._returned()

    @property
    def choosing(self) -> Array:
        """The logits by which classes are chosen: those of the unperturbed inputs."""
        self.chose = True
        return self.logits if self._clean is None else self._clean

    def label(self, index: int) -> str:
        """Return the name of class `index`, or `"class 7"` where the model carries no labels."""
        return label_of(self.labels, index)


def label_of(labels: Sequence[str] | None, index: int) -> str:
    """Return the name of class `index`, or `"class 7"` where there is none."""
    return labels[index] if labels is not None and index < len(labels) else f"class {index}"


@dataclass(frozen=True)
class Scored:
    """Scores `(batch, target)` and, for every sample, what each column explains.

    notes: what is to be said of how the target was understood, in sentences.

    Example:
    >>> cc.types.Scored(np.array([[0.5]]), ((cc.types.TargetInfo("brightness"),),)).values.shape
    (1, 1)
    """

    values: Array
    infos: tuple[tuple[TargetInfo, ...], ...]
    notes: tuple[str, ...] = ()


class Target:
    """What makes a score of a model's outputs; the base of everything in `cc.targets`.

    Example:
    >>> class Spread(cc.types.Target):
    ...     def __call__(self, outputs):
    ...         spread = outputs.logits.std(dim=1)[:, None]
    ...         return cc.types.Scored(spread, ((cc.types.TargetInfo("spread"),),) * outputs.batch)
    >>> explanation = cc.GradCAM(model).explain(images, Spread())
    """

    signed: bool = False
    """Whether maps of this target keep both signs (regression does), where a method's `signed=` is None."""
    has_place: bool = False
    """Whether the score is of a place in the input, such as a box, which weights that are pooled forget."""
    reads: Sequence[str] = ()
    """Modules whose outputs the target reads, by path (`head#0` for a first call), in `Outputs.read`."""
    layer: str | None = None
    """The layer that it is explained on, where it knows one; None where a gradient has to tell."""
    picks: ClassVar[bool] = False
    """Whether scores are the logits of the classes that infos name; that saves differentiating the score."""

    def of_model(self, model: Model, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the target as it is meant of a model and a batch, before that is run; most stay the same.

        size: the grid of the input. samples: of the call; None where that is not known.
        """
        return self

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the scores of one batch, `(batch, target)`."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(outputs) -> Scored")

    def scored(self, outputs: Outputs) -> Scored:
        """Return the scores of one batch, whose infos say whether maps of each column keep both signs."""
        scored = self(outputs)
        if not self.signed:
            return scored
        infos = tuple(tuple(replace(info, signed=True) for info in row) for row in scored.infos)
        return replace(scored, infos=infos)


class Window(NamedTuple):
    """What a layer's cell i sees of an earlier grid along one axis: stride·i + low to stride·i + high.

    Example:
    >>> cc.types.Window(stride=2, low=-1, high=1)  # of a 3 × 3 convolution of stride 2 and padding 1
    Window(stride=2, low=-1, high=1)
    """

    stride: int
    low: int
    high: int


@dataclass(frozen=True)
class Stage:
    """One of the layers after which the grid shrinks.

    activations: `(batch, channel, *grid)`.
    before: the grid of the stage before it, or of the input.
    windows: what its cells see of that grid, over its last axes; None where the model does not say.

    Example:
    >>> cc.types.Stage(np.ones((1, 2, 4, 4)), (8, 8), (cc.types.Window(2, -1, 1),) * 2).before
    (8, 8)
    """

    activations: Array
    before: tuple[int, ...]
    windows: tuple[Window, ...] | None


@dataclass(frozen=True)
class Need:
    """One thing a method needs recorded: gradients or only activations, at its layer or at the input.

    gradients: ∂score/∂activations, and not the activations alone.
    guided: gradients through guided ReLUs.
    curvature: the Hessian of the score times the activations.
    attentions: the weights of every attention of the model.
    attended: every attention of the model, with the gradients of the score. origins: also which token of one
        became which of the next, where there are more or fewer.
    blocks: every attention of its last row of blocks, with the gradients of each block's own score.
    stages: activations of the layers before it too, the last on each grid.
    biases: what every layer adds to what is proportional to its input, times ∂score/∂output.
    resumes: what came before the layer as well, so that `View.resume` need not run it again.

    Example:
    >>> cc.GuidedGradCAM.needs == (cc.types.Need(), cc.types.Need(at_input=True, guided=True))
    True
    """

    at_input: bool = False
    gradients: bool = True
    guided: bool = False
    curvature: bool = False
    attentions: bool = False
    attended: bool = False
    origins: bool = False
    blocks: bool = False
    stages: bool = False
    biases: bool = False
    resumes: bool = False


@dataclass(frozen=True)
class Capture:
    """What one pass recorded at one layer, on the layer's grid.

    activations: `(batch, channel, *grid)`.
    gradients: ∂score/∂activations, `(batch, target, channel, *grid)`; None where only activations were
        needed.
    curvature: the Hessian of the score times the activations, shaped like the gradients; None unless needed.
    attentions: the weights of every attention of the model, first to last, `(rows, query, key)`, means over
        heads.
    layout_of: returns the layout of an array of tokens, given its shape `(rows, token, channel)` and their
        order (None to find it out).
    links: returns where each of the attentions stands among the others, `chronocam.maps.attended.Link`; found
        out once per model, by a pass that holds a graph.
    attended: every attention, first to last, with ∂score/∂output; `chronocam.maps.attended.Attended`.
    blocks: those of each block of the last row, with the gradients of the scores that the head gives the
        block's tokens.
    stages: the last layer on each grid, from the input to this layer; empty unless needed.
    biases: what every layer adds times ∂score/∂output, `(batch, target, channel, *grid)`; of layers without a
        grid `(batch, target, value)`. Empty unless needed.

    Example:
    >>> capture = cc.types.Capture(np.ones((1, 2, 4, 4)), gradients=np.ones((1, 3, 2, 4, 4)))
    >>> cc.GradCAM(model).weights(capture).shape
    (1, 3, 2)
    """

    activations: Array
    gradients: Array = None
    curvature: Array = None
    attentions: tuple[Array, ...] = ()
    layout_of: Any = None
    links: Any = None
    attended: tuple[Any, ...] = ()
    blocks: tuple[tuple[Any, ...], ...] = ()
    stages: tuple[Stage, ...] = ()
    biases: tuple[Array, ...] = ()


@runtime_checkable
class View(Protocol):
    """What a method gets: the captures it needs, and ways to look again at changed inputs and activations.

    Example:
    >>> class Occluded(cc.methods.CAMMethod):
    ...     def maps(self, view):
    ...         (score,) = view.scores([lambda x: x * 0])  # of black pictures
    ...         return score[:, :, None, None] * view.captures[0].activations.mean(1, keepdim=True)
    """

    @property
    def captures(self) -> tuple[Capture, ...]:
        """One capture per need, in the order of the method's `needs`."""

    @property
    def targets(self) -> int:
        """How many targets are explained per sample."""

    @property
    def by_feature(self) -> bool:
        """Whether the input is a sequence, captured as `(batch, 1, time, feature)`, each feature a place."""

    interval: Array
    """Half-widths of 95 % intervals, shaped like the maps, which a method sets that knows them; else None."""

    def note(self, text: str) -> None:
        """Add a remark, in a sentence, to the explanation's findings."""

    def on_main(self, change: Change) -> Change:
        """Return the change of the inputs that is one of the explained input, `(batch, channel, *grid)`."""

    def laid(self, values: Any) -> Array:
        """Return values shaped like samples of the explained input, or one, as `(n, channel, *grid)`.

        Raises InputError where they are shaped otherwise.
        """

    def upsample(self, maps: Array) -> Array:
        """Return maps of the method's layer on the input's grid, aligned as `align=` says."""

    def again(self, change: Change) -> tuple[Capture, ...]:
        """Record the same needs and targets once more, after `change` of every floating-point input."""

    def scores(self, changes: Iterable[Change]) -> Array:
        """Return the targets' scores `(change, batch, target)` after each change of the inputs.

        A change is of every floating-point input, as for `again`. No gradient is taken. As many samples go
        through the model at once as the method's `batch_size` says.
        """

    def resume(self, changes: Iterable[Change]) -> Array:
        """Return the targets' scores `(change, batch, target)` after each change of the layer's activations.

        A change is of `(batch, channel, *grid)`, the time slices of clips together; what the layout drops (a
        class token) stays as it is. What precedes the layer runs once; for a method that has a need with
        `resumes`, in the pass that is recorded anyway.
        """

    def without(self, channels: Iterable[int]) -> Array:
        """Return the targets' scores `(channel, batch, target)` without each channel of the layer's output.

        A channel is set to zero wherever it is, in all frames and tokens. What precedes the layer runs once.
        """
