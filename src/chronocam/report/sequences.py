"""Relevance of one sequence as a page holds it: time × feature, how it settles, how far back it reaches, its ledger."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from jaxtyping import Float

from chronocam.render import LagCurve, Sequenced, SettlingCurve
from chronocam.report.packed import packed, rounded
from chronocam.sequence import SequenceExplanation

_CELLS: Final = 250_000  # of all pictures of one method together
_TOP: Final = 5  # features named per step
_OWN: Final[dict[str, Any]] = {
    "name": "every output, the features of its own step",
    "score": None,
    "ledger": {},
}


def shown_sequence(explanation: SequenceExplanation, sample: int, label: str) -> dict[str, Any]:
    """Return what a page draws of one sample's relevance."""
    drawn = explanation.drawn(sample)
    relevance = drawn.relevance if not _has_own(drawn) else np.concatenate([_own(drawn), drawn.relevance])
    width = _bin(relevance.shape)
    pictures = _binned(relevance, width)
    peak = float(np.abs(pictures).max()) or 1.0
    told = ([_OWN] if _has_own(drawn) else []) + [_told(drawn, k) for k in range(len(drawn.names))]
    return {
        "label": label,
        "method": explanation.method,
        "findings": list(explanation.diagnostics),
        "steps": relevance.shape[1],
        "features": relevance.shape[2],
        "bin": width,
        "cells": list(pictures.shape[1:]),
        "peak": rounded(peak),
        "targets": [
            {
                **target,
                "bytes": packed(picture / peak, signed=True),
                "by_step": rounded(values.sum(axis=1), 4),
                "top": _top(values),
            }
            for target, picture, values in zip(told, pictures, relevance, strict=True)
        ],
        "settling": None if drawn.settling is None else _settling(drawn.settling),
        "memory": None if drawn.horizon is None else _memory(drawn.horizon),
    }


def _has_own(drawn: Sequenced) -> bool:
    """Say whether every step has an output that is explained, so that each has features of its own."""
    return drawn.own is not None and len(drawn.own) == drawn.relevance.shape[1] > 1


def _own(drawn: Sequenced) -> Float[np.ndarray, "1 time feature"]:
    return np.asarray(drawn.own)[None]


def _told(drawn: Sequenced, k: int) -> dict[str, Any]:
    ledger = {name: rounded(values[k]) for name, values in drawn.ledger.items()}
    return {"name": drawn.names[k], "score": rounded(drawn.scores[k]), "ledger": ledger}


def _settling(curve: SettlingCurve) -> dict[str, Any]:
    return {
        "steps": curve.steps.tolist(),
        "cosine": rounded(curve.cosine, 4),
        "spearman": rounded(curve.spearman, 4),
        "jaccard": rounded(curve.jaccard, 4),
        "settled": curve.settled,
        "tolerance": curve.tolerance,
    }


def _memory(lags: LagCurve) -> dict[str, Any]:
    """Return the share of the relevance by lag, from the first to the last that has some."""
    some = np.flatnonzero(lags.share > 0)
    kept = slice(some[0], some[-1] + 1) if some.size else slice(None)
    return {"lags": lags.lags[kept].tolist(), "share": rounded(lags.share[kept], 4), "reach": lags.reach}


def _bin(shape: tuple[int, ...]) -> int:
    """Return how many neighbouring features share a cell, so that the pictures stay small."""
    targets, steps, features = shape
    return max(1, -(-targets * steps * features // _CELLS))


def _binned(
    relevance: Float[np.ndarray, "target time feature"], width: int
) -> Float[np.ndarray, "target time cell"]:
    """Return of every `width` neighbouring features the relevance of largest magnitude."""
    targets, steps, features = relevance.shape
    padded = np.pad(relevance, [(0, 0), (0, 0), (0, -features % width)]).reshape(targets, steps, -1, width)
    return np.asarray(np.take_along_axis(padded, np.abs(padded).argmax(axis=-1)[..., None], axis=-1)[..., 0])


def _top(relevance: Float[np.ndarray, "time feature"]) -> list[list[list[float | int]]]:
    """Return, for each step, the features of largest magnitude with their relevance, those without any left out."""
    order = np.argsort(-np.abs(relevance), axis=1, kind="stable")[:, :_TOP]
    pairs = zip(relevance, order, strict=True)
    return [[[int(f), rounded(row[f], 4)] for f in best if row[f] != 0] for row, best in pairs]
