"""Relevance of one sequence as a page holds it: time × feature, settling, memory and ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

from chronocam.render.page.packed import number, numbers, packed
from chronocam.render.page.records import (
    Number,
    SequenceTarget,
    ShownMemory,
    ShownSequence,
    ShownSettling,
)
from chronocam.render.sheets.sequence import LagCurve, Sequenced, SettlingCurve
from chronocam.render.words import percent

_CELLS: Final = 250_000  # of all pictures of one method together
_TOP: Final = 5  # features named per step
_OWN: Final = "every output, the features of its own step"


@dataclass(frozen=True, eq=False)
class SampleRelevance:
    """The relevance of one sample, as an explanation hands it to a page."""

    sequence: Sequenced
    method: str
    findings: Sequence[str]


def shown_sequence(sample: SampleRelevance, label: str) -> ShownSequence:
    """Return what a page draws of one sample's relevance.

    Where every step has an output that is explained, each has features of its own: their relevance, one row
    per output, comes first.
    """
    sequence = sample.sequence
    relevance, own = sequence.relevance, sequence.own
    described: list[tuple[str, Number, dict[str, Number]]] = [
        (name, number(score), {term: number(values[k]) for term, values in sequence.ledger.items()})
        for k, (name, score) in enumerate(zip(sequence.names, sequence.scores, strict=True))
    ]
    if own is not None and len(own) == relevance.shape[1] > 1:
        relevance = np.concatenate([np.asarray(own)[None], relevance])
        described.insert(0, (_OWN, None, {}))
    # Thousands of CNN features times hundreds of outputs would make a page of many megabytes.
    width = max(1, -(-relevance.size // _CELLS))
    pictures = _binned(relevance, width)
    peak = float(np.abs(pictures).max()) or 1.0
    rows = zip(described, pictures, relevance, strict=True)
    return ShownSequence(
        label=label,
        method=sample.method,
        findings=list(sample.findings),
        steps=relevance.shape[1],
        features=relevance.shape[2],
        bin=width,
        cells=list(pictures.shape[1:]),
        peak=number(peak),
        targets=[
            SequenceTarget(
                name=name,
                score=score,
                sentence=_sentence(name, values),
                ledger=ledger,
                bytes=packed(picture / peak, signed=True),
                by_step=numbers(values.sum(axis=1), 4),
                top=_top(values),
            )
            for (name, score, ledger), picture, values in rows
        ],
        settling=None if sequence.settling is None else _settling(sequence.settling),
        memory=None if sequence.horizon is None else _memory(sequence.horizon),
    )


def _sentence(name: str, values: Float[np.ndarray, "time feature"]) -> str:
    """Return at which step most of the relevance lies."""
    shares = np.abs(values).sum(axis=1)
    total = float(shares.sum())
    if not total > 0:
        return f"{name}: no relevance."
    step = int(shares.argmax())
    strongest = int(np.abs(values[step]).argmax())
    return (
        f"{name}: step {step} of {len(values)} holds {percent(float(shares[step]) / total)} of the "
        f"relevance, most of all feature {strongest}."
    )


def _settling(curve: SettlingCurve) -> ShownSettling:
    return ShownSettling(
        steps=curve.steps.tolist(),
        cosine=numbers(curve.cosine, 4),
        spearman=numbers(curve.spearman, 4),
        jaccard=numbers(curve.jaccard, 4),
        settled=curve.settled,
        tolerance=curve.tolerance,
        chance=numbers(curve.chance, 4),
    )


def _memory(lags: LagCurve) -> ShownMemory:
    """Return the share of the relevance by lag, from the first to the last that has some."""
    some = np.flatnonzero(lags.share > 0)
    within = slice(some[0], some[-1] + 1) if some.size else slice(None)
    return ShownMemory(
        lags=lags.lags[within].tolist(), share=numbers(lags.share[within], 4), reach=lags.reach
    )


def _binned(
    relevance: Float[np.ndarray, "target time feature"], width: int
) -> Float[np.ndarray, "target time cell"]:
    """Return the relevance of largest magnitude of every `width` neighbouring features."""
    targets, steps, features = relevance.shape
    padded = np.pad(relevance, [(0, 0), (0, 0), (0, -features % width)]).reshape(targets, steps, -1, width)
    return np.asarray(np.take_along_axis(padded, np.abs(padded).argmax(axis=-1)[..., None], axis=-1)[..., 0])


def _top(relevance: Float[np.ndarray, "time feature"]) -> list[list[tuple[int, Number]]]:
    """Return, for each step, the features of largest magnitude with their relevance, if they have any."""
    order = np.argsort(-np.abs(relevance), axis=1, kind="stable")[:, :_TOP]
    pairs = zip(relevance, order, strict=True)
    return [[(int(f), number(row[f], 4)) for f in best if row[f] != 0] for row, best in pairs]
