"""What `make contracts` checks annotations by: beartype, to which an int is a float too (PEP 484)."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeCallHintForwardRefException, BeartypeDecorHintException

_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's calls, unless it is annotated with what nothing can check while a program runs.

    That is `Self` of a class that is not checked as a whole, protocols that are not `runtime_checkable`, and
    names that only type checkers import.
    """
    try:
        return _beartyped(function)
    except (BeartypeDecorHintException, BeartypeCallHintForwardRefException):
        return function
