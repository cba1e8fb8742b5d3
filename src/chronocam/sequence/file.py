"""Explanations of sequences as `.npz` files: arrays, and a header in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from chronocam.jsonable import JsonRecord, missing
from chronocam.media.archive import Archive, Sought, write_archive
from chronocam.targets.steps import StepInfo, VotesInfo
from chronocam.types import TargetInfo

if TYPE_CHECKING:
    from chronocam.sequence.explanation import SequenceExplanation

SOUGHT: Final = Sought(
    "a saved explanation of a sequence",
    "an .npz written by SequenceExplanation.save (cc.load reads both kinds)",
)

_FORMAT: Final = "chronocam sequence 1"
_LEDGER: Final = "ledger."

_Target: TypeAlias = tuple[Any, ...]
"""Name and index; of one output step also the step and its vote, of all steps a list of their votes."""


@dataclass(frozen=True, kw_only=True)
class _Header(JsonRecord):
    """The fields of a `SequenceExplanation` that are not arrays."""

    format: str
    method: str
    diagnostics: tuple[str, ...]
    lengths: tuple[int, ...] | None = field(metadata=missing(None))
    targets: tuple[tuple[_Target, ...], ...]


def write(path: Path, explanation: SequenceExplanation) -> None:
    """Write all of an explanation but what it came from; `read` reads it."""
    header = _Header(
        format=_FORMAT,
        method=explanation.method,
        diagnostics=explanation.diagnostics,
        lengths=explanation.lengths,
        targets=tuple(tuple(map(_parts, row)) for row in explanation.targets),
    )
    terms = {_LEDGER + name: values for name, values in explanation.ledger.items()}
    write_archive(path, header, {"relevance": explanation.relevance, "scores": explanation.scores, **terms})


def read(archive: Archive, make: type[SequenceExplanation]) -> SequenceExplanation:
    """Return the explanation in a file; `make` makes it of its fields.

    Raises MediaError for a file that `write` has not written, and for one whose parts do not fit each other:
    whatever is drawn from it later relies on that.
    """
    header = archive.header(_Header, _FORMAT)
    terms = [name for name in archive.names if name.startswith(_LEDGER)]
    archive.refuse_others({"relevance", "scores", *terms})
    arrays = {name: archive[name] for name in ("relevance", "scores", *terms)}
    for problem in _problems(header, arrays):
        raise archive.error(problem)
    return make(
        arrays["relevance"],
        arrays["scores"],
        tuple(tuple(_target(*parts) for parts in row) for row in header.targets),
        header.method,
        {name.removeprefix(_LEDGER): arrays[name] for name in terms},
        header.diagnostics,
        header.lengths,
    )


def _problems(header: _Header, arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield what does not fit."""
    relevance = arrays["relevance"]
    if relevance.dtype.kind != "f" or relevance.ndim != 4:
        yield f"relevance is {relevance.dtype} {relevance.shape}, not floats (batch, target, time, feature)"
    batch, targets, time, _ = relevance.shape
    for name, values in arrays.items():
        if values is not relevance and (values.dtype.kind != "f" or values.shape != (batch, targets)):
            yield f"{name} is {values.dtype} {values.shape} of relevance {relevance.shape}"
    if [len(row) for row in header.targets] != [targets] * batch or not all(
        map(_names_a_target, chain.from_iterable(header.targets))
    ):
        yield f"targets are not one for each of {batch} samples and {targets} scores"
    lengths = header.lengths
    if lengths is not None and (len(lengths) != batch or not all(0 < one <= time for one in lengths)):
        yield f"lengths are not one for each of {batch} samples, of {time} steps"


def _parts(info: TargetInfo) -> _Target:
    return tuple(getattr(info, one.name) for one in fields(info) if one.name != "signed")


def _names_a_target(parts: _Target) -> bool:
    match parts:
        case (str(), int() | None):
            return True
        case (str(), int() | None, list() as votes):
            return all(map(_counts, votes))
        case (str(), int() | None, step, vote):
            return _counts(step) and _counts(vote)
    return False


def _counts(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _target(name: str, index: int | None, *more: Any) -> TargetInfo:
    if len(more) == 2:
        return StepInfo(name, index, *more)
    return VotesInfo(name, index, tuple(more[0])) if more else TargetInfo(name, index)
