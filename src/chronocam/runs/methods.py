"""What makes the methods of a call, by their names and the options of the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from chronocam.errors import InputError
from chronocam.methods import METHODS
from chronocam.runs.options import OPTIONS, Options
from chronocam.sequence import METHODS as SEQUENCE_METHODS

if TYPE_CHECKING:
    from chronocam.methods import Method
    from chronocam.sequence import SequenceMethod

MapMaker: TypeAlias = "str | Callable[..., Method]"
RelevanceMakers: TypeAlias = "Mapping[str, Callable[[Any], SequenceMethod]]"

_ARGUMENTS: Final = {
    "pool": "pool",
    "fuse": "fuse",
    "views": "views",
    "until": "until",
    "budget": "budget",
    "passes": "steps",
    "seed": "seed",
    "epsilon": "epsilon",
    "baseline": "baselines",
}
"""The arguments of methods that options stand for."""

_LACKS: Final = {
    "pool": "averages over no frames",
    "epsilon": "has none",
    "baseline": "has none",
    "until": "draws no masks",
    "budget": "draws no masks",
    "passes": "takes none",
    "seed": "draws nothing",
}
"""Why a method does not take an option."""


def method_names() -> set[str]:
    """Return the name of every method, of maps and of relevance."""
    return {*METHODS, *SEQUENCE_METHODS}


def map_makers(options: Options) -> list[MapMaker]:
    """Return what makes the methods of maps, each once, with the options that it takes.

    Raises InputError for --pool where none of them averages.
    """
    names = list(dict.fromkeys(options.methods or ["gradcam"]))
    arguments = _arguments(
        options, ["pool", "fuse", "views", "until", "budget", "passes", "seed"], names, METHODS
    )
    return [partial(METHODS[name], **arguments[name]) if arguments[name] else name for name in names]


def relevance_makers(options: Options) -> RelevanceMakers:
    """Return what makes each relevance method of a model, by name.

    Raises InputError for a method of maps, and for an option that none of the methods has.
    """
    names = list(dict.fromkeys(options.methods or ["lrp"]))
    for name in names:
        if name not in SEQUENCE_METHODS:
            _refuse_map_method(name, names)
    arguments = _arguments(options, ["epsilon", "baseline"], names, SEQUENCE_METHODS)
    return {name: partial(SEQUENCE_METHODS[name], **arguments[name]) for name in names}


def _refuse_map_method(name: str, names: list[str]) -> None:
    for other in names:
        if other not in METHODS:
            raise InputError(
                f"{name} explains the whole network and {other} what follows its features; choose one of them"
            )
    known = ", ".join(sorted(SEQUENCE_METHODS))
    raise InputError(f"{name} makes maps of pictures and clips; for features choose {known}")


def _arguments(
    options: Options, candidates: list[str], names: list[str], methods: Mapping[str, type]
) -> dict[str, dict[str, Any]]:
    """Return the arguments of each method; raises InputError for an option that none of them takes."""
    arguments: dict[str, dict[str, Any]] = {name: {} for name in names}
    for option in candidates:
        value = getattr(options, option)
        if value is None:
            continue
        takers = [name for name in names if _takes(methods[name], option)]
        if not takers:
            known = [name for name in methods if _takes(methods[name], option)]
            for_whom = ", ".join(known) if len(known) <= 3 else f"methods such as {known[0]}"
            flag, others = OPTIONS[option].flag, ", ".join(names)
            raise InputError(f"{flag} is for {for_whom}, and {others} {_LACKS[option]}; drop {flag}")
        for name in takers:
            arguments[name][_ARGUMENTS[option]] = value
    return arguments


def _takes(method: type, option: str) -> bool:
    return _ARGUMENTS[option] in inspect.signature(method).parameters
