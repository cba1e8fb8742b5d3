"""Checks on every pass: its scores are the model's, and its relevance adds up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from chronocam.errors import InputError, ModelError
from chronocam.maps.arrays import to_numpy
from chronocam.types import Array

if TYPE_CHECKING:
    from chronocam.sequence.sample import Sample

CLOSED = 1e3
"""How open a ledger may be by rounding, in units of the precision relative to all that was added up."""


def checked(features: np.ndarray) -> np.ndarray:
    """Return features. Raises InputError where they are not finite."""
    bad = int((~np.isfinite(features)).sum())
    if bad:
        raise InputError(
            f"features of shape {features.shape} hold {bad} NaN or infinite values; replace those"
        )
    return features


def misshapen(features: Array) -> InputError:
    """Return the error for features that are not `(batch, time, feature)`."""
    shape, hint = tuple(features.shape), ""
    if len(shape) == 2 and "int" in str(features.dtype):
        hint = "; of ids of tokens, explain the model after its embedding, for what that returns"
    elif len(shape) == 2:
        hint = ": give features[None]"
    return InputError(f"features have shape {shape}; expected (batch, time, feature){hint}")


def refuse_other(expected: np.ndarray, got: np.ndarray, rounding: float) -> None:
    """Raise ModelError where the scores of the surrogate are not those of the model."""
    wrong = int(np.argmax(np.abs(got - expected)))
    # Other orders of summation round differently; an operation that was left out differs by far more.
    near = rounding**0.5
    if not np.allclose(got, expected, rtol=near, atol=near * max(1.0, float(np.abs(expected).max()))):
        raise ModelError(
            f"a score is {expected[wrong]:.6g} when the model is run as it is and {got[wrong]:.6g} step by "
            "step; in training mode dropout differs from call to call: call model.eval() first"
        )


def refuse_mixed_rows(together: np.ndarray, samples: Sequence[Sample], batch_first: bool) -> None:
    """Raise InputError where a row of what samples give together is not what the sample gives by itself."""
    for row, sample in enumerate(samples):
        alone, joint = _alone(sample), together[row : row + 1]
        if alone.shape != joint.shape:
            continue
        near = sample.model.rounding**0.5 * float(np.abs(alone).max(initial=0))
        apart = np.abs(joint - alone)
        if not (apart > near).any() or _random(sample):
            continue
        worst = int(np.argmax(apart))
        way = "give the method batch_first=True"
        if batch_first:
            way = "where it takes (time, batch, feature), swap the first two axes and give batch_first=False"
        raise InputError(
            f"a score of sample {row} is {alone.flat[worst]:.4g} by itself and {joint.flat[worst]:.4g} with "
            f"others: the model mixes its rows; {way}, else mend the model"
        )


def _alone(sample: Sample) -> np.ndarray:
    return sample.model.settled(lambda: sample.logits)


def _random(sample: Sample) -> bool:
    """Say whether two calls of the model differ, as in training mode."""
    logits = sample.model.settled(lambda: to_numpy(sample.model.look().logits))
    return not np.allclose(logits, sample.logits, equal_nan=True)


def closes(scores: np.ndarray, book: Mapping[str, np.ndarray], mass: np.ndarray, rounding: float) -> bool:
    """Say whether the terms of the ledger sum to the scores. mass: Σ|relevance| of each."""
    # Terms of both signs may be far larger than their sum: rounding is as large as they are.
    terms = list(book.values())
    scale = np.abs(scores) + mass + np.sum(np.abs(terms), axis=0)
    return bool((np.abs(scores - np.sum(terms, axis=0)) <= CLOSED * rounding * scale).all())


def no_rule(scores: np.ndarray, book: Mapping[str, np.ndarray], suspects: Iterable[str]) -> ModelError:
    """Return the error for relevance that does not add up."""
    names = ", ".join(f"`{name}`" for name in suspects) or "the target's own formula"
    missing = np.abs(scores - np.sum(list(book.values()), axis=0))
    worst = int(np.argmax(missing))
    return ModelError(
        f"relevance does not add up: {missing[worst]:.3g} of a score of {scores[worst]:.3g} is lost; LRP has "
        f"no rule for {names}: use IntegratedGradients, or cc.sequence.register_rule"
    )


def constant(scores: Sequence[int], features: Sequence[int]) -> ModelError:
    """Return the error for scores that no feature changes."""
    return ModelError(
        f"the scores {tuple(scores)} do not depend on the features {tuple(features)}, or through gates "
        "(sigmoid, softmax) alone; explain the logits, and check that the way from the recurrent layer on is "
        "neither detached nor left out"
    )
