"""A folder of saved explanations as pages, with an index: no model is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

from chronocam._load import load
from chronocam.errors import ChronocamError, InputError, MediaError
from chronocam.explanation import Explanation
from chronocam.media.files import distinct, is_folder, replace_file, within
from chronocam.records import DriveResult, Entry, Written, read_result
from chronocam.render.page import PageItem, items_of, write_page
from chronocam.render.page.records import PageLink, PageLinks
from chronocam.render.words import short_model
from chronocam.report.drives import drive_item
from chronocam.report.index import Row, list_page, row_of, thumbnail_side
from chronocam.sequence import SequenceExplanation

Track: TypeAlias = Callable[[Sequence["_Source"]], Iterable["_Source"]]
"""Yields the sources, and may show progress."""

Say: TypeAlias = Callable[[str], object]
"""Takes one line about a file that cannot be read."""


_LONGEST: Final = 240  # bytes of a page's name before its number and suffix


@dataclass(frozen=True)
class _Source:
    """What one page is made of.

    name: of what was explained.
    page: the name of its file.
    files: saved explanations by what the page calls them; "" for the name of the method.
    written: what `chronocam explain` wrote about them, None where nothing did.
    """

    name: str
    page: str
    files: Mapping[str, Path]
    written: Written | None


def write_folder(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    title: str | None = None,
    track: Track = iter,
    say: Say = lambda line: None,
) -> Path:
    """Write a page for each input that was explained into a folder, and `index.html`, which this returns.

    folder: what `chronocam explain --out` wrote, or `.npz` files of `Explanation.save` and
        `SequenceExplanation.save`; folders in it are left out.
    out: where the pages go; None for the folder itself.
    title: of the index; None for the name of the folder.
    track: shows progress.
    say: gets one line about each file that cannot be read; the others are shown all the same.

    The same files give the same bytes. Raises InputError where there is nothing to show, MediaError for a
    place that cannot be written.

    Example:
    >>> path = cc.GradCAM(model).explain(images, 0).save("maps/cat.npz", images)
    >>> cc.report.write_folder("maps").name
    'index.html'
    """
    folder = Path(folder)
    target = folder if out is None else Path(out)
    sources = _with_pages(_sources(folder, say))
    if not sources:
        raise InputError(
            f"`{folder}` holds no explanations; expected what `chronocam explain --out` or save() wrote"
        )
    index, rows = target / "index.html", list[Row]()
    for before, page, after in _with_neighbours(
        _pages(track(sources), folder, thumbnail_side(len(sources)), say)
    ):
        links = PageLinks(
            index=PageLink(href=index.name, name=""),
            previous=None if before is None else before.link,
            next=None if after is None else after.link,
        )
        write_page(target / page.file, page.title, page.items, links)
        rows.extend(page.rows)
    if not rows:
        raise InputError(
            f"none of the {len(sources)} explanations in `{folder}` can be read; see the lines above"
        )
    text = list_page(folder.resolve().name if title is None else title, rows)
    return replace_file(index, lambda temporary: temporary.write_text(text, encoding="utf-8"))


@dataclass(frozen=True)
class _Page:
    """A page that is to be written, and its rows of the index."""

    file: str
    title: str
    items: Sequence[PageItem]
    rows: Sequence[Row]

    @property
    def link(self) -> PageLink:
        return PageLink(href=_href(self.file), name=self.title)


def _with_neighbours(pages: Iterable[_Page]) -> Iterator[tuple[_Page | None, _Page, _Page | None]]:
    """Yield each page with the one before and the one after it: three are held at a time."""
    before, page = None, None
    for after in pages:
        if page is not None:
            yield before, page, after
        before, page = page, after
    if page is not None:
        yield before, page, None


def _pages(sources: Iterable[_Source], folder: Path, side: int, say: Say) -> Iterator[_Page]:
    for source in sources:
        # Whatever a file may lack was checked where it was read. Any other exception from here on is a fault
        # of this package, and must not look like the user's.
        try:
            yield _page(source, folder, side)
        except ChronocamError as error:
            say(str(error))


def _page(source: _Source, folder: Path, side: int) -> _Page:
    """Return the page of a source. Raises ChronocamError where a file cannot be read."""
    loaded = [(label, load(path)) for label, path in source.files.items()]
    explanations = {label or one.method: one for label, one in loaded}
    maps = {label: one for label, one in explanations.items() if isinstance(one, Explanation)}
    title = _title(source)
    items = _items(source.written, explanations, maps, folder)
    names = [title if len(items) == 1 else item.name for item in items]
    first = next(iter([*maps.values(), *explanations.values()]))
    usual = {one.text for each in maps.values() for one in each.findings if one.kind == "wide field"}
    rows = [row_of(_href(source.page), names[k], item, first, k, side, usual) for k, item in enumerate(items)]
    return _Page(source.page, title, items, rows)


def _href(page: str) -> str:
    """Return the address of a page beside others, whatever bytes its name has."""
    return quote(os.fsencode(page))


def _items(
    written: Written | None,
    explanations: Mapping[str, Explanation | SequenceExplanation],
    maps: Mapping[str, Explanation],
    folder: Path,
) -> Sequence[PageItem]:
    if written is not None and isinstance(written.result, DriveResult):
        return [drive_item(written, written.result, maps, folder)]
    return items_of(explanations, "" if written is None else short_model(written.model))


def _title(source: _Source) -> str:
    """Return the name of the input; the one of its results where it is a number, as KITTI's sequences are."""
    name = Path(source.written.result.input).name if source.written else ""
    return source.name if name.isdigit() or not name else name


def _sources(folder: Path, say: Say) -> Iterator[_Source]:
    """Yield what `chronocam explain` wrote about, then what else is saved."""
    if not is_folder(folder):
        raise InputError(f"`{folder}` is not a folder; expected one with saved explanations")
    # Results first: they know the name of the input and of the model, which the arrays alone do not.
    taken: set[Path] = set()
    for path in _visible(folder, "*.json"):
        try:
            written = read_result(path)
        except MediaError as error:
            say(str(error))
            continue
        if written is None:
            continue
        entries = written.entries
        # Only names count, not folders: results may have been moved, and must not lead out of the folder.
        files = {_label(entry, entries): folder / Path(entry.file).name for entry in entries}
        taken.update(files.values())
        yield _Source(path.stem, "", files, written)
    for path in _visible(folder, "*.npz"):
        if path not in taken and not path.name.endswith(".depth.npz"):
            yield _Source(path.stem, "", {"": path}, None)


def _visible(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that are neither hidden nor still being written."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _with_pages(sources: Iterable[_Source]) -> list[_Source]:
    """Give every source a page of its own, and none the index's."""
    taken = {"index"}
    return [
        replace(source, page=f"{distinct(within(source.name, _LONGEST), taken)}.html") for source in sources
    ]


def _label(entry: Entry, entries: Sequence[Entry]) -> str:
    """Return the page's name for an explanation: its origin, with a detail where several share it."""
    others = {other.file for other in entries if other.origin == entry.origin} - {entry.file}
    return entry.called or (entry.origin + entry.detail if others else entry.origin)
