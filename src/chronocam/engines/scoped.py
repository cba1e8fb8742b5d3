"""Contexts that are left whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ContextDecorator, ExitStack
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Scope(ExitStack, ContextDecorator):
    """A stack of contexts that a function runs in."""


def scoped(function: Callable[Concatenate[ExitStack, P], T]) -> Callable[P, T]:
    """Return `function` with a stack in the place of its first argument, left when it returns or raises.

    Ctrl-C may come at any line: between the end of a `with` block and its `__exit__`, or within a `finally`.
    So neither may stand between a mode and its end. Here the `with` statement is that of the standard
    library, and what was entered is left there, too.
    """

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        scope = _Scope()
        return scope(function)(scope, *args, **kwargs)

    return run
