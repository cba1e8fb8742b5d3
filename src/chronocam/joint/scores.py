"""Scores of inputs for a target, by forward passes alone: what measures ask of changed inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from chronocam.engines import Result
from chronocam.joint.explaining import Explaining
from chronocam.joint.inputs.batches import arrays_of, batches
from chronocam.joint.passes.scoring import Columns, Scoring, confidences
from chronocam.joint.recipe import Recipe
from chronocam.maps.arrays import to_numpy, widen
from chronocam.targets.boxes import BoxesOf
from chronocam.types import Array, Inputs, TargetInfo


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a batch.

    values: `(batch, target)`. confidences: the probability of each class explained, likewise; NaN where the
        model gives none. infos: what the columns explain, per sample.
    classes: how many the model tells apart; 0 for models other than classifiers.
    """

    values: np.ndarray
    confidences: np.ndarray
    infos: tuple[tuple[TargetInfo, ...], ...]
    classes: int


@dataclass(frozen=True, eq=False)
class FixedTarget:
    """A target as it is in one unchanged sample, by which changes of the sample are scored.

    target: of boxes, those that were chosen in the sample. clean: the logits by which it chooses.
    """

    target: Any
    clean: np.ndarray | None = None


def fixed_target(method: Recipe, inputs: Inputs, target: Any) -> FixedTarget:
    """Return a target as it is in one sample, which takes a forward pass."""
    explaining = next(_explaining(method, inputs, target, None))
    columns = _of_batch(explaining, None)[1]
    chosen = explaining.target
    return FixedTarget(chosen.of_every_sample(0) if isinstance(chosen, BoxesOf) else target, columns.logits)


def scores_of(method: Recipe, inputs: Inputs, targets: Any, clean: np.ndarray | None = None) -> Scores:
    """Return the scores that a method would explain, batch by batch.

    method: one of the input, whose model, labels and `batch_size` count; large inputs go in smaller batches
        where that is faster.
    clean: logits `(1, …)` of the sample that all inputs are changes of; None where each is its own.
    """
    size = at_once(method, inputs)
    parts = [_of_batch(one, clean)[0] for one in _explaining(method, inputs, targets, size)]
    return Scores(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.confidences for part in parts]),
        tuple(row for part in parts for row in part.infos),
        parts[0].classes,
    )


def _explaining(method: Recipe, inputs: Inputs, targets: Any, size: int | None) -> Iterator[Explaining]:
    as_clips = method.session.subject.as_clips
    for batch in batches(inputs, targets, size, method.preprocess, as_clips):
        yield Explaining([method], batch)


def at_once(method: Recipe, inputs: Inputs) -> int | None:
    """Return how many inputs go through the model of a method at once, `batch_size` at most; None for all."""
    values = method.session.subject.engine.values_at_once
    if values is None:
        return method.batch_size
    largest = max((prod(array.shape[1:]) for array in arrays_of(inputs)), default=1)
    return max(1, min(method.batch_size or values, values // max(1, largest)))


def channel_axis_of(method: Recipe, inputs: Inputs, targets: Any) -> int | None:
    """Return which axis of inputs their channels are on; None where they have none."""
    return next(_explaining(method, inputs, targets, method.batch_size)).look.channel_axis


def _of_batch(explaining: Explaining, clean: np.ndarray | None) -> tuple[Scores, Columns]:
    look, method = explaining.look, explaining.methods[0]
    labels = look.engine.labels if method.labels is None else method.labels
    rows, samples = explaining.batch.rows, explaining.batch.samples
    every = None if clean is None else np.repeat(clean, rows.stop - rows.start, axis=0)
    scoring = Scoring((explaining.target,), rows, labels, look.engine.channels_last, every, samples=samples)
    about: list[Columns] = []

    def score(result: Result) -> Array:
        values, columns = scoring(result)
        about[:] = [columns]
        return values

    values = to_numpy(widen(look.engine.scores(look.inputs, score, look.call, scoring.reads)))
    infos = about[0].infos
    known = confidences(about[0], infos)
    probabilities = about[0].probabilities
    scores = Scores(
        values.astype(np.float64),
        np.full(values.shape, np.nan) if known is None else known,
        infos,
        0 if probabilities is None else probabilities.shape[1],
    )
    return scores, about[0]
