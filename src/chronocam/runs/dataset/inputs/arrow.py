"""Data sets that Hugging Face `datasets` saved to disk: Arrow files in a folder with `state.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from chronocam.errors import InputError, first_line
from chronocam.media.files import is_file
from chronocam.runs.dataset.inputs.base import Item, absolute, is_url, label_of, need, text_of

_INFO: Final = "dataset_info.json"


def fits(argument: str) -> bool:
    """Say whether an argument is the folder of such a data set, or of one with several splits."""
    home = Path(absolute(argument))
    names = ("state.json", "dataset_dict.json")
    return not is_url(argument) and any(is_file(home / name) for name in names)


def find(argument: str, clips: bool) -> Iterator[Item]:
    """Yield the rows of each file, with the column `label` where there is one.

    Raises InputError for folders that are not such a data set, and for one that has splits.
    """
    home = Path(absolute(argument))
    if not is_file(home / "state.json"):
        splits = ", ".join(sorted(f"`{argument}/{one.parent.name}`" for one in home.glob("*/state.json")))
        raise InputError(f"`{argument}` has splits; give one of {splits or 'them'}")
    try:
        state = json.loads((home / "state.json").read_text())
        files = [str(home / one["filename"]) for one in state["_data_files"]]
        tables = {file: _table(file) for file in files}
        about = json.loads((home / _INFO).read_text()) if is_file(home / _INFO) else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = "expected a data set of Hugging Face saved to disk"
        raise InputError(f"cannot read `{argument}` ({first_line(error)}); {expected}") from error
    for file, table in tables.items():
        _column(table, file)
        names = _class_names(table, about)
        values = table["label"].to_pylist() if "label" in table.column_names else [None] * len(table)
        for row, value in enumerate(values):
            yield Item(text_of(f"{file}#{row:09d}"), "arrow", file, row, label=_label(value, names))


def fetch(item: Item, folder: Path) -> Path:
    """Return a copy of the bytes of a row, or the file that it names."""
    table = _table(item.url)
    value = table[_column(table, item.url)][item.offset].as_py()
    if isinstance(value, bytes):
        value = {"bytes": value}
    if not value or not (value.get("bytes") or value.get("path")):
        raise InputError(f"`{item.key}` is empty; expected the bytes of a picture or video")
    if not value.get("bytes"):
        return Path(value["path"])
    copy = folder / f"input{Path(value.get('path') or '').suffix}"
    copy.write_bytes(value["bytes"])
    return copy


def _column(table: Any, name: str) -> str:
    """Return the first column of pictures or videos, which hold bytes and a path, or bytes alone."""
    for field in table.schema:
        if need("pyarrow").types.is_binary(field.type):
            return str(field.name)
        if {"bytes", "path"} <= {field.type.field(i).name for i in range(field.type.num_fields)}:
            return str(field.name)
    names = ", ".join(table.column_names)
    raise InputError(f"`{name}` has the columns {names}; expected one of pictures or videos")


def _class_names(table: Any, about: dict[str, Any]) -> Sequence[str] | None:
    """Return what the classes of the column `label` are called, where the file or the data set says it."""
    own = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}")).get("info", about)
    label = (own.get("features") or {}).get("label", {})
    return label.get("names") if isinstance(label, dict) else None


def _label(value: Any, names: Sequence[str] | None) -> str:
    # Rows without a label have the number -1 there.
    if isinstance(value, int) and (value == -1 or (names and 0 <= value < len(names))):
        return "" if value == -1 or not names else names[value]
    return label_of(value)


@lru_cache(maxsize=64)
def _table(url: str) -> Any:
    """Return a file as a table; its pages are mapped, and none is read before it is asked for."""
    arrow = need("pyarrow")
    try:
        return arrow.ipc.open_stream(arrow.memory_map(url)).read_all()
    except arrow.ArrowInvalid:  # the other form of Arrow files
        return arrow.ipc.open_file(arrow.memory_map(url)).read_all()
