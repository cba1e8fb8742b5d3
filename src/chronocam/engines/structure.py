"""A fingerprint of a model's structure: its parts and their settings, but not its weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from enum import Enum
from functools import partial
from itertools import chain
from operator import attrgetter
from types import BuiltinFunctionType, CellType, ModuleType
from typing import Any, Final

_PLAIN: Final = frozenset({bool, int, float, complex, str, bytes, type(None)})
_HOLDERS: Final = frozenset({dict, OrderedDict, list, set, tuple})
_CHANGING: Final = _HOLDERS - {tuple}
_DEPTH: Final = 2
"""How deep containers and objects within each other are looked into."""

_ARRAYS: Final[set[type]] = set()
"""Classes of arrays seen so far. Most of what a model holds are arrays: their class says so at once."""

_SHAPE: Final = attrgetter("shape")
_MEMBERS: Final = 128
"""A container or object with more members holds data, not settings."""


class Snapshot:
    """A snapshot of what objects hold, by identity.

    Every pass asks whether it still holds. So two lists of all members are compared in C in a single step,
    however many objects there are.

    members: what each object held in its attributes. containers: lists, dicts and sets whose contents are
        compared too.
    """

    def __init__(
        self, objects: Sequence[object], members: Sequence[dict[str, Any]], containers: Sequence[Any]
    ) -> None:
        self.objects: list[object] = list(objects)
        # Most containers are empty, which is seen faster than what is in the others.
        self._empty = [one for one in containers if not one]
        self._full = [_contents(one) for one in containers if one]
        self._members = [one.copy() for one in members]
        self._contents = self._inside()

    def holds(self) -> bool:
        """Say whether the objects still hold the same."""
        # An object equals itself at once. Different arrays cannot be compared to a truth value, and raise; so
        # does a container that another thread changes while it is read.
        try:
            same = not any(self._empty) and list(map(vars, self.objects)) == self._members
            return same and self._inside() == self._contents
        except Exception:
            return False

    def _inside(self) -> tuple[list[int], list[object]]:
        return list(map(len, self._full)), list(chain.from_iterable(self._full))


class Structure:
    """A snapshot of a model's parts and settings: plain values, shapes of arrays, code of functions.

    kind: the class of the parts; where one part holds another, only the class of that one counts.
    without: names of attributes that are not settings.
    watched: those of them whose contents `holds` compares all the same, such as tables of hooks.

    Attributes: `members` is what each part held in its attributes; `fingerprint` tells the model from itself
    after a change.
    """

    def __init__(
        self,
        parts: Sequence[object],
        kind: type,
        without: Collection[str] = (),
        watched: Collection[str] = (),
    ) -> None:
        self._frozen = partial(_Frozen, kind, without)
        self._kind = kind
        # Copied at once: other threads, and the garbage collector, may change what a part holds meanwhile.
        self.members: list[dict[str, Any]] = [vars(part).copy() for part in parts]
        members, frozen = self.members, self._frozen()
        pairs = zip(parts, members, strict=True)
        self.fingerprint: Hashed = Hashed(tuple((type(part), frozen.members(held)) for part, held in pairs))
        settings = [value for one in members for name, value in one.items() if name not in without]
        containers = [one for one in settings if type(one) in _CHANGING]
        values = [*settings, *(member for one in containers for member in _contents(one))]
        # Numbers in a row, such as the statistics of a norm, keep no other shape than what they belong to.
        self._arrays = [one for one in values if type(one) in _ARRAYS and not _is_row(one)]
        self._shapes = list(map(_SHAPE, self._arrays))
        # What may change inside: objects such as configurations, and containers within containers.
        inner = [one for one in values[len(settings) :] if type(one) in _HOLDERS]
        changing = [*filter(self._may_change, values), *inner]
        self._changing = list({id(one): one for one in changing}.values())
        self._inside = self._insides()
        others = [one[name] for one in members for name in watched if name in one]
        self._parts, self._types = parts, list(map(type, parts))
        self._snapshot = Snapshot(parts, members, [*containers, *others])

    def holds(self) -> bool:
        """Say whether the model is still as it was."""
        try:
            alike = list(map(type, self._parts)) == self._types
            alike = alike and list(map(_SHAPE, self._arrays)) == self._shapes
            return alike and self._snapshot.holds() and self._insides() == self._inside
        except Exception:  # a shape that is not known yet, or arrays that cannot be compared
            return False

    def _insides(self) -> list[object]:
        frozen = self._frozen()
        return [frozen.of(one, _DEPTH) for one in self._changing]

    def _may_change(self, value: object) -> bool:
        """Say whether a value may change inside without a change of what a container lists."""
        kind = type(value)
        is_plain = _is_plain(value) or kind in _CHANGING or kind in _ARRAYS
        return not (is_plain or isinstance(value, (self._kind, Enum, type, ModuleType)))


def _contents(container: Any) -> Collection[object]:
    """Return what a container holds, now and later."""
    return container.values() if isinstance(container, dict) else container


def settings_of(value: object) -> Hashable:
    """Return what tells a value from others of its kind, as `Structure` does."""
    told: tuple[object, ...] = (_Frozen(type(None)).of(value, 2 * _DEPTH),)
    return told


class PlainStructure:
    """The last fingerprint of a model, taken anew once the attributes of a part change.

    For fingerprints of plain values alone, which cannot change without being replaced.
    """

    def __init__(self) -> None:
        self._last: tuple[list[tuple[object, ...]], Hashed] | None = None

    def of(self, parts: Sequence[object], take: Callable[[], Hashable]) -> Hashed:
        """Return what `take` returns, or the last fingerprint where the parts hold what they held then."""
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
    """A large value whose hash is computed once, when it is first asked for."""

    def __init__(self, value: Hashable) -> None:
        self._value = value
        self._hash: int | None = None

    def __hash__(self) -> int:
        """Return the hash of the value. Raises TypeError where it has none."""
        if self._hash is None:
            self._hash = hash(self._value)
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


def _is_row(array: Any) -> bool:
    """Say whether an array is a single number or a row of them."""
    shape = _shape(array)
    return isinstance(shape, tuple) and len(shape) < 2


def _shape(value: Any) -> object:
    try:
        shape = getattr(value, "shape", None)
    except RuntimeError:  # of parameters that get theirs with the first batch
        return "lazy"
    return tuple(shape) if isinstance(shape, (tuple, list)) else None
