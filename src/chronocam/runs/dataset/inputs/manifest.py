"""Manifests: CSV or Parquet files with a column `path` and, if need be, `label`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chronocam.errors import InputError
from chronocam.runs.dataset.inputs.base import Item, absolute, is_url, need, opened


def fits(argument: str) -> bool:
    """Say whether an argument is a manifest."""
    return argument.lower().endswith((".csv", ".parquet"))


def find(argument: str, clips: bool) -> Iterator[Item]:
    """Yield what the rows name; paths are relative to the manifest."""
    url = absolute(argument)
    home = url.rpartition("/")[0]
    for path, label in _rows(url):
        there = path if is_url(path) or path.startswith("/") else f"{home}/{path}"
        folder = clips and not is_url(there) and Path(there).is_dir()
        yield Item(there, "folder" if folder else "file", there, label=label)


def _rows(url: str) -> Iterator[tuple[str, str]]:
    try:
        with opened(url) as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"cannot read `{url}`: {error.strerror or error}; check the path") from error
    if url.lower().endswith(".csv"):
        rows: Any = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        names: list[str] = list(rows.fieldnames or [])
    else:
        parquet = need("pyarrow.parquet")
        names = parquet.read_schema(io.BytesIO(data)).names
        columns = [name for name in ("path", "label") if name in names]
        rows = parquet.read_table(io.BytesIO(data), columns=columns).to_pylist()
    if "path" not in names:
        raise InputError(
            f"`{url}` has the columns {', '.join(names)}; expected `path`, and `label` if need be"
        )
    for row in rows:
        label = row.get("label")
        yield row["path"], "" if label is None else str(label)
