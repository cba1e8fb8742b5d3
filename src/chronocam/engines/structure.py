"""A fingerprint of a model's structure: its parts and their settings, but not its weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, CellType, ModuleType
from typing import Any, Final

_PLAIN: Final = frozenset({bool, int, float, complex, str, bytes, type(None)})
_HOLDERS: Final = frozenset({dict, OrderedDict, list, set, tuple})
_DEPTH: Final = 2
"""How deep containers and objects within each other are looked into."""

_ARRAYS: Final[set[type]] = set()
"""Classes of arrays seen so far. Most of what a model holds are arrays: their class says so at once."""

_MEMBERS: Final = 128
"""A container or object with more members holds data, not settings."""


class Structure:
    """Takes the fingerprint of a model's parts, which changes when they do.

    It is made of their settings (plain values, and containers of them), the shapes of arrays, and the code of
    functions. It holds no array, and nothing that leads to the model.

    kind: the class of the parts; where one part holds another, only the class of that one counts.
    without: names of attributes that are left out.
    """

    def __init__(self, kind: type, without: Collection[str] = ()) -> None:
        self._kind = kind
        self._without = without
        self._last: _Told | None = None

    def of(self, parts: Sequence[object]) -> Hashable:
        """Return the fingerprint; where nothing changed, which is far cheaper to see, the last one again."""
        last = self._last  # read once, since another thread may replace it
        if last is None or not last.holds(parts, self._others):
            self._last = last = self._told(parts)
        return last.told

    def _told(self, parts: Sequence[object]) -> _Told:
        frozen = _Frozen(self._kind, self._without)
        members = [vars(part).copy() for part in parts]
        told = tuple((type(part), frozen.members(held)) for part, held in zip(parts, members, strict=True))
        values = [value for held in members for name, value in held.items() if name not in self._without]
        watched = [value for value in values if type(value) in _HOLDERS and type(value) is not tuple]
        inner = [one for each in watched for one in _contents(each)]
        arrays = [one for one in (*values, *inner) if type(one) in _ARRAYS]
        others = {id(one): one for one in (*values, *inner) if self._may_change(one)}
        for one in inner:
            if type(one) in _HOLDERS:  # what they hold in turn
                others[id(one)] = one
        return _Told(
            list(parts),
            list(map(type, parts)),
            [tuple(held.values()) for held in members],
            watched,
            [_contents(each) for each in watched],
            arrays,
            [_shape(one) for one in arrays],
            list(others.values()),
            self._others(list(others.values())),
            told,
        )

    def _may_change(self, value: object) -> bool:
        """Say whether a value may change inside without a change of what a container lists."""
        kind = type(value)
        known = _is_plain(value) or kind in _HOLDERS - {tuple} or kind in _ARRAYS
        return not (known or isinstance(value, (self._kind, Enum, type, ModuleType)))

    def _others(self, values: Sequence[object]) -> tuple[object, ...]:
        frozen = _Frozen(self._kind, self._without)
        return tuple(frozen.of(value, _DEPTH) for value in values)


@dataclass(frozen=True, eq=False)
class _Told:
    """A fingerprint, `told`, with what the parts held when it was taken.

    watched, contents: containers, and what was in them. arrays, shapes: arrays, and their shapes then.
    others, said: objects that may change inside, such as configurations, and the fingerprints of these.
    """

    parts: list[object]
    kinds: list[type]
    values: list[tuple[object, ...]]
    watched: list[Any]
    contents: list[tuple[object, ...]]
    arrays: list[Any]
    shapes: list[object]
    others: list[object]
    said: tuple[object, ...]
    told: Hashable

    def holds(
        self, parts: Sequence[object], told_of: Callable[[Sequence[object]], tuple[object, ...]]
    ) -> bool:
        """Say whether the parts still hold all of it."""
        # An object equals itself at once. Different arrays cannot be compared to a truth value, and raise.
        try:
            return (
                self.parts == parts
                and self.kinds == list(map(type, parts))
                and all(
                    tuple(vars(one).values()) == held for one, held in zip(parts, self.values, strict=True)
                )
                and all(_contents(one) == held for one, held in zip(self.watched, self.contents, strict=True))
                and [_shape(one) for one in self.arrays] == self.shapes
                and told_of(self.others) == self.said
            )
        except Exception:
            return False


def _contents(container: Any) -> tuple[object, ...]:
    return tuple(container.values()) if isinstance(container, dict) else tuple(container)


def settings_of(value: object) -> Hashable:
    """Return what tells a value from others of its kind, as `Structure` does."""
    told: tuple[object, ...] = (_Frozen(type(None)).of(value, 2 * _DEPTH),)
    return told


class PlainStructure:
    """A fingerprint that is made of the parts' own plain values, which do not change inside."""

    def __init__(self) -> None:
        self._last: tuple[list[tuple[object, ...]], Hashed] | None = None

    def of(self, parts: Sequence[object], take: Callable[[], Hashable]) -> Hashed:
        """Return the fingerprint that is taken; where the parts hold what they held, the last one again."""
        held = [(type(part), *vars(part).values()) for part in parts]
        last = self._last  # read once, since another thread may replace it
        if last is None or not _equal(last[0], held):
            self._last = last = held, Hashed(take())
        return last[1]


def _equal(held: object, now: object) -> bool:
    # An object equals itself at once. Different arrays cannot be compared to a truth value, and raise.
    try:
        return bool(held == now)
    except Exception:
        return False


class Hashed:
    """A large value whose hash is computed once."""

    def __init__(self, value: Hashable) -> None:
        self._value = value
        self._hash = hash(value)

    def __hash__(self) -> int:
        """Return the hash of the value."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Say whether the values are equal."""
        return self is other or (isinstance(other, Hashed) and self._value == other._value)


def plain_settings(value: object) -> dict[str, object]:
    """Return the settings of an object that are plain values, or tuples of such, by name."""
    return {name: held for name, held in vars(value).copy().items() if _is_plain(held)}


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in _PLAIN or (kind is tuple and _PLAIN.issuperset(map(type, value)))


class _Frozen:
    def __init__(self, kind: type, without: Collection[str] = ()) -> None:
        self._kind = kind
        self._without = without
        self._known: dict[int, object] = {}

    def members(self, held: Mapping[str, object], depth: int = _DEPTH) -> tuple[object, ...]:
        """Return the names and values of what an object holds."""
        without = self._without
        values = [
            value
            if (kind := type(value)) in _PLAIN
            else kind
            if kind in _HOLDERS and not value
            else self.of(value, depth)
            for name, value in held.items()
            if name not in without
        ]
        return (*held, *values)

    def of(self, value: Any, depth: int) -> object:
        """Return what tells a value from another."""
        kind = type(value)
        if kind in _ARRAYS:
            return kind, _shape(value)
        plain: object = value
        if _is_plain(value):
            return plain
        if isinstance(value, self._kind):
            return kind
        if isinstance(value, Enum):
            return plain
        if isinstance(value, (type, ModuleType, BuiltinFunctionType)):
            return getattr(value, "__qualname__", value.__name__)
        if isinstance(value, (tuple, list, set, frozenset, Mapping)):
            return kind, self._container(value, depth)
        if hasattr(value, "__code__"):
            return value.__code__, self._closed_over(value, depth)
        if isinstance(value, partial):
            return kind, tuple(self.of(x, depth) for x in (value.func, value.args, value.keywords))
        shape = _shape(value)
        if isinstance(shape, tuple):
            _ARRAYS.add(kind)
        return self._object(value, depth) if shape is None else (kind, shape)

    def _container(self, held: Collection[Any], depth: int) -> object:
        if not depth or len(held) > _MEMBERS:
            return len(held)
        if isinstance(held, Mapping):
            names = [key if type(key) is str else self.of(key, 0) for key in held]
            return (*names, *[self.of(part, depth - 1) for part in held.values()])
        each = (self.of(part, depth - 1) for part in held)
        return frozenset(each) if isinstance(held, (set, frozenset)) else tuple(each)

    def _closed_over(self, function: Any, depth: int) -> object:
        """Return what a function takes from around it: defaults, local variables, constants of its module."""
        if not depth:
            return None
        code, around = function.__code__, getattr(function, "__globals__", {})
        cells = [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
        constants = [
            around[name] for name in code.co_names if name in around and type(around[name]) in _PLAIN
        ]
        taken = (function.__defaults__, function.__kwdefaults__, *cells, *constants)
        return tuple(self.of(value, depth - 1) for value in taken)

    def _object(self, value: Any, depth: int) -> object:
        held, kind = getattr(value, "__dict__", None), type(value)
        if held is None or not depth or len(held) > _MEMBERS:
            return kind, str(value) if kind.__module__ == "torch" else None  # such as torch.float16
        if id(value) not in self._known:
            self._known[id(value)] = kind  # for what leads back to it
            self._known[id(value)] = kind, self.members(held.copy(), depth - 1)
        return self._known[id(value)]


def _shape(value: Any) -> object:
    try:
        shape = getattr(value, "shape", None)
    except RuntimeError:  # of parameters that get theirs with the first batch
        return "lazy"
    return tuple(shape) if isinstance(shape, (tuple, list)) else None
