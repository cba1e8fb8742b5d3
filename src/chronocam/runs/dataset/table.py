"""`cc.runs.open`: the rows of a run, read when they are asked for."""

from __future__ import annotations

import json
from bisect import bisect_right
from functools import lru_cache
from itertools import chain
from os import PathLike, fspath
from typing import Any

import numpy as np

from chronocam.errors import MediaError
from chronocam.explanation import Explanation
from chronocam.runs.dataset.inputs.base import need
from chronocam.runs.dataset.place import Place
from chronocam.runs.dataset.plan import read_plan
from chronocam.runs.dataset.rows import SIZES, decoded
from chronocam.types import Finding, TargetInfo


class Table:
    """The rows of the parts that a run has written so far.

    Example:
        >>> cc.media.write_image("one/a.png", np.full((96, 96), 9, np.uint8))
        >>> len(cc.runs.run("one", "chronocam:digits", "one-out", targets=3))
        1
    """

    def __init__(self, place: Place) -> None:
        there = place.names()
        self._place = place
        self._parts = [name for name in read_plan(place).parts if name in there]
        self._part = lru_cache(maxsize=4)(self._read)
        counts = [self._count(name) for name in self._parts]
        self._ends = np.cumsum(counts, dtype=int).tolist()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, row: int) -> Explanation:
        """Return the explanation of a row. Raises MediaError with its error where the input failed."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"no row {row} of {len(self)}")
        row %= len(self)
        part = bisect_right(self._ends, row)
        first = self._ends[part - 1] if part else 0
        table = self._part(self._parts[part])
        return _explanation(table, row - first)

    def to_pandas(self) -> Any:
        """Return all rows as a DataFrame."""
        arrow = need("pyarrow")
        tables = [self._read(name).replace_schema_metadata(None) for name in self._parts]
        return arrow.concat_tables(tables).to_pandas()

    @property
    def failures(self) -> int:
        """How many inputs could not be explained."""
        errors = (self._read(name, ["error"])["error"].to_pylist() for name in self._parts)
        return sum(map(bool, chain.from_iterable(errors)))

    def _count(self, name: str) -> int:
        with self._place.opened(name) as file:
            return int(need("pyarrow.parquet").read_metadata(file).num_rows)

    def _read(self, name: str, columns: list[str] | None = None) -> Any:
        with self._place.opened(name) as file:
            return need("pyarrow.parquet").read_table(file, columns=columns)


def open(folder: str | PathLike[str]) -> Table:
    """Return the rows of a run. Raises MediaError where there is none.

    folder: what `cc.runs.run` wrote to.

    Example:
        >>> _ = [cc.media.write_image(f"few/{k}.png", np.full((96, 96), k, np.uint8)) for k in range(2)]
        >>> _ = cc.runs.run("few", "chronocam:digits", "maps", targets=3)
        >>> cc.runs.open("maps")[1].method
        'gradcam'
    """
    return Table(Place(fspath(folder)))


def _explanation(table: Any, row: int) -> Explanation:
    one = {name: values[0] for name, values in table.slice(row, 1).to_pydict().items()}
    if one["error"]:
        raise MediaError(one["error"])
    sizes = json.loads(table.schema.metadata[SIZES])
    _, size, spans = sizes[bisect_right([start for start, *_ in sizes], row) - 1]
    sure = one["confidence"]
    return Explanation(
        decoded(one["peak"], one["map"], one["grid"], one["signed"])[None, None],
        np.array([[one["score"]]], np.float32),
        ((TargetInfo(one["target"]),),),
        one["method"],
        one["layer"],
        tuple(size),
        frame_spans=None if spans is None else tuple((a, b) for a, b in spans),
        confidences=None if sure is None else np.array([[sure]], np.float32),
        findings=tuple(Finding("note", 0, one["target"], text) for text in one["findings"].splitlines()),
    )
