"""How the archives are packed in which frameworks keep networks."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo, is_zipfile

from chronocam.models.specs import ModelRequest

_RATIO: Final = 100  # weights become a little smaller than they are, if at all
_SMALL: Final = 2**20  # bytes that anything may be packed into


def is_plain(path: Path, request: ModelRequest) -> bool:
    """Say whether a file is an archive whose entries lie in it as they are, so that it can be mapped.

    Raises ModelError for entries that would take more than a hundred times their room.
    """
    entries = _entries(path)
    for one in entries:
        if one.file_size > _RATIO * max(one.compress_size, _SMALL):
            raise request.error(
                f"holds `{one.filename}` of {one.file_size:,} bytes in {one.compress_size:,}",
                "expected weights, which can hardly be packed",
            )
    return bool(entries) and all(one.compress_type == ZIP_STORED for one in entries)


def _entries(path: Path) -> list[ZipInfo]:
    if not is_zipfile(path):
        return []
    try:
        with ZipFile(path) as archive:
            return archive.infolist()
    except (BadZipFile, OSError, ValueError, NotImplementedError):  # which its reader will say
        return []
