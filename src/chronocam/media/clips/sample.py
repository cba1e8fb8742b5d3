"""Which frames of a clip to take, by their times, and at what size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from chronocam.errors import MediaError, suggest
from chronocam.media.limits import PICTURE

Size: TypeAlias = int | tuple[int, int] | None
"""The shorter side in pixels, or (height, width), or as it is."""

SAMPLINGS: Final = ("uniform", "midpoint", "contiguous")

_LARGEST: Final = 16_384
_SLOWEST: Final = 0.001
_FASTEST: Final = 10_000


@dataclass(frozen=True)
class Timeline:
    """When the frames of a source are shown.

    times: seconds from the first frame, in order of presentation.
    stop: when the last frame ends, in seconds.
    rate: frames per second, on average; None where the source has no clock and `times` counts frames.
    tick: the resolution of the times, in seconds.
    readable: how many of the frames, from the first, are in the file; fewer than all where it is cut off.
    """

    times: Float64[np.ndarray, " frame"]
    stop: float
    rate: float | None
    tick: float
    readable: int

    def shown(self, moments: Float64[np.ndarray, " moment"]) -> Int64[np.ndarray, " moment"]:
        """Return the frame on the screen at each moment: the last that has begun, or the first."""
        return _last_begun(self.times, moments, self.slack)

    @cached_property
    def slack(self) -> float:
        """How much earlier than its time a frame counts as begun, in seconds: ticks round times."""
        gap = float(np.median(np.diff(self.times))) if len(self.times) > 1 else self.stop
        return min(self.tick, gap / 10) + 1e-6


@runtime_checkable
class Source(Protocol):
    """Something that holds frames."""

    @property
    def timeline(self) -> Timeline:
        """When its frames are shown."""

    def frames(
        self, indices: Int64[np.ndarray, " index"], size: Size
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        """Yield (index, pixels) of these frames (sorted, unique), in any order; damaged ones are left out."""


@dataclass(frozen=True)
class Sampler:
    """Which frames to take: how many, how spread, of which span; see `read_clip`."""

    frames: int = 16
    sampling: str = "uniform"
    fps: float | None = None
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        frames: object = self.frames
        if not isinstance(frames, Integral) or int(frames) < 1:
            raise MediaError(f"frames = {self.frames}; expected at least 1")
        if self.sampling not in SAMPLINGS:
            hint = suggest(self.sampling, list(SAMPLINGS))
            raise MediaError(
                f"unknown sampling `{self.sampling}`; expected one of {', '.join(SAMPLINGS)}{hint}"
            )
        if self.fps is not None:
            check_fps(self.fps)
        self._check_span()

    def _check_span(self) -> None:
        begin, end = self.start or 0, math.inf if self.end is None else self.end
        if not begin >= 0:
            raise MediaError(f"start = {self.start}; expected seconds from the first frame, 0 or more")
        if not end > begin:
            raise MediaError(f"start = {begin} s, end = {self.end} s; expected an end after the start")

    def choose(self, line: Timeline) -> Int64[np.ndarray, " time"]:
        """Return the numbers of the frames to take, in the order of the clip."""
        begin, stop = self._span(line)
        moments, numbers = self._moments(line, begin, stop)
        if self.sampling == "contiguous":
            return numbers[np.arange(self.frames) % len(numbers)]
        if self.sampling == "uniform":
            at = np.linspace(moments[0], moments[-1], self.frames)
        else:
            at = begin + (np.arange(self.frames) + 0.5) * ((stop - begin) / self.frames)
        return numbers[_last_begun(moments, at, line.slack)]

    def _span(self, line: Timeline) -> tuple[float, float]:
        """Return where the span begins and stops, in seconds."""
        begin = float(self.start or 0)
        if begin >= line.stop:
            raise MediaError(f"start = {begin:g} s lies beyond the end; expected less than {line.stop:g} s")
        return begin, line.stop if self.end is None else min(float(self.end), line.stop)

    def _moments(
        self, line: Timeline, begin: float, stop: float
    ) -> tuple[Float64[np.ndarray, " moment"], Int64[np.ndarray, " moment"]]:
        """Return the moments to choose among, and the frame on the screen at each.

        The moments are when the span's frames begin, or the ticks of `fps`.
        """
        if self.fps is not None:
            count = max(math.ceil((stop - begin - line.slack) * self.fps), 1)
            ticks = begin + np.arange(count) / float(self.fps)
            return ticks, line.shown(ticks)
        first = int(line.shown(np.array([begin]))[0])
        past = max(int(np.searchsorted(line.times, stop - line.slack)), first + 1)
        return line.times[first:past], np.arange(first, past)


def _last_begun(
    times: Float64[np.ndarray, " _"], moments: Float64[np.ndarray, " moment"], slack: float
) -> Int64[np.ndarray, " moment"]:
    """Return which of the sorted times is the last before each moment, or the first."""
    return np.maximum(np.searchsorted(times, moments + slack, side="right") - 1, 0)


def check_fps(fps: float) -> None:
    """Raise MediaError unless `fps` is a valid frame rate."""
    if not _SLOWEST <= fps <= _FASTEST:
        raise MediaError(f"fps = {fps}; expected frames per second, from {_SLOWEST} to {_FASTEST}")


def check_size(size: Size) -> None:
    """Raise MediaError unless `size` is a valid size."""
    sides = size if isinstance(size, tuple) else (size or 0,) * 2
    if size is not None and not (len(sides) == 2 and all(1 <= side <= _LARGEST for side in sides)):
        raise MediaError(
            f"size = {size}; expected the shorter side or (height, width), from 1 to {_LARGEST} pixels"
        )


def fit(size: Size, height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) to which a picture is resized, the longer side rounded down."""
    if size is None:
        return height, width
    if isinstance(size, tuple):
        return size
    long = int(size * max(height, width) / min(height, width))
    if size * long > PICTURE:
        raise MediaError(f"frames of {height} x {width} would be enlarged to {size} x {long}; crop them")
    return (size, long) if height <= width else (long, size)
