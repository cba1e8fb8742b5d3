"""A few damaged files and odd words at every door; `make fuzz` tries many more."""

from __future__ import annotations

from typing import Any

import pytest
from fuzz.entries import ENTRIES
from hypothesis import HealthCheck, given, settings

SLOW = {"network"}
"""Those behind which other frameworks are imported."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in ENTRIES]
)
def test_what_comes_from_elsewhere_is_taken_or_refused_in_one_line(name: str) -> None:
    entry = ENTRIES[name]

    # The same inputs at every run: new ones are for `make fuzz`, which says what it tried.
    @settings(
        max_examples=30,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(entry.inputs)
    def attempt(one: Any) -> None:
        entry.refused(one)

    attempt()
