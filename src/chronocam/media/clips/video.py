"""Video files through PyAV: first the times of all packets, then no more decoding than is needed."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from jaxtyping import Int64, UInt8

from chronocam.errors import MediaError
from chronocam.media.clips.cut import is_cut_off
from chronocam.media.clips.sample import Size, Timeline, fit
from chronocam.media.limits import check_picture

_TIMES: Final = [("pts", "i8"), ("dts", "i8"), ("duration", "i8")]
_PACKET: Final = np.dtype([*_TIMES, ("key", "?"), ("hidden", "?"), ("corrupt", "?")])
_NONE: Final = np.iinfo(np.int64).min
_ONE: Final = 1 << 16  # 1.0 in a display matrix
_INDEXED: Final = {"mov", "mp4", "matroska", "webm", "avi"}
"""Containers that know where their keyframes are; in others the packets between are read, but not decoded."""


@dataclass(frozen=True)
class Video:
    """The video of a file: when its frames are shown, and which packets lead to them.

    order: the packet, by order of decoding, of each frame, by order of presentation.
    keys: which frames are keyframes, by order of presentation.
    pts: the frames' times in ticks of the container, as if one clock ran through.
    shifts: what is added to the times of each part of a file whose clock starts again; one zero elsewhere.
    timed: whether decoded frames are identified by their time; otherwise by how many came before.
    """

    path: Path
    timeline: Timeline
    order: Int64[np.ndarray, " frame"]
    keys: Int64[np.ndarray, " key"]
    pts: Int64[np.ndarray, " frame"]
    timed: bool = True
    shifts: tuple[int, ...] = (0,)

    def frames(
        self, indices: Int64[np.ndarray, " index"], size: Size
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        """Yield (index, pixels), upright, of these frames; damaged ones are left out.

        Frames that jumping from keyframe to keyframe did not yield are looked for from the start.
        """
        missing, develop = set(indices.tolist()), _Developer(size)
        for route in (jump, scan) if self.timed and len(self.shifts) == 1 else (scan,):
            if not missing:
                return
            with opened(self.path) as (container, stream):
                for number, frame in route(self, container, stream, missing.copy()):
                    if number in missing:
                        missing.remove(number)
                        yield number, develop(frame)


def open_video(path: Path, end: float | None) -> Video:
    """Read when the frames of a video are shown, up to `end` seconds where given; nothing is decoded.

    Raises MediaError where the file is not a video, or PyAV is not installed.
    """
    with opened(path) as (container, stream):
        packets = np.fromiter(_index(container, stream, end), _PACKET)
        shifts = _shifts(container, packets)
        if len(shifts) == 1:
            packets = packets[~packets["corrupt"]]
        if packets["hidden"].all():
            raise MediaError(f"`{path}` holds no frames; expected a video, record or fetch it again")
        cut = is_cut_off(path)
        if _unordered(container, stream, packets["pts"]):
            video = _by_order(path, stream, packets)
        else:
            enough = end is not None and _elapsed(packets, _fraction(stream.time_base)) > end
            video = _by_time(path, stream, packets, whole=not (enough or cut))
            video = replace(video, shifts=shifts)
        seconds = (container.duration or 0) / 1e6
        count = stream.frames or round(seconds * (video.timeline.rate or 0))
        return _extended(video, count) if cut else video


# When the frames are shown


def _index(
    container: Any, stream: Any, end: float | None
) -> Iterator[tuple[int, int, int, bool, bool, bool]]:
    """Yield a row of `_PACKET` for each packet, until all further frames begin after `end` seconds."""
    enough = math.inf if end is None else float(end) / float(_fraction(stream.time_base))
    first = math.inf
    for packet in _demux(container, stream):
        pts, dts = (_NONE if time is None else time for time in (packet.pts, packet.dts))
        yield pts, dts, packet.duration or 0, packet.is_keyframe, packet.is_discard, packet.is_corrupt
        if packet.is_corrupt:
            continue
        first = min(first, math.inf if packet.is_discard else max(pts, dts))
        if dts - first > enough:
            return


def _elapsed(packets: np.ndarray, tick: Fraction) -> float:
    """Return when the first packet that was not read could be shown, in seconds from the first frame."""
    first = packets["pts"][~packets["hidden"]].min()
    return float((int(packets["dts"].max()) - int(first)) * tick)


def _shifts(container: Any, packets: np.ndarray) -> tuple[int, ...]:
    """Let the parts of a file whose clock starts again follow each other; returns what each was moved by.

    Streams that were joined byte by byte, as downloads of MPEG-TS are, have their times twice. There, a
    packet at the end of a part counts as corrupt just because another follows than its number says.
    """
    sound = np.flatnonzero(~packets["corrupt"])
    if not _INDEXED.isdisjoint(container.format.name.split(",")):
        return (0,)
    shifts, start = [0], 0
    starts = sound[1:][np.diff(packets["dts"][sound]) < 0]
    for stop in [*starts.tolist(), len(packets)]:
        part, before = packets[start:stop], packets[:start]
        shown = part["pts"][~part["hidden"]]
        if start and shown.size and shown.min() + shifts[-1] <= before["pts"].max():
            last = int(before["pts"].argmax())
            gaps = np.diff(np.unique(before["pts"]))
            lasting = int(before["duration"][last] or (np.median(gaps) if gaps.size else 1))
            shifts.append(int(before["pts"][last]) + lasting - int(shown.min()))
        part["pts"] += shifts[-1]
        part["dts"] += shifts[-1]
        start = stop
    return tuple(shifts)


def _by_time(path: Path, stream: Any, packets: np.ndarray, whole: bool) -> Video:
    """Put the packets into order of presentation; of a part, those between which none can be missing."""
    order = np.flatnonzero(~packets["hidden"])
    pts, places = np.unique(packets["pts"][order], return_index=True)
    order = order[places]
    if not whole:  # a frame that is shown after the last decoding time may follow one that is not there
        settled = max(int(np.searchsorted(pts, packets["dts"].max(), side="right")), 1)
        pts, order = pts[:settled], order[:settled]
    line = _timeline(pts, int(packets["duration"][order[-1]]), _fraction(stream.time_base), stream)
    return Video(path, line, order, np.flatnonzero(packets["key"][order]), pts)


def _by_order(path: Path, stream: Any, packets: np.ndarray) -> Video:
    """Take the frames as they come out of the decoder: evenly, where the file has no times at all."""
    clock, last, tick = np.sort(packets["dts"]), int(packets["duration"][-1]), _fraction(stream.time_base)
    if (clock == _NONE).any():
        clock, last, tick = np.arange(len(packets)), 1, 1 / (_fraction(stream.average_rate) or Fraction(1))
    line = _timeline(clock, last, tick, stream)
    return Video(path, line, np.arange(len(packets)), np.zeros(1, np.int64), clock, timed=False)


def _unordered(container: Any, stream: Any, pts: np.ndarray) -> bool:
    """Return whether packets lack the order of presentation: raw streams, and B-frames in AVI."""
    shuffled = container.format.name == "avi" and stream.codec_context.has_b_frames
    return bool(shuffled or (pts == _NONE).any())


def _timeline(clock: Int64[np.ndarray, " frame"], last: int, tick: Fraction, stream: Any) -> Timeline:
    """Return the timeline of times and the last frame's duration in ticks.

    The rate is measured; the container's own is taken where it agrees, since times are rounded.
    """
    times, rate = (clock - clock[0]) * float(tick), float(_fraction(stream.average_rate))
    measured = (len(times) - 1) / float(times[-1]) if times[-1] > 0 else 0.0
    if rate and (not measured or abs(rate / measured - 1) < 0.005):
        measured = rate
    stop = float(times[-1]) + (last * float(tick) or 1 / (measured or 1))
    return Timeline(times, stop, measured or None, float(tick), len(times))


def _extended(video: Video, count: int) -> Video:
    """Add the times of the frames that the file has lost at its end, of `count` in all."""
    line = video.timeline
    gap = 1 / (line.rate or 1.0)
    lost = line.times[-1] + gap * np.arange(1, count - len(line.times) + 1)
    times = np.concatenate([line.times, lost])
    stop = max(line.stop, float(times[-1]) + gap)
    return replace(video, timeline=replace(line, times=times, stop=stop))


# Routes to the frames


def scan(video: Video, container: Any, stream: Any, indices: set[int]) -> Iterator[tuple[int, Any]]:
    """Decode from the start up to the last of the frames; yields (index, frame)."""
    numbers, last = _numbers(video), max(indices)
    packets = chain(_packets(video, container, stream), [None])
    part, before = 0, None
    for position, frame in enumerate(frame for packet in packets for frame in _decode(stream, packet)):
        number = position
        if video.timed and frame.pts is not None:
            part += before is not None and frame.pts <= before and part + 1 < len(video.shifts)
            before = frame.pts
            number = numbers.get(frame.pts + video.shifts[part], -1)
        if number in indices and not frame.is_corrupt:
            yield number, frame
        if number >= last:
            return


def jump(video: Video, container: Any, stream: Any, indices: set[int]) -> Iterator[tuple[int, Any]]:
    """Decode only from keyframes to the frames; yields (index, frame)."""
    numbers, cursor = _numbers(video), _Cursor(container, stream, video)
    for first, last in runs(video, sorted(indices), gap=min(os.cpu_count() or 1, 16)):
        for packet in chain(cursor.between(first, last), [None]):
            for frame in _decode(stream, packet):
                number = numbers.get(frame.pts, -1)
                if number in indices and not frame.is_corrupt:
                    yield number, frame
        stream.codec_context.flush_buffers()


def runs(video: Video, indices: list[int], gap: int) -> list[tuple[int, int]]:
    """Return the (first, last) packets to decode, from a keyframe each.

    gap: decoding so many packets for nothing is cheaper than emptying the decoder, which works on several at
        once.
    """
    starts = np.concatenate([[0], video.order[video.keys]])
    firsts = starts[np.searchsorted(video.keys, indices, side="right")]
    stretches: list[tuple[int, int]] = []
    for first, last in sorted(zip(firsts.tolist(), video.order[indices].tolist(), strict=True)):
        # Two stretches become one where they overlap, or little lies between them.
        if stretches and first <= stretches[-1][1] + 1 + gap:
            first, last = stretches[-1][0], max(stretches.pop()[1], last)
        stretches.append((first, last))
    return stretches


class _Cursor:
    """Reads packets in order of decoding, from any keyframe on."""

    def __init__(self, container: Any, stream: Any, video: Video) -> None:
        self.container = container
        self.stream = stream
        self.video = video
        self.packets = _packets(video, container, stream)
        self.position = 0
        self.seeks = not _INDEXED.isdisjoint(container.format.name.split(","))

    def between(self, first: int, last: int) -> Iterator[Any]:
        """Yield the packets from number `first`, a keyframe that lies ahead, to number `last`."""
        if self.seeks and first > self.position:
            self._seek(first)
        for packet in self.packets:
            self.position += 1
            if self.position > first:
                yield packet
            if self.position > last:
                return

    def _seek(self, first: int) -> None:
        """Go to the keyframe, by way of an earlier one where the container leads there."""
        video = self.video
        pts = int(video.pts[video.keys[np.searchsorted(video.order[video.keys], first)]])
        self.container.seek(pts, stream=self.stream)
        packets = _packets(video, self.container, self.stream)
        ahead = (
            packet
            for packet in packets
            if packet.is_keyframe and packet.pts is not None and packet.pts >= pts
        )
        # `ahead` reads from `packets`: after the first of it, the rest of `packets` goes on right behind.
        self.packets, self.position = chain(islice(ahead, 1), packets), first


def _numbers(video: Video) -> dict[int | None, int]:
    """Return the number of the frame at each time in ticks."""
    return {pts: number for number, pts in enumerate(video.pts.tolist())}


def _packets(video: Video, container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets that lead to the frames: not the corrupt ones, except in joined streams."""
    joined = len(video.shifts) > 1
    return (packet for packet in _demux(container, stream) if joined or not packet.is_corrupt)


def _demux(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets that hold something, up to where the file is damaged."""
    with suppress(_av().FFmpegError):
        for packet in container.demux(stream):
            if packet.size:
                yield packet


def _decode(stream: Any, packet: Any) -> list[Any]:
    """Return the frames that a packet completes, or the end of packets (None); none where it is damaged."""
    with suppress(_av().FFmpegError):
        return stream.codec_context.decode(packet)
    return []


class _Developer:
    """Turns decoded frames upright, at one size, to RGB."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.reformatter = _av().video.reformatter.VideoReformatter()
        self.how: tuple[bool, int, int, dict[str, int]] | None = None

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        turned, down, right, stored = self.how = self.how or self._read_how(frame)
        rgb = self.reformatter.reformat(frame, format="rgb24", interpolation="BILINEAR", **stored)
        pixels = rgb.to_ndarray()
        return (pixels.swapaxes(0, 1) if turned else pixels)[::down, ::right]

    def _read_how(self, frame: Any) -> tuple[bool, int, int, dict[str, int]]:
        """Return orientation and size as stored; once, since reading its side data keeps a frame alive."""
        turned, down, right = _orientation(frame)
        sides = fit(self.size, *((frame.width, frame.height) if turned else (frame.height, frame.width)))
        height, width = reversed(sides) if turned else sides
        return turned, down, right, {"height": height, "width": width}


def _orientation(frame: Any) -> tuple[bool, int, int]:
    """Return whether rows become columns, and then the steps (1 or -1) through rows and columns."""
    # The matrix is [[a, b, ·], [c, d, ·], ·] in fixed point; turns by 90° have their weight in b and c.
    side = frame.side_data.get("DISPLAYMATRIX")
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side)) if side else (_ONE, 0, 0, 0, _ONE)
    turned = abs(b) + abs(c) > abs(a) + abs(d)
    down, right = (b, c) if turned else (d, a)
    return turned, -1 if down < 0 else 1, -1 if right < 0 else 1


# Opening


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file; yields (container, its largest video stream). Raises MediaError unless it is a video."""
    container = _open(path)
    try:
        stream = _stream(path, container)
        stream.codec_context.thread_type = "AUTO"
        yield container, stream
    finally:
        container.close()


def _open(path: Path) -> Any:
    av, url, options = _av(path), f"file:{path}", {"protocol_whitelist": "file"}  # a playlist fetches nothing
    if _is_text(path):
        raise MediaError(f"`{path}` is text; expected a video, check the path")
    try:
        try:
            return av.open(url, container_options=options)
        except UnicodeDecodeError:  # a title in another encoding
            return av.open(url, container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        todo = "expected an mp4, mov, mkv, webm, avi, gif or webp, convert or fetch it again"
        raise MediaError(_fault(path, f"cannot be read as a video ({error.strerror})", todo)) from error


def _fault(path: Path, problem: str, todo: str) -> str:
    """Return what is wrong with a file and what to do."""
    if is_cut_off(path):
        problem = "is cut off before its index or its first frame"
        todo = "expected a whole video, fetch it again"
    return f"`{path}` {problem}; {todo}"


def _is_text(path: Path) -> bool:
    """Return whether a file has none of the low bytes that every video begins with."""
    with path.open("rb") as file:
        return min(file.read(1024), default=0) >= 9


def _stream(path: Path, container: Any) -> Any:
    streams = container.streams
    videos = [s for s in streams.video if not s.disposition & _av().stream.Disposition.attached_pic]
    if not videos:
        what = "holds sound but no video" if streams.audio else "holds no video"
        raise MediaError(_fault(path, what, "expected a video, check the path"))
    stream = max(videos, key=lambda s: s.width * s.height if s.codec_context else -1)
    if not stream.codec_context:
        raise MediaError(f"`{path}` holds a video that PyAV cannot decode; expected e.g. H.264, convert it")
    check_picture(path, stream.width, stream.height)
    return stream


def _av(path: Path | None = None) -> ModuleType:
    try:
        import av
        import av.video.reformatter
    except ImportError as error:
        need = "PyAV is not installed; pip install 'chronocam[video]'"
        raise MediaError(f"`{path}` cannot be read as a video: {need}") from error
    return av


def _fraction(value: Any) -> Fraction:
    """Return a rate or a time base of any PyAV as a fraction; 0 where there is none."""
    return Fraction(value.numerator, value.denominator) if value else Fraction(0)
