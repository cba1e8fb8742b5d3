"""What a measure is: a number of one map of one sample, and how numbers of many samples become one."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from math import inf
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np

from chronocam.errors import POSITIVE, InputError, check_real, suggest
from chronocam.evaluation.case import Ask, Case

Value: TypeAlias = "float | np.ndarray"
"""A number, or a row of them of which `Measure.total` makes one number for all samples."""

Asking: TypeAlias = Generator[Ask, Any, Value]
"""Yields what it asks of the model, is sent the answer, and returns the value."""

_MEASURES: dict[str, type[Measure]] = {}

MEASURES: Mapping[str, type[Measure]] = MappingProxyType(_MEASURES)
"""Every measure by its name."""


@dataclass(frozen=True)
class Measure:
    """A way to judge a map. A class with a `name` is registered by being defined.

    Example:
    >>> cc.evaluation.MEASURES["energy"]().better
    'high'
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """In words, as it stands in a sentence."""
    better: ClassVar[str | None] = "high"
    """Whether `"high"` or `"low"` values are good; None where neither is."""
    truth: ClassVar[str | None] = None
    """What of the truth it needs, `"mask"`, `"boxes"` or `"frames"`; None for measures without truth."""
    bounds: ClassVar[tuple[float, float]] = (-inf, inf)
    """Between which its values lie, whatever the model; no interval goes beyond."""
    hits: ClassVar[bool] = False
    """Whether its values say of a sample that it is right, 1, or wrong, 0."""
    shape: ClassVar[bool] = False
    """Whether it is of the map's own shape: then a control may well be better, and no map is wrong for it."""
    controls: ClassVar[bool] = True
    """Whether maps that come of no method can be judged by it."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            _MEASURES[cls.name] = cls

    def called(self, name: str, title: str | None = None) -> Self:
        """Return the same measure under a name of its own, by which its numbers are told from others'.

        title: how sentences call it; None is its name.
        """
        other = copy(self)
        vars(other).update(name=name, title=title or name)
        return other

    def of(self, case: Case, values: np.ndarray) -> Value | Asking:
        """Return the value of a map `(*grid)`, at the size of the input; NaN where it has none.

        A measure that needs the model is a generator: it yields an `Ask` and is sent the answer.
        """
        raise NotImplementedError(f"{type(self).__name__} must define of(case, values)")

    def number(self, value: Value) -> float:
        """Return the number of one sample, NaN where only many samples have one."""
        return float(np.asarray(value))

    def total(self, values: np.ndarray) -> float:
        """Return the number of many samples `(sample, …)`, for a measure that has none of single ones."""
        raise NotImplementedError(f"{type(self).__name__} has a number for each sample")

    @property
    def pooled(self) -> bool:
        """Whether only many samples have a number."""
        return type(self).total is not Measure.total


def check_shares(name: str, shares: Sequence[float]) -> None:
    """Raise InputError unless an option is one or more shares above 0, up to 1."""
    if len(shares) == 0:
        raise InputError(f"{name} is empty; expected at least one share above 0, up to 1")
    for share in shares:
        check_real(name, share, "shares above 0, up to 1", least=POSITIVE, most=1)


def measure_named(given: str | Measure | type[Measure]) -> Measure:
    """Return a measure. Raises InputError, with close names, for an unknown one."""
    if isinstance(given, Measure):
        return given
    if isinstance(given, type) and issubclass(given, Measure):
        return given()
    if given not in MEASURES:
        hint = suggest(str(given), list(MEASURES)) or f"; choose one of {', '.join(sorted(MEASURES))}"
        raise InputError(f"no measure `{given}`{hint}")
    return MEASURES[given]()


def measures_named(given: Any) -> tuple[Measure, ...]:
    """Return measures, each under a name of its own.

    given: a measure, a list of them, or a dict of them by names. In a list, those of one kind are told apart
        by their options.

    Raises InputError for none, and for one that is given twice.
    """
    if isinstance(given, Mapping):
        named = {str(name): measure_named(one) for name, one in given.items()}
        chosen = [one if name == one.name else one.called(name) for name, one in named.items()]
    else:
        listed = [given] if isinstance(given, (str, Measure, type)) else given
        if not isinstance(listed, Iterable):
            raise InputError(f"measures is {reprlib.repr(given)}; expected names or measures")
        chosen = [measure_named(one) for one in listed]
        kinds = Counter(one.name for one in chosen)
        chosen = [one if kinds[one.name] == 1 else _by_options(one) for one in chosen]
    if not chosen:
        raise InputError("there is nothing to evaluate by: measures is empty")
    if len({one.name for one in chosen}) < len(chosen):
        raise InputError("a measure is given twice; give each once, or a dict of them by names of their own")
    return tuple(chosen)


def _by_options(measure: Measure) -> Measure:
    """Return a measure under a name that holds the options that are not the default."""
    options = {one.name: getattr(measure, one.name) for one in fields(measure)}
    own = {
        name: value if isinstance(value, str) else reprlib.repr(value)
        for name, value in options.items()
        if repr(value) != repr(type(measure).__dataclass_fields__[name].default)
    }
    if not own:
        return measure
    name = ", ".join(f"{name}={value}" for name, value in own.items())
    title = ", ".join(f"{name} {value}" for name, value in own.items())
    return measure.called(f"{measure.name}({name})", f"{measure.title} ({title})")
