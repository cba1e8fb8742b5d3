"""A folder of saved explanations as pages, with an index: nothing is asked of any model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from chronocam.errors import ChronocamError, InputError, MediaError
from chronocam.explanation import Explanation, load
from chronocam.media.files import replace_file
from chronocam.report.drives import drive_item, saved
from chronocam.report.items import items_of
from chronocam.report.page import list_page, page
from chronocam.report.rows import row
from chronocam.sequence import SequenceExplanation
from chronocam.sequence import load as load_sequence

Track: TypeAlias = Callable[[Sequence["_Source"]], Iterable["_Source"]]
"""Yields what it is given, and may show how far it is."""


@dataclass(frozen=True)
class _Source:
    """What one page is made of.

    name: of what was explained. page: of its file. files: saved explanations by what the page calls them.
        told: what
    `chronocam explain` wrote of them, empty where nothing did.
    """

    name: str
    page: str
    files: Mapping[str, Path]
    told: Mapping[str, Any]


def write_folder(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    track: Track = iter,
    say: Callable[[str], Any] = lambda line: None,
) -> Path:
    """Write a page for each input that was explained into a folder, and `index.html`, which this returns.

    folder: what `chronocam explain --out` wrote, or `.npz` files of `Explanation.save` and
        `SequenceExplanation.save`; its own folders are left out.
    out: where the pages go; None for the folder itself.
    track: shows progress. say: is told, in one line, of each file that cannot be read; the others go on.

    The same files give the same bytes. Raises InputError where there is nothing to show, MediaError for a
    place that cannot be written.
    """
    folder = Path(folder)
    target = folder if out is None else Path(out)
    sources = _with_pages(_sources(folder))
    if not sources:
        raise InputError(
            f"`{folder}` holds no explanations; expected what `chronocam explain --out` or save() wrote"
        )
    rows: list[dict[str, Any]] = []
    for source in track(sources):
        try:
            rows.extend(_written(source, target, folder))
        except (ChronocamError, KeyError, TypeError, ValueError, IndexError) as error:
            say(_fault(source, error))
    if not rows:
        raise InputError(
            f"none of the {len(sources)} explanations in `{folder}` can be read; see the lines above"
        )
    return _write(target / "index.html", list_page(folder.resolve().name, rows))


def _fault(source: _Source, error: Exception) -> str:
    if isinstance(error, ChronocamError):
        return str(error)
    return f"`{source.name}` is damaged ({type(error).__name__}: {error}); explain it again"


def _written(source: _Source, target: Path, folder: Path) -> list[dict[str, Any]]:
    """Write one page; return its rows of the index."""
    loaded = [(name, _load(path)) for name, path in source.files.items()]
    shown = {name or one.method: one for name, one in loaded}
    model = str(source.told.get("model", ""))
    given = Path(str(source.told.get("input", source.name))).name
    title = source.name if given.isdigit() else given  # KITTI's sequences are numbers
    of_drive = "network" in (source.told.get("maps") or [{}])[0]
    items = [drive_item(source.told, shown, folder)] if of_drive else items_of(shown, model)
    names = [title if len(items) == 1 else item["name"] for item in items]
    file = f"{source.page}.html"
    rows = [row(quote(file), names[i], item, shown, i) for i, item in enumerate(items)]
    _write(target / file, page(title, items))
    return rows


def _write(path: Path, text: str) -> Path:
    return replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _sources(folder: Path) -> Iterator[_Source]:
    """Yield what `chronocam explain` told of, then what else is saved."""
    if not folder.is_dir():
        raise InputError(f"`{folder}` is no folder; expected one with saved explanations")
    taken: set[Path] = set()
    for path in sorted(folder.glob("*.json")):
        try:
            source = _told(path)
        except MediaError:
            continue  # another JSON file
        taken.update(source.files.values())
        yield source
    for path in sorted(folder.glob("*.npz")):
        if path not in taken and not path.name.endswith(".depth.npz"):
            yield _Source(path.stem, "", {"": path}, {})  # by its method's name


def _with_pages(sources: Iterable[_Source]) -> list[_Source]:
    """Give every source a page of its own, and none the index's."""
    taken, found = {"index"}, []
    for source in sources:
        name, number = source.name, 2
        while name in taken:
            name, number = f"{source.name}-{number}", number + 1
        taken.add(name)
        found.append(replace(source, page=name))
    return found


def _told(path: Path) -> _Source:
    """Return what a JSON file of `chronocam explain` tells of. Raises MediaError for another one."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        entries = [*told.get("maps", []), *told.get("sequences", [])]
        files = {_called(entry, entries): path.with_name(Path(saved(entry)).name) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError(f"`{path}` is no result of `chronocam explain`; explain the input again") from error
    if not files:
        raise MediaError(f"`{path}` tells of no explanation; explain the input again")
    return _Source(path.stem, "", files, told)


def _called(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Return what the page calls an explanation: its method, and where several are told apart by it, its layer."""
    if "called" in entry:
        return str(entry["called"])
    method, file = str(entry["method"]), saved(entry)
    if "network" in entry:
        method = f"{entry['network']}: {method}"
    others = {saved(other) for other in entries if _alike(other, entry)} - {file}
    if not others:
        return method
    return f"{method} at {entry['layer']}" if "layer" in entry else f"{method}: {entry.get('target', file)}"


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("method", "network"))


def _load(path: Path) -> Explanation | SequenceExplanation:
    try:
        return load(path)
    except MediaError:
        return load_sequence(path)
