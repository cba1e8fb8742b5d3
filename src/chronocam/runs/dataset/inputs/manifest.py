"""Manifests: CSV or Parquet files with a column `path` and, if need be, `label`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from chronocam.errors import InputError, first_line
from chronocam.media.files import is_folder
from chronocam.runs.dataset.inputs.base import (
    Item,
    absolute,
    is_url,
    label_of,
    need,
    no_such,
    opened,
    text_of,
)


def fits(argument: str) -> bool:
    """Say whether an argument is a manifest."""
    return argument.lower().endswith((".csv", ".parquet"))


def find(argument: str, clips: bool) -> Iterator[Item]:
    """Yield what the rows name; paths are relative to the manifest. Raises InputError for no manifest."""
    url = absolute(argument)
    home = url.rpartition("/")[0]
    for number, (path, value) in enumerate(_rows(url)):
        label = label_of(value)
        if not path:
            yield Item(text_of(f"row {number} of {url}"), "file", "", label=label)
            continue
        there = path if is_url(path) or path.startswith("/") else f"{home}/{path}"
        folder = clips and not is_url(there) and is_folder(there)
        yield Item(text_of(there), "folder" if folder else "file", there, label=label)


def _rows(url: str) -> Iterable[tuple[str | None, Any]]:
    try:
        with opened(url) as file:
            data = file.read()
        return _of_csv(url, data) if url.lower().endswith(".csv") else _of_parquet(url, data)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise no_such(url) from error
    # Storage, decoders and Arrow raise errors of their own.
    except Exception as error:
        raise InputError(
            f"cannot read `{url}` ({first_line(error)}); expected a manifest in UTF-8 or Parquet"
        ) from error


def _of_csv(url: str, data: bytes) -> list[tuple[str | None, Any]]:
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    _check(url, list(rows.fieldnames or []))
    return [(row["path"], row.get("label")) for row in rows]


def _of_parquet(url: str, data: bytes) -> Iterable[tuple[str | None, Any]]:
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    file = parquet.ParquetFile(io.BytesIO(data))
    names = file.schema_arrow.names
    _check(url, names)
    columns = [name for name in ("path", "label") if name in names]
    table = file.read(columns=columns, use_threads=False)
    kind = table["path"].type
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind) or arrow.types.is_null(kind)):
        raise InputError(f"`path` of `{url}` is of type {kind}; expected text")
    labels = table["label"].to_pylist() if "label" in names else repeat(None)
    return zip(table["path"].to_pylist(), labels, strict=False)


def _check(url: str, names: Sequence[str]) -> None:
    if "path" not in names:
        there = f"has the columns {', '.join(names)}" if names else "is empty"
        raise InputError(f"`{url}` {there}; expected a column `path`, and `label` if need be")
    for name in ("path", "label"):
        if list(names).count(name) > 1:
            raise InputError(f"`{url}` has several columns `{name}`; expected one")
