"""WebDataset tars: a picture or video is a member, and `NAME.cls` beside it its label."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from posixpath import basename, dirname, splitext
from tempfile import TemporaryFile
from threading import Lock
from typing import IO, Any, Final

from chronocam.errors import InputError, first_line
from chronocam.runs.dataset.inputs.base import (
    Item,
    absolute,
    is_hidden,
    is_url,
    no_such,
    opened,
    suffixes,
    text_of,
)

_LABEL: Final = ".cls"
_BROKEN: Final = -1  # the size of what is left of a tar that breaks off
_COMPRESSED: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_COPIES = Lock()


def fits(argument: str) -> bool:
    """Say whether an argument is a tar."""
    return argument.lower().endswith((".tar", *_COMPRESSED))


def find(argument: str, clips: bool) -> Iterator[Item]:
    """Yield the members, with the places of their bytes, and what is left of a tar that breaks off.

    Raises InputError for anything but a plain tar.
    """
    url = absolute(argument)
    if url.lower().endswith(_COMPRESSED):
        raise InputError(f"`{url}` is compressed, and members are read where they lie; unpack it to a .tar")
    members: list[tarfile.TarInfo] = []
    labels: dict[str, str] = {}
    try:
        with _seekable(url) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in _whole(archive):
                suffix = splitext(member.name)[1].lower()
                if suffix == _LABEL and (text := archive.extractfile(member)):
                    labels[_sample(member.name)] = text.read().decode(errors="backslashreplace").strip()
                elif member.isfile() and suffix in suffixes(clips) and not is_hidden(member.name):
                    members.append(member)
            end = archive.offset
            file.seek(end)
            broken = file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE)
    except FileNotFoundError as error:
        raise no_such(url) from error
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"cannot read `{url}` ({first_line(error)}); expected a plain tar") from error
    for member in members:
        key, label = text_of(f"{url}#{member.name}"), labels.get(_sample(member.name), "")
        yield Item(key, "tar", url, member.offset_data, member.size, label)
    if broken:
        last = f"after {members[-1].name}" if members else f"at byte {end}"
        yield Item(text_of(f"{url}#{last}"), "tar", url, end, _BROKEN)


def _whole(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members up to the end, or to where the file breaks off: it ends in the last one's bytes."""
    member = None
    try:
        for member in archive:
            yield member
    except tarfile.ReadError:
        if member is None:
            raise


def fetch(item: Item, folder: Path) -> Path:
    """Return a copy of a member. Raises InputError for what is left of a tar that breaks off."""
    if item.size == _BROKEN:
        raise InputError(
            f"`{item.url}` breaks off at byte {item.offset}: what follows is lost; fetch it again"
        )
    copy = folder / f"input{splitext(item.key)[1]}"
    with _seekable(item.url) as file:
        file.seek(item.offset)
        copy.write_bytes(file.read(item.size))
    return copy


def _sample(name: str) -> str:
    """Return what the files of one sample have in common: their name up to its first dot."""
    return f"{dirname(name)}/{basename(name).partition('.')[0]}"


@contextmanager
def _seekable(url: str) -> Iterator[Any]:
    """Yield an open file; where a server sends whole files alone, a copy of it."""
    if not is_url(url) or _has_ranges(url):
        with opened(url) as file:
            yield file
        return
    with _COPIES:  # two threads may want it, and a file has one place
        copy = _copy(url)
        copy.seek(0)
        yield copy


@lru_cache(maxsize=64)
def _has_ranges(url: str) -> bool:
    """Say whether a part of a file can be read by itself."""
    with opened(url) as file:
        try:
            file.seek(1)
            file.read(1)
        except (OSError, ValueError):
            return False
        return True


@lru_cache(maxsize=2)
def _copy(url: str) -> IO[bytes]:
    copy = TemporaryFile(prefix="chronocam-")  # noqa: SIM115 (open as long as it is kept)
    with opened(url) as file:
        while data := file.read(2**20):
            copy.write(data)
    return copy
