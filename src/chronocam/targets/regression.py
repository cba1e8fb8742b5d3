"""Targets of networks without classes: outputs with a sign, and losses. Their maps keep both signs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from numbers import Number
from typing import Any, Final, SupportsIndex

import numpy as np

from chronocam.errors import ModelError, TargetError, first_line
from chronocam.maps.arrays import like, namespace, placed, to_numpy
from chronocam.targets.classes import as_rows, class_index, same_for_all
from chronocam.targets.returned import arrays_in, sample_of
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo


@dataclass(frozen=True)
class Regression(Target):
    """One output, by index or name, with its sign: `direction=-1` explains what lowers it.

    `index=None` is for networks with a single output.

    Example:
    >>> cc.GradCAM(model).explain(images, cc.targets.Regression(2, direction=-1)).scores.shape
    (2, 1)
    """

    index: SupportsIndex | str | None = None
    direction: int = +1
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return ±y. Raises TargetError for a direction that is not ±1 or an output that does not exist."""
        if self.direction not in (-1, +1):
            raise TargetError(f"direction is {self.direction}; expected +1 (what raises the output) or -1")
        values, index, name = _output(self.index, outputs.logits, outputs, "Regression(0)")
        sign = "" if self.direction > 0 else "−"
        return same_for_all(self.direction * values, TargetInfo(f"{sign}{name}", index))


@dataclass(frozen=True)
class Towards(Target):
    """How near one output is to a value: what raises this score brings the output closer, from either side.

    value: a number, or one per sample of the call.
    index: which output, by index or name; None is for networks with a single one.

    The gradient is that of ±y, and 0 where the output has the value.

    Example:
    >>> str(cc.GradCAM(model).explain(images, cc.targets.Towards(1.5, index=0)).targets[0][0])
    'cat towards 1.5'
    """

    value: Array
    index: SupportsIndex | str | None = None
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return −|y − value|.

        Raises TargetError for an output that does not exist, and for values that do not fit.
        """
        distance, to = _distance(self.value, self.index, outputs, "Towards(…, index=0)")
        infos = tuple((TargetInfo(f"{name} towards {value:g}"),) for name, value in to)
        return Scored(-distance[:, None], infos)


@dataclass(frozen=True)
class Deviation(Target):
    """How far one output is from a reference: what raises this score drives the output away, to either side.

    reference: a number, or one per sample of the call, such as the truth or the output for the frame before.
    index: as for `Towards`, of which this is the opposite.

    Example:
    >>> before = model(images)[:, 0].detach() - 1
    >>> cc.GradCAM(model).explain(images, cc.targets.Deviation(before, 0)).scores.round(3).tolist()
    [[1.0], [1.0]]
    """

    reference: Array
    index: SupportsIndex | str | None = None
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return |y − reference|. Raises TargetError as `Towards` does."""
        distance, to = _distance(self.reference, self.index, outputs, "Deviation(…, index=0)")
        infos = tuple((TargetInfo(f"{name} away from {value:g}"),) for name, value in to)
        return Scored(distance[:, None], infos)


@dataclass(frozen=True)
class Norm(Target):
    """The Euclidean norm of a sample's outputs: of all, or of some of `(batch, output)`, by index or name.

    Example:
    >>> str(cc.GradCAM(model).explain(images, cc.targets.Norm([0, "dog"])).targets[0][0])
    'norm of cat, dog'
    """

    indices: Sequence[SupportsIndex | str] | None = None
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return ‖y‖ per sample. Raises TargetError for an output that does not exist, and for no output."""
        chosen, name = self._chosen(outputs)
        # Where all outputs are 0, the root of a sum of squares has no gradient; that of vector_norm is 0.
        norm = namespace(chosen).linalg.vector_norm(chosen, axis=1)
        return same_for_all(norm, TargetInfo(f"norm of {name}"))

    def _chosen(self, outputs: Outputs) -> tuple[Array, str]:
        y = outputs.quantities
        xp = namespace(y)
        if self.indices is None:
            return xp.reshape(y, (y.shape[0], -1)), "the outputs"
        if isinstance(self.indices, str) or not len(self.indices):
            raise TargetError(f"indices is {self.indices!r}; expected some outputs, such as Norm([0, 1, 2])")
        parts = [_output(index, y, outputs, "Norm([0])") for index in self.indices]
        return xp.stack([values for values, _, _ in parts], axis=1), ", ".join(name for _, _, name in parts)


@dataclass(frozen=True)
class NegativeLoss(Target):
    """The negative loss against `y`: what makes the output right. `y` holds one row per sample of the call.

    `loss(outputs, y)` is called for one sample at a time, with its batch axis, and what it returns is
    averaged. A loss whose first argument is `y_true`, as of those of Keras, is called as `loss(y, outputs)`.
    It gets what the model returned: the one array, or the scores among several; all of them, as
    they were returned, where nothing says which hold the scores, or the loss cannot take the scores alone.

    Example:
    >>> loss = cc.targets.NegativeLoss(nn.functional.cross_entropy, torch.tensor([2, 0]))
    >>> bool((cc.GradCAM(model).explain(images, loss).scores < 0).all())
    True
    """

    loss: Callable[[Array, Array], Array]
    y: Array
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return −loss per sample.

        Raises TargetError where `y` has not one row per sample, and where the loss cannot take them.
        """
        predicted = self._predicted(outputs)
        first = next(iter(arrays_in(outputs.raw)), predicted)
        y = outputs.own(_as_rows(self.y), "y")
        of_torch = (getattr(self.loss, "__module__", None) or "").startswith("torch.")
        if of_torch or _takes_truth_first(self.loss):  # which are written for arrays like the outputs
            y = _rows_like(y, first)
        # One by one: most losses average over the batch, which would mix the samples' gradients.
        xp = namespace(first)
        losses = [xp.mean(self._loss(outputs, predicted, y[i : i + 1], i)) for i in range(len(y))]
        return same_for_all(-xp.stack(losses), TargetInfo("negative loss"))

    def _predicted(self, outputs: Outputs) -> Array | None:
        """Return the one array that the model returned, or its scores; None where it is not known which."""
        if hasattr(outputs.raw, "shape"):
            return outputs.raw if len(outputs.raw.shape) else outputs.raw[None]
        try:
            return outputs.logits
        except ModelError:
            return None

    def _loss(self, outputs: Outputs, predicted: Array | None, y: Array, i: int) -> Array:
        """Return the loss of sample `i`, of the scores alone or of several outputs."""
        alone = hasattr(outputs.raw, "shape")
        if predicted is not None:
            try:
                return self._compared(predicted[i : i + 1], y)
            except _MISFITS as error:
                if alone:
                    raise self._refusal(error) from error
        try:
            return self._compared(sample_of(outputs.raw, i, outputs.batch), y)
        except _MISFITS as error:
            raise self._refusal(error) from error

    def _compared(self, predicted: Any, y: Array) -> Array:
        """Return the loss of outputs, its arguments in the order in which it names them."""
        return self.loss(y, predicted) if _takes_truth_first(self.loss) else self.loss(predicted, y)

    def _refusal(self, error: Exception) -> Exception:
        """Return what to do where the loss does not take the outputs; a full device is no such thing."""
        if "OutOfMemory" in type(error).__name__:
            return error
        name = getattr(self.loss, "__name__", type(self.loss).__name__)
        return TargetError(
            f"the loss {name} fails on the outputs of a sample and its y ({type(error).__name__}: "
            f"{first_line(error)}); give a function (outputs, y) -> loss that calls it as it wants"
        )


_MISFITS: Final = (TypeError, IndexError, KeyError, AttributeError, ValueError, RuntimeError)
"""What losses raise on outputs that they do not take."""


def _takes_truth_first(loss: Callable[..., Any]) -> bool:
    """Say whether a loss takes `(y_true, y_pred)`, as Keras' do, and not `(outputs, y)` as PyTorch's."""
    try:
        return next(iter(signature(loss).parameters), None) == "y_true"
    except (TypeError, ValueError):  # of built-in functions that say nothing
        return False


def _as_rows(y: Any) -> Any:
    """Return `y` as an array where it is a list of numbers. Raises TargetError for a single number."""
    rows = np.asarray(y) if isinstance(y, (Number, list)) else y
    if isinstance(rows, np.ndarray) and not rows.ndim:
        raise TargetError(f"y is {y}; expected one row per sample")
    return rows if isinstance(rows, np.ndarray) and rows.dtype.kind in "fiub" else y


def _rows_like(y: Any, array: Array) -> Any:
    """Return `y`, if of NumPy, as an array like the outputs, on their device; floats in their precision."""
    if not isinstance(y, np.ndarray) or isinstance(array, np.ndarray):
        return y
    return like(y, array) if y.dtype.kind == "f" else placed(y, array)


def _output(
    which: SupportsIndex | str | None, main: Array, outputs: Outputs, example: str
) -> tuple[Array, int, str]:
    """Return one column `(batch,)` of a main output, its index and its name."""
    values = as_rows(main)
    if which is None and values.shape[1] != 1:
        raise TargetError(f"the model has {values.shape[1]} outputs; say which: {example}")
    index = 0 if which is None else class_index(which, outputs, values.shape[1])
    if outputs.labels is not None and len(outputs.labels) == 2 and values.shape[1] == 1:
        return values[:, 0], 0, "output 0"  # two labels are those of a logit's two sides
    labelled = outputs.labels is not None and index < len(outputs.labels)
    return values[:, index], index, outputs.label(index) if labelled else f"output {index}"


def _distance(
    reference: Array, which: SupportsIndex | str | None, outputs: Outputs, example: str
) -> tuple[Array, list[tuple[str, float]]]:
    """Return |y − value| `(batch,)`, and for every sample the output's name and its value."""
    y, _, name = _output(which, outputs.quantities, outputs, example)
    values = (to_numpy(reference) if hasattr(reference, "shape") else np.asarray(reference)).astype(
        np.float64
    )
    if values.ndim > 1 or not np.isfinite(values).all():
        raise TargetError(
            f"the value to compare with has shape {values.shape}; expected finite numbers, one per sample"
        )
    rows = np.broadcast_to(values, y.shape) if values.ndim == 0 else outputs.own(values, "the value")
    return namespace(y).abs(y - like(rows, y)), [(name, float(value)) for value in rows]
