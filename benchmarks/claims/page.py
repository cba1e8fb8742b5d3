"""Pages that say how claims come out: sentences chosen by where intervals lie, put into a template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.claims.stats import side, written
from benchmarks.claims.tables import Cell, Record, Table
from chronocam.media.files import replace_file

DIFFER = {
    "above": "higher for {cells}",
    "below": "lower for {cells}",
    "undecided": "no clear difference for {cells}",
}
"""Words for a difference."""

DOCS = Path(__file__).resolve().parents[2] / "docs"


@dataclass(frozen=True)
class Claim:
    """Something said of maps, the cells of a table that decide it, and the words for how it comes out.

    says: a sentence for the cells whose whole intervals lie `above` the level, `below` it, or on neither side
        (`undecided`), or one sentence for all cells. In it `{cells}` are their names with the intervals in
        brackets, `{values}` the same without brackets, `{names}` the names alone, `{count}` how many, and
        `{total}` how many cells there are in all.
    rows, columns: those that the claim looks at; all if empty.
    than: a row or column of the table that takes the place of the level.
    signed: numbers are shown with their sign, as differences are.
    """

    title: str
    table: str
    says: Mapping[str, str] | str
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    level: float = 0
    than: str = ""
    name: str = "{row}"
    signed: bool = False

    def finding(self, tables: Mapping[str, Table]) -> str:
        """Return the claim with what comes out, as a line of a list."""
        cells = self._cells(tables[self.table])
        if isinstance(self.says, str):
            said = [self._sentence(self.says, {name: cell for name, (cell, _) in cells.items()}, len(cells))]
        else:
            # every outcome needs words, so that a new measurement cannot fall silently out of the page
            sides = {name: side(cell, *limits) for name, (cell, limits) in cells.items()}
            unsaid = sorted(set(sides.values()) - set(self.says))
            if unsaid:
                raise KeyError(f"{self.title} has no words for {', '.join(unsaid)}")
            groups = [
                (sentence, {name: cells[name][0] for name in cells if sides[name] == where})
                for where, sentence in self.says.items()
            ]
            said = [self._sentence(sentence, group, len(cells)) for sentence, group in groups if group]
        return f"- **{self.title}**{'' if self.title.endswith('?') else ':'} {'; '.join(said)}."

    def _cells(self, table: Table) -> dict[str, tuple[Cell, tuple[float, float]]]:
        """Return the cells by name, each with the limits that it is compared with."""
        cells = {}
        for row in self.rows or [row for row in table if row != self.than]:
            for column in self.columns or [name for name in table[row] if name != self.than]:
                if column in table[row]:
                    name = self.name.format(row=row, column=column)
                    if name in cells:
                        raise ValueError(f"{self.title} has two cells `{name}`; name rows and columns")
                    cells[name] = (table[row][column], self._limits(table, row, column))
        return cells

    def _limits(self, table: Table, row: str, column: str) -> tuple[float, float]:
        if not self.than:
            return self.level, self.level
        other = table[self.than][column] if self.than in table else table[row][self.than]
        return other.low, other.high

    def _sentence(self, sentence: str, cells: Mapping[str, Cell], total: int) -> str:
        numbers = {name: written(cell, self.signed) for name, cell in cells.items()}
        return sentence.format(
            cells=_listed([f"{name} ({number})".strip() for name, number in numbers.items()]),
            values=_listed([f"{name} {number}".strip() for name, number in numbers.items()]),
            names=_listed(list(numbers)),
            count=len(numbers),
            total=total,
        )


def _listed(names: Sequence[str]) -> str:
    comma = "; " if any(", " in name.partition("[")[0] for name in names) else ", "
    return " and ".join([*([comma.join(names[:-1])] if names[1:] else []), *names[-1:]])


@dataclass(frozen=True)
class Page:
    """A page of the documentation: its name, the folder of its template, and claims by their place in it."""

    name: str
    folder: str
    claims: Mapping[str, Sequence[Claim]]

    def text(self, record: Record) -> str:
        """Return the template with findings, settings and cells in their places."""
        template = (Path(__file__).parent / self.folder / "page.md").read_text(encoding="utf-8")
        findings = {
            place: "\n".join(claim.finding(record.tables) for claim in claims if claim.table in record.tables)
            or "Not measured."
            for place, claims in self.claims.items()
        }
        return template.format(tables=record.tables, **record.about, **findings)

    def publish(self, record: Record, out: Path = DOCS) -> Path:
        """Write a record as JSON, and the page from that JSON, so that both show the same numbers."""
        # the page is made from what was written, whose digits are rounded, so that it can be made again
        numbers = record.to_json()
        replace_file(out / f"{self.name}.json", lambda path: path.write_text(numbers, encoding="utf-8"))
        text = self.text(Record.from_json(numbers))
        return replace_file(out / f"{self.name}.md", lambda path: path.write_text(text, encoding="utf-8"))
