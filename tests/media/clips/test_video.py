"""Frames come the same by every route, and no more is decoded than needed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_files import FORMATS, encode, encoder, fails, numbers

from chronocam.media.clips import video as clips_video
from chronocam.media.clips.read import read_clip

av = pytest.importorskip("av")


# Routes


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One processor: no packets are decoded for nothing."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def by_route(path: Path, route: Callable[..., Any], wanted: list[int]) -> dict[int, np.ndarray]:
    video = clips_video.open_video(path, None)
    with clips_video.opened(path) as (container, stream):
        found = route(video, container, stream, set(wanted))
        return {number: frame.to_ndarray(format="rgb24") for number, frame in found}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov", "vp9.webm", "mjpeg.avi"])
@pytest.mark.usefixtures("alone")
def test_jumping_equals_scanning_frame_by_frame(tmp_path: Path, name: str) -> None:
    codec, options = FORMATS.get(name, ("libx264", {}))
    path = encode(tmp_path / name, codec=encoder(codec), **options)
    with av.open(str(path)) as container:
        oracle = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 5, 9, 30, 60):
        wanted = np.sort(rng.choice(60, count, replace=False)).tolist()
        for route in (clips_video.jump, clips_video.scan):
            found = by_route(path, route, wanted)
            assert sorted(found) == wanted
            for number, picture in found.items():
                np.testing.assert_array_equal(picture, oracle[number])


@pytest.mark.usefixtures("alone")
def test_frames_of_open_groups_need_the_group_before(tmp_path: Path) -> None:
    """B-frames before a keyframe, which are decoded after it, need the group before."""
    options = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-adapt=0:scenecut=0"}
    path = encode(tmp_path / "a.mkv", 60, gop=10, bframes=3, **options)
    with av.open(str(path)) as container:
        oracle = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    video = clips_video.open_video(path, None)
    leading = [
        n for n in range(60) if any(key > n and video.order[key] < video.order[n] for key in video.keys)
    ]
    assert leading, "no open group: the test would prove nothing"
    after = [int(min(key for key in video.keys if key > n)) for n in leading]
    pairs = [[n - 1, n + 1] for n in leading] + [[n, key] for n, key in zip(leading, after, strict=True)]
    for wanted in [[n] for n in range(60)] + pairs:
        found = by_route(path, clips_video.jump, wanted)
        for number in wanted:
            np.testing.assert_array_equal(found[number], oracle[number])


def test_a_file_without_marked_keyframes(plain: Path) -> None:
    video = clips_video.open_video(plain, None)
    video = replace(video, keys=video.keys[:0])
    assert clips_video.runs(video, [30, 31], gap=1) == [(0, int(video.order[30:32].max()))]
    assert sorted(number for number, _ in video.frames(np.array([30, 31]), None)) == [30, 31]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The times, in ticks, of the packets that are decoded."""
    sent: list[int] = []
    decode = clips_video._decode

    def watched(stream: Any, packet: Any) -> Any:
        if packet is not None:
            sent.append(packet.pts)
        return decode(stream, packet)

    monkeypatch.setattr(clips_video, "_decode", watched)
    return sent


@pytest.fixture
def sought(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The packets that were sought."""
    found: list[int] = []
    seek = clips_video._Cursor._seek
    monkeypatch.setattr(
        clips_video._Cursor, "_seek", lambda self, first: (found.append(first), seek(self, first))[1]
    )
    return found


@pytest.mark.usefixtures("alone")
def test_only_what_is_needed_is_decoded(plain: Path, decoded: list[int], sought: list[int]) -> None:
    read_clip(plain, 3, "contiguous", start=38 / 25)  # the keyframe is 36
    order = clips_video.open_video(plain, None).order
    assert {pts // 512 for pts in decoded} >= {36, 38, 39, 40}
    assert len(decoded) == order[38:41].max() - order[36] + 1
    assert sought == [36]
    decoded.clear()
    by_route(plain, clips_video.scan, [5])
    assert 5 < len(decoded) < 20


@pytest.mark.usefixtures("alone")
def test_no_seeking_within_a_group_and_no_packet_twice(
    plain: Path, decoded: list[int], sought: list[int]
) -> None:
    read_clip(plain, 60)
    assert sorted(decoded) == [512 * n for n in range(60)]
    assert sought == []
    decoded.clear()
    read_clip(plain, 4)  # 0, 19, 39 and 59, in groups 0, 1, 3 and 4
    assert len(decoded) == len(set(decoded))
    assert sought == [12, 36, 48]
    assert max(decoded) == 59 * 512


@pytest.mark.usefixtures("alone")
def test_packets_are_read_over_where_there_is_no_index(
    tmp_path: Path, decoded: list[int], sought: list[int]
) -> None:
    read_clip(encode(tmp_path / "a.ts"), 1, start=50 / 25)
    assert len(decoded) < 8
    assert sought == []


def test_a_gap_that_the_decoder_would_stall_for_is_decoded(
    monkeypatch: pytest.MonkeyPatch, plain: Path
) -> None:
    video = clips_video.open_video(plain, None)
    assert video.keys.tolist() == [0, 12, 24, 36, 48]
    assert clips_video.runs(video, [0, 36], gap=10) == [(0, 0), (36, 36)]
    assert clips_video.runs(video, [0, 12], gap=10) == [(0, 0), (12, 12)]
    assert clips_video.runs(video, [0, 12], gap=11) == [(0, 12)]
    gaps: list[int] = []
    runs = clips_video.runs
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(clips_video, "runs", lambda *args, gap: (gaps.append(gap), runs(*args, gap=gap))[1])
    read_clip(plain, 2)
    assert gaps == [16]


@pytest.mark.usefixtures("alone")
def test_a_container_that_leads_astray_is_scanned(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seek = clips_video._Cursor._seek

    def astray(self: Any, first: int) -> None:
        seek(self, 48)
        self.position = first

    monkeypatch.setattr(clips_video._Cursor, "_seek", astray)
    clip = read_clip(plain, 2, "contiguous", start=30 / 25)
    assert numbers(clip) == clip.indices.tolist() == [30, 31]


class Damaged:
    """A frame that the decoder says is damaged."""

    is_corrupt = True

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def __getattr__(self, name: str) -> Any:
        return getattr(self.frame, name)


def test_damaged_frames_are_looked_for_again_and_then_refused(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, damaged = clips_video._decode, [512 * 39] * 2

    def sometimes(stream: Any, packet: Any) -> list[Any]:
        frames = decode(stream, packet)
        return [Damaged(f) if f.pts in damaged and not damaged.remove(f.pts) else f for f in frames]

    monkeypatch.setattr(clips_video, "_decode", sometimes)
    fails("damaged", "3 of the 4 frames wanted can be decoded", path=plain, frames=4)
    assert damaged == []
    damaged.append(512 * 39)
    assert numbers(read_clip(plain, 4)) == [0, 19, 39, 59]
    assert damaged == []


def test_the_end_is_not_read(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    demux = clips_video._demux

    def watched(container: Any, stream: Any) -> Iterator[Any]:
        for packet in demux(container, stream):
            seen.append(packet.pts)
            yield packet

    monkeypatch.setattr(clips_video, "_demux", watched)
    clip = read_clip(plain, 4, end=0.4)
    assert max(seen) < 20 * 512
    assert numbers(clip) == [0, 3, 6, 9]
    assert clip.rate == 25.0


@pytest.mark.parametrize("size", [None, 32])
def test_only_wanted_frames_are_converted(
    plain: Path, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    calls: list[Any] = []
    develop = clips_video._Developer.__call__

    def watched(self: Any, frame: Any) -> Any:
        calls.append(frame.pts)
        return develop(self, frame)

    monkeypatch.setattr(clips_video._Developer, "__call__", watched)
    read_clip(plain, 5, size=size)
    assert len(calls) == 5
    calls.clear()
    read_clip(plain, 50, "contiguous", end=0.2)
    assert len(calls) == 5  # repeated without being converted again


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_is_that_of_the_wanted_frames(tmp_path: Path) -> None:
    def picture(number: int) -> np.ndarray:
        return np.full((1080, 1920, 3), number, np.uint8)

    path = encode(
        tmp_path / "a.mp4", 120, gop=250, bframes=0, picture=picture, preset="ultrafast"
    )  # 746 MB of RGB
    code = (
        "import sys; from pathlib import Path; from chronocam.media.clips.read import read_clip\n"
        "def status(): return Path('/proc/self/status').read_text()\n"
        "def peak(): return int(status().split('VmHWM:')[1].split()[0]) // 1024\n"
        "read_clip(sys.argv[1], 1, size=64); before = peak()\n"
        "read_clip(sys.argv[1], 100, size=64); print(peak() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 80
