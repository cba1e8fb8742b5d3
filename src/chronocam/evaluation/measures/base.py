"""What a measure is: a number of one map of one sample, and how numbers of many samples become one."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

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
    controls: ClassVar[bool] = True
    """Whether maps that come of no method can be judged by it."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            _MEASURES[cls.name] = cls

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
