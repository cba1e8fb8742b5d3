"""Targets of classifiers: one output of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import SupportsIndex

import numpy as np

from chronocam.errors import TargetError
from chronocam.maps.arrays import like, namespace, placed, to_numpy
from chronocam.targets.labels import find_label
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo


def rows_of(outputs: Outputs) -> Array:
    """Return the logits as `(batch, classes)`; outputs `(batch,)` are one class.

    Raises TargetError for outputs of other shapes.
    """
    logits = outputs.logits
    if logits.ndim == 1:
        return logits[:, None]
    if logits.ndim != 2:
        raise TargetError(
            f"outputs have shape {tuple(logits.shape)}; expected (batch, classes): for one output per step "
            "use cc.targets.Step or EveryStep, for dense outputs cc.targets.Region, for others a callable"
        )
    return logits


def class_index(which: SupportsIndex | str, outputs: Outputs) -> int:
    """Return the index of a class given by index or label.

    Raises TargetError for a class that the outputs do not have.
    """
    if isinstance(which, str):
        if outputs.labels is None:
            raise TargetError(
                f"the model carries no labels to find `{which}` in; give the class index, or set model.labels"
            )
        which = find_label(outputs.labels, which)
    if isinstance(which, bool) or not isinstance(which, Integral):
        raise TargetError(f"{which!r} is not a class; give an integer index or a label")
    classes = rows_of(outputs).shape[1]
    if not 0 <= int(which) < classes:
        raise TargetError(f"no class {which}; the model has {classes} outputs, 0 to {classes - 1}")
    return int(which)


def same_for_all(values: Array, info: TargetInfo) -> Scored:
    """Return one column of scores `(batch,)` that explains the same for every sample."""
    return Scored(values[:, None], ((info,),) * values.shape[0])


def side_by_side(parts: Sequence[Scored]) -> Scored:
    """Return the columns of several scores as one."""
    values = namespace(parts[0].values).concat([part.values for part in parts], axis=1)
    rows = zip(*(part.infos for part in parts), strict=True)
    return Scored(values, tuple(tuple(info for one in row for info in one) for row in rows))


def pick(logits: Array, indices: np.ndarray) -> Array:
    """Return `logits[i, indices[i, k]]`, `(batch, k)`."""
    return namespace(logits).take_along_axis(logits, placed(indices, logits), axis=1)


def chosen_classes(outputs: Outputs, indices: np.ndarray) -> Scored:
    """Return the scores of each sample's own classes, given as `(batch, k)` indices."""
    infos = tuple(tuple(TargetInfo(outputs.label(int(i)), int(i)) for i in row) for row in indices)
    return Scored(pick(rows_of(outputs), indices), infos)


@dataclass(frozen=True)
class Class(Target):
    """The logit of one class, by index or by label ("tabby cat").

    Example:
    >>> cc.GradCAM(model).explain(images, cc.targets.Class("dog")).targets[0][0].index
    1
    """

    which: SupportsIndex | str

    def __call__(self, outputs: Outputs) -> Scored:
        """Return y_c. Raises TargetError for an unknown or ambiguous class."""
        index = class_index(self.which, outputs)
        return same_for_all(rows_of(outputs)[:, index], TargetInfo(outputs.label(index), index))


@dataclass(frozen=True)
class Predicted(Target):
    """The logits of each sample's `k` top classes, best first: k targets.

    Example:
    >>> cc.GradCAM(model).explain(images, cc.targets.Predicted(k=3)).scores.shape
    (2, 3)
    """

    k: int = 1

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the k largest logits. Raises TargetError where the model has fewer classes."""
        classes = rows_of(outputs).shape[1]
        if not 1 <= self.k <= classes:
            raise TargetError(f"k is {self.k}; expected 1 to {classes}, the number of outputs")
        ranked = to_numpy(outputs.choosing).reshape(-1, classes)
        # Stable, so that of two equal logits the lower index comes first in every framework.
        return chosen_classes(outputs, np.argsort(-ranked, axis=1, kind="stable")[:, : self.k])


@dataclass(frozen=True)
class Contrast(Target):
    """Why `a` rather than `b`: y_a − y_b, each by index or label.

    Example:
    >>> str(cc.GradCAM(model).explain(images, cc.targets.Contrast("cat", "dog")).targets[0][0])
    'cat rather than dog'
    """

    a: SupportsIndex | str
    b: SupportsIndex | str

    def __call__(self, outputs: Outputs) -> Scored:
        """Return y_a − y_b. Raises TargetError for an unknown class, or where both are the same."""
        a, b = class_index(self.a, outputs), class_index(self.b, outputs)
        if a == b:
            raise TargetError(
                f"`{self.a}` and `{self.b}` are the same class, {a}; give two classes to contrast"
            )
        logits = rows_of(outputs)
        return same_for_all(
            logits[:, a] - logits[:, b], TargetInfo(f"{outputs.label(a)} rather than {outputs.label(b)}")
        )


class PerSample(Target):
    """Each sample's own classes: integer indices `(samples, k)` for the whole call."""

    def __init__(self, indices: np.ndarray) -> None:
        self.indices = indices

    def __call__(self, outputs: Outputs) -> Scored:
        """Return `y[i, indices[i]]`. Raises TargetError for a class out of range."""
        indices = outputs.own(self.indices)
        batch, classes = rows_of(outputs).shape
        if len(indices) != batch:
            raise TargetError(
                f"targets has {len(self.indices)} rows; expected one per sample, at least {outputs.least}"
            )
        wrong = indices[(indices < 0) | (indices >= classes)]
        if wrong.size:
            raise TargetError(f"no class {wrong[0]}; the model has {classes} outputs, 0 to {classes - 1}")
        return chosen_classes(outputs, indices)


class Weighted(Target):
    """Σ f(x)·y for float targets `(samples, classes)`: a one-hot row is a class."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def __call__(self, outputs: Outputs) -> Scored:
        """Return Σ f(x)·y. Raises TargetError where there is not one weight per output."""
        logits, weights = rows_of(outputs), outputs.own(self.weights)
        if len(weights) != logits.shape[0]:
            raise TargetError(
                f"targets has {len(self.weights)} rows; expected one per sample, at least {outputs.least}"
            )
        if logits.shape[1] != weights.shape[1]:
            raise TargetError(
                f"targets have {weights.shape[1]} columns; the model has {logits.shape[1]} outputs"
            )
        values = namespace(logits).sum(logits * like(weights, logits), axis=1)
        return Scored(values[:, None], tuple((self._info(row, outputs),) for row in weights))

    def _info(self, row: np.ndarray, outputs: Outputs) -> TargetInfo:
        (marked,) = np.nonzero(row)
        if len(marked) == 1 and row[marked[0]] == 1:
            return TargetInfo(outputs.label(int(marked[0])), int(marked[0]))
        return TargetInfo("weighted outputs")
