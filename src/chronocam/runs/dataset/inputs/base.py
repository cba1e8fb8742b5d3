"""What an input of a run is, and opening it wherever it lies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from posixpath import basename, splitext
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from chronocam.errors import ChronocamError, InputError, encodable, first_line
from chronocam.media.clips.read import VIDEO_SUFFIXES
from chronocam.media.files import expanded
from chronocam.media.images import IMAGE_SUFFIXES

Kind: TypeAlias = Literal["file", "folder", "tar", "arrow"]

PICTURES: Final = frozenset(IMAGE_SUFFIXES - {".gif"})
"""What counts as a picture; a GIF is a clip."""

_LOCAL: Final = re.compile(r"(?:file|local)://")


class Item(NamedTuple):
    """One input.

    key: its name in the table: text, whatever bytes the name of a file has.
    kind: how it is fetched.
    url: the file that holds it: a local path or any URL of fsspec; empty where its row names none.
    offset, size: where it lies in that file; the row of an Arrow file.
    label: the class to explain where no target is given; empty for none.
    """

    key: str
    kind: Kind
    url: str
    offset: int = 0
    size: int = 0
    label: str = ""


def need(module: str, extra: str = "runs") -> Any:
    """Import a library of an extra. Raises InputError with the line that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        install = f"pip install 'chronocam[{extra}]'"
        raise InputError(f"this needs {module} ({first_line(error)}); {install}") from error


def is_url(argument: str) -> bool:
    """Say whether an argument is a URL such as `s3://bucket/photos`."""
    return "://" in argument


def absolute(argument: str) -> str:
    """Return a local path from the root, since workers may run elsewhere, and any other URL as it is."""
    argument = _LOCAL.sub("", argument)
    return argument if is_url(argument) else str(expanded(argument).absolute())


def filesystem(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it. Raises InputError where fsspec knows none."""
    try:
        return need("fsspec").core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(f"`{url}` cannot be opened: {first_line(error)}") from error


def no_such(url: str) -> InputError:
    """Return the error for a file that is not there: fsspec also says so of a server that does not answer."""
    return InputError(f"there is no `{url}`, or nothing answers there; check the address")


@contextmanager
def asking(url: str) -> Iterator[tuple[Any, str]]:
    """Enter with the file system of a URL, and the path in it; what the store raises is an OSError.

    Libraries of stores have errors of their own, as for a server that does not answer.
    """
    try:
        yield filesystem(url)
    except (ChronocamError, OSError):
        raise
    except Exception as error:
        raise OSError(first_line(error)) from error


def opened(url: str) -> AbstractContextManager[Any]:
    """Return an open binary file. Raises OSError where it cannot be opened."""
    if not is_url(url):
        return Path(url).open("rb")
    with asking(url) as (system, path):
        file: AbstractContextManager[Any] = system.open(path, "rb")
    return file


def text_of(url: str) -> str:
    """Return a path as text; bytes that are not text are escaped."""
    return encodable(url)


def suffix_of(path: str) -> str:
    """Return the suffix of a path or URL, in lower case."""
    return splitext(path)[1].lower()


def is_hidden(path: str) -> bool:
    """Say whether a file is one that others keep beside theirs."""
    return basename(path).startswith(".")


def suffixes(clips: bool) -> frozenset[str]:
    """Return the suffixes of pictures, or of videos."""
    return VIDEO_SUFFIXES if clips else PICTURES


def label_of(value: Any) -> str:
    """Return the label in a cell of a table, empty for none; numbers of a column with gaps are floats."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
