"""Arrays in `.npz` files, most with a header in JSON: what a file claims is checked before it is read.

A file from elsewhere may hold anything. Nothing in it is run, no pickle is read, and no more memory is taken
than the sizes that were checked.
"""

from __future__ import annotations

import json
import math
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from chronocam.errors import MediaError
from chronocam.jsonable import Json, JsonRecord, parse_json
from chronocam.media.files import is_file

LARGEST: Final = 2**29
"""Bytes that the arrays of a file may take in memory, unless the caller allows more."""

_R = TypeVar("_R", bound=JsonRecord)

_HEADER, _SUFFIX = "header", ".npy"
_HEAD, _PIECE = 4096, 2**20  # bytes: where the values of an array begin at the latest; read at once

# An array's own header as NumPy writes it, for numbers and text alone: no other type can hold an object.
_ABOUT: Final = re.compile(
    rb"\s*\{\s*'descr':\s*'([<>|=])([fiubU])(\d{1,9})',\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(((?:\d{1,18},\s*){0,8}(?:\d{1,18})?)\),?\s*\}\s*"
)
_SIZES: Final = {b"f": (2, 4, 8), b"i": (1, 2, 4, 8), b"u": (1, 2, 4, 8), b"b": (1,)}

# What Python's reader of zip files raises for bytes that are none.
_DAMAGE: Final = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Sought:
    """What a file should be, in the words of messages.

    what: such as "a saved explanation".
    expected: how such a file comes about.
    """

    what: str
    expected: str

    def misfit(self, path: str | Path, problem: str) -> MediaError:
        """Return the one line that says why a file is something else."""
        return MediaError(f"`{path}` is not {self.what} ({problem}); expected {self.expected}")


class Archive:
    """The arrays of an open `.npz` file; each is read when it is asked for.

    names: of the arrays in their order, the header left out.
    """

    def __init__(self, path: str | Path, sought: Sought, archive: zipfile.ZipFile, limit: int) -> None:
        self._path, self._sought, self._zip = path, sought, archive
        members = archive.infolist()
        self._members = {member.filename.removesuffix(_SUFFIX): member for member in members}
        if len(self._members) < len(members) or not all(map(_plain, members)):
            raise self.error("its members are not arrays of different names")
        claimed = sum(member.file_size for member in members)
        if claimed > limit:
            raise self.error(
                f"its arrays would take {claimed:,} bytes, more than {limit:,}; limit= of cc.load allows more"
            )
        self.names: tuple[str, ...] = tuple(name for name in self._members if name != _HEADER)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def error(self, problem: str) -> MediaError:
        """Return the one line that says what is wrong with the file."""
        return self._sought.misfit(self._path, problem)

    @cached_property
    def _json(self) -> Json:
        try:
            data = parse_json(self._text(_HEADER))
        except MediaError as error:
            raise self.error(f"its header {error}") from error
        if not isinstance(data, dict):
            raise self.error("its header is not an object")
        return data

    @property
    def format(self) -> str:
        """What the header calls its format. Raises MediaError where there is no header."""
        return str(self._json.get("format"))

    def header(self, kind: type[_R], expected: str) -> _R:
        """Return the header as a record.

        expected: the format that the record is of.

        Raises MediaError for another format, and for entries that are missing, unknown or of another type.
        """
        if self.format != expected:
            raise self.error("it is of another format")
        if unknown := self._json.keys() - kind.keys():
            raise self.error(f"its header has an unknown `{min(unknown)}`")
        try:
            return kind.from_json(self._json, "its header")
        except MediaError as error:
            raise self.error(str(error)) from error

    def refuse_others(self, names: Iterable[str]) -> None:
        """Raise MediaError for arrays that nothing in the file's format names."""
        if unknown := set(self.names).difference(names):
            raise self.error(f"it has an unknown array `{min(unknown)}`")

    def __getitem__(self, name: str) -> np.ndarray:
        """Return an array of numbers. Raises MediaError where there is none, or it is damaged."""
        kind, shape, order, values = self._read(name)
        if kind[1] == "U" or not len(values):
            raise self.error(f"`{name}` holds no numbers")
        array = values.view(kind).reshape(shape, order=order)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _text(self, name: str) -> str:
        kind, shape, _, values = self._read(name)
        if kind[1] != "U" or shape:
            raise self.error(f"`{name}` is not text")
        try:
            return values.tobytes().decode("utf-32-be" if kind[0] == ">" else "utf-32-le").rstrip("\0")
        except UnicodeDecodeError as error:
            raise self.error(f"`{name}` is not text") from error

    def _read(self, name: str) -> tuple[str, tuple[int, ...], Any, np.ndarray]:
        """Return the type of an array as NumPy writes it, its shape, its order and its bytes.

        They are read only if there are as many as the type and the shape take.
        """
        if name not in self._members:
            raise self.error(f"it has no `{name}`")
        size = self._members[name].file_size
        about, start = _about(self._bytes(name, min(size, _HEAD)).tobytes())
        if about is None:
            raise self.error(f"`{name}` is not an array of numbers or text")
        order, kind, width, fortran, listed = about.groups()
        if kind != b"U" and int(width) not in _SIZES[kind]:
            raise self.error(f"`{name}` has numbers of {int(width)} bytes")
        shape = tuple(int(length) for length in listed.split(b",") if length.strip())
        each = int(width) * (4 if kind == b"U" else 1)
        if start + each * math.prod(shape) != size:
            raise self.error(f"`{name}` has {size - start:,} bytes, which are not {shape} of {each}")
        values = self._bytes(name, size)[start:]
        return (order + kind + width).decode(), shape, "F" if fortran == b"True" else "C", values

    def _bytes(self, name: str, count: int) -> np.ndarray:
        """Return the first bytes of a member."""
        # Memory that is asked for is taken only as it is filled: by what the file holds, not what it claims.
        values, at = np.empty(count, np.uint8), 0
        try:
            with self._zip.open(self._members[name]) as stream:
                while at < count and (piece := stream.read(min(_PIECE, count - at))):
                    values[at : at + len(piece)] = memoryview(piece)
                    at += len(piece)
        except _DAMAGE as error:
            raise self.error(f"`{name}` is damaged") from error
        if at < count:
            raise self.error(f"`{name}` is cut off")
        return values


def _plain(member: zipfile.ZipInfo) -> bool:
    """Say whether a member is packed as NumPy does it, and not encrypted."""
    packed = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return packed and not member.flag_bits & 1 and member.filename.endswith(_SUFFIX)


def _about(head: bytes) -> tuple[re.Match[bytes] | None, int]:
    """Return what an array says of itself, None where it is not what NumPy writes; and where values begin."""
    if head[:6] != b"\x93NUMPY" or head[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        return None, 0
    begin = 10 if head[6] == 1 else 12
    start = begin + int.from_bytes(head[8:begin], "little")
    return _ABOUT.fullmatch(head[begin:start]), start


@contextmanager
def open_archive(path: str | Path, sought: Sought, limit: int = LARGEST) -> Iterator[Archive]:
    """Open a `.npz` file for reading.

    limit: the bytes that all arrays together may take in memory.

    Raises MediaError for a missing file, one that is not an archive of arrays, and one that claims too much.
    """
    if not is_file(path):
        raise MediaError(f"no file `{path}`; expected {sought.expected}")
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise sought.misfit(path, error.strerror or "cannot be read") from error
    except _DAMAGE as error:
        raise sought.misfit(path, "no archive of arrays") from error
    with archive:
        yield Archive(path, sought, archive, limit)


def write_archive(path: Path, header: JsonRecord, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a header and arrays of numbers; warn where they are more than is read unasked."""
    everything: dict[str, Any] = {_HEADER: np.asarray(json.dumps(header.to_json())), **arrays}
    np.savez_compressed(path, **everything)
    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    # The bound stays, since a header that claims much may lie; who saves so much hears of it now.
    if claimed > LARGEST:
        warnings.warn(
            f"the arrays take {claimed:,} bytes, more than {LARGEST:,}: read them with "
            f"cc.load(path, limit={claimed:_})",
            stacklevel=2,
        )
