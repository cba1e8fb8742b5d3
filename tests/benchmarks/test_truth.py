"""The benchmark of parts that were left out: what is scored, and the page in the documentation."""

import numpy as np
import pytest

pytest.importorskip("skimage")
pytest.importorskip("sklearn")

from benchmarks.claims.page import DOCS
from benchmarks.claims.tables import Record
from benchmarks.truth.page import NAME, joined, markdown, page
from benchmarks.truth.score import MEASURES, Scores
from benchmarks.truth.worlds import Case, Parts, World, digits, parts_of
from chronocam.metrics import Interval

MASKS = np.zeros((3, 4, 4), bool)
MASKS[0, 0], MASKS[1, 1], MASKS[2, 2:, :2] = True, True, True


def scored(maps, falls):
    cases = [
        Case(k, np.zeros((1, 1, 4, 4), np.float32), None, 0, {"space": Parts(MASKS, np.array(fall))})
        for k, fall in enumerate(falls)
    ]
    scores = Scores()
    scores.add(World("World", None, cases, ("space",)), maps, list)
    return scores


def test_a_map_is_scored_by_its_sums_over_parts():
    falls = [[3.0, -1.0, 0.5], [2.0, 1.0, 5.0], [0.0, 1.0, 2.0]]
    right = (MASKS[None] * np.array(falls)[..., None, None] / MASKS.sum((1, 2))[:, None, None]).sum(axis=1)

    def fails(case):
        raise ValueError("no\nsuch map")

    maps = {
        "right": lambda case: right[case.number],
        "upside down": lambda case: -right[case.number],
        "cut": lambda case: right[case.number].clip(0),
        "flat on every part": lambda case: np.zeros((4, 4)),
        "random map": lambda case: np.eye(4)[:, [1, 3, 0, 2]],
        "fails": fails,
    }
    scores = scored(maps, falls)
    table = scores.tables()
    of = {name: table["space: linear"][name]["World"].mean for name in maps if name != "fails"}
    assert of["right"] == pytest.approx(1)
    assert of["upside down"] == pytest.approx(-1)
    assert 0.9 < of["cut"] < 1
    assert of["flat on every part"] == 0  # it says nothing
    assert table["space: first"]["upside down"]["World"].mean == 0
    assert table["space: sides"]["right"]["World"] == "best"
    assert scores.cannot == {"fails": {"World": "ValueError: no"}}
    assert set(MEASURES) == {name.partition(": ")[2] for name in table} - {"sides"}


def test_a_part_is_worth_what_the_score_loses_without_it():
    whole = np.ones((1, 1, 4, 4), np.float32)
    without = np.repeat(whole, 3, axis=0) * ~MASKS[:, None]
    found = parts_of(lambda x: (x * np.arange(4)[:, None]).sum((1, 2, 3)), whole, without, MASKS)
    np.testing.assert_allclose(found.falls, [0, 4, 2 * 2 + 2 * 3])
    unseen = MASKS & np.array([True, False, True])[:, None, None]
    assert len(parts_of(lambda x: x.sum((1, 2, 3)), whole, without, unseen).falls) == 2


def test_a_digit_is_worth_more_than_what_is_around_it():
    world = digits(3)
    for number, case in enumerate(world.cases):
        falls = case.sets["space"].falls
        assert falls.argmax() == len(falls) - 2 + number % 2


def test_worlds_are_measured_one_by_one():
    def record(world, mean):
        table = {"gradcam": {world: Interval(mean, mean, mean, 3)}}
        return Record({world: [3, 1]}, {"space: rank": table}, {"cannot": {"lime": {world: "slow"}}})

    both = joined(record("A", 0.5), record("B", 0.7))
    again = joined(
        both, Record({"A": [3, 1]}, {"space: rank": record("A", 0.9).tables["space: rank"]}, {"cannot": {}})
    )
    assert {w: cell.mean for w, cell in again.tables["space: rank"]["gradcam"].items()} == {
        "A": 0.9,
        "B": 0.7,
    }
    assert again.values["cannot"]["lime"] == {"B": "slow"}
    lines = markdown(again.tables["space: rank"], {"gradcam": {"A": "best", "B": "chance"}}).splitlines()
    assert lines[2] == "| `gradcam` | **0.90** [0.90, 0.90] | *0.70* [0.70, 0.70] |"


def test_the_page_in_the_documentation_is_the_one_of_its_numbers():
    record = Record.from_json((DOCS / f"{NAME}.json").read_text(encoding="utf-8"))
    assert (DOCS / f"{NAME}.md").read_text(encoding="utf-8") == page(record)
