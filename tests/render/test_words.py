"""What is found, in words: each sentence against a map whose answer can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from chronocam.render.words import opening, percent, under, when, whereabouts


def blob(y, x, size=9):
    values = np.zeros((size, size))
    values[y, x] = 1.0
    return values


@pytest.mark.parametrize(
    ("share", "words"),
    [(9.64e-6, "< 0.01 %"), (0.0173, "1.7 %"), (0.18, "18 %"), (0.9974, "99.7 %"), (0.99999, "> 99.99 %")],
)
def test_shares_are_readable(share, words):
    assert percent(share) == words


def test_the_title_of_a_map_says_how_sure_a_classifier_is():
    assert under("cat", 8.512, 0.344) == "cat\n34 %, score 8.51"
    assert under("age", 31.24, None) == under("age", 31.24, float("nan")) == "age\n31.2"


def test_what_more_than_half_is_sure_of_is_what_the_network_says():
    assert opening("cat", 0.51) == "Says cat, 51 %"
    assert opening("cat", 0.49) == "cat, 49 %"
    assert opening("cat", None) == opening("cat", float("nan")) == "cat"


@pytest.mark.parametrize(
    ("at", "place"),
    [
        ((1, 1), "at the upper left"),
        ((4, 4), "in the middle"),
        ((7, 4), "at the bottom"),
        ((4, 7), "at the right"),
    ],
)
def test_a_spot_is_named_by_its_third(at, place):
    words = whereabouts(blob(*at), (90, 90))
    assert words.startswith(f"the evidence lies {place}, half of it in ")
    assert float(words.split()[-5]) < 2  # per cent: one cell of 81, half of it


def test_places_are_those_of_the_whole_picture():
    left = whereabouts(blob(4, 4), (90, 90), view=(0, 0, 0.25, 1))
    assert "at the left" in left
    whole, part = (
        float(whereabouts(np.ones((9, 9)) * np.eye(9)[4], (90, 90), view=view).split()[-5])
        for view in ((0, 0, 1, 1), (0, 0, 0.5, 1))
    )
    assert part == pytest.approx(whole / 2, rel=0.1)


def test_cells_lie_at_their_centres():
    centers = (tuple(range(0, 27, 3)),) * 2  # the whole grid in the first third of the input
    assert "at the upper left" in whereabouts(blob(4, 4), (90, 90), centers)


def test_an_even_map_is_spread_and_a_blank_one_zero():
    assert whereabouts(np.ones((9, 9)), (90, 90)).startswith("the evidence is spread over what the model saw")
    assert whereabouts(np.zeros((9, 9)), (90, 90)) == "the map is zero everywhere"
    assert whereabouts(np.full((9, 9), np.nan), (90, 90)) == "the map is not finite"


def test_both_signs_have_their_place():
    words = whereabouts(blob(1, 1) - blob(7, 7), (90, 90))
    raises, lowers = words.split("; ")
    assert raises.startswith("what raises it lies at the upper left")
    assert lowers.startswith("what lowers it lies at the lower right")


def test_two_equal_spots_are_not_called_one():
    assert "lies mostly at" in whereabouts(blob(1, 1) + blob(7, 7), (90, 90))


def test_the_moment_of_a_clip_is_told_with_its_share():
    spans, seconds = [(0, 1), (2, 3), (4, 5), (6, 7)], [i / 4 for i in range(8)]
    assert when(np.array([0.1, 0.7, 0.1, 0.1]), spans, seconds) == "most of it at 0.50 to 0.75 s (70 %)"
    assert when(np.array([0.1, 0.45, 0.35, 0.1]), spans, None) == "most of it at frames 2 to 5 (80 %)"
    assert when(np.full(4, 0.25), spans, seconds) == "evenly spread over time"
    assert when(np.zeros(4), spans, seconds) == ""
