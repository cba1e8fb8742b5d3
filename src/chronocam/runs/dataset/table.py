"""`cc.runs.open`: the rows of a run, read when they are asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from chronocam.errors import InputError, MediaError, first_line, suggest
from chronocam.explanation import Explanation
from chronocam.runs.dataset.inputs import fetched
from chronocam.runs.dataset.inputs.base import need
from chronocam.runs.dataset.place import Place
from chronocam.runs.dataset.plan import Plan, read_plan, readable
from chronocam.runs.dataset.rows import COLUMNS, Damaged, explanation, schema

if TYPE_CHECKING:
    from PIL.Image import Image

    from chronocam.media import Clip


class Table:
    """The rows of the parts that a run has written so far, or some of them.

    Example:
        >>> cc.media.write_image("one/a.png", np.full((96, 96), 9, np.uint8))
        >>> len(cc.runs.run("one", "chronocam:digits", "one-out", targets=3))
        1
    """

    def __init__(self, plan: Plan) -> None:
        there = plan.place.names()
        self.plan: Plan = plan
        self._parts = [name for name in plan.parts if name in there]
        self._part = lru_cache(maxsize=4)(self._read)
        self._ends: list[int] = np.cumsum([self._count(name) for name in self._parts], dtype=int).tolist()
        self._rows: Sequence[int] = range(self._ends[-1] if self._ends else 0)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Explanation:
        """Return the explanation of a row. Raises MediaError with its error where the input failed."""
        part, place = self._place(row)
        try:
            one = explanation(part, place)
        except Damaged as error:
            name = self._parts[bisect_right(self._ends, self._rows[row])]
            raise MediaError(f"`{self.plan.place.path(name)}` {error}") from error
        return replace(one, preprocess=self.plan.header.recipe())

    def input(self, row: int) -> Image | Clip:
        """Return the picture or clip of a row, to draw its explanation on. Raises MediaError for none.

        Example:
            >>> cc.media.write_image("nine/a.png", np.full((96, 96), 9, np.uint8))
            >>> table = cc.runs.run("nine", "chronocam:digits", "nine-out", targets=3)
            >>> table[0].save("nine.html", table.input(0)).name
            'nine.html'
        """
        from chronocam.media import read_image

        sample = self.column("sample", row)
        shard = self.plan.settings.shard
        item = self.plan.items(sample // shard)[sample % shard]
        recipe: Any = self.plan.header.recipe()
        with fetched(item) as path:
            return recipe.read(path) if self.plan.settings.clips else read_image(path)

    def where(self, condition: str) -> Table:
        """Return the table of the rows that fit a condition of SQL on the columns, all but `map`.

        Raises InputError for what is none.

        Example:
            >>> _ = [cc.media.write_image(f"dark/{k}.png", np.full((96, 96), k, np.uint8)) for k in range(3)]
            >>> table = cc.runs.run("dark", "chronocam:digits", "dark-out", targets=[3, 5])
            >>> len(table.where("target = '3' and key like '%2.png'"))
            1
        """
        duckdb = need("duckdb")
        columns = [column for column in COLUMNS if column != "map"]
        rows_that_fit: list[int] = []
        try:
            with duckdb.connect(config={"enable_external_access": "false"}) as connection:
                for first, name in zip([0, *self._ends], self._parts, strict=False):
                    rows = self._read(name, columns)
                    numbers = need("pyarrow").array(range(first, first + len(rows)))
                    connection.register("rows", rows.append_column("row of the run", numbers))
                    result = connection.execute(f'select "row of the run" from rows where ({condition}\n)')
                    rows_that_fit.extend(number for (number,) in result.fetchall())
        except duckdb.Error as error:
            expected = f"expected SQL on the columns {', '.join(columns)}"
            raise InputError(f"`{condition}` chooses no rows ({first_line(error)}); {expected}") from error
        table = copy(self)
        table._rows = sorted({*rows_that_fit} & {*self._rows})
        return table

    def column(self, name: str, row: int) -> Any:
        """Return what a column holds at a row, of an input that failed too."""
        part, place = self._place(row)
        return part[name][place].as_py()

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """Return the rows as a DataFrame. Raises InputError for a column that there is not.

        columns: None for all.
        """
        for name in columns or ():
            if name not in COLUMNS:
                raise InputError(
                    f"no column `{name}`{suggest(name, [*COLUMNS])}; there are {', '.join(COLUMNS)}"
                )
        tables = [rows.replace_schema_metadata(None) for rows in self._every(columns)]
        if not tables:
            tables = [schema().empty_table().select(list(columns or COLUMNS))]
        return need("pyarrow").concat_tables(tables).to_pandas(use_threads=False)

    def _every(self, columns: Sequence[str] | None) -> Iterator[Any]:
        """Yield the rows of each part."""
        for first, last, name in zip([0, *self._ends], self._ends, self._parts, strict=False):
            rows = self._read(name, columns)
            own = self._rows[bisect_left(self._rows, first) : bisect_left(self._rows, last)]
            yield rows if len(own) == len(rows) else rows.take(np.array(own, dtype=int) - first)

    @property
    def failures(self) -> int:
        """How many inputs could not be explained."""
        return sum(map(bool, chain.from_iterable(one["error"].to_pylist() for one in self._every(["error"]))))

    def _place(self, row: int) -> tuple[Any, int]:
        """Return the part of a row, and its place there."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"no row {row} of {len(self)}")
        number = self._rows[row]
        part = bisect_right(self._ends, number)
        return self._part(self._parts[part]), number - (self._ends[part - 1] if part else 0)

    def _count(self, name: str) -> int:
        with readable(self.plan.place, name, schema()) as part:
            return int(part.metadata.num_rows)

    def _read(self, name: str, columns: Iterable[str] | None = None) -> Any:
        with readable(self.plan.place, name, schema()) as part:
            # Arrow's own threads may still be at a file of Python when the process ends, which aborts it.
            return part.read(columns=columns and list(columns), use_threads=False)


def open(folder: str | PathLike[str]) -> Table:
    """Return the rows of a run. Raises MediaError where there is none.

    folder: what `cc.runs.run` wrote to.

    Example:
        >>> _ = [cc.media.write_image(f"few/{k}.png", np.full((96, 96), k, np.uint8)) for k in range(2)]
        >>> _ = cc.runs.run("few", "chronocam:digits", "maps", targets=3)
        >>> cc.runs.open("maps")[1].method
        'gradcam'
    """
    return Table(read_plan(Place(fspath(folder))))
