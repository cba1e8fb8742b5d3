"""Score a model's outputs for the targets of all methods, and say what the scores are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Float

from chronocam.engines import Recording, Result
from chronocam.errors import InputError, LayerError, TargetError
from chronocam.joint.passes.encoder import Encoder, zero_shot
from chronocam.maps.arrays import namespace, to_numpy, widen
from chronocam.maps.attention import Attention
from chronocam.targets.classes import is_one_logit, is_row, side_by_side
from chronocam.targets.returned import arrays_in, map_returned
from chronocam.types import Array, BoxInfo, Outputs, Rows, Scored, Target, TargetInfo


@dataclass(frozen=True)
class Columns:
    """What the columns of a pass's scores are.

    slices: of each method's target. infos: what each column explains, per sample.
    logits: what classes are chosen by, free of any graph; None where no target has read them, or for dense
        outputs by which no target chooses.
    shares: returns the `probabilities`.
    notes: what is to be said of the outputs and of how targets were understood.
    """

    slices: tuple[slice, ...]
    infos: tuple[tuple[TargetInfo, ...], ...]
    logits: np.ndarray | None
    shares: Callable[[], np.ndarray | None] = lambda: None
    notes: tuple[str, ...] = ()

    @cached_property
    def probabilities(self) -> np.ndarray | None:
        """The probability of each class, `(batch, class)`; None where the model gives none."""
        return self.shares()


@dataclass(frozen=True)
class Scoring:
    """The scores of a pass: the columns of every method's target, each distinct target once.

    targets: one for each method. rows: which samples of the call they are for.
    clean: the logits of the unperturbed inputs, where the pass is over perturbed ones.
    encoder: what the model embeds besides the inputs.
    samples: how many the call has; None where that is not known yet.
    moved: rows and columns of a picture in which things lie elsewhere than in the one explained, so that no
        score may hang on a place; None for others.
    """

    targets: tuple[Target, ...]
    rows: Rows
    labels: Sequence[str] | None
    channels_last: bool = False
    clean: Array | None = None
    encoder: Encoder | None = None
    samples: int | None = None
    moved: tuple[int, ...] | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The modules whose outputs the targets read, by path."""
        return tuple(dict.fromkeys(split_call(name)[0] for target in self.targets for name in target.reads))

    def alone(self, which: int, columns: Columns) -> Scoring:
        """Return the scoring of one of the targets, for further passes: classes are chosen as in this one."""
        return replace(self, targets=(self.targets[which],), clean=columns.logits)

    def repeated(self, times: int) -> Scoring:
        """Return the scoring of the batch so many times over, one copy of it after the other."""
        rows = np.arange(self.rows.start, self.rows.stop) if isinstance(self.rows, slice) else self.rows
        clean = None if self.clean is None else np.concatenate([to_numpy(self.clean)] * times)
        return replace(self, rows=np.tile(rows, times), clean=clean)

    def __call__(self, result: Result) -> tuple[Array, Columns]:
        """Return the scores of one batch, `(batch, column)`, and what their columns are."""
        outputs = self._outputs(result)
        scored, slices = self._scored(outputs)
        if self.moved is not None:
            self._refuse_places(result, scored, self.moved)
        seen = outputs.seen
        dense = seen is not None and seen.ndim > 3 and not is_row(seen.shape) and not outputs.chose
        logits = None if seen is None or dense else to_numpy(seen)
        return widen(scored.values), Columns(
            tuple([slices[id(target)] for target in self.targets]),
            scored.infos,
            logits,
            _shares(outputs, logits),
            (*_of_several(outputs), *scored.notes),
        )

    def _scored(self, outputs: Outputs) -> tuple[Scored, dict[int, slice]]:
        """Return the scores of all targets side by side, and the columns of each by its id."""
        # Methods share targets: each is scored, and later differentiated, once.
        parts, slices, end = list[Scored](), dict[int, slice](), 0
        for target in self.targets:
            if id(target) not in slices:
                parts.append(target.scored(outputs))
                start, end = end, end + int(parts[-1].values.shape[1])
                slices[id(target)] = slice(start, end)
        return side_by_side(parts), slices

    def _refuse_places(self, result: Result, scored: Scored, picture: tuple[int, ...]) -> None:
        """Raise InputError for a score that is another one where outputs with a grid are shifted."""
        shift = partial(_shifted, picture=picture, channels_last=self.channels_last)
        if all(shift(x) is x for x in arrays_in(result.raw)):
            return
        shifted = replace(
            result,
            raw=map_returned(shift, result.raw),
            logits=lambda: shift(result.logits()),
            outputs={name: map_returned(shift, list(calls)) for name, calls in result.outputs.items()},
            returned=None if result.returned is None else partial(_changed, shift, result.returned),
        )
        here, there = (
            to_numpy(widen(x)) for x in (scored.values, self._scored(self._outputs(shifted))[0].values)
        )
        same = np.isclose(there, here, rtol=1e-3, atol=1e-4 * np.abs(here).max(initial=0), equal_nan=True)
        for sample, column in np.argwhere(~same):
            name = scored.infos[sample][column]
            raise InputError(
                f"views= move what is where, and the score of `{name}` hangs on that: it is another one "
                "where the outputs are shifted; drop views=, or explain a score that names no place"
            )

    def _outputs(self, result: Result) -> Outputs:
        return Outputs(
            result.raw,
            lambda: self._logits(result),
            self.rows,
            self.labels,
            self.clean,
            self.channels_last,
            self._read(result),
            result.gate,
            None if result.returned is None else partial(self._returned, result.returned),
            self.encoder,
            lambda: self._per_sample(result.logits()),
            None if self.encoder is None else self.encoder.answer,
            self.samples,
        )

    def _logits(self, result: Result) -> Array:
        """Return the logits of classes; of a model of two towers those of its labels, which are texts.

        Raises TargetError for such a model without labels.
        """
        main = self._per_sample(result.logits())
        towers = None if self.encoder is None else self.encoder.towers
        if towers is None or not hasattr(result.raw, "shape"):
            return main
        if self.labels is None:
            raise TargetError(
                "the model embeds pictures and has no classes of its own; give a cc.targets.Caption "
                '(--target "text:a red bus"), a Similarity, or labels=["cat", "dog"] (--labels), which make '
                "it a classifier"
            )
        return zero_shot(main, self.labels, towers)

    def _returned(self, returned: Callable[[], Array]) -> Array:
        return self._per_sample(returned())

    def _per_sample(self, main: Array) -> Array:
        """Return a main output that has one row per sample. Raises TargetError for one that has not.

        Outputs that lost all axes of length 1, as by `squeeze()`, get that of a single sample back.
        """
        rows = self.rows
        batch = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        shape = tuple(main.shape)
        if shape[0] == batch:
            return main
        if batch == 1 and len(shape) == 1:
            return main[None]
        hint = "give a callable target, outputs -> (batch,), or output_layer="
        if 0 < shape[0] < batch and batch % shape[0] == 0:
            hint += f"; where samples are the frames of clips, frames={batch // shape[0]}"
        if len(shape) > 2 and shape[1] == batch:
            hint = (
                "is it (time, batch, …)? Return it with the batch first, as with batch_first=True, or give a "
                "callable target, such as lambda outputs: outputs[-1, :, 0]"
            )
        raise TargetError(
            f"the model's output {shape} has {shape[0]} rows for {batch} samples; expected one row per "
            f"sample: {hint}"
        )

    def values(self, result: Result) -> Array:
        """Return the scores alone."""
        return widen(self._scored(self._outputs(result))[0].values)

    def _read(self, result: Result) -> dict[str, Any]:
        """Return what the modules that the targets read returned, by the name that the targets gave them."""
        outputs = {}
        for name in dict.fromkeys([name for target in self.targets for name in target.reads]):
            path, call = split_call(name)
            calls = result.outputs[path]
            if len(calls) <= (call or 0):
                raise LayerError(f"`{name}`, which a target reads, is called {len(calls)} times")
            outputs[name] = calls[-1 if call is None else call]
        return outputs


def split_call(layer: str) -> tuple[str, int | None]:
    """Split `relu#1` into the path and the number of the call."""
    path, _, number = layer.rpartition("#")
    return (path, int(number)) if path and number.isdigit() else (layer, None)


def _of_several(outputs: Outputs) -> tuple[str, ...]:
    """Return a note where scores were read from the first of several arrays that are shaped like scores."""
    raw = outputs.raw
    if outputs.seen is None or not isinstance(raw, (tuple, list)) or hasattr(raw, "logits"):
        return ()
    first, *others = [tuple(array.shape) for array in arrays_in(raw)] or [()]
    alike = [other for other in others if 0 < len(other) <= len(first) <= 2 and other[0] == first[0]]
    if not alike:
        return ()
    return (
        f"the model returns {len(others) + 1} tensors, and scores are read from the first, {first}; name "
        f"output_layer= or give a callable target for another, such as that of shape {alike[0]}",
    )


def _changed(change: Callable[[Array], Array], read: Callable[[], Array]) -> Array:
    return change(read())


def _shifted(x: Array, picture: tuple[int, ...], channels_last: bool) -> Array:
    """Return an output with its rows and columns rolled by a third; as it is where it has none."""
    shape = tuple(x.shape)
    first = len(shape) - (3 if channels_last and len(shape) > 3 else 2)
    rows, columns = shape[first : first + 2] if first > 0 else (1, 1)
    if min(rows, columns) < 2 or abs(rows * picture[1] - columns * picture[0]) > max(picture):
        return x
    for axis, size in ((first, rows), (first + 1, columns)):
        before = (slice(None),) * axis
        cut = max(1, size // 3)
        x = namespace(x).concat([x[(*before, slice(cut, None))], x[(*before, slice(cut))]], axis=axis)
    return x


def _shares(outputs: Outputs, logits: np.ndarray | None) -> Callable[[], np.ndarray | None]:
    """Return what returns the probability of each class, `(batch, class)`.

    Nothing later changes it: the logits are copied, since a model may write into its outputs again.
    """
    if logits is None or not is_row(logits.shape):
        return lambda: None
    y = logits.astype(np.float64).reshape(len(logits), -1)
    return partial(_probabilities, y, outputs.gate, is_one_logit(y.shape[1], outputs))


def _probabilities(y: np.ndarray, gate: str | None, of_both_sides: bool) -> np.ndarray | None:
    """Return the probability of each class, `(batch, class)`, of rows of logits; None without any.

    After a sigmoid that is its value, and after a softmax too. Plain logits are taken for those of a softmax,
    a single one for that of a sigmoid; outputs that are probabilities already are what they are.
    """
    if gate == "sigmoid" or y.shape[1] == 1:
        p = 1 / (1 + np.exp(-np.clip(y, -700, 700)))
        return np.concatenate([1 - p, p], axis=1) if of_both_sides else p
    if gate is None and (not y.size or y.min() >= 0):
        sums = y.sum(axis=1)
        whole = 100 if y.size and sums.max() > 2 else 1  # shares of the whole, as they are or in percent
        if np.allclose(sums, whole, rtol=2e-2):
            return y / whole
        if not y.size or y.max() <= 1:
            return None
    y = np.exp(y - y.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    return y


def confidences(
    columns: Columns, infos: Sequence[Sequence[TargetInfo]]
) -> Float[np.ndarray, "batch target"] | None:
    """Return the probability of the classes explained, NaN for other targets; None where all are others."""
    probabilities = columns.probabilities
    classes = 0 if probabilities is None else probabilities.shape[1]
    values = np.full((len(infos), len(infos[0])), np.nan, np.float32)
    for sample, row in enumerate(infos):
        if probabilities is not None:
            shares = probabilities[sample].tolist()
            values[sample] = [
                np.nan if info.index is None or info.index >= classes or info.signed else shares[info.index]
                for info in row
            ]
        if any(issubclass(kind, BoxInfo) for kind in set(map(type, row))):
            boxes = [(k, info.score) for k, info in enumerate(row) if isinstance(info, BoxInfo)]
            values[sample, [k for k, _ in boxes]] = [score for _, score in boxes]
    return None if np.isnan(values).all() else values


def frame_attention(recording: Recording, columns: slice) -> Attention | None:
    """Return the evidence of attention over the frames of a clip, where there is any."""
    if recording.attention is None or recording.attention_gradients is None:
        return None
    weights = to_numpy(widen(recording.attention)).astype(np.float32)
    along = to_numpy(widen(recording.attention_gradients[columns])).astype(np.float32)
    return Attention(weights, np.moveaxis(along, 0, 1) * weights[:, None])


class OperatorScore(Target):
    """What `operator=` returned is the score itself.

    An operator's own `name` and `signed` count, where it has them.
    """

    def __init__(self, operator: Callable[..., Array]) -> None:
        self.info: TargetInfo = TargetInfo(getattr(operator, "name", "operator"))
        self.signed: bool = bool(getattr(operator, "signed", False))

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the score as it is. Raises TargetError where it is not one per sample."""
        values = outputs.raw
        shape = tuple(getattr(values, "shape", ()))
        if shape != (outputs.batch,):
            raise TargetError(f"the operator returned shape {shape}; expected ({outputs.batch},)")
        return Scored(values[:, None], ((self.info,),) * outputs.batch)
