"""Pages of claims: intervals, the sentences that follow from them, and the pages in the documentation."""

import numpy as np
import pytest

from benchmarks.claims.__main__ import PAGES
from benchmarks.claims.page import DOCS, Claim
from benchmarks.claims.stats import UNDEFINED, apart, difference, pooled, side, written
from benchmarks.claims.tables import Record, rows_of
from chronocam.metrics import Interval


def of(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, float(low), float(high), 9)


def test_intervals_hold_the_spread_of_networks_and_pair_clips():
    unlike = np.repeat([[0.0], [1.0]], 50, axis=1)
    found = pooled(unlike)
    assert (found.mean, found.low, found.high, found.count) == (0.5, 0, 1, 50)
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(3, 200))
    paired = difference(clips + 0.1, clips)
    assert (paired.low, paired.high) == (pytest.approx(0.1), pytest.approx(0.1))
    between = apart(unlike + 2, unlike)
    assert (between.mean, between.low, between.high) == (2, 1, 3)
    half = clips.copy()
    half[:, ::2] = np.nan
    assert pooled(half).mean == pytest.approx(clips[:, 1::2].mean())
    assert pooled(half).count == 100


def test_sides_follow_the_interval():
    assert side(of(0.1, 1.0)) == "above"
    assert side(of(-1.0, -0.1)) == "below"
    assert side(of(-1.0, 1.0)) == "undecided"
    assert side(of(0.0004, 1.0)) == "undecided"  # shown as 0.000
    assert side(of(0.1, 0.4), 0.5, 0.5) == "below"
    assert side(UNDEFINED) == "undecided"
    assert [side(of(low, high), 0.2, 0.4) for low, high in ((0.5, 1), (0, 0.1), (0.3, 1))] == [
        "above",
        "below",
        "undecided",
    ]
    assert side(1.2) == "above"
    assert side("below") == "below"


def test_numbers_are_shown_with_three_digits_and_their_sign_on_demand():
    assert written(of(-0.0001, 0.5), signed=True) == "+0.250 [+0.000, +0.500]"
    assert written(of(-1, 0)) == "-0.500 [-1.000, 0.000]"
    assert written(1.234) == "1.2"
    assert written(2.34e-7) == "2e-07"
    assert written("above") == ""


TABLES = {
    "gain": {
        "a": {"x": of(0.2, 0.9), "y": of(1.1, 2)},
        "b": {"x": of(-0.2, 0.1), "y": of(-2, -1)},
        "reference": {"x": of(0, 0.1), "y": of(0, 3)},
    }
}
WORDS = {"above": "yes for {cells}", "below": "no for {names}", "undecided": "{count} of {total} undecided"}


def test_a_claim_sorts_its_cells_by_the_side_of_its_level():
    claim = Claim("It helps", "gain", WORDS, rows=("a", "b"), name="{row}: {column}", signed=True)
    assert claim.finding(TABLES) == (
        "- **It helps**: yes for a: x (+0.550 [+0.200, +0.900]) and a: y (+1.550 [+1.100, +2.000]); "
        "no for b: y; 1 of 4 undecided."
    )
    one = Claim("Does it?", "gain", WORDS, rows=("a",), columns=("x",), level=1)
    assert one.finding(TABLES) == "- **Does it?** no for a."


def test_a_claim_compares_with_another_row_or_column():
    beside_row = Claim("Beside", "gain", WORDS, than="reference", name="{row}: {column}")
    assert beside_row.finding(TABLES) == (
        "- **Beside**: yes for a: x (0.550 [0.200, 0.900]); no for b: y; 2 of 4 undecided."
    )
    beside_column = Claim("Beside", "gain", WORDS, rows=("a", "b"), than="y")
    assert beside_column.finding(TABLES) == "- **Beside**: yes for b (-0.050 [-0.200, 0.100]); no for a."


def test_a_claim_without_sides_gives_its_values():
    claim = Claim("Values", "gain", "{values}", columns=("x",))
    assert claim.finding(TABLES) == (
        "- **Values**: a 0.550 [0.200, 0.900], b -0.050 [-0.200, 0.100] and reference 0.050 [0.000, 0.100]."
    )


def test_cells_of_one_name_are_noticed():
    with pytest.raises(ValueError, match="two cells `a`"):
        Claim("It helps", "gain", WORDS).finding(TABLES)


def test_a_side_without_words_is_noticed():
    with pytest.raises(KeyError, match="no words for below"):
        Claim("It helps", "gain", {"above": "yes"}, columns=("y",), rows=("b",)).finding(TABLES)


def test_a_record_is_read_as_it_was_written():
    row = {"interval": of(0.1, 0.4), "uncounted": Interval(1.0, 0.5, 1.5, 0), "side": "above", "number": 0.25}
    record = Record({"clips": 3}, {"t": {"row": {**row, "count": 1234}}}, {"more": [1, 2]})
    assert Record.from_json(record.to_json()) == record


def test_a_column_that_is_not_finite_is_left_out():
    table = rows_of({"row": np.array([[1.0, np.nan], [3.0, 1.0]])}, ("a", "b"))
    assert list(table["row"]) == ["a"]
    assert table["row"]["a"].mean == 2


NEVER_BELOW = ("map of −ry", "bias − output", "a mixture")  # tables of largest differences


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_claim_has_words_for_every_outcome(page):
    for claim in (claim for claims in page.claims.values() for claim in claims):
        if isinstance(claim.says, str):
            continue
        sides = {"above", "not above"} if "not above" in claim.says else {"above", "below", "undecided"}
        if any(part in claim.table for part in NEVER_BELOW) and "in the mirror" not in claim.title:
            sides -= {"below"}
        assert sides <= set(claim.says), claim.title


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_in_the_documentation_is_the_one_of_its_numbers(page):
    record = Record.from_json((DOCS / f"{page.name}.json").read_text(encoding="utf-8"))
    assert (DOCS / f"{page.name}.md").read_text(encoding="utf-8") == page.text(record)
    places = {claim.table for claims in page.claims.values() for claim in claims}
    assert places <= set(record.tables)
