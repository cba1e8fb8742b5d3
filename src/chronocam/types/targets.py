"""What a target sees of a model's outputs, and what it returns: scores, and what each of them is of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from chronocam.errors import TargetError
from chronocam.types.arrays import Array, Model, Rows


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

    @property
    def is_missing(self) -> bool:
        """Whether the sample has nothing of this kind, such as no such box."""
        return False


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


NO_FURTHER = "no further box"
"""What a column is called in a sample that has fewer boxes than others."""


_WITHOUT_BOX = {TargetInfo}


def missing_in(infos: Sequence[Sequence[TargetInfo]]) -> np.ndarray:
    """Return which columns explain nothing, `(sample, target)`."""
    # Of a thousand classes none is looked at one by one.
    kinds = set(map(type, chain.from_iterable(infos)))
    if kinds <= _WITHOUT_BOX or not any(issubclass(kind, BoxInfo) for kind in kinds):
        return np.zeros((len(infos), len(infos[0]) if infos else 0), bool)
    return np.asarray([[info.is_missing for info in row] for row in infos])


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
    label = labels[index] if labels is not None and index < len(labels) else ""
    return label if str(label).strip() else f"class {index}"


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
