"""Parts of explanations, and explanations joined of parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from chronocam.errors import InputError
from chronocam.explanation.drawing import of_boxes
from chronocam.maps.arrays import Origin
from chronocam.maps.attention import Attention
from chronocam.types import BoxInfo, Finding, TargetInfo
from chronocam.types.targets import NO_FURTHER

if TYPE_CHECKING:
    from chronocam.explanation.record import Explanation

COPIES = 8
"""How many samples at most have small copies of their input."""

Pick: TypeAlias = int | slice | Sequence[int] | Sequence[bool] | np.ndarray
"""Which samples or targets, as NumPy takes them along an axis."""


def picked_of(picked: Pick | tuple[Pick, Pick], counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the samples and targets that are picked, of as many as `counts` says.

    All targets where only samples are. Raises IndexError for any that there are not.
    """
    picks = picked if isinstance(picked, tuple) else (picked, slice(None))
    rows, columns = (
        np.atleast_1d(np.arange(count)[pick]) for count, pick in zip(counts[:2], picks, strict=True)
    )
    return rows, columns


def part_of(whole: Explanation, picked: Pick | tuple[Pick, Pick]) -> Explanation:
    """Return the explanation of some samples and targets. Raises IndexError for any that it has not."""
    rows, columns = picked_of(picked, whole.maps.shape)

    def cut(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[np.ix_(rows, columns)]

    maps, attention, copies = whole.maps[np.ix_(rows, columns)], whole.attention, whole.copies
    infos = tuple(tuple(whole.targets[i][k] for k in columns) for i in rows)
    copied = [] if copies is None else list(takewhile(lambda i: i < len(copies), rows))
    return replace(
        whole,
        maps=maps,
        scores=whole.scores[np.ix_(rows, columns)],
        targets=infos,
        attention=attention
        and Attention(attention.weights[rows], attention.contributions[np.ix_(rows, columns)]),
        findings=tuple(_findings(whole.findings, rows.tolist(), infos)),
        confidences=cut(whole.confidences),
        pictures=None if whole.pictures is None else tuple(whole.pictures[i] for i in rows),
        copies=copies[copied] if copies is not None and copied else None,
        sizes=None if whole.sizes is None else tuple(whole.sizes[i] for i in rows),
        interval=cut(whole.interval),
        origin=None if whole.origin is None else Origin(whole.as_tensor()[rows][:, columns], maps),
    )


def _findings(
    findings: Sequence[Finding], rows: Sequence[int], infos: Sequence[Sequence[TargetInfo]]
) -> Iterator[Finding]:
    """Yield what concerns some samples and their targets, with the samples' new numbers."""
    for one in findings:
        if one.sample is None:
            yield one
            continue
        for new, (old, row) in enumerate(zip(rows, infos, strict=True)):
            if one.sample == old and one.target in (None, *map(str, row)):
                text = one.text.removeprefix(f"sample {old}")
                yield replace(one, sample=new, text=one.text if text == one.text else f"sample {new}{text}")


def concatenate(parts: Sequence[Explanation]) -> Explanation:
    """Join explanations of consecutive batches. Raises InputError where their grids differ."""
    first = parts[0]
    if len(parts) == 1:
        return first
    parts = _as_wide(parts)
    first = parts[0]
    for part in parts:
        if part.maps.shape[1:] != first.maps.shape[1:] or part.input_size != first.input_size:
            raise InputError(
                f"batches differ: maps {first.maps.shape[1:]} of inputs {first.input_size} and "
                f"{part.maps.shape[1:]} of {part.input_size}; use explain_batches, which yields one "
                "explanation per batch"
            )
    return replace(
        first,
        maps=np.concatenate([part.maps for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        targets=tuple(row for part in parts for row in part.targets),
        attention=_joined_attention([part.attention for part in parts]),
        copies=_joined_copies(parts),
        confidences=_joined_arrays([part.confidences for part in parts]),
        interval=_joined_arrays([part.interval for part in parts]),
        sizes=None if first.sizes is None else tuple(size for part in parts for size in part.sizes or ()),
        pictures=None,
        findings=tuple(dict.fromkeys(finding for part in parts for finding in part.findings)),
    )


def on_one_grid(parts: Sequence[Explanation]) -> Sequence[Explanation]:
    """Return explanations of pictures of several sizes with their maps on the finest grid of each axis."""
    if len({part.input_size for part in parts}) == 1 or parts[0].maps.ndim != 4:
        return parts
    grid, size = (
        tuple(max(sides) for sides in zip(*each, strict=True))
        for each in ([part.maps.shape[2:] for part in parts], [part.input_size for part in parts])
    )
    return [_resized(part, grid, size) for part in parts]


def _resized(part: Explanation, grid: tuple[int, ...], size: tuple[int, ...]) -> Explanation:
    """Return an explanation with its maps on another grid, whose cells tile the input evenly."""
    same = part.maps.shape[2:] == grid and part.centers is None
    interval = part.interval
    return replace(
        part,
        maps=part.maps if same else part.resampled(part.maps, grid),
        interval=interval if same or interval is None else part.resampled(interval, grid),
        input_size=size,
        sizes=(part.input_size,) * len(part),
        centers=None,
        windows=None,
        origin=part.origin if same else None,
    )


def _as_wide(parts: Sequence[Explanation]) -> Sequence[Explanation]:
    """Return explanations of boxes with as many columns each, NaN where a batch has fewer."""
    width = max(part.maps.shape[1] for part in parts)
    return [
        part if part.maps.shape[1] == width or not of_boxes(part) else _widened(part, width) for part in parts
    ]


def _widened(part: Explanation, width: int) -> Explanation:
    more = width - part.maps.shape[1]

    def padded(values: np.ndarray) -> np.ndarray:
        return np.pad(values, [(0, 0), (0, more), *[(0, 0)] * (values.ndim - 2)], constant_values=np.nan)

    return replace(
        part,
        maps=padded(part.maps),
        scores=padded(part.scores),
        targets=tuple((*row, *(BoxInfo(NO_FURTHER),) * more) for row in part.targets),
        confidences=None if part.confidences is None else padded(part.confidences),
        interval=None if part.interval is None else padded(part.interval),
    )


def _joined_attention(parts: Sequence[Attention | None]) -> Attention | None:
    some = [part for part in parts if part is not None]
    if not some:
        return None
    weights = np.concatenate([part.weights for part in some])
    return Attention(weights, np.concatenate([part.contributions for part in some]))


def _joined_arrays(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    arrays = [part for part in parts if part is not None]
    return np.concatenate(arrays) if len(arrays) == len(parts) else None


def _joined_copies(parts: Sequence[Explanation]) -> np.ndarray | None:
    """Return copies of the first samples of all batches, as far as there are some of one shape."""
    joined: list[np.ndarray] = []
    for part in parts:
        if part.copies is None or (joined and part.copies.shape[1:] != joined[0].shape[1:]):
            break
        joined.append(part.copies)
        if len(part.copies) < len(part):
            break
    return np.concatenate(joined)[:COPIES] if joined else None
