"""The words of captions as a page holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from chronocam.media._stills import Stills
from chronocam.render.page.packed import encoded, number, numbers
from chronocam.render.page.records import ShownWords, WordsTarget
from chronocam.render.words import percent


@dataclass(frozen=True, eq=False)
class SampleWords:
    """Maps over the words of captions for one sample, as an explanation hands them to a page.

    words: of each caption. pictures: what the captions are of; None where that is not known.
    """

    maps: Float[np.ndarray, "target word"]
    names: Sequence[str]
    words: Sequence[Sequence[str]]
    scores: Float[np.ndarray, " target"]
    method: str
    layer: str
    findings: Sequence[str]
    pictures: Stills | None


def shown_words(sample: SampleWords, label: str, alone: bool) -> ShownWords:
    """Return what a page draws of the words of one sample's captions, on one scale.

    alone: whether the page has no map to show the picture with.
    """
    peak = float(np.abs(sample.maps).max()) or 1.0
    picture = sample.pictures.frames[0] if alone and sample.pictures and sample.pictures.frames else None
    rows = zip(sample.names, sample.scores, sample.words, sample.maps, strict=True)
    return ShownWords(
        label=label,
        method=sample.method,
        layer=sample.layer,
        findings=list(sample.findings),
        picture=None if picture is None else encoded(picture),
        targets=[
            WordsTarget(
                name=name,
                score=number(score),
                sentence=_sentence(name, words, values),
                words=list(words),
                relevance=numbers(values[: len(words)]),
                shares=numbers(values[: len(words)] / peak),
            )
            for name, score, words, values in rows
        ],
    )


def _sentence(name: str, words: Sequence[str], values: np.ndarray) -> str:
    total, own = float(values.sum()), values[: len(words)]
    if not total:
        return f"{name}: no word has any relevance for the score."
    best = int(own.argmax())
    return f"{name}: `{words[best]}` has {percent(float(own[best]) / total)} of the relevance of the words."
