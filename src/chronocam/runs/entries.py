"""Explanations as entries of a result: the numbers that the JSON file of an input holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict, Unpack

import numpy as np

from chronocam.records import (
    AttentionEntry,
    Box,
    HorizonEntry,
    MapEntry,
    SequenceEntry,
    SettlingEntry,
    TopFeatures,
    WordEntry,
)
from chronocam.runs.files import decimals, known

if TYPE_CHECKING:
    from pathlib import Path

    from chronocam.explanation import Explanation
    from chronocam.maps.attention import Attention
    from chronocam.render.sheets.sequence import Sequenced
    from chronocam.sequence import SequenceExplanation
    from chronocam.types import TargetInfo

_TOP: Final = 10  # features named per step


class _Extras(TypedDict, total=False):
    """What an entry says beyond the explanation itself."""

    frame_spans: tuple[tuple[int, int], ...]
    frame_importance: tuple[float, ...]
    attention: AttentionEntry | None
    boxes: tuple[Box | None, ...]
    picture: str | None
    video: str | None
    called: str
    box: Box | None
    inside: float | None
    words: tuple[WordEntry, ...]


class _Steps(TypedDict, total=False):
    """Which output step is explained and its class, or the classes of all steps."""

    votes: tuple[int, ...]
    step: int
    vote: int


def map_entry(explanation: Explanation, k: int, file: Path, **more: Unpack[_Extras]) -> MapEntry:
    """Return the entry of target `k` of the first sample; file: where the explanation is saved."""
    info, confidences = explanation.targets[0][k], explanation.confidences
    sure = None if confidences is None or np.isnan(confidences[0, k]) else float(confidences[0, k])
    return MapEntry(
        method=explanation.method,
        layer=explanation.layer,
        grid=explanation.maps.shape[2:],
        target=info.name,
        index=info.index,
        score=float(explanation.scores[0, k]),
        confidence=None if sure is None else round(sure, 6),
        **_steps(info),
        explanation=str(file),
        **more,
    )


def words_entry(explanation: Explanation, k: int, file: Path, called: str) -> MapEntry:
    """Return the entry of the words of caption `k`; called: what a page calls the map."""
    words = getattr(explanation.targets[0][k], "words", ())
    values = explanation.maps[0, k].tolist()
    entries = tuple(WordEntry(word=word, relevance=value) for word, value in zip(words, values, strict=False))
    return map_entry(explanation, k, file, words=entries, called=called)


def attention_entry(attention: Attention | None, k: int) -> AttentionEntry | None:
    """Return the attention over frames for target `k` of the first sample."""
    if attention is None:
        return None
    (rank,) = known([attention.agreement[0, k]], 4)
    return AttentionEntry(
        weights=decimals(attention.weights[0], 6),
        contributions=decimals(attention.contributions[0, k], 6),
        rank_correlation=rank,
    )


def sequence_entry(explanation: SequenceExplanation, file: Path, sheet: Path | None) -> SequenceEntry:
    """Return the entry of the relevance of one sequence; file: where it is saved."""
    sequence = explanation.on_page(0).sequence
    steps, votes = sequence.steps, explanation.votes
    return SequenceEntry(
        method=explanation.method,
        targets=tuple(info.name for info in explanation.targets[0]),
        indices=tuple(info.index for info in explanation.targets[0]),
        scores=tuple(explanation.scores[0].tolist()),
        steps=None if steps is None else tuple(steps.tolist()),
        votes=None if votes is None else tuple(votes[0].tolist()),
        ledger={name: tuple(values[0].tolist()) for name, values in explanation.ledger.items()} or None,
        settling=_settling(sequence),
        horizon=_horizon(sequence),
        top_features=_top_features(explanation, sequence),
        relevance=str(file),
        sheet="" if sheet is None else str(sheet),
    )


def _steps(info: TargetInfo) -> _Steps:
    from chronocam.targets.steps import StepInfo, VotesInfo

    if isinstance(info, VotesInfo):
        return {"votes": tuple(info.votes)}
    return {"step": info.step, "vote": info.vote} if isinstance(info, StepInfo) else {}


def _settling(sequence: Sequenced) -> SettlingEntry | None:
    curve = sequence.settling
    if curve is None:
        return None
    return SettlingEntry(
        step=None if curve.settled < 0 else curve.settled,
        tolerance=curve.tolerance,
        cosine=known(curve.cosine),
        spearman=known(curve.spearman),
        jaccard=known(curve.jaccard),
        chance=known(curve.chance),
    )


def _horizon(sequence: Sequenced) -> HorizonEntry | None:
    lags = sequence.horizon
    if lags is None:
        return None
    return HorizonEntry(lags=tuple(lags.lags.tolist()), share=known(lags.share), reach=lags.reach)


def _top_features(explanation: SequenceExplanation, sequence: Sequenced) -> tuple[TopFeatures, ...]:
    """Return the features of largest positive relevance: each output step's own, or per target and step."""
    relevance = sequence.relevance
    count, time, features = relevance.shape
    if sequence.own is not None and sequence.steps is not None and count > 1:
        places = [(k, int(step)) for k, step in enumerate(sequence.steps)]
    else:
        places = [(k, t) for k in range(count) for t in range(time)]
    # With an output at every step, T² places would mostly say that a feature of long ago hardly matters.
    chosen = explanation.top_features(min(1.0, _TOP / features))[0]
    entries = []
    for k, t in places:
        top = np.flatnonzero(chosen[k, t])
        top = top[np.argsort(-relevance[k, t, top], kind="stable")]
        strongest = relevance[k, t, top].tolist()
        entries.append(
            TopFeatures(target=k, step=t, features=tuple(top.tolist()), relevance=tuple(strongest))
        )
    return tuple(entries)
