"""Fields of a record that are worked out when somebody asks for them first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")


class _Postponed:
    def __init__(self, find: Callable[[], Any]) -> None:
        self.find: Final = find


def late(find: Callable[[], T]) -> T:
    """Return what stands for the value of a late field: `find` is called once somebody asks for it.

    find: holds all that it needs, and nothing that may change meanwhile or takes much memory.
    """
    return cast("T", _Postponed(find))


def late_fields(*names: str) -> Callable[[type[T]], type[T]]:
    """Let fields of a dataclass, each with a default, take `late` values; for a decorator above it.

    Whoever reads such a field gets its value. So does who replaces, copies or pickles the record.
    """

    def with_late_fields(kind: type[T]) -> type[T]:
        fields = {name: _Field(name, getattr(kind, name)) for name in names}
        for name, value in {**fields, "__getstate__": _state_of}.items():
            setattr(kind, name, value)
        return kind

    return with_late_fields


class _Field:
    """What reads and writes a late field.

    The record of a frozen class keeps it where others are, since that is set by `object.__setattr__` alone.
    """

    def __init__(self, name: str, default: object) -> None:
        self._name = name
        self._default = default

    def __get__(self, record: object, kind: type | None = None) -> Any:
        if record is None:
            return self._default
        held = vars(record)
        value = held[self._name]
        if isinstance(value, _Postponed):
            # Two threads may find it at the same time, and find the same.
            value = held[self._name] = value.find()
        return value

    def __set__(self, record: object, value: object) -> None:
        vars(record)[self._name] = value


def _state_of(record: object) -> dict[str, Any]:
    return {name: getattr(record, name) for name in vars(record)}
