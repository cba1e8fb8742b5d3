"""The rows of a part: one for each input, target and method, maps on their own grid in 8 or 16 bits."""

from __future__ import annotations

import io
import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from chronocam.errors import MediaError, encodable, first_line
from chronocam.jsonable import JsonRecord, parse_json
from chronocam.runs.dataset.inputs.base import need
from chronocam.types import Finding, TargetInfo, Window

if TYPE_CHECKING:
    from chronocam.explanation import Explanation

COLUMNS: Final = (
    *("key", "sample", "target", "method", "layer", "score", "confidence"),
    *("peak", "map", "grid", "signed", "findings", "error"),
)
_NOTES: Final = b"chronocam"
"""Where the metadata of a part hold what has no column: by kind, `[row, value]`, so from that row on."""


class Damaged(Exception):
    """A part holds what no run writes; what it is, for the place where the name of its file is known."""


@dataclass(frozen=True, kw_only=True)
class _Notes(JsonRecord):
    """What of the rows has no column: `[row, value]`, so from that row on.

    looks: where grids lie in inputs: the size of the input, centres, windows and spans of frames.
    look: by method and layer, the number of a look. info: by target, its index and whether signs are kept.
    kinds: of each finding, its kind, and whether it concerns the sample and the target.
    """

    looks: tuple[
        tuple[
            tuple[int, ...],
            tuple[tuple[float, ...], ...] | None,
            tuple[tuple[int, int, int], ...] | None,
            tuple[tuple[int, int], ...] | None,
        ],
        ...,
    ]
    look: Mapping[str, tuple[tuple[int, int], ...]]
    info: Mapping[str, tuple[tuple[int, tuple[int | None, bool]], ...]]
    kinds: tuple[tuple[int, tuple[tuple[str, bool, bool], ...]], ...]


class _Row(NamedTuple):
    """One row, and what of an explanation has no column.

    look: where the grid lies in the input.
    info: the index of the class explained, and whether its maps keep both signs.
    kinds: of each finding, its kind, and whether it concerns the sample and the target.
    """

    key: str
    sample: int
    target: str = ""
    method: str = ""
    layer: str = ""
    score: float | None = None
    confidence: float | None = None
    peak: float | None = None
    map: bytes = b""
    grid: tuple[int, ...] = ()
    signed: bool = False
    findings: str = ""
    error: str = ""
    look: tuple[Any, ...] = ()
    info: tuple[int | None, bool] = (None, False)
    kinds: tuple[tuple[str, bool, bool], ...] = ()


class Rows:
    """The rows of one part.

    maps: `uint8` or `float16`.
    """

    def __init__(self, maps: str) -> None:
        self.maps: str = maps
        self._rows: list[_Row] = []

    def add(self, key: str, sample: int, explanations: dict[str, Explanation], k: int) -> None:
        """Add the rows of sample `k` of a batch; one row alone where a number of it is not finite."""
        every = [(one, t) for one in explanations.values() for t in range(one.scores.shape[1])]
        columns = [(one, t) for one, t in every if not one.targets[k][t].is_missing]
        if not columns:
            one, t = every[0]
            self.fail(key, sample, one.targets[k][t].name)
        elif not all(
            np.isfinite(one.maps[k, t]).all() and np.isfinite(one.scores[k, t]) for one, t in columns
        ):
            self.fail(key, sample, "the model gives numbers that are not finite")
        else:
            self._rows.extend(self._row(key, sample, one, k, t) for one, t in columns)

    def _row(self, key: str, sample: int, one: Explanation, k: int, t: int) -> _Row:
        """Return the row of sample `k` and target `t` of an explanation."""
        target = one.targets[k][t]
        peak, data, signed = encoded(one.maps[k, t], self.maps)
        sure = math.nan if one.confidences is None else float(one.confidences[k, t])
        findings = [f for f in one.findings if f.sample in (None, k) and f.target in (None, target.name)]
        windows = None if one.windows is None else tuple(map(tuple, one.windows))
        return _Row(
            *(key, sample, encodable(target.name), one.method, one.layer, float(one.scores[k, t])),
            *(None if math.isnan(sure) else sure, peak, data, one.maps.shape[2:], signed),
            encodable("\n".join(f.text.removeprefix(f"sample {k}, ") for f in findings)),
            look=(tuple(one.input_size), one.centers, windows, one.frame_spans),
            info=(target.index, target.signed),
            kinds=tuple((f.kind, f.sample is not None, f.target is not None) for f in findings),
        )

    def fail(self, key: str, sample: int, error: str) -> None:
        """Add the row of an input that could not be explained."""
        self._rows.append(_Row(key, sample, error=encodable(error)))

    def part(self) -> bytes:
        """Return the rows as a Parquet file, those of each input in its place."""
        arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
        rows = sorted(self._rows, key=lambda row: row.sample)
        notes = {_NOTES: json.dumps(_notes(rows)).encode()}
        columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
        data = io.BytesIO()
        # Maps repeat no value, so that a dictionary of them would be in the way.
        texts = [name for name in COLUMNS if name != "map"]
        table = arrow.table(columns, schema=schema().with_metadata(notes))
        parquet.write_table(table, data, compression="zstd", use_dictionary=texts)
        return data.getvalue()


def schema() -> Any:
    """Return the names and types of the columns."""
    arrow = need("pyarrow")
    types = [arrow.string(), arrow.int64(), *[arrow.string()] * 3, *[arrow.float32()] * 3, arrow.binary()]
    types += [arrow.list_(arrow.int32()), arrow.bool_(), arrow.string(), arrow.string()]
    return arrow.schema(list(zip(COLUMNS, types, strict=True)))


def explanation(table: Any, row: int) -> Explanation:
    """Return the explanation of a row of a part.

    Raises MediaError where the input failed, and Damaged where the part does not fit together.
    """
    from chronocam.explanation import Explanation
    from chronocam.explanation.file import problems

    one = _Row(**{name: values[0] for name, values in table.slice(row, 1).to_pydict().items()})
    if one.error:
        raise MediaError(one.error)
    if None in (*one[:6], one.map, one.grid, one.findings):
        raise Damaged(f"lacks values of row {row}")
    cells = math.prod(one.grid)
    if min(one.grid, default=0) < 1 or len(one.map) not in (cells, 2 * cells):
        raise Damaged(f"has a map of {len(one.map)} bytes on {one.grid} in row {row}")
    notes = _parsed((table.schema.metadata or {}).get(_NOTES, b""))
    try:
        size, centers, windows, spans = notes.looks[_at(notes.look[_place(one)], row)]
        index, signed = _at(notes.info[one.target], row)
        kinds = _at(notes.kinds, row)
    except LookupError as error:
        raise Damaged(f"does not say what row {row} is of") from error
    sure = one.confidence
    found = Explanation(
        decoded(one.peak or 0.0, one.map, one.grid, one.signed)[None, None],
        np.array([[one.score]], np.float32),
        ((TargetInfo(one.target, index, signed=signed),),),
        one.method,
        one.layer,
        tuple(size),
        centers=None if centers is None else tuple(map(tuple, centers)),
        windows=None if windows is None else tuple(Window(*window) for window in windows),
        frame_spans=None if spans is None else tuple((a, b) for a, b in spans),
        confidences=None if sure is None else np.array([[sure]], np.float32),
        findings=tuple(
            Finding(kind, 0 if of_sample else None, one.target if of_target else None, text)
            for (kind, of_sample, of_target), text in zip(kinds, one.findings.split("\n"), strict=False)
        ),
    )
    for problem in problems(found):
        raise Damaged(f"does not fit together in row {row}: {problem}")
    return found


@lru_cache(maxsize=4)
def _parsed(notes: bytes) -> _Notes:
    """Return the notes of a part, which all its rows share."""
    try:
        return _Notes.from_json(parse_json(notes.decode()), "its notes")
    except (MediaError, UnicodeDecodeError) as error:
        raise Damaged(f"does not say what its rows are of ({first_line(error)})") from error


def encoded(values: np.ndarray, kind: str) -> tuple[float, bytes, bool]:
    """Return the largest size of a map's values, the map as bytes, and whether it has both signs."""
    peak, signed = float(np.abs(values).max()), bool(values.min() < 0)
    scaled = values / (peak or 1.0)
    if kind == "float16":
        return peak, scaled.astype("<f2").tobytes(), signed
    steps, dtype = (127, np.int8) if signed else (255, np.uint8)
    return peak, np.rint(scaled * steps).astype(dtype).tobytes(), signed


def decoded(peak: float, data: bytes, grid: tuple[int, ...], signed: bool) -> np.ndarray:
    """Return the map of `encoded`, float32."""
    if len(data) == 2 * math.prod(grid):
        scaled = np.frombuffer(data, "<f2").astype(np.float32)
    else:
        steps, dtype = (127, np.int8) if signed else (255, np.uint8)
        scaled = np.frombuffer(data, dtype).astype(np.float32) / np.float32(steps)
    return (scaled * np.float32(peak)).reshape(grid)


def _notes(rows: list[_Row]) -> dict[str, Any]:
    looks: list[tuple[Any, ...]] = list(dict.fromkeys(row.look for row in rows if not row.error))
    numbers = {look: k for k, look in enumerate(looks)}
    look: dict[str, list[Any]] = {}
    info: dict[str, list[Any]] = {}
    kinds: list[Any] = []
    for number, row in enumerate(rows):
        if not row.error:
            _put(look.setdefault(_place(row), []), number, numbers[row.look])
            _put(info.setdefault(row.target, []), number, row.info)
            _put(kinds, number, row.kinds)
    return {"looks": looks, "look": look, "info": info, "kinds": kinds}


def _place(row: _Row) -> str:
    return f"{row.method}@{row.layer}"


def _put(changes: list[Any], row: int, value: Any) -> None:
    """Keep a value from a row on, unless it is what it was."""
    if not changes or changes[-1][1] != value:
        changes.append((row, value))


def _at(changes: Sequence[Any], row: int) -> Any:
    """Return the value at a row. Raises LookupError where there is none."""
    return changes[bisect_right([first for first, _ in changes], row) - 1][1]
