"""Explain the samples of a call one by one, and join what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

import numpy as np

from chronocam.errors import InputError, TargetError
from chronocam.sequence.checks import refuse_mixed_rows
from chronocam.sequence.deletion import Origin
from chronocam.sequence.explanation import SequenceExplanation
from chronocam.sequence.sample import ROWS_PER_PASS, Attribution, Reading, Relevance, Sample
from chronocam.targets._parse import parse
from chronocam.targets.composed import per_step

if TYPE_CHECKING:
    from chronocam.engines.base import Engine
    from chronocam.types import Inputs

_UNMIXED: WeakKeyDictionary[object, set[object]] = WeakKeyDictionary()
"""By model, the shapes for which its rows are known not to mix."""


def explain(
    engine: Engine,
    reading: Reading,
    name: str,
    attribute: Callable[[Sample], Attribution],
    features: Inputs,
    targets: object,
) -> SequenceExplanation:
    """Explain all samples of `features` by the method of this name, and join them."""
    # Safe to import: the engine has imported this framework.
    framework = import_module(f"chronocam.sequence.{engine.framework}.forward")
    inputs = framework.split(engine, features)
    target = per_step(parse(targets, len(inputs)))
    samples = [
        Sample(framework.MODEL(engine, of_sample, *reading), target, row)
        for row, of_sample in enumerate(inputs)
    ]
    _refuse_mixed(reading.batch_first, samples[:ROWS_PER_PASS])
    attributions = [sample.model.settled(partial(attribute, sample)) for sample in samples]
    _refuse_unequal([one.relevance.shape[0] for one in attributions])
    lengths = tuple(one.relevance.shape[1] for one in attributions)
    notes = (
        note
        for one, sample in zip(attributions, samples, strict=True)
        for note in (*sample.notes, *one.notes)
    )
    return SequenceExplanation(
        _padded([one.relevance for one in attributions]),
        np.stack([sample.scores for sample in samples]),
        tuple(sample.infos for sample in samples),
        name,
        {term: np.stack([one.ledger[term] for one in attributions]) for term in attributions[0].ledger},
        tuple(dict.fromkeys(notes)),
        lengths if len(set(lengths)) > 1 else None,
        Origin(
            ref(samples[0].model.source),
            reading,
            features,
            target,
            tuple(range(len(samples))),
            tuple(range(len(attributions[0].relevance))),
        ),
    )


def _refuse_mixed(batch_first: bool, samples: Sequence[Sample]) -> None:
    """Raise InputError where samples that run together score otherwise than one by one.

    Explained one by one, a model that takes time for its first axis would lose all history, and nothing else
    would show it. Looked at once per model and shape.
    """
    model = samples[0].model
    key = (batch_first, len(samples), samples[0].features.shape, model.inputs.packed)
    seen = _UNMIXED.setdefault(model.source, set())
    if len(samples) < 2 or key in seen:
        return
    together = model.settled(lambda: model.together([sample.model.inputs for sample in samples]))
    if together is not None:
        refuse_mixed_rows(together, samples, batch_first)
    seen.add(key)


def _refuse_unequal(columns: Sequence[int]) -> None:
    if len(set(columns)) > 1:
        raise TargetError(
            f"samples have {', '.join(map(str, columns[:4]))}, … targets, one per step of sequences of "
            "different lengths; explain them one by one"
        )


def _padded(relevance: Sequence[Relevance]) -> np.ndarray:
    """Stack `(target, time, feature)`, with zeros past the end of the shorter ones."""
    steps = max(one.shape[1] for one in relevance)
    if any(one.shape[2] != relevance[0].shape[2] for one in relevance):
        raise InputError("samples differ in their number of features; give the same for all")
    return np.stack([np.pad(one, ((0, 0), (0, steps - one.shape[1]), (0, 0))) for one in relevance])
