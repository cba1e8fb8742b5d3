"""Tables of FlatBuffers, read as far as a .tflite file needs it to say what it is besides its network."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Table:
    """A table in a buffer; struct.error where the buffer is damaged.

    at: where it begins.
    """

    buffer: bytes
    at: int

    @classmethod
    def root(cls, buffer: bytes) -> Table:
        """Return the table that a buffer begins with."""
        return cls(buffer, _number("I", buffer, 0))

    def field(self, number: int) -> int:
        """Return where a field lies; 0 where the table has none."""
        heads = self.at - _number("i", self.buffer, self.at)
        entry = 4 + 2 * number
        if entry >= _number("H", self.buffer, heads):
            return 0
        offset = _number("H", self.buffer, heads + entry)
        return self.at + offset if offset else 0

    def value(self, number: int, kind: str = "I") -> int:
        """Return a number of a kind that `struct` knows; 0 where there is none."""
        place = self.field(number)
        return _number(kind, self.buffer, place) if place else 0

    def table(self, number: int) -> Table | None:
        """Return a table that a field points to."""
        place = self.field(number)
        return Table(self.buffer, place + _number("I", self.buffer, place)) if place else None

    def tables(self, number: int) -> list[Table]:
        """Return a list of tables."""
        start, count = self._list(number)
        places = [start + 4 * i for i in range(count)]
        return [Table(self.buffer, place + _number("I", self.buffer, place)) for place in places]

    def text(self, number: int) -> str:
        """Return a text."""
        start, count = self._list(number)
        return self.buffer[start : start + count].decode("utf-8", "replace")

    def content(self, number: int) -> bytes:
        """Return bytes."""
        start, count = self._list(number)
        return self.buffer[start : start + count]

    def floats(self, number: int) -> tuple[float, ...]:
        """Return a list of 32-bit numbers."""
        start, count = self._list(number)
        return tuple(np.frombuffer(self.buffer[start : start + 4 * count], "<f4").tolist())

    def _list(self, number: int) -> tuple[int, int]:
        """Return where a list begins, and how long it is; at most as long as the buffer."""
        place = self.field(number)
        if not place:
            return 0, 0
        start = place + _number("I", self.buffer, place)
        count = _number("I", self.buffer, start)
        if count > len(self.buffer):
            raise struct.error(f"a list of {count} entries")
        return start + 4, count


def _number(kind: str, buffer: bytes, place: int) -> int:
    if place < 0:
        raise struct.error(f"a place of {place}")
    value: int = struct.unpack_from(f"<{kind}", buffer, place)[0]
    return value
