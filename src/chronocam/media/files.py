"""Files that appear only once they are whole, and names that no other file has."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import socket
import sys
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from chronocam.errors import MediaError

_OLD: Final = 24 * 3600  # seconds after which a temporary file counts as abandoned
_TEMPORARY: Final = re.compile(r"\.chronocam-(\w+)-(\d+)-[0-9a-f]{32}(?:\.|$)")


def replace_file(path: Path, write: Callable[[Path], Any]) -> Path:
    """Call `write` with a temporary path beside `path`, of the same suffix, then rename it to `path`.

    Temporary files that a killed process has left in the folder are removed. Raises MediaError where the
    folder cannot be written; on any failure nothing is left behind.
    """
    temporary = path.with_name(f".chronocam-{_host()}-{os.getpid()}-{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent.resolve())
        write(temporary)
        return temporary.replace(path)
    except OSError as error:
        raise MediaError(f"cannot write `{path}`: {error.strerror or error}; choose another place") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder for `~`; a name such as `~a.png` of no user stays as it is.

    Raises MediaError for an empty text, which `Path` takes for the current folder.
    """
    if not str(path):
        raise MediaError("a path is empty; expected a file or a folder, `.` for the current one")
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises for such names)


def is_file(path: str | Path) -> bool:
    """Say whether there is a file. False for names that no file can have, such as one too long."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises for such names)


def is_folder(path: str | Path) -> bool:
    """Say whether there is a folder; as `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def contents(folder: str | Path) -> list[Path]:
    """Return what is in a folder, sorted. Raises MediaError where it cannot be listed."""
    try:
        return sorted(Path(folder).iterdir())
    except OSError as error:
        raise MediaError(f"`{folder}` cannot be listed ({error.strerror}); check its permissions") from error


def matches(pattern: str | Path) -> list[Path]:
    """Return what is there that matches a pattern such as `photos/*.jpg`, sorted."""
    paths = glob.iglob(str(pattern), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
    return [Path(path) for path in sorted(paths)]


def is_pattern(path: str | Path) -> bool:
    """Say whether a name has the signs of a pattern, such as `*`."""
    return glob.has_magic(str(path))


def nothing_named(argument: str | Path, expected: str) -> MediaError:
    """Return the error of a path or pattern that names nothing."""
    what = "nothing matches" if is_pattern(argument) else "there is no"
    return MediaError(f"{what} `{argument}`; expected {expected}")


def absent(path: str | Path) -> str:
    """Return why a path is not that of a file, as the end of a sentence."""
    if is_folder(path):
        return "is a folder" if os.access(path, os.R_OK) else "is a folder that may not be read"
    if re.match(r"[a-z][a-z0-9+]+:/", str(path), re.IGNORECASE):
        return "is an address, and nothing is fetched: save what is there to a file"
    if os.path.exists(path):  # noqa: PTH110 (Path.exists raises for names that no file can have)
        return "is a pipe, a socket or a device, and not a file"
    return "is a link that leads nowhere" if os.path.islink(path) else "does not exist"  # noqa: PTH114


def distinct(name: str, taken: set[str]) -> str:
    """Return `name`, with a number if need be, as one that is not among those taken, and take it.

    Names that differ by case, or by how their letters are composed, are one file on some systems.
    """
    one, number = name, 1
    while (folded := unicodedata.normalize("NFKC", one).casefold()) in taken:
        number += 1
        one = f"{name}-{number}"
    taken.add(folded)
    return one


def within(name: str, most: int) -> str:
    """Return a name of at most `most` bytes, which file systems count; the end of a cut one is a digest.

    Others with the same beginning so have names of their own.
    """
    whole = os.fsencode(name)
    if len(whole) <= most:
        return name
    start = name[:most]
    while len(os.fsencode(start)) > most - 9:
        start = start[:-1]
    return f"{start}-{hashlib.sha256(whole).hexdigest()[:8]}"


@lru_cache(maxsize=64)
def _sweep(folder: Path) -> None:
    """Remove what writers that are gone have left in a folder; once per process is enough."""
    for path in folder.glob(".chronocam-*"):
        writer = _TEMPORARY.match(path.name)
        with suppress(OSError):
            if writer and (_gone(*writer.groups()) or time.time() - path.stat().st_mtime > _OLD):
                path.unlink()


def _gone(host: str, process: str) -> bool:
    """Say whether a process of this machine has ended; False for those of others."""
    if host != _host() or sys.platform == "win32":  # where signal 0 would end it
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, or no number of a process
        return False
    return False


@cache
def _host() -> str:
    return re.sub(r"\W", "_", socket.gethostname())[:40] or "_"
