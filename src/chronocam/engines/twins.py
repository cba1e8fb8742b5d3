"""What copies of a model's parts hold in the place of what the parts hold."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from itertools import count
from types import CellType, FunctionType, MemberDescriptorType, MethodType
from typing import Any, TypeAlias
from weakref import ProxyTypes, proxy, ref

_DEPTH = 4  # how deep inside what a part holds others are looked for
_MEMBERS = 256  # what has more members holds data, not parts
_FRAMEWORKS = {"torch", "keras", "tensorflow", "jax", "numpy"}
_VALUES = {bool, int, float, type(None)}
_CLOSED = sys.stdlib_module_names | _FRAMEWORKS  # packages whose own objects are not looked into


class Twins:
    """Twins of what the parts of a model hold: equal, but for parts, in whose place they have the copies.

    That holds for parts in containers and plain objects, and for what bound methods, partial and local
    functions and weak references refer to.

    kind: of the parts. copy_of: returns the copy of a part; any other object of the kind as it is.
    """

    def __init__(self, kind: type, copy_of: Callable[[Any], Any]) -> None:
        self._kind = kind
        self._copy_of = copy_of
        self._known: dict[int, Any] = {}
        self._dull: dict[int, int] = {}  # how deep was looked into what leads to no part
        self._plain: set[type] = set(_VALUES)  # classes of what leads to none, most of what parts hold

    def of(self, x: Any, depth: int = _DEPTH) -> Any:
        """Return the twin of `x`: `x` itself, where it leads to no part."""
        if type(x) in self._plain or (issubclass(type(x), (list, dict)) and not x):
            return x
        if self._is_part(x):
            return self._copy_of(x)
        if type(x) not in ProxyTypes and _handler(type(x)) is None:
            self._plain.add(type(x))
            return x
        if id(x) in self._known:
            return self._known[id(x)]
        looked: dict[int, int] = {}
        if not self._leads(x, depth, looked):
            self._dull |= looked
            return x
        take, make = _handler(type(x)) or _OBJECT
        if make is None:
            return self._object(x, depth)
        self._known[id(x)] = make(x, [self.of(part, depth - 1) for part in take(x)])
        return self._known[id(x)]

    def _is_part(self, x: Any) -> bool:
        # Proxies pass for what they refer to.
        return type(x) not in ProxyTypes and isinstance(x, self._kind)

    def _leads(self, x: Any, depth: int, looked: dict[int, int]) -> bool:
        """Say whether `x` leads to a part; looked: how deep was looked into what, for this question."""
        if self._is_part(x):
            return self._copy_of(x) is not x
        if id(x) in self._known:
            return True
        handler = _handler(type(x)) if depth else None
        if handler is None or max(self._dull.get(id(x), 0), looked.get(id(x), 0)) >= depth:
            return False
        looked[id(x)] = depth
        return any(self._leads(part, depth - 1, looked) for part in handler[0](x))

    def _object(self, x: Any, depth: int) -> Any:
        try:
            twin = object.__new__(type(x))
        except TypeError:  # it holds more than attributes
            return x
        self._known[id(x)] = twin  # before it is filled: objects lead back to each other
        # Without the code of its class, which may refuse or do more.
        for name, value in getattr(x, "__dict__", {}).items():
            twin.__dict__[name] = self.of(value, depth - 1)
        for slot, value in _filled_slots(x):
            slot.__set__(twin, self.of(value, depth - 1))
        return twin


def _handler(cls: type) -> _Handler | None:
    """Return what takes an object of a class apart and makes its twin, or None where it leads to no part."""
    if cls in _HANDLERS:
        return _HANDLERS[cls]
    base = next((base for base in (list, tuple, dict) if issubclass(cls, base)), None)
    package = cls.__module__.partition(".")[0]
    if base is None:
        return None if package in _CLOSED else _OBJECT
    if base is tuple:
        return (list, lambda x, members: x._make(members)) if hasattr(cls, "_make") else _HANDLERS[tuple]
    # Frameworks track what is put into containers of their own: plain ones take their place.
    return _HANDLERS[base] if package in _FRAMEWORKS else (_members, _of_its_class)


def _filled_slots(x: Any) -> Iterator[tuple[MemberDescriptorType, Any]]:
    for cls in type(x).__mro__:
        for slot in vars(cls).values():
            if isinstance(slot, MemberDescriptorType):
                with suppress(AttributeError):
                    yield slot, slot.__get__(x)


def _attributes(x: Any) -> list[Any]:
    return [*_members(getattr(x, "__dict__", {})), *(value for _, value in _filled_slots(x))]


def _members(container: Any) -> list[Any]:
    if len(container) > _MEMBERS:
        return []
    return list(container.values() if isinstance(container, dict) else container)


def _of_its_class(container: Any, members: list[Any]) -> Any:
    twin = copy(container)
    for key, member in zip(container if isinstance(container, dict) else count(), members, strict=False):
        twin[key] = member
    return twin


def _referred(function: FunctionType) -> list[Any]:
    """Return what a function closes over, and its defaults."""
    try:
        enclosed = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell that is not filled yet
        return []
    return [*enclosed, function.__defaults__, function.__kwdefaults__]


def _of_proxy(x: Any) -> list[Any]:
    try:
        return [x.__init__.__self__]
    except ReferenceError:  # what it referred to is gone
        return []


def _referring(function: FunctionType, parts: Sequence[Any]) -> FunctionType:
    *contents, defaults, named = parts
    cells = zip(function.__closure__ or (), contents, strict=True)
    # A cell that stays the same is shared still: functions may count in it.
    closure = tuple(cell if cell.cell_contents is x else CellType(x) for cell, x in cells)
    twin = FunctionType(function.__code__, function.__globals__, function.__name__, defaults, closure)
    twin.__kwdefaults__ = named
    twin.__dict__.update(function.__dict__)
    return twin


_Handler: TypeAlias = tuple[Callable[[Any], list[Any]], Callable[[Any, list[Any]], Any] | None]

_OBJECT: _Handler = (_attributes, None)
"""What has nothing but attributes, and is known before its twin has them."""

_HANDLERS: dict[type, _Handler] = {
    list: (_members, lambda x, members: members),
    tuple: (_members, lambda x, members: tuple(members)),
    set: (_members, lambda x, members: set(members)),
    dict: (_members, lambda x, members: dict(zip(x, members, strict=True))),
    deque: (_members, lambda x, members: deque(members, x.maxlen)),
    ref: (lambda x: [x()], lambda x, parts: ref(parts[0])),
    **dict.fromkeys(ProxyTypes, (_of_proxy, lambda x, parts: proxy(parts[0]))),
    MethodType: (lambda x: [x.__func__, x.__self__], lambda x, parts: MethodType(*parts)),
    partial: (
        lambda x: [x.func, x.args, x.keywords],
        lambda x, parts: partial(parts[0], *parts[1], **parts[2]),
    ),
    FunctionType: (_referred, _referring),
}
"""Takes what may lead to parts apart, and makes the same of other parts."""
