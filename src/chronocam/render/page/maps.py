"""The maps of one sample as a page holds them: small, on one scale, a slice for each frame that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypedDict

import numpy as np
from jaxtyping import Float

from chronocam.maps.attention import Attention
from chronocam.maps.frames import frame_importance, frame_spans, merge_copies
from chronocam.maps.resample import resample
from chronocam.media._stills import Stills
from chronocam.render._overlay import relative, scale_of
from chronocam.render.page.packed import number, numbers, packed
from chronocam.render.page.records import AttentionCurves, DriveOutput, MapTarget, Number, ShownMap
from chronocam.render.words import opening, percent, when, whereabouts
from chronocam.types import Window

_FINEST: Final = (224, 64)
"""Cells along a side of the finest grid of a picture, and of a frame of a clip; finer grids are thinned."""

_MOST: Final = 2.0
"""Values beyond twice the scale are clipped: a byte has 255 steps, which a few extreme cells would use up."""


@dataclass(frozen=True, eq=False)
class SampleMaps:
    """The maps of one sample, as an explanation hands them to a page; arrays keep a batch axis of 1.

    names: of the targets.
    scores, confidences: of the targets, `(1, target)`.
    dims: the names of the axes of `maps`.
    input_size: the grid of the model's input.
    centers: for each grid axis, the input coordinate of every cell's centre; None tiles the input evenly.
    windows: for each grid axis, what cells see of the input; None where that is not known.
    spans: the first and the last input frame of each time slice.
    pictures: what the maps are drawn on; None for bare maps.
    interval: half-widths of the 95 % interval of each value; None where that is not known.
    scale: the raw value that has the last colour; None for the maps' own.
    of_signal: whether the maps are of a signal, as those of a picture of one row.
    boxes: of the targets that are detections, x0, y0, x1, y1 in pixels of the input; None of others.
    """

    maps: Float[np.ndarray, "1 target *grid"]
    names: Sequence[str]
    scores: Float[np.ndarray, "1 target"]
    confidences: Float[np.ndarray, "1 target"] | None
    method: str
    layer: str
    findings: Sequence[str]
    dims: tuple[str, ...]
    input_size: tuple[int, ...]
    centers: tuple[tuple[float, ...], ...] | None
    windows: tuple[Window, ...] | None
    spans: tuple[tuple[int, int], ...] | None
    attention: Attention | None
    pictures: Stills | None
    interval: Float[np.ndarray, "1 target *grid"] | None = None
    scale: Float[np.ndarray, ...] | None = None
    of_signal: bool = False
    boxes: Sequence[Sequence[float] | None] = ()

    @property
    def colour(self) -> Float[np.ndarray, ...]:
        """The raw value that has the last colour."""
        return scale_of(self.maps) if self.scale is None else self.scale

    @property
    def surely(self) -> SampleMaps | None:
        """What is sure of the maps, on their scale: the end of each interval that is nearer to zero."""
        if self.interval is None or not self.interval.any() or not np.isfinite(self.interval).all():
            return None
        sure = np.sign(self.maps) * np.maximum(np.abs(self.maps) - self.interval, 0)
        finding = "each cell is shown at the end of its 95 % interval that is nearer to zero"
        return replace(self, maps=sure, interval=None, scale=self.colour, findings=(finding,))


class _Bytes(TypedDict):
    """The fields of a `ShownMap` that hold the maps themselves."""

    cells: list[int]
    thinned: bool
    centers: list[list[Number]] | None
    windows: list[list[int]] | None
    input: list[int]
    signed: list[bool]
    gains: list[Number]
    bytes: list[str]


def shown_maps(sample: SampleMaps, label: str, stills: Stills) -> ShownMap:
    """Return what a page draws of one sample's maps: those of all targets, on one scale.

    A clip's map is resampled along time to the frames that are shown; the page enlarges it in space.
    """
    of_clip = sample.maps.ndim == 5
    targets = [_target(sample, k, stills) for k in range(sample.maps.shape[1])]
    spans = sample.spans or (frame_spans(sample.maps.shape[2], sample.input_size[0]) if of_clip else None)
    return ShownMap(
        label=label,
        first=surest([target.confidence for target in targets]),
        method=sample.method,
        layer=sample.layer,
        grid=list(sample.maps.shape[3 if sample.of_signal else 2 :]),
        findings=list(sample.findings),
        spans=None if spans is None else [[stills.places[a], stills.places[b]] for a, b in spans],
        cubic=not of_clip,
        **_bytes(_at_frames(sample, stills) if of_clip else sample.maps / sample.colour, sample),
        targets=targets,
    )


def surest(confidences: Sequence[Number]) -> int:
    """Return which target has the largest confidence; the first where none is known."""
    known = [-1.0 if one is None else one for one in confidences]
    return known.index(max(known))


def shown_moments(
    sample: SampleMaps,
    moments: Float[np.ndarray, "time target height width"],
    label: str,
    targets: list[DriveOutput],
) -> ShownMap:
    """Return what a page draws of maps of frames that follow each other.

    sample: what holds for all of them, such as the first.

    Targets, which are outputs in units of their own, have a scale each. Findings are left to the drive, since
    those of many moments are gathered there.
    """
    # Moments take the place of time slices, so that the page plays a drive like a clip.
    in_time = np.moveaxis(moments, 0, 1)[None]
    scaled = [relative(in_time[:, k : k + 1]) for k in range(in_time.shape[1])]
    return ShownMap(
        label=label,
        first=0,
        method=sample.method,
        layer=sample.layer,
        grid=list(sample.maps.shape[2:]),
        findings=[],
        spans=None,
        cubic=True,
        **_bytes(np.concatenate(scaled, axis=1), sample),
        targets=targets,
    )


def _at_frames(sample: SampleMaps, stills: Stills) -> Float[np.ndarray, "1 target frame height width"]:
    """Return a clip's maps on their common scale at each frame that is shown.

    They are linear in time; a frame that a looped clip repeats gets the mean of its maps.
    """
    slices, frames = sample.maps.shape[2], sample.input_size[0]
    times = None if sample.centers is None else sample.centers[0]
    if times is None:
        times = tuple((i + 0.5) * frames / slices - 0.5 for i in range(slices))
    # In space nothing changes: a grid is resampled to itself.
    grid = sample.maps.shape[3:]
    unchanged = [tuple(map(float, range(n))) for n in grid]
    fine = resample(sample.maps / sample.colour, (frames, *grid), "linear", [times, *unchanged])
    places = np.asarray(stills.places)
    first = np.array([int(np.flatnonzero(places == place)[0]) for place in places])
    return merge_copies(fine, first)


def _bytes(strengths: Float[np.ndarray, "1 target *grid"], sample: SampleMaps) -> _Bytes:
    """Return the bytes of the maps, each scaled to its maximum, their gains, and the places of the cells."""
    limit = _FINEST[1] if strengths.ndim == 5 else _FINEST[0]
    steps = [-(-n // limit) for n in strengths.shape[-2:]]
    thin = _thinned(strengths[0], steps)
    thin = np.where(np.isfinite(thin), thin, 0)  # nothing is drawn there
    centers = None if sample.centers is None or max(steps) > 1 else sample.centers[-2:]
    windows = None if sample.windows is None or max(steps) > 1 else sample.windows[-2:]
    # A byte for each cell resolves 1/255 of the map's own maximum, so that weak maps stay smooth when the
    # reader enlarges their scale; the gain brings them back to the scale that all targets share.
    signed = [bool((values < 0).any()) for values in thin]
    clipped = np.clip(thin, -_MOST, _MOST)
    gains = [float(np.abs(values).max()) or 1.0 for values in clipped]
    return {
        "cells": list(thin.shape[-2:]),
        "thinned": max(steps) > 1,
        "centers": None if centers is None else [numbers(at, 7) for at in centers],
        "windows": None if windows is None else [list(one) for one in windows],
        "input": list(sample.input_size[-2:]),
        "signed": signed,
        "gains": numbers(gains, 7),
        "bytes": [
            packed(values / gain, sign) for values, gain, sign in zip(clipped, gains, signed, strict=True)
        ],
    }


def _thinned(maps: Float[np.ndarray, "*lead height width"], steps: Sequence[int]) -> np.ndarray:
    """Return the value of largest magnitude of every block of `steps` cells."""
    if max(steps) == 1:
        return maps
    *lead, height, width = maps.shape
    down, across = steps
    padded = np.pad(maps, [(0, 0)] * len(lead) + [(0, -height % down), (0, -width % across)])
    blocks = padded.reshape(*lead, -(-height // down), down, -(-width // across), across)
    flat = np.moveaxis(blocks, -3, -2).reshape(*lead, *blocks.shape[-4::2][:2], down * across)
    best = np.abs(flat).argmax(axis=-1)[..., None]
    return np.asarray(np.take_along_axis(flat, best, axis=-1)[..., 0])


def _target(sample: SampleMaps, k: int, stills: Stills) -> MapTarget:
    confidence = None if sample.confidences is None else number(sample.confidences[0, k], 6)
    return MapTarget(
        name=sample.names[k],
        score=number(sample.scores[0, k]),
        confidence=confidence,
        sentence=f"{_sentence(sample, k, stills)}{_known(sample, k)}",
        scale=number(sample.colour.item(), 4),
        range=numbers([sample.maps[0, k].min(), sample.maps[0, k].max()], 4),
        line=numbers(sample.maps[0, k, 0], 4) if sample.of_signal else None,
        importance=numbers(frame_importance(sample.maps)[0, k], 4) if sample.maps.ndim == 5 else None,
        box=numbers(box, 5) if (box := _box(sample, k)) is not None else None,
        attention=None if sample.attention is None else _attention(sample.attention, k, stills),
    )


def _box(sample: SampleMaps, k: int) -> Sequence[float] | None:
    return sample.boxes[k] if k < len(sample.boxes) else None


def _sentence(sample: SampleMaps, k: int, stills: Stills) -> str:
    """Return what was found of one target: where, and in a clip when."""
    values = sample.maps[0, k]
    begin = opening(sample.names[k], None if sample.confidences is None else float(sample.confidences[0, k]))
    if sample.of_signal:
        return f"{begin}: {_along(values[0], sample)}."
    if values.ndim == 2:
        return f"{begin}: {whereabouts(values, sample.input_size, sample.centers, stills.view)}."
    centers = None if sample.centers is None else sample.centers[1:]
    spans = sample.spans or frame_spans(len(values), sample.input_size[0])
    shown = [(stills.places[a], stills.places[b]) for a, b in spans]
    moment = when(frame_importance(values), shown, stills.seconds, stills.unit)
    places = whereabouts(values, sample.input_size[1:], centers, stills.view)
    return f"{begin}: {', '.join(filter(None, [places, moment]))}."


def _known(sample: SampleMaps, k: int) -> str:
    """Return how well a map is known, as a sentence more; nothing where that is not known."""
    if sample.interval is None or not np.isfinite(sample.interval[0, k]).all():
        return ""
    half, values = sample.interval[0, k], sample.maps[0, k]
    share = float((np.abs(values) > half).mean())
    return f" Known to ±{half.max():.2g} (95 %); {percent(share)} of the cells are surely not zero."


def _along(values: Float[np.ndarray, " cell"], sample: SampleMaps) -> str:
    """Return where in a signal the evidence lies."""
    centers = None if sample.centers is None else sample.centers[-1]
    shares = frame_importance(values[:, None, None])
    moment = when(shares, frame_spans(len(values), sample.input_size[-1], centers), None, "sample")
    if not moment:
        return "the map has no positive value"
    place = moment.removeprefix("most of it")
    return f"the evidence is {moment}" if place == moment else f"most of the evidence lies{place}"


def _attention(attention: Attention, k: int, stills: Stills) -> AttentionCurves | None:
    """Return the attention over the frames shown; None where the model attends over others, such as steps."""
    if attention.weights.shape[1] != len(stills.places):
        return None
    return AttentionCurves(
        weights=numbers(_by_frame(attention.weights[0], stills), 4),
        contributions=numbers(_by_frame(attention.contributions[0, k], stills), 4),
        agreement=number(attention.agreement[0, k], 3),
    )


def _by_frame(values: Float[np.ndarray, " time"], stills: Stills) -> Float[np.ndarray, " frame"]:
    """Return values of the model's frames as those of the frames shown: copies add up."""
    sums = np.zeros(len(stills), values.dtype)
    np.add.at(sums, np.asarray(stills.places), values)
    return sums
