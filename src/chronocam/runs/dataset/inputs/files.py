"""Files: one, those in a folder and its folders, or those that match a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from posixpath import basename, dirname

from chronocam.errors import MediaError, first_line
from chronocam.runs.dataset.inputs.base import (
    PICTURES,
    Item,
    absolute,
    asking,
    filesystem,
    is_hidden,
    is_url,
    suffix_of,
    suffixes,
    text_of,
)

_CONTAINERS = (".tar", ".csv", ".parquet")


def fits(argument: str) -> bool:
    """Say yes: whatever no other source knows is a file, a folder or a pattern."""
    return True


def containers(argument: str) -> list[str]:
    """Return the files that a pattern of tars or manifests matches; any other argument as it is."""
    if not glob.has_magic(argument) or suffix_of(argument) not in _CONTAINERS:
        return [argument]
    _, paths = _listed(absolute(argument))
    return sorted(paths) or [argument]


def hint(argument: str) -> str:
    """Return what else to say of an argument without inputs: a folder of tars is named by a pattern."""
    _, paths = _listed(absolute(argument))
    kinds = sorted({suffix_of(path) for path in paths} & {*_CONTAINERS})
    folder = argument.rstrip("/")
    return "".join(f", or give `{folder}/**/*{kind}`" for kind in kinds) if kinds else ""


def find(argument: str, clips: bool) -> Iterator[Item]:
    """Yield pictures; or videos and, of folders without any, those that hold frames."""
    url = absolute(argument)
    alone, paths = _listed(url)
    if alone:
        # A file that was named is an input, whatever its name; if it cannot be read, its row says why.
        yield Item(text_of(url), "file", url)
        return
    paths = list(paths)
    closed = [] if is_url(url) else [path for path in paths if path.endswith("/")]  # may not be read
    visible = [path for path in paths if not is_hidden(path)]
    media = [path for path in visible if suffix_of(path) in suffixes(clips)]
    items = [Item(text_of(path), "file", path) for path in media]
    if clips:
        beside = {dirname(path) for path in media}
        frames = {dirname(path) for path in visible if suffix_of(path) in PICTURES}
        items += [Item(text_of(folder), "folder", folder) for folder in frames - beside]
    if closed and not items:
        raise MediaError(f"`{closed[0]}` may not be read; check its permissions")
    yield from (*items, *(Item(text_of(path), "file", path) for path in closed))


def fetch(item: Item, folder: Path) -> Path:
    """Return a copy of a remote file."""
    copy = folder / f"input{suffix_of(item.url)}"
    system, path = filesystem(item.url)
    copy.write_bytes(system.cat_file(path))
    return copy


def fetch_folder(item: Item, folder: Path) -> Path:
    """Return a copy of a remote folder of frames."""
    system, path = filesystem(item.url)
    for name in system.ls(path, detail=False):
        if suffix_of(name) in PICTURES and not is_hidden(name):
            (folder / basename(name)).write_bytes(system.cat_file(name))
    return folder


def _listed(url: str) -> tuple[bool, Iterable[str]]:
    """Return whether a URL is a single file, and the files that it names otherwise."""
    if is_url(url):
        return _listed_remotely(url)
    if not os.path.isdir(url) and os.path.lexists(url):  # noqa: PTH112 (as in media.files)
        return True, ()
    if glob.has_magic(url) and not os.path.isdir(url):  # noqa: PTH112
        return False, (path for path in glob.iglob(url, recursive=True) if not os.path.isdir(path))  # noqa: PTH112, PTH207
    return False, _walked(url)


def _listed_remotely(url: str) -> tuple[bool, Iterable[str]]:
    try:
        with asking(url) as (system, path):
            if glob.has_magic(path):
                names = system.glob(path)
            elif system.isfile(path) and system.info(path).get("mimetype") != "text/html":
                return True, ()
            else:  # a folder, which a web server shows as a page of links
                names = system.find(path)
    except OSError as error:
        raise MediaError(f"`{url}` cannot be listed ({first_line(error)}); check the URL") from error
    return False, (system.unstrip_protocol(name) for name in names)


def _walked(folder: str) -> Iterator[str]:
    """Yield the files in a folder and its folders, and those of them, with a slash, that may not be read.

    A link to a folder around it is left out.
    """
    closed: list[OSError] = []
    around: dict[str, frozenset[str]] = {folder: frozenset([os.path.realpath(folder)])}
    for parent, folders, names in os.walk(folder, onerror=closed.append, followlinks=True):
        above = around.pop(parent)
        inside = {name: os.path.realpath(os.path.join(parent, name)) for name in folders}  # noqa: PTH118
        folders[:] = [name for name, real in inside.items() if real not in above]
        around |= {os.path.join(parent, name): above | {inside[name]} for name in folders}  # noqa: PTH118
        yield from (os.path.join(parent, name) for name in names)  # noqa: PTH118 (a million paths)
    yield from (f"{error.filename}/" for error in closed if isinstance(error, PermissionError))
