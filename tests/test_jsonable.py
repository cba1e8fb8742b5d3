"""Records as JSON: written in order, read back the same, and refused where an entry does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from chronocam.errors import MediaError
from chronocam.jsonable import OMITTED, JsonRecord, keyed, missing


@dataclass(frozen=True, kw_only=True)
class Inner(JsonRecord):
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Outer(JsonRecord):
    name: str
    label: str = field(metadata=keyed("class"))
    count: int = field(metadata=missing(3))
    inner: Inner | None = field(default=None, metadata=OMITTED)
    pairs: tuple[tuple[int, str], ...] = ()
    terms: Mapping[str, tuple[float, ...]] = field(metadata=missing({}))
    free: Any = None
    yes: bool = True


WHOLE = Outer(
    name="a",
    label="b",
    count=1,
    inner=Inner(values=(1.5, None)),
    pairs=((1, "x"), (2, "y")),
    terms={"input": (1.0,)},
    free={"any": [1]},
)


def test_a_record_is_read_as_it_was_written_in_the_order_of_its_fields():
    data = json.loads(json.dumps(WHOLE.to_json()))
    assert list(data) == ["name", "class", "count", "inner", "pairs", "terms", "free", "yes"]
    assert data["pairs"] == [[1, "x"], [2, "y"]]
    assert Outer.from_json(data) == WHOLE


def test_what_is_none_is_left_out_where_the_field_says_so_and_null_elsewhere():
    data = Outer(name="a", label="b", count=1, terms={}).to_json()
    assert "inner" not in data
    assert data["free"] is None


def test_missing_entries_have_the_value_that_the_field_names_and_unknown_ones_are_left_out():
    found = Outer.from_json({"name": "a", "class": "b", "unknown": 1})
    assert (found.count, found.inner, found.pairs) == (3, None, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "`name` of the file is 1; expected text"),
        ({"count": 1.5}, "`count` of the file is 1.5; expected a whole number"),
        ({"count": True}, "`count` of the file is True; expected a whole number"),
        ({"yes": 1}, "`yes` of the file is 1; expected true or false"),
        ({"inner": []}, "`inner` of the file is []; expected an object"),
        ({"inner": {}}, "`inner` of the file has no `values`"),
        (
            {"inner": {"values": ["x"]}},
            "entry 0 of `values` of `inner` of the file is 'x'; expected a number",
        ),
        ({"pairs": [[1]]}, "entry 0 of `pairs` of the file is [1]; expected a list of 2"),
        ({"terms": [1]}, "`terms` of the file is [1]; expected an object"),
        ({"terms": {"input": 1}}, "`input` of `terms` of the file is 1; expected a list"),
    ],
)
def test_an_entry_that_does_not_fit_is_named(change, message):
    with pytest.raises(MediaError) as caught:
        Outer.from_json({**WHOLE.to_json(), **change})
    assert message in str(caught.value)


def test_a_record_needs_its_entries():
    with pytest.raises(MediaError, match="x has no `name`"):
        Outer.from_json({}, "x")
