"""The rows of a part: one for each input, target and method, maps on their own grid in 8 or 16 bits."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from chronocam.runs.dataset.inputs.base import need

if TYPE_CHECKING:
    from chronocam.explanation import Explanation

COLUMNS: Final = (
    *("key", "sample", "target", "method", "layer", "score", "confidence"),
    *("peak", "map", "grid", "signed", "findings", "error"),
)
SIZES: Final = b"chronocam.input_size"
"""Where the metadata of a part hold `[row, input size, frame spans]`, which are so from that row on."""


class Rows:
    """Rows as columns.

    maps: `uint8` or `float16`.
    """

    def __init__(self, maps: str) -> None:
        self.maps: str = maps
        self.columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.sizes: list[list[Any]] = []
        self.failures: int = 0

    def add(self, key: str, sample: int, found: dict[str, Explanation], k: int) -> None:
        """Add the rows of sample `k` of a batch; one row alone where a number of it is not finite."""
        every = list(found.values())
        if not all(np.isfinite(one.maps[k]).all() and np.isfinite(one.scores[k]).all() for one in every):
            self.fail(key, sample, "the model gives numbers that are not finite")
            return
        for one in every:
            size = [list(one.input_size), None if one.frame_spans is None else [*map(list, one.frame_spans)]]
            if not self.sizes or self.sizes[-1][1:] != size:
                self.sizes.append([len(self.columns["key"]), *size])
            findings = "\n".join(
                f.text.removeprefix(f"sample {k}, ") for f in one.findings if f.sample in (None, k)
            )
            for t, target in enumerate(one.targets[k]):
                peak, data, signed = encoded(one.maps[k, t], self.maps)
                sure = None if one.confidences is None else float(one.confidences[k, t])
                grid = list(one.maps.shape[2:])
                score = float(one.scores[k, t])
                row = (key, sample, target.name, one.method, one.layer, score, sure, peak, data, grid, signed)
                self._append(*row, findings, "")

    def fail(self, key: str, sample: int, error: str) -> None:
        """Add the row of an input that could not be explained."""
        self.failures += 1
        self._append(key, sample, "", "", "", None, None, None, b"", [], False, "", error)

    def _append(self, *values: Any) -> None:
        for name, value in zip(COLUMNS, values, strict=True):
            self.columns[name].append(value)


def encoded(values: np.ndarray, kind: str) -> tuple[float, bytes, bool]:
    """Return the largest size of a map's values, the map as bytes, and whether it has both signs."""
    peak, signed = float(np.abs(values).max()), bool(values.min() < 0)
    scaled = values / (peak or 1.0)
    if kind == "float16":
        return peak, scaled.astype("<f2").tobytes(), signed
    steps, dtype = (127, np.int8) if signed else (255, np.uint8)
    return peak, np.rint(scaled * steps).astype(dtype).tobytes(), signed


def decoded(peak: float, data: bytes, grid: list[int], signed: bool) -> np.ndarray:
    """Return the map of `encoded`, float32."""
    if len(data) == 2 * int(np.prod(grid)):
        scaled = np.frombuffer(data, "<f2").astype(np.float32)
    else:
        steps, dtype = (127, np.int8) if signed else (255, np.uint8)
        scaled = np.frombuffer(data, dtype).astype(np.float32) / np.float32(steps)
    return (scaled * np.float32(peak)).reshape(grid)


def part_of(rows: Rows) -> bytes:
    """Return rows as a Parquet file."""
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    types = [arrow.string(), arrow.int64(), *[arrow.string()] * 3, *[arrow.float32()] * 3, arrow.binary()]
    types += [arrow.list_(arrow.int32()), arrow.bool_(), arrow.string(), arrow.string()]
    schema = arrow.schema(list(zip(COLUMNS, types, strict=True)), {SIZES: json.dumps(rows.sizes).encode()})
    data = io.BytesIO()
    parquet.write_table(arrow.table(rows.columns, schema=schema), data, compression="zstd")
    return data.getvalue()
