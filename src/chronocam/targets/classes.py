"""Targets of classifiers: one output of many, or one logit of two classes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from numbers import Integral
from typing import Any, ClassVar, Final, SupportsIndex

import numpy as np

from chronocam.errors import ModelError, TargetError
from chronocam.maps.arrays import like, namespace, placed, to_numpy
from chronocam.targets.labels import find_label
from chronocam.targets.returned import arrays_in
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo
from chronocam.types.targets import label_of

ONE_LOGIT: Final = (
    "the model's one output is taken for the logit of two classes, class 1 = +output and class 0 = −output; "
    "for a quantity give cc.targets.Regression()"
)
ONE_QUANTITY: Final = (
    "the model has one output, and neither two labels nor a final sigmoid say that it is the logit of "
    "classes: what raises and what lowers it is explained, as by cc.targets.Regression(); for classes give "
    "0, 1 or model.labels"
)


def rows_of(outputs: Outputs) -> Array:
    """Return the logits as `(batch, output)`; outputs `(batch,)` are one. Raises TargetError otherwise."""
    logits = outputs.logits
    return logits if logits.ndim == 2 else as_rows(logits)


def as_rows(values: Array) -> Array:
    """Return a main output as `(batch, output)`; `(batch,)` is one. Raises TargetError otherwise.

    So is `(batch, output, 1, 1)`, as a convolution of 1 × 1 cells in the place of a linear layer returns.
    """
    if not is_row(values.shape):
        raise TargetError(
            f"outputs have shape {tuple(values.shape)}; expected (batch, classes): for one output per step "
            "use cc.targets.Step or EveryStep, for dense outputs cc.targets.Region, for rows of boxes "
            "cc.targets.Boxes, for others a callable"
        )
    return values if values.ndim == 2 else namespace(values).reshape(values, (values.shape[0], -1))


def is_row(shape: Sequence[int]) -> bool:
    """Say whether outputs of this shape are one row of values for each sample."""
    return len(shape) < 3 or (len(shape) > 3 and max(shape[1:]) == prod(shape[1:]))


def is_one_logit(width: int, outputs: Outputs) -> bool:
    """Say whether so many outputs are one logit of two classes, where classes are asked for.

    One output with one label is that class alone.
    """
    return width == 1 and (outputs.labels is None or len(outputs.labels) != 1)


def says_classes(outputs: Outputs) -> bool:
    """Say whether a model says that its one output is a logit: by two labels, or a sigmoid after it."""
    return outputs.gate == "sigmoid" or (outputs.labels is not None and len(outputs.labels) == 2)


def both_sides(values: Array) -> Array:
    """Return `(…, 2)` of one logit `(…, 1)`: of class 0, which is −logit, and of class 1."""
    return namespace(values).concat([-values, values], axis=-1)


def classes_of(outputs: Outputs) -> Array:
    """Return the logits `(batch, class)`; of one logit those of both classes."""
    rows = rows_of(outputs)
    return both_sides(rows) if is_one_logit(rows.shape[1], outputs) else rows


def class_index(which: SupportsIndex | str, outputs: Outputs, count: int | None = None) -> int:
    """Return the index of a class given by index or label. Raises TargetError for one that does not exist.

    count: how many there are; None for the classes of the outputs.
    """
    if isinstance(which, str):
        if outputs.labels is None:
            raise TargetError(
                f"the model carries no labels to find `{which}` in; give the class index or labels=, "
                "or set model.labels"
            )
        which = find_label(outputs.labels, which)
    if type(which) is not int and (isinstance(which, bool) or not isinstance(which, Integral)):
        raise TargetError(f"{which!r} is not a class; give an integer index or a label")
    width = rows_of(outputs).shape[1]
    classes = (2 if is_one_logit(width, outputs) else width) if count is None else count
    if not 0 <= int(which) < classes:
        raise TargetError(f"no class {which}; the model has {_counted(width, classes)}")
    return int(which)


def _counted(width: int, classes: int) -> str:
    if classes > width:
        return "1 output, a logit of class 0 and class 1; for a quantity give cc.targets.Regression()"
    return {0: "no output", 1: "1 output, 0"}.get(width, f"{width} outputs, 0 to {width - 1}")


def of_one_logit(outputs: Outputs) -> tuple[str, ...]:
    """Return the note that one output is taken for a logit, where nothing but the target says so."""
    taken = is_one_logit(rows_of(outputs).shape[1], outputs) and not says_classes(outputs)
    return (ONE_LOGIT,) if taken else ()


def same_for_all(values: Array, info: TargetInfo, notes: tuple[str, ...] = ()) -> Scored:
    """Return one column of scores `(batch,)` that explains the same for every sample."""
    return Scored(values[:, None], ((info,),) * values.shape[0], notes)


def side_by_side(parts: Sequence[Scored]) -> Scored:
    """Return the columns of several scores as one."""
    if len(parts) == 1:
        return parts[0]
    values = namespace(parts[0].values).concat([part.values for part in parts], axis=1)
    rows = zip(*(part.infos for part in parts), strict=True)
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Scored(values, tuple(tuple(info for one in row for info in one) for row in rows), notes)


@lru_cache(maxsize=16)
def _infos(indices: bytes, width: int, labels: tuple[str, ...] | None) -> tuple[tuple[TargetInfo, ...], ...]:
    """Return what columns of classes explain: a thousand of them are not made anew in each call."""
    rows = np.frombuffer(indices, np.int64).reshape(-1, width).tolist()
    info_of = {i: TargetInfo(label_of(labels, i), i) for i in {i for row in rows for i in row}}
    return tuple(tuple(map(info_of.__getitem__, row)) for row in rows)


def pick(logits: Array, indices: np.ndarray) -> Array:
    """Return `logits[i, indices[i, k]]`, `(batch, k)`."""
    return namespace(logits).take_along_axis(logits, placed(indices, logits), axis=1)


def chosen_classes(outputs: Outputs, indices: np.ndarray, notes: tuple[str, ...] = ()) -> Scored:
    """Return the scores of each sample's own classes, given as `(batch, k)` indices."""
    labels = None if outputs.labels is None else tuple(outputs.labels)
    infos = _infos(indices.astype(np.int64).tobytes(), indices.shape[1], labels)
    return Scored(pick(classes_of(outputs), indices), infos, (*notes, *_miscounted(outputs)))


def _miscounted(outputs: Outputs) -> tuple[str, ...]:
    """Return the note that there are more or fewer labels than classes."""
    width, labels = rows_of(outputs).shape[1], outputs.labels
    if labels is None or len(labels) == width or (width == 1 and len(labels) == 2):
        return ()
    return (
        f"{len(labels)} labels for {width} outputs: a class may bear the name of another, as where the first "
        "output is the background; give a label for each (labels=, --labels)",
    )


@dataclass(frozen=True)
class Class(Target):
    """The logit of one class, by index or by label ("tabby cat").

    One output is the logit of two classes: of class 1 as it is, of class 0 negated.

    Example:
    >>> cc.targets.Class("dog") == cc.targets.parse("dog", samples=1)
    True
    """

    which: SupportsIndex | str
    picks: ClassVar[bool] = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return y_c. Raises TargetError for an unknown or ambiguous class."""
        index = class_index(self.which, outputs)
        info = TargetInfo(outputs.label(index), index)
        # One operation, where taking the column and making it one again are two, on the way back as well.
        values = classes_of(outputs)[:, index : index + 1]
        return Scored(values, ((info,),) * values.shape[0], (*of_one_logit(outputs), *_miscounted(outputs)))


@dataclass(frozen=True)
class Predicted(Target):
    """The logits of each sample's `k` top classes, best first: k targets.

    Of one output with two labels or a final sigmoid the class is the side that its sign says. One output
    without either is a quantity, explained with both signs.

    Example:
    >>> cc.GradCAM(model).explain(images, cc.targets.Predicted(k=2)).scores.shape
    (2, 2)
    """

    k: int = 1
    picks: ClassVar[bool] = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the k largest logits. Raises TargetError where the model has fewer classes."""
        width = rows_of(outputs).shape[1]
        one_logit = is_one_logit(width, outputs) and says_classes(outputs)
        classes = 2 if one_logit else width
        if not 1 <= self.k <= classes:
            raise TargetError(f"k is {self.k}; expected 1 to {classes}, the number of classes")
        if width == 1 and not says_classes(outputs):
            name = (
                outputs.labels[0] if outputs.labels is not None and len(outputs.labels) == 1 else "output 0"
            )
            return same_for_all(rows_of(outputs)[:, 0], TargetInfo(name, 0, signed=True), (ONE_QUANTITY,))
        ranked = to_numpy(outputs.choosing).reshape(-1, width)
        ranked = np.concatenate([-ranked, ranked], axis=1) if one_logit else ranked
        # Stable, so that of two equal logits the lower index comes first in every framework.
        return chosen_classes(outputs, np.argsort(-ranked, axis=1, kind="stable")[:, : self.k])


class PredictedByDefault(Predicted):
    """The predicted class, where no target is given."""

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the largest logit, with a note where nothing says that the outputs are classes."""
        scored = super().__call__(outputs)
        return replace(scored, notes=(*scored.notes, *unnamed(outputs, rows_of(outputs).shape[1])))


def unnamed(outputs: Outputs, width: int, quantity: str = "cc.targets.Regression(0)") -> tuple[str, ...]:
    """Return the note that nothing says that so many outputs are classes; none where something does.

    quantity: the target to give for one that is none.
    """
    if width == 1 or outputs.labels is not None or outputs.gate is not None:
        return ()
    note = (
        f"nothing says that the model's {width} outputs are classes (no labels, no final softmax or "
        f"sigmoid): the largest is explained; for quantities give {quantity}"
    )
    return (note,)


class PredictedOrAll(PredictedByDefault):
    """The predicted class, or the norm of all outputs where none is: for maps that no target changes."""

    picks: ClassVar[bool] = False

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the largest logit, or the Euclidean norm of each sample's outputs."""
        try:
            return super().__call__(outputs)
        except (ModelError, TargetError):
            every = arrays_in(outputs.raw) or _as_numbers(outputs.raw)
            per_sample = [x for x in every if tuple(x.shape[:1]) == (outputs.batch,)]
            if not per_sample:
                raise
            xp = namespace(per_sample[0])
            rows = xp.concat([xp.reshape(x, (outputs.batch, -1)) for x in per_sample], axis=1)
            return same_for_all(xp.linalg.vector_norm(rows, axis=1), TargetInfo("all outputs"))


def _as_numbers(raw: Any) -> list[Array]:
    """Return what a model says in whole numbers, as of an argmax, in floating-point ones."""
    if not hasattr(raw, "shape"):
        return []
    xp = namespace(raw)
    return [xp.astype(raw, xp.float32)] if xp.isdtype(raw.dtype, ("integral", "bool")) else []


@dataclass(frozen=True)
class Contrast(Target):
    """Why `a` rather than `b`: y_a − y_b, each by index or label, or a target, such as a `Caption`.

    Example:
    >>> str(cc.GradCAM(model).explain(images, cc.targets.Contrast("cat", "dog")).targets[0][0])
    'cat rather than dog'
    """

    a: SupportsIndex | str | Target
    b: SupportsIndex | str | Target

    def __post_init__(self) -> None:
        # Frozen dataclasses of the same parts are equal: what they read follows from these.
        targets = [side for side in (self.a, self.b) if isinstance(side, Target)]
        reads = [name for side in targets for name in side.reads]
        object.__setattr__(self, "reads", tuple(dict.fromkeys(reads)))
        object.__setattr__(self, "has_place", any(side.has_place for side in targets))

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the contrast of both sides as they are meant of a model."""
        sides = (self.a, self.b)
        meant = [side.of_model(model, size, samples) if isinstance(side, Target) else side for side in sides]
        return self if all(map(operator.is_, meant, sides)) else Contrast(*meant)

    def __call__(self, outputs: Outputs) -> Scored:
        """Return y_a − y_b. Raises TargetError for an unknown class, or where both are the same."""
        if isinstance(self.a, Target) or isinstance(self.b, Target):
            return self._of_targets(outputs)
        a, b = class_index(self.a, outputs), class_index(self.b, outputs)
        if a == b:
            raise TargetError(
                f"`{self.a}` and `{self.b}` are the same class, {a}; give two classes to contrast"
            )
        logits = classes_of(outputs)
        name = f"{outputs.label(a)} rather than {outputs.label(b)}"
        return same_for_all(
            logits[:, a] - logits[:, b], TargetInfo(name), (*of_one_logit(outputs), *_miscounted(outputs))
        )

    def _of_targets(self, outputs: Outputs) -> Scored:
        sides = [side if isinstance(side, Target) else Class(side) for side in (self.a, self.b)]
        if sides[0] == sides[1]:
            raise TargetError("both sides of Contrast are the same target; give two to contrast")
        a, b = (side(outputs) for side in sides)
        if a.values.shape[1] != 1 or b.values.shape[1] != 1:
            raise TargetError("Contrast is of two scores; give targets of one column each")
        pairs = zip(a.infos, b.infos, strict=True)
        infos = tuple((_rather(own[0], other[0]),) for own, other in pairs)
        return Scored(a.values - b.values, infos, (*a.notes, *b.notes))


def _rather(one: TargetInfo, other: TargetInfo) -> TargetInfo:
    """Return what a contrast is called; where a sample lacks one side, that one."""
    missing = next((info for info in (one, other) if info.is_missing), None)
    return missing or TargetInfo(f"{one} rather than {other}")


class PerSample(Target):
    """Each sample's own classes for the whole call: integer indices `(samples, k)`, or labels.

    Rows as wide as the classes, of 0 and 1 alone, mark classes instead of naming them.
    """

    picks: ClassVar[bool] = True

    def __init__(self, classes: np.ndarray) -> None:
        self.classes = classes

    def __call__(self, outputs: Outputs) -> Scored:
        """Return `y[i, classes[i]]`. Raises TargetError for a class out of range."""
        width = rows_of(outputs).shape[1]
        if self.classes.dtype.kind in "iu" and self.classes.shape[1] == width > 2 and marks(self.classes):
            return Weighted(self.classes.astype(float))(outputs)
        own = outputs.own(self.classes, "targets")
        return chosen_classes(outputs, _indices(own, outputs), of_one_logit(outputs))


def _indices(own: np.ndarray, outputs: Outputs) -> np.ndarray:
    """Return the index of each class of `(batch, k)`. Raises TargetError for one that does not exist."""
    if own.dtype.kind in "iu" and own.size:
        for extreme in (own.min(), own.max()):
            class_index(extreme, outputs)
        return own.astype(np.int64)
    return np.asarray([[class_index(which, outputs) for which in row] for row in own.tolist()], np.int64)


class OneLabelEach(Target):
    """Labels of a loader `(samples,)`, 0 or 1 as floats or booleans, for a model with one logit."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def __call__(self, outputs: Outputs) -> Scored:
        """Return each sample's side of the logit. Raises TargetError for models with more outputs."""
        if rows_of(outputs).shape[1] != 1:
            raise TargetError(misshapen(self.labels))
        return Weighted(self.labels[:, None].astype(float))(outputs)


class Weighted(Target):
    """Σ f(x)·y for float targets `(samples, classes)`: a one-hot row is a class, a multi-hot row several."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def __call__(self, outputs: Outputs) -> Scored:
        """Return Σ f(x)·y. Raises TargetError where there is not one weight per output."""
        logits, weights = rows_of(outputs), outputs.own(self.weights, "targets")
        width, columns = logits.shape[1], self.weights.shape[1]
        if width == columns == 1 and marks(self.weights):
            return self._sides(logits, weights[:, 0], outputs)
        if columns == 2 and is_one_logit(width, outputs):
            logits = classes_of(outputs)
        if logits.shape[1] != columns:
            raise TargetError(f"targets have {columns} columns; the model has {width} outputs")
        values = namespace(logits).sum(logits * like(weights, logits), axis=1)
        infos = tuple((self._info(row, outputs),) for row in weights)
        return Scored(values[:, None], infos, self._unmarked(weights, outputs))

    def _sides(self, logits: Array, labels: np.ndarray, outputs: Outputs) -> Scored:
        """Return the logit for samples with label 1, its negative for those with label 0."""
        if is_one_logit(1, outputs):
            return chosen_classes(outputs, labels[:, None].astype(np.int64), of_one_logit(outputs))
        name = outputs.label(0)
        infos = tuple((TargetInfo(name, 0) if y else TargetInfo(f"against {name}"),) for y in labels)
        return Scored(logits * like(2 * labels[:, None] - 1.0, logits), infos)

    def _info(self, row: np.ndarray, outputs: Outputs) -> TargetInfo:
        (marked,) = np.nonzero(row)
        if not len(marked) or not (row[marked] == 1).all():
            return TargetInfo("weighted outputs")
        names = [outputs.label(int(index)) for index in marked[:4]]
        more = [f"{len(marked) - 4} more"] if len(marked) > 4 else []
        return TargetInfo(" + ".join([*names, *more]), int(marked[0]) if len(marked) == 1 else None)

    def _unmarked(self, weights: np.ndarray, outputs: Outputs) -> tuple[str, ...]:
        """Return a note on the samples of which no class is marked."""
        (blank,) = np.nonzero(~weights.any(axis=1))
        if not len(blank):
            return ()
        rows = outputs.rows
        numbers = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        shown = ", ".join(str(number) for number in dict.fromkeys(numbers[blank].tolist()))
        return (f"the targets mark no class of sample {shown}: the score there is 0, and the map blank",)


def marks(values: np.ndarray) -> bool:
    """Say whether values are 0 and 1 alone."""
    return bool(((values == 0) | (values == 1)).all())


def misshapen(values: np.ndarray) -> str:
    """Return the message for an array that cannot be targets."""
    return (
        f"targets has shape {values.shape} and dtype {values.dtype}; expected integers (batch,) or "
        "(batch, k), or floats (batch, classes)"
    )
