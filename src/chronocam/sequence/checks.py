"""Checks on every pass: its scores are the model's, and its relevance adds up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from chronocam.errors import InputError, ModelError

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
