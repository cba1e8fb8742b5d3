"""Frozen dataclasses as JSON: written in the order of their fields, and checked where they are read."""

from __future__ import annotations

import dataclasses
import json
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from chronocam.errors import MediaError

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

LONGEST: Final = 2**25
"""Letters of JSON text that are read: a hundred bytes of memory each, at worst."""

_WHOLE: Final = 2**53  # up to which JSON's whole numbers are exact everywhere

_OMITTED, _ELSE, _KEY = "omitted where None", "value where missing", "key"
_T = TypeVar("_T")
_R = TypeVar("_R", bound="JsonRecord")  # not Self, which a check of single methods cannot resolve

OMITTED: Final[Mapping[str, object]] = {_OMITTED: True}
"""Metadata of a field that is left out of the JSON while it is None."""


def missing(value: object) -> Mapping[str, object]:
    """Return the metadata of a required field that is `value` where a file lacks it."""
    return {_ELSE: value}


def keyed(key: str) -> Mapping[str, object]:
    """Return the metadata of a field that JSON knows by another name, such as a word of Python."""
    return {_KEY: key}


def read_json(path: Path) -> object:
    """Return what a JSON file says. Raises MediaError as `parse_json` does, and for undecodable text."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError("is not readable as JSON") from error
    return parse_json(text)


def parse_json(text: str) -> object:
    """Return what JSON text says. Raises MediaError for text that is not JSON, or is too deep or too long."""
    if len(text) > LONGEST:
        raise MediaError(f"has {len(text):,} letters of JSON, more than {LONGEST:,}")
    try:
        return json.loads(text)
    except ValueError as error:
        raise MediaError("is not readable as JSON") from error
    except RecursionError as error:
        raise MediaError("is JSON that is nested too deep") from error


class JsonRecord:
    """Base of frozen dataclasses that are written as JSON objects and read back."""

    def to_json(self) -> Json:
        """Return the record as JSON has it: lists for tuples, objects for records."""
        record: Any = self
        pairs = ((field, getattr(self, field.name)) for field in dataclasses.fields(record))
        return {
            _key(field): _plain(value)
            for field, value in pairs
            if value is not None or _OMITTED not in field.metadata
        }

    @classmethod
    def keys(cls) -> frozenset[str]:
        """Return the names of the entries that it knows."""
        record: Any = cls  # `fields` takes dataclasses only, which the subclasses are
        return frozenset(map(_key, dataclasses.fields(record)))

    @classmethod
    def from_json(cls: type[_R], data: object, where: str = "the file") -> _R:
        """Return the record that an object describes; entries that it does not know are left out.

        where: what messages call the object.

        Raises MediaError for an entry that is missing or of another type: it says where, and what was
        expected.
        """
        if not isinstance(data, dict):
            raise _misfit(data, where, "an object")
        record: Any = cls
        hints = typing.get_type_hints(cls)
        values = {
            field.name: _entry(field, hints[field.name], data, where) for field in dataclasses.fields(record)
        }
        return cls(**values)


def _key(field: dataclasses.Field[Any]) -> str:
    return field.metadata.get(_KEY) or field.name


def _plain(value: object) -> Any:
    if isinstance(value, JsonRecord):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _entry(field: dataclasses.Field[Any], kind: Any, data: Mapping[str, object], where: str) -> object:
    key = _key(field)
    if key in data:
        return _read(kind, data[key], f"`{key}` of {where}")
    if _ELSE in field.metadata:
        return field.metadata[_ELSE]
    if field.default is not dataclasses.MISSING:
        return field.default
    raise MediaError(f"{where} has no `{key}`")


def _read(kind: Any, value: object, where: str) -> Any:
    """Return a JSON value as the type that an annotation names: a record, a tuple, a mapping, or plain."""
    arguments, origin = typing.get_args(kind), typing.get_origin(kind)
    if origin is typing.Union or origin is types.UnionType:  # only `X | None` is used
        (inner,) = (one for one in arguments if one is not type(None))
        return None if value is None else _read(inner, value, where)
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin is list:
        return list(_read_tuple((*arguments, ...), value, where))
    if origin is not None:  # a mapping from names
        if not isinstance(value, dict):
            raise _misfit(value, where, "an object")
        return {name: _read(arguments[1], one, f"`{name}` of {where}") for name, one in value.items()}
    if kind is Any:
        return value
    if issubclass(kind, JsonRecord):
        return kind.from_json(value, where)
    return _read_plain(kind, value, where)


def _read_tuple(kinds: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _misfit(value, where, "a list")
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _misfit(value, where, f"a list of {len(kinds)}")
    return tuple(
        _read(kind, one, f"entry {i} of {where}")
        for i, (kind, one) in enumerate(zip(kinds, value, strict=True))
    )


def _read_plain(kind: type[_T], value: object, where: str) -> _T | object:
    # Other programs write 1.0 as 1, so a float may be an int; True is an int to Python, but not in JSON.
    fits = isinstance(value, (int, float) if kind is float else kind)
    far = isinstance(value, int) and abs(value) > _WHOLE
    if not fits or far or (isinstance(value, bool) and kind is not bool):
        raise _misfit(
            value, where, {str: "text", int: "a whole number", float: "a number"}.get(kind, "true or false")
        )
    return value


def _misfit(value: object, where: str, expected: str) -> MediaError:
    return MediaError(f"{where} is {reprlib.repr(value)}; expected {expected}")
