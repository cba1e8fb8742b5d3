"""Targets of models that speak: a word, or a few, of the text that a model generates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from numbers import Integral
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from chronocam.errors import TargetError
from chronocam.maps.arrays import namespace, widen
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo

_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese signs: scripts that put no space between words."""


@runtime_checkable
class Tokenizer(Protocol):
    """What makes a text of tokens, as the tokenizers of Hugging Face do."""

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = ...) -> str:
        """Return the text."""


@dataclass(frozen=True)
class Answer:
    """What a model generated for a batch.

    tokens: `(batch, token)`, prompts and answers. start: where the answers begin. ends: where each ends.
    first: the number of the batch's first sample among those of the call.
    tokenizer: the model's own, None without one.
    """

    tokens: np.ndarray
    start: int
    ends: Sequence[int]
    first: int
    tokenizer: Any = None

    def rows(self, outputs: Outputs) -> list[np.ndarray]:
        """Return the tokens of the answers to the samples of an output."""
        rows = outputs.rows
        numbers = range(rows.start, rows.stop) if isinstance(rows, slice) else [int(row) for row in rows]
        return [self.tokens[n - self.first, self.start : self.ends[n - self.first]] for n in numbers]


class _Words(Target):
    """The log-probability of some tokens of the answer, each after those before it."""

    tokenizer: Tokenizer | None

    def spans(self, outputs: Outputs, answer: Answer) -> list[list[int]]:
        """Return, per sample, which tokens of its answer count."""
        raise NotImplementedError

    def named(self, outputs: Outputs, answer: Answer, row: np.ndarray, span: Sequence[int]) -> str:
        """Return what the tokens are called."""
        raise NotImplementedError

    def __call__(self, outputs: Outputs) -> Scored:
        """Return Σ log p(token). Raises TargetError for a model that speaks no text."""
        answer = outputs.answer
        if answer is None:
            raise TargetError("a word is of a text that the model generates; this model generates none")
        logits = getattr(outputs.raw, "logits", None)
        logits = outputs.logits if logits is None else logits
        if logits.ndim != 3 or logits.shape[1] < answer.tokens.shape[1]:
            raise TargetError(
                f"the model returns logits {tuple(logits.shape)}; expected a row for each of the "
                f"{answer.tokens.shape[1]} tokens of the prompt and the answer"
            )
        # Some models put the picture's tokens before the text, which is last.
        offset = logits.shape[1] - answer.tokens.shape[1] + answer.start - 1
        rows, spans = answer.rows(outputs), self.spans(outputs, answer)
        values = [
            _log_probability(logits[b], [(offset + at, int(row[at])) for at in span])
            for b, (row, span) in enumerate(zip(rows, spans, strict=True))
        ]
        pairs = zip(rows, spans, strict=True)
        infos = tuple((TargetInfo(self.named(outputs, answer, row, span)),) for row, span in pairs)
        return Scored(namespace(values[0]).stack(values)[:, None], infos)


@dataclass(frozen=True)
class Token(_Words):
    """The log-probability of one token of the text that the model generates, or of a word's.

    which: the number of the token, from 0, −1 for the last; or a word, whose first occurrence counts.
    tokenizer: makes a text of tokens; None is the model's own, `model.tokenizer`.

    The text is generated once, greedily; then the model is given all of it, and the token is scored after
    those before it. Prompts and pictures are inputs, `dict(processor(…))`. The map lies where the picture's
    tokens do.

    Example:
    >>> cc.targets.Token(0), cc.targets.Token("sofa").which
    (Token(which=0, tokenizer=None), 'sofa')
    """

    which: int | str
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        which: object = self.which
        if isinstance(which, str):
            _refuse_empty(which)
        elif isinstance(which, bool) or not isinstance(which, Integral):
            raise TargetError(f"{which!r} is no token; give its number, from 0, −1 for the last, or a word")

    def spans(self, outputs: Outputs, answer: Answer) -> list[list[int]]:
        """Return the token, or those of the word."""
        rows = answer.rows(outputs)
        if isinstance(self.which, str):
            return [_span(self, answer, row, self.which, outputs, b) for b, row in enumerate(rows)]
        shortest = min(map(len, rows))
        if not -shortest <= self.which < shortest:
            raise TargetError(f"no token {self.which}: the model generated {shortest} for a sample")
        return [[int(self.which) % len(row)] for row in rows]

    def named(self, outputs: Outputs, answer: Answer, row: np.ndarray, span: Sequence[int]) -> str:
        """Return the token as text, where a tokenizer makes one of it."""
        tokenizer = self.tokenizer or answer.tokenizer
        if isinstance(self.which, str):
            return f"“{self.which}”"
        if tokenizer is None:
            return f"token {span[0]}"
        return f"“{tokenizer.decode([int(row[span[0]])]).strip()}”"


@dataclass(frozen=True)
class Phrase(_Words):
    """The log-probability of a few words of the text that the model generates: the sum over their tokens.

    text: the words, whose first occurrence counts. tokenizer: as of `Token`.

    Example:
    >>> cc.targets.Phrase("on a sofa").text
    'on a sofa'
    """

    text: str
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        _refuse_empty(self.text)

    def spans(self, outputs: Outputs, answer: Answer) -> list[list[int]]:
        """Return the tokens of the words."""
        rows = answer.rows(outputs)
        return [_span(self, answer, row, self.text, outputs, b) for b, row in enumerate(rows)]

    def named(self, outputs: Outputs, answer: Answer, row: np.ndarray, span: Sequence[int]) -> str:
        """Return the words."""
        return f"“{self.text}”"


def words_in(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Return the words of a text, each with the places of the tokens that it is made of.

    Tokens outside the text belong to no word: special ones such as its end, and the zeros with which CLIP's
    own tokenizer pads. A word begins after a space; punctuation between words is a word of its own, and so is
    a token of a script without spaces.
    """
    special = {int(token) for token in getattr(tokenizer, "all_special_ids", ())}
    ends = [at for at, token in enumerate(tokens) if int(token) in special]
    filled = bool(ends) and not any(tokens[ends[-1] + 1 :])
    count = ends[-1] if filled else len(tokens)
    spoken = [at for at in range(count) if int(tokens[at]) not in special]

    def text(places: Sequence[int]) -> str:
        return tokenizer.decode([int(tokens[at]) for at in places])

    words: list[list[int]] = []
    before = ""
    for number, at in enumerate(spoken):
        after = text(spoken[: number + 1])
        if not words or (_begins_word(before, after) and text(words[-1]).strip()):
            words.append([])
        words[-1].append(at)
        before = after
    return [(text(places).strip(), places) for places in words]


def _begins_word(before: str, after: str) -> bool:
    """Say whether a token begins a new word, given the text before and after it."""
    added = after[len(before) :] if after.startswith(before) else ""
    if not added or not before:
        return False
    return not (_in_word(before[-1]) and _in_word(added[0]))


def _in_word(sign: str) -> bool:
    return (sign.isalnum() or sign in "'’-_") and not _is_unspaced(sign)


def _is_unspaced(sign: str) -> bool:
    return re.match(f"[{_UNSPACED}]", sign) is not None


def speaks(target: Target) -> bool:
    """Say whether a target, or one that it is made of, is of a text that the model generates."""
    parts = (*getattr(target, "targets", ()), *(getattr(target, side, None) for side in ("parsed", "a", "b")))
    return isinstance(target, _Words) or any(isinstance(one, Target) and speaks(one) for one in parts)


def _refuse_empty(text: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise TargetError(f"{text!r} is not a word; give a word, or a few, of what the model says")


def _span(
    target: _Words, answer: Answer, row: np.ndarray, text: str, outputs: Outputs, sample: int
) -> list[int]:
    """Return the tokens that the first occurrence of a text is made of.

    A space before a word belongs to the token that brings it.
    """
    tokenizer = target.tokenizer or answer.tokenizer
    if tokenizer is None:
        raise TargetError(
            f"nothing says which tokens `{text}` is made of; give tokenizer=, or a step's number"
        )
    numbers, asked = [int(token) for token in row], text.strip()
    said = tokenizer.decode(numbers, skip_special_tokens=True)
    before = "" if _is_unspaced(asked[0]) else r"(?<!\w)"
    after = "" if _is_unspaced(asked[-1]) else r"(?!\w)"
    match = re.search(before + re.escape(asked) + after, said, re.IGNORECASE)
    if match is None:
        raise TargetError(f"sample {sample}: the model says “{said.strip()}”, in which there is no “{text}”")
    so_far = [tokenizer.decode(numbers[:end], skip_special_tokens=True) for end in range(len(row) + 1)]
    # A token may end within a sign, which the next ones complete: its text is then none of what is said.
    ends = [len(one) if said.startswith(one) else -1 for one in so_far]
    starts = list(accumulate(ends[:-1], max))
    stops = [next(end for end in ends[at + 1 :] if end >= 0) for at in range(len(row))]
    return [at for at in range(len(row)) if starts[at] < match.end() and stops[at] > match.start()]


def _log_probability(logits: Array, places: Sequence[tuple[int, int]]) -> Array:
    """Return Σ log softmax(logits of a place)[its token]."""
    xp, total = namespace(logits), None
    for at, token in places:
        row = widen(logits[at])
        row = row - xp.max(row)
        value = row[token] - xp.log(xp.sum(xp.exp(row)))
        total = value if total is None else total + value
    return total
