"""Data sets that Hugging Face `datasets` saved to disk: Arrow files in a folder with `state.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from chronocam.errors import InputError
from chronocam.runs.dataset.inputs.base import Item, absolute, is_url, need

_MEDIA = ("image", "video")


def fits(argument: str) -> bool:
    """Say whether an argument is the folder of such a data set."""
    return not is_url(argument) and (Path(absolute(argument)) / "state.json").is_file()


def find(argument: str, clips: bool) -> Iterator[Item]:
    """Yield the rows of each file, with the column `label` where there is one."""
    home = Path(absolute(argument))
    state = json.loads((home / "state.json").read_text())
    for name in (one["filename"] for one in state["_data_files"]):
        table = _table(str(home / name))
        _column(table, name)
        labels = table["label"].to_pylist() if "label" in table.column_names else [None] * len(table)
        for row, label in enumerate(labels):
            text = "" if label is None else str(label)
            yield Item(f"{home / name}#{row:09d}", "arrow", str(home / name), row, label=text)


def fetch(item: Item, folder: Path) -> Path:
    """Return a copy of the bytes of a row, or the file that it names."""
    table = _table(item.url)
    value = table[_column(table, item.url)][item.offset].as_py()
    if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
        raise InputError(f"`{item.key}` is empty; expected the bytes of a picture or video")
    if not value.get("bytes"):
        return Path(value["path"])
    copy = folder / f"input{Path(value.get('path') or '').suffix}"
    copy.write_bytes(value["bytes"])
    return copy


def _column(table: Any, name: str) -> str:
    column = next((one for one in _MEDIA if one in table.column_names), None)
    if column is None:
        names = ", ".join(table.column_names)
        raise InputError(f"`{name}` has the columns {names}; expected one called {' or '.join(_MEDIA)}")
    return column


@lru_cache(maxsize=8)
def _table(url: str) -> Any:
    """Return a file as a table; its pages are mapped, and none is read before it is asked for."""
    arrow = need("pyarrow")
    source = arrow.memory_map(url)
    return arrow.ipc.open_stream(source).read_all()
