"""Make a Target of what a user gives as `targets=`."""

from __future__ import annotations

import inspect
import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from chronocam.detections import Detection, Detections
from chronocam.errors import TargetError
from chronocam.maps.arrays import to_numpy
from chronocam.targets.boxes import BoxesByDefault
from chronocam.targets.classes import (
    Class,
    OneLabelEach,
    PerSample,
    Predicted,
    Weighted,
    chosen_classes,
    class_index,
    classes_of,
    marks,
    misshapen,
    of_one_logit,
    side_by_side,
)
from chronocam.targets.returned import arrays_in
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo, Targets


def parse(targets: Targets, samples: int | None) -> Target:
    """Return the Target that `targets` stands for, in a call with `samples` samples (None: not known yet).

    None is the predicted class; an int or label one class; a list of targets, labels and callables explains
    all of them for every sample; a list or array of `samples` integers, or an array of `samples` labels, is
    one class per sample, an array `(samples, k)` of either k of them; a float or boolean array
    `(samples, classes)` are weights of the outputs (one-hot, multi-hot). For a single sample a list of
    integers is all of them.

    Raises TargetError for anything else, for lengths that fit neither, and for a list of as many labels as
    there are samples, which may mean either.

    Example:
    >>> cc.targets.parse("dog", samples=2)
    Class(which='dog')
    """
    if targets is None:
        return BoxesByDefault()
    targets = list(targets) if isinstance(targets, range) else targets
    if not isinstance(targets, (list, tuple)):
        return _array(to_numpy(targets), samples) if holds_rows(targets) else parse_one(targets)
    if not targets:
        raise TargetError("targets is empty; give None for the predicted class")
    if all(isinstance(target, str) for target in targets):
        _refuse_ambiguous(targets, samples)
    elif all(isinstance(target, (bool, np.bool_)) for target in targets):
        return _array(np.asarray(targets), samples)
    elif all(map(_is_number, targets)):
        numbers = np.asarray(targets)
        if samples != 1 or len(targets) == 1:
            return _array(numbers, samples)
        if numbers.dtype.kind in "iu":
            return PerSample(numbers[None].astype(np.int64))
    elif holds_rows(targets):
        return _array(rows(targets), samples)
    elif all(isinstance(target, (str, Integral)) for target in targets):
        _refuse_ambiguous(targets, samples)
    return Several([parse_one(target) for target in targets])


def _refuse_ambiguous(labels: Sequence[str | Integral], samples: int | None) -> None:
    """Raise TargetError for labels that may be one for each sample, or all for every sample."""
    if samples is None or samples == 1 or len(labels) != samples:
        return
    more, shown = ", …" if len(labels) > 2 else "", [json.dumps(label) for label in labels[:2]]
    each = ", ".join(shown)
    every = ", ".join(f"cc.targets.Class({label})" for label in shown)
    if not all(isinstance(label, str) for label in labels):
        raise TargetError(
            f"targets are {len(labels)} labels and indices for {samples} samples, which may mean one for "
            f"each or all for every sample; give an array of indices for one each, [{every}{more}] for all"
        )
    raise TargetError(
        f"targets are {len(labels)} labels for {samples} samples, which may mean one for each or all for "
        f"every sample; give np.array([{each}{more}]) for one each, [{every}{more}] for all"
    )


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
    if any(kind.__name__ in ("_Loss", "Loss") for kind in type(target).__mro__):
        raise TargetError(
            f"a {type(target).__name__} needs what is right too: give cc.targets.NegativeLoss(loss, y)"
        )
    if callable(target):
        return Callback(target)
    if isinstance(target, (Detection, Detections)):
        raise TargetError("boxes that were found are explained by cc.targets.Boxes(found)")
    raise TargetError(
        f"cannot explain a {type(target).__name__}; give a class index, a label, a cc.targets.* or a callable"
    )


def _is_number(value: Any) -> bool:
    if type(value) is int:  # most are, and to ask for more takes longer
        return True
    return isinstance(value, (Integral, float, np.number)) and not isinstance(value, bool)


def _array(values: np.ndarray, samples: int | None) -> Target:
    expected = "one class per sample" if samples is None else f"{samples}, one class per sample"
    if samples is not None and values.shape[0] != samples:
        raise TargetError(
            f"targets has length {values.shape[0]}; expected {expected} (for several targets of every sample "
            "give a list of cc.targets.Class or labels)"
        )
    # Floats are weights, integers are indices; rows of 0 with a single 1 are meant as one-hot.
    kind = values.dtype.kind
    if values.ndim == 2 and (kind in "fb" or (kind in "iu" and _is_one_hot(values))):
        return Weighted(values.astype(float) if kind != "f" else values)
    if values.ndim in (1, 2) and kind in "iu":
        return PerSample(values.reshape(len(values), -1).astype(np.int64))
    if values.ndim == 1 and kind in "fb" and marks(values):
        return OneLabelEach(values)
    if values.ndim in (1, 2) and all(isinstance(value, str) for value in values.ravel().tolist()):
        return PerSample(values.reshape(len(values), -1))
    raise TargetError(misshapen(values))


def _is_one_hot(values: np.ndarray) -> bool:
    # Rows of indices would name class 0 several times; two columns are taken as indices.
    return values.shape[1] > 2 and marks(values) and bool((values.sum(1) == 1).all())


class Several(Target):
    """Several targets for every sample, side by side."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(targets)
        self.signed = any(target.signed for target in targets)
        self.has_place = any(target.has_place for target in targets)
        self.reads = tuple(dict.fromkeys(name for target in targets for name in target.reads))
        layers = {target.layer for target in targets}
        self.layer = layers.pop() if len(layers) == 1 else None

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the targets as they are meant of a model."""
        meant = [target.of_model(model, size, samples) for target in self.targets]
        return self if all(map(operator.is_, meant, self.targets)) else Several(meant)

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the columns of all targets."""
        classes = [target for target in self.targets if type(target) is Class]
        if len(classes) == len(self.targets) > 1:
            # Picked at once: of a thousand classes each would be a step of the backward pass.
            indices = [class_index(one.which, outputs) for one in classes]
            rows = np.tile(indices, (classes_of(outputs).shape[0], 1))
            return chosen_classes(outputs, rows, of_one_logit(outputs))
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
        object.__setattr__(self, "has_place", parsed.has_place)
        object.__setattr__(self, "reads", parsed.reads)
        object.__setattr__(self, "layer", parsed.layer)

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Target:
        """Return the target made of the other as it is meant of a model."""
        meant = self.parsed.of_model(model, size, samples)
        subclass: Any = self
        return self if meant is self.parsed else replace(subclass, target=meant)


class Callback(Target):
    """A user's own score, called with what the model returned: `outputs -> (batch,)`.

    A function of two parameters, `(outputs, rows) -> (batch,)`, also gets the numbers of the batch's samples
    among those of the call.
    """

    def __init__(self, function: Callable[..., Array]) -> None:
        required = _required(function)
        if inspect.isclass(function) or required > 2:
            what = "is a class" if inspect.isclass(function) else f"takes {required} arguments"
            raise TargetError(
                f"the callable target {what}; expected a function of what the model returned, or of that and "
                "the numbers of its rows"
            )
        self.function = function
        self._takes_rows = required == 2

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the scores. Raises TargetError where they are not one per sample."""
        batch, rows = outputs.batch, outputs.rows
        numbers = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        arguments = (outputs.raw, numbers) if self._takes_rows else (outputs.raw,)
        values = differentiable("the callable target", lambda: self.function(*arguments), outputs.raw)
        shape = tuple(getattr(values, "shape", ()))
        if batch == 1 and hasattr(values, "shape") and not shape:  # of outputs that were squeezed
            values, shape = values[None], (1,)
        if shape != (batch,):
            raise TargetError(
                f"the callable target returned shape {shape}; expected ({batch},), one score per sample"
            )
        if "complex" in str(values.dtype) or "sparse" in str(getattr(values, "layout", "")):
            raise TargetError(
                f"the callable target returned {values.dtype} numbers, complex or sparse; expected real and "
                "dense ones, as abs() or to_dense() makes them"
            )
        name = getattr(self.function, "__name__", type(self.function).__name__)
        info = TargetInfo("score" if name == "<lambda>" else name)
        return Scored(values[:, None], ((info,),) * batch)


def differentiable(what: str, score: Callable[[], Array], raw: Any = None) -> Array:
    """Return what a user's function makes. Raises TargetError where that is NumPy, which has no gradient.

    what: the function, in words. raw: what the model returned, which may be NumPy where nothing is recorded.
    """
    todo = f"{what} makes NumPy of the outputs, which carries no gradient; return what the framework computes"
    try:
        values = score()
    except RuntimeError as error:
        if "call numpy()" not in str(error):
            raise
        raise TargetError(todo) from error
    if isinstance(values, np.ndarray) and not any(isinstance(x, np.ndarray) for x in arrays_in(raw)):
        raise TargetError(todo)
    return values


def _required(function: Callable[..., Any]) -> int:
    """Return how many arguments a function must be given by position; 1 where it does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in by_position and each.default is each.empty for each in parameters)
