"""Scores of inputs for a target, by forward passes alone: what measures ask of changed inputs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from chronocam.engines import Result
from chronocam.joint.inputs import arrays_of, batches
from chronocam.joint.recipe import Recipe
from chronocam.joint.scoring import Columns, Scoring, confidences
from chronocam.joint.session import Explaining
from chronocam.maps.arrays import to_numpy, widen
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


def scores_of(method: Recipe, inputs: Inputs, targets: Any) -> Scores:
    """Return the scores that a method would explain, batch by batch.

    method: one of the input, whose model, labels and `batch_size` count; large inputs go in smaller batches
        where that is faster.
    """
    subject = method.session.subject
    size = _at_once(inputs, method.batch_size, subject.engine.values_at_once)
    parts = [
        _of_batch(Explaining([method], batch))
        for batch in batches(inputs, targets, size, method.preprocess, subject.as_clips)
    ]
    return Scores(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.confidences for part in parts]),
        tuple(row for part in parts for row in part.infos),
        parts[0].classes,
    )


def _at_once(inputs: Inputs, batch_size: int | None, values: int | None) -> int | None:
    """Return how many inputs are scored at once."""
    if values is None:
        return batch_size
    largest = max((prod(array.shape[1:]) for array in arrays_of(inputs)), default=1)
    return max(1, min(batch_size or values, values // max(1, largest)))


def channel_axis_of(method: Recipe, inputs: Inputs, targets: Any) -> int | None:
    """Return which axis of inputs their channels are on; None where they have none."""
    as_clips = method.session.subject.as_clips
    batch = next(iter(batches(inputs, targets, method.batch_size, method.preprocess, as_clips)))
    return Explaining([method], batch).look.channel_axis


def _of_batch(explaining: Explaining) -> Scores:
    look, method = explaining.look, explaining.methods[0]
    labels = look.engine.labels if method.labels is None else method.labels
    rows, samples = explaining.batch.rows, explaining.batch.samples
    scoring = Scoring((explaining.target,), rows, labels, look.engine.channels_last, samples=samples)
    about: list[Columns] = []

    def score(result: Result) -> Array:
        values, columns = scoring(result)
        about[:] = [columns]
        return values

    values = to_numpy(widen(look.engine.scores(look.inputs, score, look.call, scoring.reads)))
    infos = about[0].infos
    known = confidences(about[0], infos)
    probabilities = about[0].probabilities
    return Scores(
        values.astype(np.float64),
        np.full(values.shape, np.nan) if known is None else known,
        infos,
        0 if probabilities is None else probabilities.shape[1],
    )
