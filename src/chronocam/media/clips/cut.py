"""Whether a video file ends before its container says so: bytes counted, nothing decoded."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT: Final = b"\x18\x53\x80\x67"
_BOXES: Final = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot"}


def is_cut_off(path: Path) -> bool:
    """Return whether the container (mp4, mov, mkv, webm, avi) declares more bytes than the file has.

    False for other containers, and where a live recording declares nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:8], "little") > size
        if head[:4] == _EBML:
            return _segment_end(head) > size
        return head[4:8] in _BOXES and _boxes_end(file, size) > size


def _segment_end(head: bytes) -> int:
    """Return where Matroska's only segment ends; 0 where it does not say."""
    begin = head.find(_SEGMENT) + len(_SEGMENT)
    first = head[begin] if begin < len(head) else 0
    length = 9 - first.bit_length()  # as many bytes as the first has leading zeros, and one
    mask = (1 << 7 * length) - 1
    value = int.from_bytes(head[begin : begin + length], "big") & mask
    return 0 if first == 0 or value == mask else begin + length + value


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Return where the last top-level box of an mp4 ends."""
    end = 0
    while end < size:
        file.seek(end)
        box = file.read(16)
        length = int.from_bytes(box[:4], "big")
        if length == 1:
            length = int.from_bytes(box[8:], "big")
        if length < 8:  # 0: up to the end of the file
            break
        end += length
    return end
