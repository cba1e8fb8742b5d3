"""The folder of a run, on this machine or in an object store: a file is there whole, or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from chronocam.errors import MediaError, first_line
from chronocam.media.files import replace_file
from chronocam.runs.dataset.inputs.base import absolute, asking, is_url, opened

_WHOLE: Final = frozenset(
    ["abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "r2", "s3", "s3a"]
)
"""Protocols of stores where a file appears when its PUT is complete."""


@dataclass(frozen=True)
class Place:
    """The files of a run.

    url: a local folder, or any URL of fsspec.
    """

    url: str

    def path(self, name: str) -> str:
        """Return where a file lies."""
        return f"{absolute(self.url).rstrip('/')}/{name}"

    @property
    def is_remote(self) -> bool:
        """Whether the files lie elsewhere than in a folder of this machine."""
        return is_url(self.path(""))

    def names(self) -> set[str]:
        """Return the names of the files."""
        try:
            if not self.is_remote:
                return set(os.listdir(self.path("")))  # noqa: PTH208 (names alone)
            with asking(self.path("")[:-1]) as (system, path):
                system.invalidate_cache()
                # Not `exists`: it says no where a store does not answer, and a plan there would be lost.
                return {name.rpartition("/")[2] for name in system.ls(path, detail=False)}
        except FileNotFoundError:
            return set()
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise MediaError(f"`{self.url}`: {reason}; choose another place") from error

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
        if self.is_remote:
            try:
                _put(self.path(name), data)
            except OSError as error:
                todo = "choose another place"
                raise MediaError(f"cannot write `{self.path(name)}` ({first_line(error)}); {todo}") from error
            return
        path = replace_file(Path(self.path(name)), lambda temporary: _write(temporary, data))
        if sys.platform != "win32":  # where folders cannot be opened
            _sync(path.parent)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Enter with True where no other run works at a file; the lock of a killed run ends with it.

        Object stores have no locks: two runs do the same work there, and write the same.
        """
        if self.is_remote or sys.platform == "win32":
            yield True
            return
        import fcntl

        lock = Path(self.path(f".{name}.lock"))
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file: Any = lock.open("wb")
        except OSError as error:
            raise MediaError(f"cannot write `{lock}`: {error.strerror}; choose another place") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError:  # a file system without locks is as an object store
                yield True
                return
            try:
                yield True
            finally:
                with suppress(OSError):
                    lock.unlink()


def _put(url: str, data: bytes) -> None:
    with asking(url) as (system, path):
        if url.partition("://")[0] in _WHOLE:
            system.pipe_file(path, data)
            return
        folder, _, name = path.rpartition("/")
        system.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.{name}.{uuid4().hex}"
        system.pipe_file(temporary, data)
        system.mv(temporary, path)


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
