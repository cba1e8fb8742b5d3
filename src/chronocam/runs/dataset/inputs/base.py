"""What an input of a run is, and opening it wherever it lies."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from chronocam.errors import InputError, first_line
from chronocam.media.files import expanded

Kind: TypeAlias = Literal["file", "folder", "tar", "arrow"]


class Item(NamedTuple):
    """One input.

    key: its name in the table, unlike any other's.
    kind: how it is fetched.
    url: the file that holds it: a local path or any URL of fsspec.
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
    """Return a URL as it is, and a local path from the root: workers may run elsewhere."""
    return argument if is_url(argument) else str(expanded(argument).absolute())


def opened(url: str) -> AbstractContextManager[Any]:
    """Return an open binary file."""
    return need("fsspec").open(url, "rb") if is_url(url) else Path(url).open("rb")
