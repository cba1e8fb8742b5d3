"""What `make contracts` checks annotations by: beartype, to which an int is a float too (PEP 484)."""

from collections.abc import Callable
from typing import Any, Self

from beartype import BeartypeConf, beartype

_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's calls; methods that return `Self`, which beartype resolves only for whole classes, pass."""
    if Self in getattr(function, "__annotations__", {}).values():
        return function
    return _beartyped(function)
