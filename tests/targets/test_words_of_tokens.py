"""Which tokens a word is made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import chronocam as cc
from chronocam.targets.words import Answer, words_in
from chronocam.types import Outputs


class Byte:
    """As the tokenizer that CLIP came with: 0 is a sign of its own, and fills up as well."""

    all_special_ids = (8, 9)

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(["! ", "a ", "red", "dish ", ", ", "don", "'t ", "?"][token] for token in tokens)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([8, 1, 2, 3, 9, 0, 0, 0], [("a", [1]), ("reddish", [2, 3])]),
        ([8, 1, 9], [("a", [1])]),
        ([8, 5, 6, 0, 9], [("don't", [1, 2]), ("!", [3])]),
        ([1, 2, 4], [("a", [0]), ("red", [1]), (",", [2])]),
        ([8, 9], []),
    ],
)
def test_words_are_made_of_the_pieces_between_spaces_and_signs(tokens: list[int], words: Any) -> None:
    assert words_in(Byte(), tokens) == words


class OfBytes:
    """A token is a byte, as signs that a tokenizer does not know fall apart into bytes; 0 is special."""

    all_special_ids = (0,)

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        return bytes(token for token in tokens if token).decode(errors="replace")


@pytest.mark.parametrize(
    ("said", "word", "expected"),
    [
        ("a bus 🚌!", "🚌", range(6, 10)),
        ("un café noir", "café", range(3, 8)),
        ("un café noir", "noir", range(9, 13)),
        ("茶色の犬がいる", "犬", range(9, 12)),
        ("a bus", "bus", range(2, 5)),
    ],
)
def test_a_word_has_all_tokens_that_its_signs_are_made_of(said: str, word: str, expected: range) -> None:
    tokens = np.array([*said.encode(), 0])
    logits = torch.randn(1, len(tokens) + 1, 256, generator=torch.Generator().manual_seed(0)).double()
    answer = Answer(np.array([[1, *tokens]]), 1, [len(tokens) + 1], 0, OfBytes())
    outputs = Outputs(logits, lambda: logits, slice(0, 1), answer=answer)
    score = cc.targets.Token(word)(outputs).values[0, 0]
    wanted = sum(float(logits[0, at].log_softmax(-1)[tokens[at]]) for at in expected)
    assert float(score) == pytest.approx(wanted)


def test_signs_of_scripts_without_spaces_are_words() -> None:
    words = words_in(OfBytes(), [*"犬猫 a b".encode()])
    assert words == [("犬", [0, 1, 2]), ("猫", [3, 4, 5]), ("a", [6, 7]), ("b", [8, 9])]
