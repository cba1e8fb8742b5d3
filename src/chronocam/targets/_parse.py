"""Make a Target of what a user gives as `targets=`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from chronocam.errors import TargetError
from chronocam.maps.arrays import to_numpy
from chronocam.targets.classes import Class, PerSample, Predicted, Weighted, side_by_side
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo, Targets


def parse(targets: Targets, samples: int | None) -> Target:
    """Return the Target that `targets` stands for, in a call with `samples` samples (None: not known yet).

    None is the predicted class; an int or label one class; a list of targets, labels and callables explains
    all of them for every sample; a list or array of `samples` integers is one class per sample, an integer
    array `(samples, k)` k of them, a float array `(samples, classes)` weights of the outputs (one-hot).
    Raises TargetError for anything else, and for lengths that fit neither.

    Example:
    >>> cc.targets.parse("dog", samples=2)
    Class(which='dog')
    """
    if targets is None:
        return Predicted()
    if isinstance(targets, (list, tuple)):
        if not targets:
            raise TargetError("targets is empty; give None for the predicted class")
        if not all(_is_number(t) for t in targets):
            return (
                _array(rows(targets), samples)
                if holds_rows(targets)
                else Several([parse_one(t) for t in targets])
            )
        return _array(np.asarray(targets), samples)
    return _array(to_numpy(targets), samples) if holds_rows(targets) else parse_one(targets)


def holds_rows(targets: Targets) -> bool:
    """Say whether `targets` holds one row per sample: an array with axes, or a list of arrays or lists."""
    if isinstance(targets, (list, tuple)):
        return all(isinstance(row, (list, tuple)) or hasattr(row, "shape") for row in targets)
    return hasattr(targets, "shape") and tuple(targets.shape) != ()


def rows(targets: Targets) -> np.ndarray:
    """Return what holds rows as one array. Raises TargetError where the rows differ in length."""
    if hasattr(targets, "shape"):
        return to_numpy(targets)
    arrays = [to_numpy(row) if hasattr(row, "shape") else np.asarray(row) for row in targets]
    if len({array.shape for array in arrays}) > 1:
        lengths = ", ".join(str(array.shape[0]) for array in arrays[:4])
        raise TargetError(f"the rows of targets have lengths {lengths}, …; give as many for every sample")
    return np.asarray(arrays)


def parse_one(target: Any) -> Target:
    """Return the Target of one item: a Target, an index, a label, or a callable outputs -> (batch,)."""
    if isinstance(target, Target):
        return target
    if isinstance(target, str):
        return Class(target)
    if hasattr(target, "shape") and not tuple(target.shape):
        target = to_numpy(target).item()
    if _is_number(target):
        if not float(target).is_integer():
            raise TargetError(f"target {target} is not a class index; give an integer or a label")
        return Class(int(target))
    if callable(target):
        return Callback(target)
    raise TargetError(
        f"cannot explain a {type(target).__name__}; give a class index, a label, a cc.targets.* or a callable"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (Integral, float, np.number)) and not isinstance(value, bool)


def _array(values: np.ndarray, samples: int | None) -> Target:
    expected = "one class per sample" if samples is None else f"{samples}, one class per sample"
    if samples is not None and values.shape[0] != samples:
        raise TargetError(
            f"targets has length {values.shape[0]}; expected {expected} (for several targets of every sample "
            "give a list of cc.targets.Class or labels)"
        )
    # Floats are weights, integers are indices; rows of 0 with a single 1 are meant as one-hot.
    if values.ndim == 2 and values.dtype.kind == "f":
        return Weighted(values)
    if values.ndim == 2 and values.dtype.kind in "iub" and _is_one_hot(values):
        return Weighted(values.astype(float))
    if values.ndim in (1, 2) and values.dtype.kind in "iu":
        return PerSample(values.reshape(len(values), -1).astype(np.int64))
    raise TargetError(
        f"targets has shape {values.shape} and dtype {values.dtype}; expected integers (batch,) or "
        "(batch, k), or floats (batch, classes)"
    )


def _is_one_hot(values: np.ndarray) -> bool:
    # Rows of indices would name class 0 several times; two columns are taken as indices.
    return values.shape[1] > 2 and bool(((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all())


class Several(Target):
    """Several targets for every sample, side by side."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(targets)
        self.signed = any(target.signed for target in targets)
        self.reads = tuple(dict.fromkeys(name for target in targets for name in target.reads))

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the columns of all targets."""
        return side_by_side([target.scored(outputs) for target in self.targets])

    def scored(self, outputs: Outputs) -> Scored:
        """Return the columns of all targets; each has said itself whether it keeps signs."""
        return self(outputs)


class OfTarget(Target):
    """A target made of another.

    target: whatever `targets=` takes for all samples; None is the predicted class.
    """

    target: Targets
    parsed: Target

    def __post_init__(self) -> None:
        # Subclasses are frozen dataclasses, equal where they were made of the same: what that stands for is
        # parsed once and set beside their fields.
        parsed = Predicted() if self.target is None else parse_one(self.target)
        object.__setattr__(self, "parsed", parsed)
        object.__setattr__(self, "signed", parsed.signed)
        object.__setattr__(self, "reads", parsed.reads)


class Callback(Target):
    """A user's own score: `outputs -> (batch,)`, called with what the model returned."""

    def __init__(self, function: Callable[[Array], Array]) -> None:
        self.function = function

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the scores. Raises TargetError where they are not one per sample."""
        values = self.function(outputs.raw)
        batch = outputs.batch
        if tuple(getattr(values, "shape", ())) != (batch,):
            shape = tuple(getattr(values, "shape", ()))
            raise TargetError(
                f"the callable target returned shape {shape}; expected ({batch},), one score per sample"
            )
        name = getattr(self.function, "__name__", type(self.function).__name__)
        info = TargetInfo("score" if name == "<lambda>" else name)
        return Scored(values[:, None], ((info,),) * batch)
