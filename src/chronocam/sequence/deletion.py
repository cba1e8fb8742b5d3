"""What becomes of a score when its most relevant features are taken away, or are all that is left."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from chronocam._repr import ShortRepr
from chronocam.engines import engine_for
from chronocam.errors import InputError
from chronocam.sequence.sample import Reading, Sample

if TYPE_CHECKING:
    from chronocam.types import Inputs, Target

Mask = Bool[np.ndarray, "batch target time feature"]


@dataclass(frozen=True, eq=False)
class FeatureDeletion(ShortRepr):
    """The scores explained, `(batch, target)` each, with features of every step set to the baseline.

    scores: with all features.
    removed: without the most relevant ones.
    kept: with the most relevant ones alone.
    random: without as many features of each step, chosen at random: what `removed` is to be compared with.
    mask: which features are the most relevant, `(batch, target, time, feature)`.

    Example:
        >>> found = cc.sequence.LRP(rnn).explain(features, [cc.targets.Class(k) for k in (0, 2)])
        >>> deletion = found.deletion(share=0.25)
        >>> deletion.removed.shape, bool((deletion.removed < deletion.scores).all())
        ((1, 2), True)
    """

    scores: Float[np.ndarray, "batch target"]
    removed: Float[np.ndarray, "batch target"]
    kept: Float[np.ndarray, "batch target"]
    random: Float[np.ndarray, "batch target"]
    mask: Mask


@dataclass(frozen=True, eq=False)
class Origin:
    """What was explained, to be run again: the model, which is not kept alive, features and target.

    rows, columns: which samples and which of the target's scores, by their numbers in the call.
    """

    model: weakref.ref[Any]
    reading: Reading
    features: Inputs
    target: Target
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def part(self, rows: Iterable[int], columns: Iterable[int]) -> Origin:
        """Return that of some of the samples and scores."""
        return replace(
            self, rows=tuple(self.rows[i] for i in rows), columns=tuple(self.columns[k] for k in columns)
        )

    def samples(self) -> Iterator[Sample]:
        """Yield the samples. Raises InputError where the model is gone."""
        model = self.model()
        if model is None:
            raise InputError("the model that was explained is gone; keep it, and explain again")
        engine = engine_for(model)
        framework = import_module(f"chronocam.sequence.{engine.framework}.forward")
        inputs = framework.split(engine, self.features)
        for row in self.rows:
            yield Sample(framework.MODEL(engine, inputs[row], *self.reading), self.target, row)


def without(origin: Origin, scores: np.ndarray, mask: Mask, baseline: Any, seed: int) -> FeatureDeletion:
    """Return the scores without, and with nothing but, the features of the mask.

    baseline: what features are set to; it broadcasts to `(batch, time, feature)`.

    Raises InputError for a baseline of another shape, and where the model no longer gives the scores.
    """
    chosen = _as_many(mask, np.random.default_rng(seed))
    values = _spread(baseline, (len(mask), *mask.shape[2:]))
    results = np.zeros((3, *scores.shape))
    for row, sample in enumerate(origin.samples()):
        hidden = np.stack([mask[row], ~mask[row], chosen[row]])
        columns = sample.model.settled(partial(_scores, sample, origin.columns, hidden, values[row]))
        if not np.allclose(columns[0], scores[row], rtol=1e-3, atol=1e-5 * np.abs(scores).max()):
            raise InputError("the model's scores have changed since they were explained; explain again")
        results[:, row] = columns[1:]
    removed, kept, random = results
    return FeatureDeletion(scores, removed, kept, random, mask)


def _scores(sample: Sample, columns: Sequence[int], hidden: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the scores `(1 + mask, target)`: of all features, and with what a mask hides set to `values`.

    columns: the targets' numbers among the sample's scores. hidden: `(mask, target, time, feature)`, for each
    target its own.
    """
    features, time = sample.features, len(sample.features)
    points = np.where(hidden[:, :, :time], values[:time].astype(features.dtype), features)
    at = np.arange(len(columns)), list(columns)
    return np.stack([sample.scores[at[1]], *(sample.scores_at(of_mask)[at] for of_mask in points)])


def _as_many(mask: Mask, rng: np.random.Generator) -> Mask:
    """Return as many features of each step as the mask has, at random."""
    order = np.argsort(np.argsort(rng.random(mask.shape), axis=-1), axis=-1)
    return np.asarray(order < mask.sum(axis=-1, keepdims=True))


def _spread(baseline: Any, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(baseline, dtype=float)
    try:
        return np.broadcast_to(values, shape)
    except ValueError as error:
        raise InputError(
            f"baseline has shape {values.shape}; expected a number, (feature,), (time, feature) or "
            f"(batch, time, feature), here {shape}"
        ) from error
