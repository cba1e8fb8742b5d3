"""What copies of a model's parts hold in the place of what the parts hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

_CONTAINERS = (list, tuple, dict)
_DEPTH = 4  # how deep inside what a part holds others are looked for
_MEMBERS = 256  # a container of more holds data, not parts


class Twins:
    """Twins of what the parts of a model hold: equal, but for parts, in whose place they have the copies.

    That holds for parts in containers, and for what bound methods, partial and local functions refer to.

    kind: of the parts. copy_of: returns the copy of a part; any other object of the kind as it is.
    """

    def __init__(self, kind: type, copy_of: Callable[[Any], Any]) -> None:
        self._kind = kind
        self._copy_of = copy_of
        self._known: dict[int, Any] = {}

    def of(self, x: Any, depth: int = _DEPTH) -> Any:
        """Return the twin of `x`: `x` itself, where it leads to no part."""
        if isinstance(x, self._kind):
            return self._copy_of(x)
        # Frameworks track what is put into containers of their own, which are subclasses.
        handler = _HANDLERS.get(type(x))
        if handler is None and isinstance(x, _CONTAINERS):
            handler = next(_HANDLERS[kind] for kind in _CONTAINERS if isinstance(x, kind))
        if handler is None or not depth:
            return x
        if id(x) not in self._known:
            take, make = handler
            parts = take(x)
            twins = [self.of(part, depth - 1) for part in parts]
            same = all(twin is part for twin, part in zip(twins, parts, strict=True))
            self._known[id(x)] = x if same else make(x, twins)
        return self._known[id(x)]


def _members(container: Any) -> list[Any]:
    if len(container) > _MEMBERS:
        return []
    return list(container.values() if hasattr(container, "values") else container)


def _enclosed(function: FunctionType) -> list[Any]:
    try:
        return [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell that is not filled yet
        return []


def _closing_over(function: FunctionType, contents: Sequence[Any]) -> FunctionType:
    cells = zip(function.__closure__ or (), contents, strict=True)
    # A cell that stays the same is shared still: functions may count in it.
    closure = tuple(cell if cell.cell_contents is x else CellType(x) for cell, x in cells)
    twin = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, closure
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__dict__.update(function.__dict__)
    return twin


_HANDLERS: dict[type, tuple[Callable[[Any], list[Any]], Callable[[Any, list[Any]], Any]]] = {
    list: (_members, lambda x, members: members),
    tuple: (_members, lambda x, members: tuple(members)),
    dict: (_members, lambda x, members: dict(zip(x, members, strict=True))),
    MethodType: (lambda x: [x.__func__, x.__self__], lambda x, parts: MethodType(*parts)),
    partial: (
        lambda x: [x.func, x.args, x.keywords],
        lambda x, parts: partial(parts[0], *parts[1], **parts[2]),
    ),
    FunctionType: (_enclosed, _closing_over),
}
"""Takes what may lead to parts apart, and makes the same of other parts."""
