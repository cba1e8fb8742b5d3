"""An evaluation as files: JSON, Parquet, a page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronocam.errors import InputError, encodable

if TYPE_CHECKING:
    from chronocam.evaluation.measures import Measure
    from chronocam.evaluation.panel import Row
    from chronocam.evaluation.result import Evaluation


def as_json(result: Evaluation) -> str:
    """Return everything but the pictures; NaN is null."""
    data = {
        "verdicts": result.verdicts,
        "rows": result.records(),
        "comparisons": [
            {
                "method": one.row.method,
                "layer": one.row.layer,
                "against": str(one.against),
                "measure": one.measure.name,
                "difference": one.difference.mean,
                "low": one.difference.low,
                "high": one.difference.high,
                "samples": one.difference.count,
                "p": one.p,
            }
            for one in result.comparisons
        ],
        "samples": values_of(result.samples, result.rows, result.measures),
        "agreement": result.agreement.tolist(),
        "failures": [{"name": name, "error": error} for name, error in result.failures],
        "notes": list(result.notes),
        "passes": result.passes,
        "alone": result.alone,
    }
    return json.dumps(_plain(data), indent=1, allow_nan=False)


def values_of(
    samples: Iterable[dict[str, Any]], rows: Sequence[Row], measures: Sequence[Measure]
) -> list[dict[str, Any]]:
    """Return a record per sample, method and measure."""
    return [
        {
            **{key: sample[key] for key in ("sample", "name", "group", "target", "confidence")},
            "method": row.method,
            "layer": row.layer,
            "measure": measure.name,
            "value": measure.number(sample["values"][row][measure.name]),
        }
        for sample in samples
        for row in rows
        for measure in measures
        if measure.name in sample["values"].get(row, {})
    ]


def write_parquet(path: Path, values: list[dict[str, Any]]) -> None:
    """Write the rows of `values_of`. Raises InputError where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("Parquet needs pyarrow; pip install 'chronocam[runs]'") from error
    rows = [
        {name: encodable(one) if isinstance(one, str) else one for name, one in row.items()} for row in values
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def as_page(result: Evaluation) -> str:
    """Return a page that stands alone."""
    from chronocam.evaluation.page import page

    return page(result)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
