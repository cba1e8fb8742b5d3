"""The folder of a run, on this machine or in an object store: a file is there whole, or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chronocam.errors import MediaError
from chronocam.media.files import replace_file
from chronocam.runs.dataset.inputs.base import absolute, is_url, need, opened


@dataclass(frozen=True)
class Place:
    """The files of a run.

    url: a local folder, or any URL of fsspec.
    """

    url: str

    def path(self, name: str) -> str:
        """Return where a file lies."""
        return f"{absolute(self.url).rstrip('/')}/{name}"

    def names(self) -> set[str]:
        """Return the names of the files."""
        if is_url(self.url):
            system, path = need("fsspec").core.url_to_fs(self.url)
            system.invalidate_cache()
            if not system.exists(path):
                return set()
            return {name.rpartition("/")[2] for name in system.ls(path, detail=False)}
        try:
            return set(os.listdir(self.path("")))  # noqa: PTH208 (names alone)
        except FileNotFoundError:
            return set()

    def opened(self, name: str) -> AbstractContextManager[Any]:
        """Return a file, open for reading; of Parquet no more is read than is asked for."""
        return opened(self.path(name))

    def read(self, name: str) -> bytes:
        """Return what a file holds."""
        with self.opened(name) as file:
            return bytes(file.read())

    def put(self, name: str, data: bytes) -> None:
        """Write a file: one PUT of an object store; elsewhere a temporary file, on the disk, then renamed.

        Raises MediaError where it cannot be written, and leaves nothing behind.
        """
        if is_url(self.url):
            system, path = need("fsspec").core.url_to_fs(self.path(name))
            try:
                system.pipe_file(path, data)
            except OSError as error:
                raise MediaError(
                    f"cannot write `{self.path(name)}`: {error}; choose another place"
                ) from error
            return
        path = replace_file(Path(self.path(name)), lambda temporary: _write(temporary, data))
        if sys.platform != "win32":  # where folders cannot be opened
            _sync(path.parent)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Enter with True where no other run works at a file; the lock of a killed run ends with it.

        Object stores have no locks: two runs do the same work there, and write the same.
        """
        if is_url(self.url) or sys.platform == "win32":
            yield True
            return
        import fcntl

        lock = Path(self.path(f".{name}.lock"))
        try:
            file: Any = lock.open("wb")
        except OSError as error:
            raise MediaError(f"cannot write `{lock}`: {error.strerror}; choose another place") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                with suppress(OSError):
                    lock.unlink()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
