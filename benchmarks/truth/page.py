"""The page of the benchmark: tables of methods by worlds, from the JSON beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.claims.page import DOCS
from benchmarks.claims.tables import Cell, Record, Table
from benchmarks.truth.judged import BUDGET
from chronocam.media.files import replace_file
from chronocam.metrics import Interval

NAME = "benchmark"


def publish(record: Record, out: Path = DOCS) -> Path:
    """Write a record as JSON, and the page from that JSON, so that both show the same numbers."""
    numbers = record.to_json()
    replace_file(out / f"{NAME}.json", lambda path: path.write_text(numbers, encoding="utf-8"))
    text = page(Record.from_json(numbers))
    return replace_file(out / f"{NAME}.md", lambda path: path.write_text(text, encoding="utf-8"))


def joined(record: Record, measured: Record) -> Record:
    """Return a record with what was measured of some worlds in place of what it says of them."""
    tables = {
        name: {row: dict(cells) for row, cells in table.items()} for name, table in record.tables.items()
    }
    for name, table in measured.tables.items():
        for row, cells in table.items():
            tables.setdefault(name, {}).setdefault(row, {}).update(cells)
    cannot = {name: dict(reasons) for name, reasons in record.values["cannot"].items()}
    for world in measured.about:
        for reasons in cannot.values():
            reasons.pop(world, None)
    for name, reasons in measured.values["cannot"].items():
        cannot.setdefault(name, {}).update(reasons)
    return Record({**record.about, **measured.about}, tables, {"cannot": cannot})


def page(record: Record) -> str:
    """Return the template with its tables."""
    template = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
    shown = {
        f"{kind}_{measure}": markdown(
            record.tables.get(f"{kind}: {measure}", {}), record.tables.get(f"{kind}: sides", {})
        )
        for kind in ("space", "time")
        for measure in ("rank", "linear")
    }
    return template.format(
        **shown, budget=BUDGET, counts=_counts(record.about), cannot=_cannot(record.values["cannot"])
    )


def _counts(about: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{title} {scenes}" for title, (scenes, _) in about.items())


def markdown(table: Table, sides: Table) -> str:
    """Return a table, the best on average first; bold is not told apart from the best of its column.

    What is not above a random map is in italics.
    """
    worlds = list(dict.fromkeys(world for cells in table.values() for world in cells))
    lines = ["| | " + " | ".join(worlds) + " |", "|---|" + "---|" * len(worlds)]
    for name in sorted(table, key=lambda name: -_mean(table[name], len(worlds))):
        cells = [_shown(table[name].get(world), sides.get(name, {}).get(world, "")) for world in worlds]
        lines.append(f"| {_named(name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(cells: Mapping[str, Cell], worlds: int) -> float:
    """Return the mean over worlds; one that a method cannot do counts as 0, which is chance."""
    return float(np.sum([cell.mean for cell in cells.values() if isinstance(cell, Interval)])) / worlds


def _shown(cell: Cell | None, side: Cell) -> str:
    if not isinstance(cell, Interval):
        return "–"
    mark = {"best": "**", "chance": "*"}.get(str(side), "")
    mean, low, high = (f"{value:.2f}".replace("-", "−") for value in (cell.mean, cell.low, cell.high))
    return f"{mark}{mean}{mark} [{low}, {high}]"


def _named(name: str) -> str:
    return name if " " in name or name == "edges" else f"`{name}`"


def _cannot(reasons: Mapping[str, Mapping[str, str]]) -> str:
    """Return a line for each reason, with the methods that share it."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for name, worlds in reasons.items():
        for world, why in worlds.items():
            by_reason.setdefault((world, why.replace("|", "/")[:160]), []).append(f"`{name}`")
    lines: dict[tuple[str, str], list[str]] = {}
    for (world, why), names in by_reason.items():
        lines.setdefault((", ".join(names), why), []).append(world)
    return "\n".join(f"- {names} ({'; '.join(worlds)}): {why}" for (names, why), worlds in lines.items())
