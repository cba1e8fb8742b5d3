"""Records in one line: arrays by their shapes, models by their class, nothing that is as it is by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, Final, cast

_LONG: Final = 60  # characters, beyond which a value is described by its type
_NAME: Final = "__repr__"


def count(number: int, noun: str) -> str:
    """Return a number of things: `1 sample`, `2 samples`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class ShortRepr:
    """Gives dataclasses a representation of a line or two, whatever their fields hold."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # `dataclass` comes after this, and leaves alone what a class has of its own.
        if _NAME not in cls.__dict__:
            setattr(cls, _NAME, ShortRepr.__repr__)

    def __repr__(self) -> str:
        listed = [(one, getattr(self, one.name)) for one in fields(cast(Any, self)) if one.repr]
        words = [f"{one.name}={_short(value)}" for one, value in listed if not _is_default(one, value)]
        return f"{type(self).__name__}({', '.join(words)})"


def _is_default(one: Field[Any], value: Any) -> bool:
    plain = isinstance(value, (str, int, float, tuple))
    return value is one.default or (plain and type(value) is type(one.default) and value == one.default)


def _short(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        name = str(value.dtype).removeprefix("torch.")
        return f"{name} {tuple(value.shape)}" if value.shape else repr(value.item())
    # The text of a network may take a second to write.
    network = hasattr(value, "named_modules") or hasattr(value, "get_config")
    text = "" if network else repr(value)
    if 0 < len(text) <= _LONG:
        return text
    if isinstance(value, (list, tuple, Mapping, bytes)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
