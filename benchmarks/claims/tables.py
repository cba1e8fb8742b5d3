"""Tables of intervals, the record that holds them, and its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from chronocam.metrics import Interval, bootstrap

DIGITS = 3
"""Of intervals on pages and in tables; a side of a level is judged by these digits too."""

Cell: TypeAlias = Interval | float | str
"""An interval over samples, a number that has none, or only the side on which an interval lies."""

Table: TypeAlias = dict[str, dict[str, Cell]]
"""Cells by row and column."""


@dataclass(frozen=True)
class Record:
    """Everything that a page needs.

    about: settings and counts. tables: by name. values: further means, by whatever they are sorted by.
    """

    about: dict[str, Any]
    tables: dict[str, Table]
    values: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return JSON with every cell on one line."""
        tables = {
            name: {
                row: {column: _numbers(cell) for column, cell in cells.items()} for row, cells in of.items()
            }
            for name, of in self.tables.items()
        }
        record = {"numbers": ["mean", "low", "high", "samples"], "about": self.about, "tables": tables}
        text = json.dumps(
            {**record, **({"values": self.values} if self.values else {})}, indent=1, ensure_ascii=False
        )
        return re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote."""
        record = json.loads(text)
        tables = {
            name: {row: {column: _cell(cell) for column, cell in cells.items()} for row, cells in of.items()}
            for name, of in record["tables"].items()
        }
        return cls(record["about"], tables, record.get("values", {}))


def _numbers(cell: Cell) -> list[float] | float | str:
    if isinstance(cell, float):
        return float(f"{cell:.2g}")
    if not isinstance(cell, Interval):
        return cell
    numbers = [round(value, DIGITS) + 0.0 for value in (cell.mean, cell.low, cell.high)]
    return [*numbers, *([cell.count] if cell.count else [])]


def _cell(numbers: Sequence[float] | float | str) -> Cell:
    if isinstance(numbers, str | int | float):
        return numbers
    mean, low, high, *count = numbers
    return Interval(mean, low, high, int(count[0]) if count else 0)  # how many samples, where it was noted


def rows_of(values: Mapping[str, np.ndarray], columns: Sequence[str]) -> Table:
    """Return intervals over samples of values `(sample, column)` by row, without columns not finite."""
    return {
        row: {name: bootstrap(v) for name, v in zip(columns, of.T, strict=True) if np.isfinite(v).all()}
        for row, of in values.items()
    }
