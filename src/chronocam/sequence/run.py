"""From what a user gives as features to one explanation: sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from chronocam.errors import InputError, TargetError
from chronocam.sequence.base import Attribution, SequenceMethod
from chronocam.sequence.explanation import SequenceExplanation
from chronocam.targets._parse import parse
from chronocam.targets.composed import per_step


def explain(method: SequenceMethod, features: Any, targets: Any) -> SequenceExplanation:
    """Explain all samples of `features` and join them."""
    # The engine was made: the framework is there.
    framework = import_module(f"chronocam.sequence.{method.engine.framework}.sample")
    given = framework.split(method.engine, features)
    target = per_step(parse(targets, len(given)))
    found: list[Attribution] = []
    looks: list[Any] = []
    for row, inputs in enumerate(given):
        look = framework.SAMPLE(method.engine, inputs, target, row, method.batch_first)
        with look.scope():
            found.append(method.attribute(look))
        looks.append(look)
    _refuse_unequal([one.relevance.shape[0] for one in found])
    lengths = tuple(one.relevance.shape[1] for one in found)
    return SequenceExplanation(
        _padded([one.relevance for one in found]),
        np.stack([look.scores for look in looks]),
        tuple(look.infos for look in looks),
        method.name,
        {name: np.stack([one.ledger[name] for one in found]) for name in found[0].ledger},
        tuple(
            dict.fromkeys(
                note for one, look in zip(found, looks, strict=True) for note in (*look.notes, *one.notes)
            )
        ),
        lengths if len(set(lengths)) > 1 else None,
    )


SequenceMethod.run = explain


def _refuse_unequal(columns: Sequence[int]) -> None:
    if len(set(columns)) > 1:
        raise TargetError(
            f"samples have {', '.join(map(str, columns[:4]))}, … targets, one per step of sequences of different "
            "lengths; explain them one by one"
        )


def _padded(relevance: Sequence[np.ndarray]) -> np.ndarray:
    """Stack `(target, time, feature)`, with zeros past the end of the shorter ones."""
    steps = max(one.shape[1] for one in relevance)
    if any(one.shape[2] != relevance[0].shape[2] for one in relevance):
        raise InputError("samples differ in their number of features; give the same for all")
    return np.stack([np.pad(one, ((0, 0), (0, steps - one.shape[1]), (0, 0))) for one in relevance])
