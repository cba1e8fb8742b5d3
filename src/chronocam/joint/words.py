"""Maps over the words of captions, for models that compare a picture with a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast

import numpy as np

from chronocam.engines import TextTower, engine_for
from chronocam.errors import InputError, ModelError, TargetError
from chronocam.explanation import COPIES, Explanation
from chronocam.joint.inputs.batches import Batch, is_floating
from chronocam.joint.look.copies import copies_of
from chronocam.joint.look.look import Look
from chronocam.joint.recipe import Recipe
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.targets.text import Caption, embeddings_in, unit
from chronocam.targets.words import words_in
from chronocam.types import Array, Finding, Inputs, Model, WordsInfo
from chronocam.types.targets import WORDS

TEXT: Final = "text"
"""What `on=` calls the captions of a model of two towers."""


def are_of_words(method: Recipe, inputs: Inputs) -> bool:
    """Say whether maps are over the words of captions, which are targets and not inputs."""
    if method.on != TEXT or (isinstance(inputs, Mapping) and TEXT in inputs):
        return False
    return method.session.subject.engine.towers is not None


def over_words(methods: Sequence[Recipe], batch: Batch, look: Look) -> list[Explanation]:
    """Return the maps of each method over the words of captions, for each picture of a batch.

    look: at the pictures, which are embedded once. Only the text tower is differentiated.

    Raises TargetError for targets other than captions, InputError for methods without maps over words.
    """
    engine, towers = look.engine, look.engine.towers
    assert towers is not None  # see `are_of_words`
    captions = _captions(batch.targets)
    embedded = engine.scores(look.inputs, lambda result: embeddings_in(result.raw, result.logits))
    pictures = unit(embedded)
    copies = copies_of(look, methods[0].preprocess) if batch.rows.start < COPIES else None
    explanations = []
    for method in methods:
        columns = [_column(method, towers, engine.model, caption, pictures) for caption in captions]
        explanations.append(replace(_joined(method, columns, batch.rows.start), copies=copies))
    return explanations


def by_word(explanation: Explanation, look: Look) -> Explanation:
    """Return maps over the tokens of texts as maps over their words, where the model has a tokenizer.

    Other explanations are returned unchanged. A word's value is the sum over its tokens.
    """
    if is_floating(look.main):
        return explanation
    tokenizer = getattr(getattr(look.engine, "model", None), "tokenizer", None)
    if tokenizer is None or explanation.maps.shape[2:] != look.shape[1:]:
        return explanation
    texts = [words_in(tokenizer, tokens) for tokens in to_numpy(look.main).tolist()]
    if not any(texts):
        return explanation
    maps = np.zeros((*explanation.maps.shape[:2], max(map(len, texts))), np.float32)
    for sample, words in enumerate(texts):
        for k, (_, places) in enumerate(words):
            maps[sample, :, k] = explanation.maps[sample][:, places].sum(axis=1)
    infos = tuple(
        tuple(WordsInfo(info.name, info.index, words=tuple(word for word, _ in words)) for info in row)
        for row, words in zip(explanation.targets, texts, strict=True)
    )
    return replace(explanation, maps=maps, targets=infos, input_size=maps.shape[2:], axes=WORDS, copies=None)


@dataclass(frozen=True)
class _Column:
    """What one caption gives: maps `(picture, word)` and scores `(picture,)`."""

    maps: np.ndarray
    scores: np.ndarray
    info: WordsInfo
    layer: str


def _captions(targets: Any) -> list[Caption]:
    captions = list(targets) if isinstance(targets, (list, tuple)) else [targets]
    for one in captions:
        if not isinstance(one, Caption):
            raise TargetError(
                f'on="{TEXT}" shows which words of captions made the score, and the target is {one!r}; give '
                "cc.targets.Caption, or a list of them"
            )
        if one.encode_text is not None:
            raise TargetError(
                f"nothing is known of the tokens that encode_text= makes of caption {one.text!r}; words need "
                "the model's own text tower: leave encode_text out"
            )
        if len(one.texts) > 1:
            raise TargetError(
                f"caption {one.text!r} is in {len(one.texts)} templates, and words are of one text; give one "
                "template, or none"
            )
    return captions


def _column(method: Recipe, towers: TextTower, model: Any, caption: Caption, pictures: Array) -> _Column:
    """Explain the text tower for one caption, with the cosine to each picture as a target."""
    if not getattr(method, "maps_words", False):
        raise InputError(
            f'on="{TEXT}" is of attention between words, and {method.name} makes no maps of it; choose '
            "legrad, attentionrelevance, gradeclip or gradientxattention"
        )
    if method.conv_layer is not None:
        raise InputError(f'on="{TEXT}" is of all words, whatever the layer; leave conv_layer out')
    tokens, tokenizer = towers.tokens(caption.texts), getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise TargetError(
            "nothing says which words the tokens of a caption are; set model.tokenizer, which has "
            "decode(tokens), or load the model by its spec"
        )
    numbers = tokens["input_ids"] if isinstance(tokens, Mapping) else tokens
    words = words_in(tokenizer, to_numpy(numbers[0]).tolist())
    if not words:
        raise TargetError(f"caption {caption.text!r} has no words that the tokenizer knows; give others")
    network, of_words = towers.network, cast("Any", method).of_words()
    layer = _of_tokens(network, tokens, len(numbers[0]))
    inner = replace(
        of_words, model=network, conv_layer=layer, layout=_along, on=None, labels=None, preprocess=None
    )
    explanation = inner.explain(tokens, [partial(_cosine, picture) for picture in pictures])
    maps = np.stack([explanation.maps[0, :, places].sum(axis=0) for _, places in words], axis=1)
    info = WordsInfo(f"“{caption.text}”", words=tuple(word for word, _ in words))
    return _Column(maps, explanation.scores[0], info, explanation.layer.removeprefix("model."))


def _of_tokens(network: Model, inputs: Inputs, count: int) -> str:
    """Return the last layer that returns `(text, token, channel)`. Raises ModelError where none does."""
    engine = engine_for(network)
    calls = engine.trace(engine.adapt(inputs))
    paths = [call.path for call in calls if len(call.shape) == 3 and call.shape[:2] == (1, count)]
    if not paths:
        raise ModelError(f"no layer of the text tower returns {count} tokens, (text, token, channel)")
    return paths[-1]


def _along(tokens: Array) -> Array:
    return namespace(tokens).matrix_transpose(tokens)


def _cosine(picture: Array, embedded: Array) -> Array:
    return namespace(embedded).matmul(unit(embedded), picture)


def _joined(method: Recipe, columns: Sequence[_Column], start: int) -> Explanation:
    samples, longest = len(columns[0].scores), max(column.maps.shape[1] for column in columns)
    maps = np.zeros((samples, len(columns), longest), np.float32)
    for k, column in enumerate(columns):
        maps[:, k, : column.maps.shape[1]] = column.maps
    return Explanation(
        maps,
        np.stack([column.scores for column in columns], axis=1),
        tuple(tuple(column.info for column in columns) for _ in range(samples)),
        method.name,
        columns[0].layer,
        (longest,),
        findings=tuple(_findings(columns, start)),
        preprocess=method.preprocess,
        axes=WORDS,
    )


def _findings(columns: Sequence[_Column], start: int) -> Iterator[Finding]:
    for column in columns:
        for sample in np.flatnonzero(~column.maps.any(axis=1)).tolist():
            name = str(column.info)
            text = f"sample {start + sample}, {name}: no word has any relevance for the score"
            yield Finding("zero map", start + sample, name, text)
