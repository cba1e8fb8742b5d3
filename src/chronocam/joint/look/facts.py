"""What was found out about models, kept as long as they live and stay as they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_STATES: Final = 8
"""Facts are kept for at most so many states of a model, such as training and evaluation mode."""

_MISSING: Final[Any] = object()
_FACTS: Final = 1024
"""At most so many facts are kept for each state: inputs of ever new sizes would add up."""


class Facts:
    """Facts by key, the latest asked for. They hold neither the model nor arrays."""

    def __init__(self) -> None:
        self._facts: OrderedDict[Hashable, Any] = OrderedDict()

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return the fact of this key, found out at the first question."""
        # Asked for in one step, since another thread may drop it.
        fact: T = self._facts.get(key, _MISSING)
        if fact is _MISSING:
            # Two threads may find it at the same time; both go on with what was found first.
            fact = self._facts.setdefault(key, find())
        _trim(self._facts, key, _FACTS)
        return fact

    def known(self, key: Hashable) -> Any:
        """Return the fact of this key if it was found out, else None."""
        return self._facts.get(key)

    def __len__(self) -> int:
        return len(self._facts)

    def take(self, other: Facts) -> None:
        """Take the facts of another."""
        self._facts.update(other._facts)

    def clear(self) -> None:
        """Drop all of them."""
        self._facts.clear()

    def keep(self, key: Hashable, fact: object) -> None:
        """Keep a fact in the place of what was known."""
        self._facts[key] = fact
        _trim(self._facts, key, _FACTS)


def _trim(held: OrderedDict[Hashable, Any], latest: Hashable, most: int) -> None:
    """Drop what was not asked for the longest; another thread may drop the same."""
    try:
        held.move_to_end(latest)
        while len(held) > most:
            held.popitem(last=False)
    except KeyError:
        return


_OF_MODELS: WeakKeyDictionary[Any, OrderedDict[Hashable, Facts]] = WeakKeyDictionary()


def facts_of(model: object, state: Hashable) -> Facts | None:
    """Return what is known of a model in a state: its structure, and how it is run.

    None for a model or a state that cannot be told from others.
    """
    try:
        states = _OF_MODELS.setdefault(model, OrderedDict())
        facts = states.setdefault(state, Facts())
    except TypeError:
        return None
    _trim(states, state, _STATES)
    return facts


def share_facts(model: object, copy: object) -> None:
    """Let a copy of a model, with other weights, know what is known of the model."""
    with suppress(TypeError):
        _OF_MODELS[copy] = _OF_MODELS.setdefault(model, OrderedDict())
