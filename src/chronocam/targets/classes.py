"""Targets of classifiers: one output of many."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, SupportsIndex

import numpy as np

from chronocam.errors import TargetError
from chronocam.maps.arrays import namespace, placed, to_numpy
from chronocam.targets.labels import find_label
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo


def rows_of(outputs: Outputs) -> Array:
    """Return the logits as `(batch, classes)`; outputs `(batch,)` are one class. Raises TargetError otherwise."""
    logits = outputs.logits
    if logits.ndim == 1:
        return logits[:, None]
    if logits.ndim != 2:
        raise TargetError(
            f"outputs have shape {tuple(logits.shape)}; expected (batch, classes): for one output per step use "
            "cc.targets.Step or EveryStep, for dense outputs cc.targets.Region, for others a callable"
        )
    return logits


def class_index(which: SupportsIndex | str, outputs: Outputs) -> int:
    """Return the index of a class given by index or label. Raises TargetError for one the outputs do not have."""
    if isinstance(which, str):
        if outputs.labels is None:
            raise TargetError(
                f"the model carries no labels to find `{which}` in; give the class index, or set model.labels"
            )
        which = find_label(outputs.labels, which)
    if isinstance(which, bool) or not isinstance(which, Integral):
        raise TargetError(f"{which!r} is no class; give an integer index or a label")
    classes = rows_of(outputs).shape[1]
    if not 0 <= int(which) < classes:
        raise TargetError(f"no class {which}; the model has {classes} outputs, 0 to {classes - 1}")
    return int(which)


def same_for_all(values: Array, info: TargetInfo) -> Scored:
    """Return one column of scores `(batch,)` that explains the same for every sample."""
    return Scored(values[:, None], ((info,),) * values.shape[0])


def pick(logits: Array, indices: np.ndarray) -> Array:
    """Return `logits[i, indices[i, k]]`, `(batch, k)`."""
    return namespace(logits).take_along_axis(logits, placed(indices, logits), axis=1)


def chosen_classes(outputs: Outputs, indices: np.ndarray) -> Scored:
    """Return the scores of each sample's own classes, given as `(batch, k)` indices."""
    infos = tuple(tuple(TargetInfo(outputs.label(int(i)), int(i)) for i in row) for row in indices)
    return Scored(pick(rows_of(outputs), indices), infos)


@dataclass(frozen=True)
class Class(Target):
    """The logit of one class, by index or by label ("tabby cat")."""

    which: SupportsIndex | str

    def __call__(self, outputs: Outputs) -> Scored:
        """Return y_c. Raises TargetError for an unknown or ambiguous class."""
        index = class_index(self.which, outputs)
        return same_for_all(rows_of(outputs)[:, index], TargetInfo(outputs.label(index), index))


@dataclass(frozen=True)
class Predicted(Target):
    """The logits of each sample's `k` top classes, best first: k targets."""

    k: int = 1

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the k largest logits. Raises TargetError where the model has fewer classes."""
        classes = rows_of(outputs).shape[1]
        if not 1 <= self.k <= classes:
            raise TargetError(f"k is {self.k}; expected 1 to {classes}, the number of outputs")
        ranked = to_numpy(outputs.choosing).reshape(-1, classes)
        return chosen_classes(outputs, np.argsort(-ranked, axis=1, kind="stable")[:, : self.k])


@dataclass(frozen=True)
class Contrast(Target):
    """Why `a` rather than `b`: y_a − y_b, each by index or label."""

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


@dataclass(frozen=True)
class Counter(Target):
    """What speaks against a target: its score, negated."""

    target: Any

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether maps of the target itself keep both signs."""
        return self._parsed.signed

    @property
    def _parsed(self) -> Target:
        from chronocam.targets._parse import parse_one

        return parse_one(self.target)

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the negated scores of the target, which may be whatever `targets=` takes for all samples."""
        scored = self._parsed(outputs)
        infos = tuple(tuple(TargetInfo(f"against {info}") for info in row) for row in scored.infos)
        return Scored(-scored.values, infos)


class PerSample(Target):
    """Each sample's own classes: integer indices `(samples, k)` for the whole call."""

    def __init__(self, indices: np.ndarray) -> None:
        self.indices = indices

    def __call__(self, outputs: Outputs) -> Scored:
        """Return `y[i, indices[i]]`. Raises TargetError for a class out of range."""
        indices = self.indices[outputs.rows]
        batch, classes = rows_of(outputs).shape
        if len(indices) != batch:
            raise TargetError(
                f"targets has {len(self.indices)} rows; expected one per sample, at least {outputs.rows.stop}"
            )
        wrong = indices[(indices < 0) | (indices >= classes)]
        if wrong.size:
            raise TargetError(f"no class {wrong[0]}; the model has {classes} outputs, 0 to {classes - 1}")
        return chosen_classes(outputs, indices)
