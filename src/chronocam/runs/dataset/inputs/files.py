"""Files: one, those in a folder and its folders, or those that match a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from posixpath import dirname, splitext

from chronocam.media.images import IMAGE_SUFFIXES
from chronocam.runs.dataset.inputs.base import Item, absolute, is_url, need, opened
from chronocam.runs.inputs import VIDEO_SUFFIXES


def fits(argument: str) -> bool:
    """Say yes: whatever no other source knows is a file, a folder or a pattern."""
    return True


def find(argument: str, clips: bool) -> Iterator[Item]:
    """Yield pictures; or videos and, of folders without any, those that hold frames."""
    url = absolute(argument)
    alone, paths = _listed(url)
    if alone:
        # A file that was named is an input, whatever its name; one that is none gets its row.
        yield Item(url, "file", url)
        return
    seen = [path for path in paths if not os.path.basename(path).startswith(".")]  # noqa: PTH119 (URLs too)
    if not clips:
        yield from (Item(path, "file", path) for path in seen if _suffix(path) in IMAGE_SUFFIXES - {".gif"})
        return
    videos = [path for path in seen if _suffix(path) in VIDEO_SUFFIXES]
    yield from (Item(path, "file", path) for path in videos)
    beside = {dirname(path) for path in videos}
    frames = {dirname(path) for path in seen if _suffix(path) in IMAGE_SUFFIXES - {".gif"}}
    yield from (Item(folder, "folder", folder) for folder in frames - beside)


def fetch(item: Item, folder: Path) -> Path:
    """Return a local file as it is, a copy of a remote one."""
    if not is_url(item.url):
        return Path(item.url)
    copy = folder / f"input{_suffix(item.url)}"
    with opened(item.url) as source:
        copy.write_bytes(source.read())
    return copy


def fetch_folder(item: Item, folder: Path) -> Path:
    """Return a local folder of frames as it is, a copy of a remote one."""
    if not is_url(item.url):
        return Path(item.url)
    system, path = need("fsspec").core.url_to_fs(item.url)
    for name in system.ls(path, detail=False):
        (folder / os.path.basename(name)).write_bytes(system.cat_file(name))  # noqa: PTH119
    return folder


def _listed(url: str) -> tuple[bool, Iterable[str]]:
    """Return whether a URL is a single file, and the files that it names otherwise."""
    if is_url(url):
        system, path = need("fsspec").core.url_to_fs(url)
        if system.isfile(path):
            return True, ()
        names = system.glob(path) if glob.has_magic(path) else system.find(path)
        return False, (system.unstrip_protocol(name) for name in names)
    if os.path.isfile(url):  # noqa: PTH113 (as in media.files)
        return True, ()
    if glob.has_magic(url) and not os.path.isdir(url):  # noqa: PTH112
        return False, (path for path in glob.iglob(url, recursive=True) if os.path.isfile(path))  # noqa: PTH113, PTH207
    return False, (
        os.path.join(parent, name)  # noqa: PTH118 (a million paths)
        for parent, _, names in os.walk(url, followlinks=True)
        for name in names
    )


def _suffix(path: str) -> str:
    return splitext(path)[1].lower()
