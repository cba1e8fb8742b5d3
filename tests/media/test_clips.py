import os
import struct
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

from chronocam.errors import MediaError  # noqa: E402
from chronocam.media.clips import video as clips_video  # noqa: E402
from chronocam.media.clips import write as clips_write  # noqa: E402
from chronocam.media.clips.read import Clip, read_clip, write_clip  # noqa: E402
from chronocam.media.clips.sample import SAMPLINGS, Sampler, Timeline  # noqa: E402

BITS, HEIGHT, WIDTH = 10, 96, 160
X264 = {"preset": "veryfast", "sc_threshold": "0"}


# Clips whose frames say their number


def numbered(number: int) -> np.ndarray:
    """A picture of ten bars, bright where the number's bits are set."""
    bits = number >> np.arange(BITS) & 1
    row = np.repeat(np.where(bits, 220, 30), WIDTH // BITS)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).astype(np.uint8)


def number_of(picture: np.ndarray) -> int:
    bars = picture.mean((0, 2)).reshape(BITS, -1)
    inner = bars[:, bars.shape[1] // 4 : -bars.shape[1] // 4].mean(1)
    assert np.minimum(abs(inner - 30), abs(inner - 220)).max() < 40, "not a bar code"
    return int(((inner > 125) << np.arange(BITS)).sum())


def numbers(clip: Clip) -> list[int]:
    return [number_of(picture) for picture in clip.pixels]


def encode(
    path: Path,
    count: int = 60,
    codec: str = "libx264",
    *,
    pts: list[int] | None = None,
    tick: Fraction = Fraction(1, 25),
    rate: int = 25,
    gop: int = 12,
    bframes: int = 2,
    pix_fmt: str = "yuv420p",
    picture: Callable[[int], np.ndarray] = numbered,
    fmt: str | None = None,
    **options: str,
) -> Path:
    first = picture(0)
    with av.open(str(path), "w", format=fmt) as container:
        stream = container.add_stream(
            codec, rate=rate, options={**(X264 if codec == "libx264" else {}), **options}
        )
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, bframes
        stream.codec_context.time_base = tick
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number if pts is None else pts[number], tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def encoder(name: str) -> str:
    try:
        av.codec.Codec(name, "w")
    except Exception:
        pytest.skip(f"this PyAV cannot encode {name}")
    return name


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames at 25 a second, B-frames, a keyframe every 12."""
    return encode(tmp_path_factory.mktemp("clips") / "plain.mp4")


UNEVEN = [0, 40, 80, 1000, 1040, 2000, 2400, 2440]  # ms


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames at uneven times, B-frames."""
    path = tmp_path_factory.mktemp("clips") / "uneven.mp4"
    return encode(path, len(UNEVEN), pts=UNEVEN, tick=Fraction(1, 1000))


def fails(*words: str, **arguments: Any) -> str:
    with pytest.raises(MediaError) as caught:
        read_clip(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


# Which frames


def test_there_are_b_frames(plain: Path) -> None:
    with av.open(str(plain)) as container:
        pts = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert pts != sorted(pts), "the other tests would prove less"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"frames": 4}, [0, 19, 39, 59]),
        ({"frames": 1}, [0]),
        ({"frames": 60}, list(range(60))),
        ({"frames": 4, "sampling": "midpoint"}, [7, 22, 37, 52]),
        ({"frames": 1, "sampling": "midpoint"}, [30]),
        ({"frames": 5, "sampling": "contiguous"}, [0, 1, 2, 3, 4]),
        ({"frames": 5, "sampling": "contiguous", "fps": 5}, [0, 5, 10, 15, 20]),
        ({"frames": 4, "sampling": "contiguous", "fps": 50}, [0, 0, 1, 1]),
        ({"frames": 3, "fps": 5}, [0, 25, 55]),  # ticks 0 to 11: 0, 5, 11
        ({"frames": 2, "sampling": "midpoint", "fps": 5}, [15, 45]),  # ticks 3 and 9
        ({"frames": 3, "start": 0.4}, [10, 34, 59]),
        ({"frames": 3, "end": 0.4}, [0, 4, 9]),
        ({"frames": 3, "start": 0.41, "end": 0.81}, [10, 15, 20]),  # what is on the screen at 0.41 counts
        ({"frames": 2, "sampling": "midpoint", "start": 0.4, "end": 0.8}, [12, 17]),
        ({"frames": 3, "sampling": "contiguous", "start": 2.0}, [50, 51, 52]),
        ({"frames": 3, "sampling": "contiguous", "start": 1.0, "fps": 2.5}, [25, 35, 45]),
        ({"frames": 2, "end": 99}, [0, 59]),
        ({"frames": 2, "sampling": "midpoint", "end": 99}, [15, 45]),
        ({"frames": 1, "start": 0.997}, [24]),
        ({"frames": 2, "start": 1.0, "end": 1.0 + 1e-9}, [25, 25]),
    ],
)
def test_constant_rate(plain: Path, arguments: dict[str, Any], expected: list[int]) -> None:
    clip = read_clip(plain, **arguments)
    assert numbers(clip) == expected
    assert clip.indices.tolist() == expected
    np.testing.assert_allclose(clip.seconds, np.array(expected) / 25, atol=1e-6)
    assert (clip.rate, clip.path) == (25.0, plain)
    assert clip.pixels.shape == (len(expected), HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"frames": 5}, [0, 2, 4, 4, 7]),  # at 0, 610, 1220, 1830 and 2440 ms
        ({"frames": 2, "sampling": "midpoint", "end": 2.0}, [2, 4]),  # 500, 1500 ms
        ({"frames": 4, "sampling": "contiguous"}, [0, 1, 2, 3]),
        ({"frames": 5, "sampling": "contiguous", "fps": 2}, [0, 2, 3, 4, 5]),
        ({"frames": 2, "sampling": "contiguous", "start": 0.5}, [2, 3]),
        ({"frames": 2, "start": 1.0, "end": 2.4}, [3, 5]),
        ({"frames": 3, "start": 1.2, "end": 1.9}, [4, 4, 4]),  # one frame is on the screen all the time
    ],
)
def test_variable_rate(uneven: Path, arguments: dict[str, Any], expected: list[int]) -> None:
    clip = read_clip(uneven, **arguments)
    assert numbers(clip) == expected
    assert clip.indices.tolist() == expected
    np.testing.assert_allclose(clip.seconds, np.array(UNEVEN)[expected] / 1000, atol=1e-4)


def test_rate_of_uneven_frames_is_their_average(uneven: Path) -> None:
    assert read_clip(uneven, 1).rate == pytest.approx(7 / 2.44, rel=0.01)


def shown(times: np.ndarray, moment: float, slack: float) -> int:
    """The obvious way: look at every frame."""
    found = 0
    for number, time in enumerate(times):
        if time <= moment + slack:
            found = number
    return found


@pytest.mark.parametrize("seed", range(20))
def test_samplings_equal_a_slow_replica(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.02, 0.4, 40))])
    line = Timeline(times, float(times[-1]) + 0.1, 5.0, 1e-6, len(times))
    begin, stop = sorted(rng.uniform(0, times[-1], 2).tolist())
    count = int(rng.integers(2, 30))
    first, slack = shown(times, begin, line.slack), line.slack
    span = [n for n in range(first, len(times)) if n == first or times[n] < stop - slack]
    ticks = [begin + k / 7 for k in range(1000) if k == 0 or begin + k / 7 < stop - slack]

    def choose(sampling: str, fps: float | None = None) -> list[int]:
        return Sampler(count, sampling, fps, begin, stop).choose(line).tolist()

    apart = (times[span[-1]] - times[first]) / (count - 1)
    assert choose("uniform") == [shown(times, times[first] + k * apart, slack) for k in range(count)]
    part = (stop - begin) / count
    assert choose("midpoint") == [
        min(shown(times, begin + (k + 0.5) * part, slack), span[-1]) for k in range(count)
    ]
    assert choose("contiguous") == [span[k % len(span)] for k in range(count)]
    at_ticks = [shown(times, tick, slack) for tick in ticks]
    assert choose("contiguous", 7.0) == [at_ticks[k % len(ticks)] for k in range(count)]


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
@pytest.mark.parametrize("fraction", [Fraction(1), Fraction(1000, 1001)])
def test_times_rounded_to_milliseconds_lose_no_frame(rate: int, fraction: Fraction) -> None:
    exact = rate * fraction
    times = np.array([round(1000 * n / exact) / 1000 for n in range(200)])
    line = Timeline(times, float(times[-1] + 1 / exact), float(exact), 0.001, 200)
    for sampling in SAMPLINGS:
        assert Sampler(200, sampling).choose(line).tolist() == list(range(200))
        assert Sampler(200, sampling, float(exact)).choose(line).tolist() == list(range(200))
    for count in range(1, 200):
        assert max(Sampler(200, "contiguous", end=float(count / exact)).choose(line)) == count - 1


def test_a_slideshow_shows_a_picture_until_the_next(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 3, pts=[0, 5000, 10000], tick=Fraction(1, 1000))
    clip = read_clip(path, 3, "contiguous", fps=0.25)
    assert clip.indices.tolist() == [0, 0, 1]  # at 0, 4 and 8 s


# Loops


def test_a_short_clip_loops(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "a.mp4", 3), 8, "contiguous")
    assert numbers(clip) == [0, 1, 2, 0, 1, 2, 0, 1]
    np.testing.assert_allclose(clip.seconds, np.array([0, 1, 2, 0, 1, 2, 0, 1]) / 25, atol=1e-6)
    assert clip.duplicates.tolist() == [False] * 3 + [True] * 5
    assert clip.unique.tolist() == [0, 1, 2]
    assert clip.first.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert len(clip) == 8


def test_places_of_duplicates_are_places_in_the_clip(tmp_path: Path) -> None:
    clip = read_clip(encode(tmp_path / "a.mp4", 40), 5, start=1.4, sampling="contiguous", fps=50)
    assert clip.indices.tolist() == [35, 35, 36, 36, 37]
    assert clip.unique.tolist() == [0, 2, 4]
    assert clip.first.tolist() == [0, 0, 2, 2, 4]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_one_frame(tmp_path: Path, sampling: str) -> None:
    clip = read_clip(encode(tmp_path / "a.mp4", 1), 3, sampling)
    assert numbers(clip) == [0, 0, 0]
    assert clip.seconds.tolist() == [0, 0, 0]
    assert clip.unique.tolist() == [0]


def test_enough_frames_have_no_duplicates(plain: Path) -> None:
    clip = read_clip(plain, 60)
    assert not clip.duplicates.any()
    assert clip.unique.tolist() == list(range(60))


# Formats


FORMATS = {
    "a.mov": ("libx264", {}),
    "a.mkv": ("libx264", {}),
    "a.m4v": ("libx264", {}),
    "a.ts": ("libx264", {}),
    "a.flv": ("libx264", {}),
    "a.h264": ("libx264", {}),  # no times at all
    "h264.avi": ("libx264", {}),  # wrong times
    "mpeg4.avi": ("mpeg4", {"bframes": 0}),
    "bframes.avi": ("mpeg4", {}),
    "mjpeg.avi": ("mjpeg", {"pix_fmt": "yuvj420p", "bframes": 0}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none"}),
    "vp8.webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    "hidden.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "fragments.mp4": ("libx264", {}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path: Path, name: str) -> None:
    codec, options = FORMATS[name]
    path = encode(tmp_path / name, codec=encoder(codec), **options)
    if name == "fragments.mp4":
        path = remuxed(path, tmp_path / "b.mp4", "+frag_keyframe+empty_moov")
    for arguments, expected in (
        ({"frames": 4}, [0, 19, 39, 59]),
        ({"frames": 4, "sampling": "midpoint"}, [7, 22, 37, 52]),
        ({"frames": 3, "sampling": "contiguous", "start": 1.2}, [30, 31, 32]),
        ({"frames": 2, "sampling": "contiguous", "fps": 5, "start": 1, "end": 1.5}, [25, 30]),
    ):
        clip = read_clip(path, **arguments)
        assert numbers(clip) == clip.indices.tolist() == expected
        np.testing.assert_allclose(clip.seconds, np.array(expected) / 25, atol=1e-3)
        assert clip.rate == 25.0


def remuxed(source: Path, path: Path, flags: str) -> Path:
    with av.open(str(source)) as there, av.open(str(path), "w", options={"movflags": flags}) as container:
        stream = container.add_stream_from_template(there.streams.video[0])
        for packet in there.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return path


def test_ten_bits(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 5, pix_fmt="yuv420p10le")
    assert numbers(read_clip(path, 2)) == [0, 4]


def test_an_mp4_by_another_name(tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.gif", "a.webm", "a", "50%d of it.mp4", "a:b.mp4"):
        (tmp_path / name).write_bytes(plain.read_bytes())
        assert numbers(read_clip(tmp_path / name, 2)) == [0, 59]
    monkeypatch.chdir(tmp_path)
    assert numbers(read_clip("a:b.mp4", 2)) == [0, 59]


def test_a_title_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with (
        av.open(str(encode(tmp_path / "b.avi", codec="mpeg4"))) as there,
        av.open(str(path), "w") as container,
    ):
        stream = container.add_stream_from_template(there.streams.video[0])
        container.metadata["title"] = "caf\u00e9"
        for packet in there.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    movie = path.read_bytes()
    assert "caf\u00e9".encode() in movie
    path.write_bytes(movie.replace("caf\u00e9".encode(), b"caf\xe9s"))
    assert numbers(read_clip(path, 2)) == [0, 59]


def test_the_largest_video_of_several(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        packets = []
        for width, value in ((64, 40), (WIDTH, 120), (32, 200)):
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.full((64, width, 3), value, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            packets += [*stream.encode(frame), *stream.encode(None)]
        container.mux(packets)
    clip = read_clip(path, 1)
    assert clip.pixels.shape == (1, 64, WIDTH, 3)
    assert abs(clip.pixels.mean() - 120) < 3


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path: Path, plain: Path) -> None:
    movie = bytearray(plain.read_bytes())
    at = movie.index(b"elst") + 16
    (begin,) = struct.unpack(">i", movie[at : at + 4])
    movie[at : at + 4] = struct.pack(">i", begin + 15 * 512)  # ticks of 1/12800 s: 15 frames, past a keyframe
    path = tmp_path / "a.mp4"
    path.write_bytes(movie)
    clip = read_clip(path, 3, "contiguous")
    assert numbers(clip) == [15, 16, 17]
    assert clip.indices.tolist() == [0, 1, 2]
    assert clip.seconds[0] == 0
    for end in (None, 1.8, 2.0, 9):  # seconds from the first frame that is shown
        assert numbers(read_clip(path, 45, end=end)) == list(range(15, 60))
    for count in range(15, 45):
        assert numbers(read_clip(path, count, end=count / 25 - 0.01)) == list(range(15, 15 + count))
    assert numbers(read_clip(path, 2, end=1.0)) == [15, 39]


def test_colours_are_those_that_the_file_says(tmp_path: Path) -> None:
    """Green in BT.709 read as BT.601 would be off by dozens."""
    green = np.full((64, 64, 3), (20, 200, 60), np.uint8)
    write_clip(tmp_path / "a.mp4", [green] * 3, 25)
    assert np.abs(read_clip(tmp_path / "a.mp4", 1).pixels.astype(int) - green).max() < 6


# Turned and mirrored


def corners(number: int) -> np.ndarray:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:48, :80], picture[:48, 80:] = 30, 90
    picture[48:, :80], picture[48:, 80:] = 150, 210
    return picture


def display(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix into the header of an mp4's track."""
    movie, one = bytearray(path.read_bytes()), 1 << 16
    at = movie.index(b"tkhd") + 44
    assert struct.unpack(">9i", movie[at : at + 36]) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    movie[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(movie)
    return path


TURNS: dict[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]] = {
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),  # clockwise, as a phone held upright says
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: np.rot90(p.swapaxes(0, 1), 2),
}


@pytest.mark.parametrize("matrix", TURNS)
def test_turned_videos_come_upright(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = display(encode(tmp_path / "a.mp4", 30, picture=corners), *matrix)
    expected = TURNS[matrix](corners(0)).astype(int)
    clip = read_clip(path, 3)
    assert clip.pixels.shape[1:] == expected.shape
    assert np.median(np.abs(clip.pixels - expected)) < 4
    height, width = (30, 20)
    small = read_clip(path, 2, size=(height, width)).pixels
    assert small.shape[1:] == (height, width, 3)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = expected[expected.shape[0] * (1 + 2 * row) // 4, expected.shape[1] * (1 + 2 * column) // 4]
        assert np.abs(small[:, height * (1 + 2 * row) // 4, width * (1 + 2 * column) // 4] - at).max() < 6
    assert read_clip(path, 1, size=48).pixels.shape[1:3] == tuple(side // 2 for side in expected.shape[:2])


# Size


@pytest.mark.parametrize(
    ("size", "expected"),
    [(None, (96, 160)), (48, (48, 80)), (50, (50, 83)), (120, (120, 200)), ((33, 35), (33, 35))],
)
def test_size(plain: Path, size: Any, expected: tuple[int, int]) -> None:
    clip = read_clip(plain, 3, size=size)
    assert clip.pixels.shape[1:3] == expected
    whole = read_clip(plain, 3).pixels
    resized = [Image.fromarray(p).resize(expected[::-1], Image.Resampling.BILINEAR) for p in whole]
    difference = np.abs(clip.pixels.astype(int) - np.stack([np.asarray(image) for image in resized]))
    assert np.median(difference) < 4
    assert difference.mean() < 8


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
def test_open_groups(tmp_path: Path) -> None:
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
        "def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1024\n"
        "read_clip(sys.argv[1], 1, size=64); before = peak()\n"
        "read_clip(sys.argv[1], 100, size=64); print(peak() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 80


# Pictures


def animation(path: Path, durations: list[int], **options: Any) -> Path:
    first, *rest = (Image.fromarray(numbered(n)) for n in range(len(durations)))
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0, **options)
    return path


@pytest.mark.parametrize(("name", "options"), [("a.gif", {}), ("a.webp", {"quality": 90})])
def test_durations_of_an_animation(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = animation(tmp_path / name, [100, 500, 50, 50, 300], **options)
    clip = read_clip(path, 5, "contiguous")
    assert numbers(clip) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(clip.seconds, [0, 0.1, 0.6, 0.65, 0.7], atol=1e-9)
    assert clip.rate == 5.0
    assert numbers(read_clip(path, 4, "midpoint")) == [1, 1, 2, 4]  # at 125, 375, 625 and 875 ms
    assert numbers(read_clip(path, 3, "contiguous", fps=4)) == [0, 1, 1]
    assert numbers(read_clip(path, 2, start=0.6, end=0.7)) == [2, 3]
    assert read_clip(path, 2, size=48).pixels.shape == (2, 48, 80, 3)


def test_frames_of_no_duration_last_as_long_as_in_browsers(tmp_path: Path) -> None:
    clip = read_clip(animation(tmp_path / "a.gif", [0, 0, 0]), 3, "contiguous")
    np.testing.assert_allclose(clip.seconds, [0, 0.1, 0.2])


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_transparency_lies_on_white(tmp_path: Path, name: str) -> None:
    clear = Image.new("RGBA", (20, 10), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 10, 10))
    other = clear.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    clear.save(
        tmp_path / name,
        save_all=True,
        append_images=[other],
        duration=100,
        disposal=2,
        lossless=True,
        kmin=1,
        kmax=1,
    )
    clip = read_clip(tmp_path / name, 2)
    assert clip.pixels[0, 5, 5].tolist() == [255, 0, 0]
    assert clip.pixels[0, 5, 15].tolist() == [255, 255, 255]
    assert clip.pixels[1, 5, 15].tolist() == [255, 0, 0]
    assert clip.pixels[1, 5, 5].tolist() == [255, 255, 255]


def test_a_gif_by_another_name_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = animation(tmp_path / "a.gif", [100] * 3).rename(tmp_path / "a.mp4")
    assert numbers(read_clip(path, 2)) == [0, 2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "frames").mkdir()
    for number in range(12):
        Image.fromarray(numbered(number)).save(tmp_path / "frames" / f"frame{number}.png")
    (tmp_path / "frames" / "notes.txt").write_text("no frame")
    (tmp_path / "frames" / ".hidden.png").write_text("no frame")
    return tmp_path / "frames"


def test_folder(folder: Path) -> None:
    clip = read_clip(folder, 12)
    assert numbers(clip) == list(range(12))  # 10 comes after 9
    assert clip.rate is None
    assert clip.seconds.tolist() == list(range(12))  # no clock: numbers
    assert numbers(read_clip(folder, 3, "midpoint")) == [2, 6, 10]
    assert numbers(read_clip(folder, 2, start=3, end=6)) == [3, 5]
    assert numbers(read_clip(folder, 14, "contiguous"))[-3:] == [11, 0, 1]
    assert read_clip(folder, 2, size=48).pixels.shape == (2, 48, 80, 3)


def test_rate_of_a_folder(folder: Path) -> None:
    clip = read_clip(folder, 3, "contiguous", fps=4, start=0.5)
    assert numbers(clip) == [2, 3, 4]
    assert clip.rate == 4.0
    assert clip.seconds.tolist() == [0.5, 0.75, 1.0]


def test_only_wanted_pictures_of_a_folder_are_opened(folder: Path) -> None:
    (folder / "frame5.png").write_text("broken")
    assert numbers(read_clip(folder, 2)) == [0, 11]
    fails("frame5.png", path=folder, frames=12)


def test_pictures_of_unequal_size(folder: Path) -> None:
    Image.new("RGB", (30, 20)).save(folder / "frame11.png")
    fails(str(folder), "frame 11 is 20 x 30", "96 x 160", "size=(height, width)", path=folder, frames=2)
    assert read_clip(folder, 2, size=(10, 12)).pixels.shape == (2, 10, 12, 3)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    fails("no pictures", str(tmp_path), path=tmp_path)


# What cannot be read


def test_missing_and_empty(tmp_path: Path) -> None:
    fails(str(tmp_path / "no.mp4"), "does not exist", path=tmp_path / "no.mp4")
    (tmp_path / "a.mp4").touch()
    fails("a.mp4", "is empty", path=tmp_path / "a.mp4")


@pytest.mark.parametrize("text", ["Hello, world.\n" * 200, "#EXTM3U\nhttp://example.com/a.ts\n", "ünï" * 500])
def test_text_by_the_name_of_a_video(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.mp4").write_text(text, encoding="utf-8")
    fails("a.mp4", "is text", path=tmp_path / "a.mp4")


def test_noise(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    fails("a.mp4", "cannot be read as a video", "convert", path=tmp_path / "a.mp4")


def sound(path: Path, cover: bool) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        video = None
        if cover:
            video = container.add_stream("mjpeg", rate=1)
            video.width, video.height, video.pix_fmt = 64, 64, "yuvj420p"
            video.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 10240), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 44100, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
        if video is not None:
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            picture.pts = 0
            container.mux([*video.encode(picture), *video.encode(None)])
    return path


@pytest.mark.parametrize("cover", [False, True])
def test_sound_only(tmp_path: Path, cover: bool) -> None:
    fails("a.mp4", "sound but no video", path=sound(tmp_path / "a.mp4", cover))


def test_no_frames(tmp_path: Path, plain: Path) -> None:
    """A whole header, and no packets."""
    path = remuxed(plain, tmp_path / "a.mp4", "+frag_keyframe+empty_moov")
    movie = path.read_bytes()
    path.write_bytes(movie[: movie.index(b"moof") - 4])
    fails("a.mp4", "no", path=path)


def test_a_damaged_gif(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.gif", [100] * 5)
    path.write_bytes(path.read_bytes()[:-30])
    fails("a.gif", "4 of the 5 frames wanted can be decoded", path=path, frames=5)
    assert numbers(read_clip(path, 4, "contiguous")) == [0, 1, 2, 3]
    path.write_bytes(b"GIF89a")
    fails("a.gif", "cannot be read as an animated GIF or WebP", path=path)


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    shorter = path.with_name(f"cut{path.suffix}")
    shorter.write_bytes(whole[: int(len(whole) * share)])
    return shorter


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "vp9.webm", "mpeg4.avi", "h264.avi"])
@pytest.mark.parametrize("share", [0.7, 0.75, 0.8])
def test_a_file_that_is_cut_off(tmp_path: Path, name: str, share: float) -> None:
    codec, options = FORMATS.get(name, ("libx264", {}))
    path = encode(tmp_path / name, codec=encoder(codec), **options)
    if name == "a.mp4":
        path = remuxed(path, tmp_path / "b.mp4", "+faststart")
    path = cut(path, share)
    assert numbers(read_clip(path, 5, "contiguous")) == [0, 1, 2, 3, 4]
    assert numbers(read_clip(path, 3, end=0.4)) == [0, 4, 9]
    message = fails(
        "is cut off", "of the 4 frames wanted can be decoded", "of about 60 are", path=path, frames=4
    )
    held, end = int(message.split(", ")[1].split()[0]), float(message.split("end=")[1])
    assert 10 < held < 55
    assert end == pytest.approx((held - 1) / 25, abs=0.01)
    expected = sum(n < held for n in (0, 19, 39, 59))
    assert f": {expected} of the 4" in message
    clip = read_clip(path, 4, end=end)
    assert numbers(clip) == clip.indices.tolist()
    if name != "h264.avi":  # which may lose a frame before the last
        assert numbers(read_clip(path, 1, start=end)) == [held - 1]
    fails("is cut off", path=path, frames=4, end=2.3)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_cut_off_before_the_index(tmp_path: Path, plain: Path, share: float) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(plain.read_bytes())
    fails("cut.mp4", "is cut off before its index", "fetch it again", path=cut(path, share))


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "vp9.webm", "a.ts", "a.webp"])
def test_whole_files_are_not_cut_off(tmp_path: Path, name: str) -> None:
    if name == "a.webp":
        path = animation(tmp_path / name, [100, 100])
    else:
        codec, options = FORMATS.get(name, ("libx264", {}))
        path = encode(tmp_path / name, 20, codec=encoder(codec), **options)
    assert not clips_video.is_cut_off(path)
    if not name.endswith(".ts"):
        path.write_bytes(path.read_bytes()[:-1])
        assert clips_video.is_cut_off(path)


def test_sound_that_goes_on_is_no_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=44100)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        noise.rate, noise.pts = 44100, 0
        container.mux([*audio.encode(noise), *audio.encode(None)])
    assert numbers(read_clip(path, 2)) == [0, 9]


def test_damage_in_the_middle(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mov", 10, encoder("png"), pix_fmt="rgb24", bframes=0)
    with av.open(str(path)) as container:
        packet = bytes([p for p in container.demux(video=0) if p.size][4])
    movie = path.read_bytes()
    path.write_bytes(movie.replace(packet, bytes(len(packet))))
    fails("a.mov", "damaged", "9 of the 10 frames wanted can be decoded", path=path, frames=10)
    assert numbers(read_clip(path, 2)) == [0, 9]


def test_pyav_is_not_installed(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    fails(str(plain), "pip install 'chronocam[video]'", path=plain)
    with pytest.raises(MediaError, match=r"a\.mp4.*pip install 'chronocam\[video\]'"):
        write_clip(tmp_path / "a.mp4", [numbered(0)], 25)
    assert not list(tmp_path.iterdir())


def test_importing_does_not_import_pyav() -> None:
    code = "import sys, chronocam.media.clips.read; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frames": 0}, ["frames = 0", "at least 1"]),
        ({"frames": -3}, ["frames = -3"]),
        ({"sampling": "unifrom"}, ["unifrom", "did you mean `uniform`", "midpoint", "contiguous"]),
        ({"fps": 0}, ["fps = 0"]),
        ({"fps": -5.0}, ["fps = -5.0"]),
        ({"fps": float("nan")}, ["fps = nan"]),
        ({"fps": 1e9}, ["fps = 1000000000.0"]),
        ({"start": -1}, ["start = -1", "0 or more"]),
        ({"start": float("inf")}, ["start = inf"]),
        ({"start": 1.0, "end": 1.0}, ["start = 1.0 s, end = 1.0 s", "after the start"]),
        ({"start": 1.5, "end": 1.0}, ["start = 1.5 s, end = 1.0 s"]),
        ({"end": 0}, ["end = 0 s"]),
        ({"end": float("nan")}, ["end = nan"]),
        ({"start": 2.4}, ["plain.mp4", "start = 2.4 s", "beyond the end", "less than 2.4 s"]),
        ({"start": 99, "end": 100}, ["plain.mp4", "start = 99 s", "beyond the end"]),
        ({"size": 0}, ["size = 0"]),
        ({"size": 10**6}, ["size = 1000000"]),
        ({"size": (10, -1)}, ["size = (10, -1)"]),
    ],
)
def test_bad_arguments(plain: Path, arguments: dict[str, Any], words: list[str]) -> None:
    fails(*words, path=plain, **arguments)


def test_bad_arguments_are_found_before_the_file_is(tmp_path: Path) -> None:
    fails("frames = 0", path=tmp_path / "no.mp4", frames=0)
    fails("size = 0", path=tmp_path / "no.mp4", size=0)


def test_a_size_of_three_sides(plain: Path) -> None:
    """In a process where annotations are not enforced."""
    code = "import sys; from chronocam.media import clips; clips.read_clip(sys.argv[1], size=(1, 2, 3))"
    run = subprocess.run(
        [sys.executable, "-c", code, str(plain)], capture_output=True, text=True, check=False
    )
    assert "MediaError: size = (1, 2, 3); expected the shorter side or (height, width)" in run.stderr


# Real clips


@pytest.mark.parametrize(
    ("name", "shape", "rate"),
    [("nasa_13013.mp4", (270, 480), 29.97), ("tfjs_pose_squats.mp4", (1280, 720), 5.0)],
)
def test_real_clips(data: Path, name: str, shape: tuple[int, int], rate: float) -> None:
    path = data / "videos" / name
    if not path.is_file():
        pytest.skip(f"{name} is absent")
    with av.open(str(path)) as container:
        stream = max(container.streams.video, key=lambda s: s.width)
        oracle = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    clip = read_clip(path, 12)
    assert clip.rate == pytest.approx(rate, abs=0.005)
    assert clip.pixels.shape == (12, *shape, 3)
    for pixels, seconds, index in zip(clip.pixels, clip.seconds, clip.indices, strict=True):
        np.testing.assert_array_equal(pixels, oracle[index][1])
        assert seconds == pytest.approx(oracle[index][0] - oracle[0][0], abs=1e-6)
    assert clip.indices[[0, -1]].tolist() == [0, len(oracle) - 1]
    assert read_clip(path, 2, size=64).pixels.shape[1:3] == tuple(64 * side // min(shape) for side in shape)


# Writing


def waves(count: int = 20, height: int = HEIGHT, width: int = WIDTH) -> Iterator[np.ndarray]:
    y, x = np.mgrid[:height, :width]
    for number in range(count):
        red, green = np.sin((x + 4 * number) / 20), np.cos((y - 3 * number) / 15)
        yield np.stack([128 + 100 * red, 128 + 100 * green, 0 * x + 40 + number], -1).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "A.MP4"])
def test_written_clips_are_read_back(tmp_path: Path, name: str) -> None:
    write_clip(tmp_path / name, waves(), 12.5)
    clip = read_clip(tmp_path / name, 20, "contiguous")
    assert clip.rate == 12.5
    assert not clip.duplicates.any()
    np.testing.assert_allclose(clip.seconds, np.arange(20) / 12.5, atol=1e-6)
    assert min(psnr(a, b) for a, b in zip(clip.pixels, waves(), strict=True)) > 34


@pytest.mark.parametrize(("height", "width"), [(95, 161), (96, 159), (1, 1), (3, 200)])
@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_odd_sizes(tmp_path: Path, height: int, width: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_clip(path, waves(3, height, width), 10)
    pixels = read_clip(path, 3).pixels
    even = suffix == ".mp4"
    assert pixels.shape == (3, height + even * (height % 2), width + even * (width % 2), 3)
    assert psnr(pixels[:, :height, :width], np.stack(list(waves(3, height, width)))) > 25
    if even and width % 2:
        difference = pixels[:, :, -1].astype(int) - pixels[:, :, -2]
        assert np.abs(difference).max() < 12  # repeated, not black


def test_mp4_plays_in_browsers(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", waves(), 30000 / 1001)
    movie = (tmp_path / "a.mp4").read_bytes()
    assert movie.index(b"moov") < movie.index(b"mdat")  # plays while it loads
    assert b"avc1" in movie
    with av.open(str(tmp_path / "a.mp4")) as container:
        (stream,) = container.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )
        assert stream.average_rate == Fraction(30000, 1001)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_rounded_durations_do_not_add_up(tmp_path: Path, suffix: str) -> None:
    write_clip(tmp_path / f"a{suffix}", waves(31, 8, 8), 30)
    clip = read_clip(tmp_path / f"a{suffix}", 31, "contiguous")
    np.testing.assert_allclose(clip.seconds, np.arange(31) / 30, atol=0.0051)
    assert clip.seconds[30] == pytest.approx(1.0)


def test_gif_is_not_faster_than_browsers_play(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.gif", waves(5, 8, 8), 100)
    assert read_clip(tmp_path / "a.gif", 1).rate == 50.0


def test_animations_loop_for_ever_and_keep_still_frames(tmp_path: Path) -> None:
    still = [next(waves())] * 3 + [numbered(7)] * 2
    for name in ("a.gif", "a.webp"):
        write_clip(tmp_path / name, still, 10)
        with Image.open(tmp_path / name) as image:
            assert (image.n_frames, image.info["loop"]) == (5, 0)
        assert psnr(read_clip(tmp_path / name, 5).pixels, np.stack(still)) > 30


def test_gif_holds_only_what_changes(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    moved = picture.copy()
    moved[10:12, 20:23] = 255 - moved[10:12, 20:23]
    write_clip(tmp_path / "one.gif", [picture], 10)
    write_clip(tmp_path / "two.gif", [picture, moved], 10)
    sizes = [(tmp_path / name).stat().st_size for name in ("one.gif", "two.gif")]
    assert sizes[1] - sizes[0] < 100
    pixels = read_clip(tmp_path / "two.gif", 2).pixels
    assert np.abs(pixels[1, 10:12, 20:23].astype(int) - moved[10:12, 20:23]).max() < 3
    np.testing.assert_array_equal(pixels[1, 30:], pixels[0, 30:])


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_frames_are_let_go(tmp_path: Path, suffix: str) -> None:
    alive = most = 0

    def let_go() -> None:
        nonlocal alive
        alive -= 1

    def frames() -> Iterator[np.ndarray]:
        nonlocal alive, most
        for frame in waves(40, 64, 64):
            alive += 1
            most = max(most, alive)
            weakref.finalize(frame, let_go)
            yield frame

    write_clip(tmp_path / f"a{suffix}", frames(), 25)
    assert most <= 5


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
@pytest.mark.parametrize("error", [RuntimeError("mine"), FileNotFoundError(2, "mine"), KeyError("mine")])
def test_a_failure_midway_leaves_what_was_there(tmp_path: Path, suffix: str, error: Exception) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from waves(5)
        raise error

    path = tmp_path / f"a{suffix}"
    for before in (None, b"before"):
        if before:
            path.write_bytes(before)
        with pytest.raises(type(error)) as caught:
            write_clip(path, frames(), 25)
        assert caught.value is error
        assert [p.read_bytes() for p in tmp_path.iterdir()] == ([before] if before else [])


def refused(
    tmp_path: Path, *words: str, name: str = "a.gif", frames: Any = None, fps: float | int = 25
) -> None:
    with pytest.raises(MediaError) as caught:
        write_clip(tmp_path / name, waves(3) if frames is None else frames, fps)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written(tmp_path: Path) -> None:
    refused(tmp_path, "a.mpx", "`.mpx`", ".mp4, .gif, .webp", name="a.mpx")
    refused(tmp_path, "a.gif", "no frames", frames=[])
    for fps in (0, -1.0, float("nan"), float("inf"), 1e-9):
        refused(tmp_path, "fps = ", fps=fps)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp"])
def test_frames_that_are_none(tmp_path: Path, name: str) -> None:
    good = next(waves())
    refused(
        tmp_path,
        name,
        "frame 2 is uint8 (96, 158, 3)",
        "like the first",
        name=name,
        frames=[good, good, good[:, :-2]],
    )
    refused(
        tmp_path, name, "frame 0 is uint8 (96, 160)", "(height, width, 3)", name=name, frames=[good[..., 0]]
    )
    refused(tmp_path, name, "frame 1 is float32", name=name, frames=[good, good.astype(np.float32)])
    refused(tmp_path, name, "frame 0 is uint8 (0, 160, 3)", name=name, frames=[good[:0]])
    refused(tmp_path, name, "16383", name=name, frames=[np.zeros((1, 16384, 3), np.uint8)])


def test_an_encoder_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise av.error.InvalidDataError(1, "bad weather")

    monkeypatch.setattr(clips_write, "_h264", refuse)
    refused(tmp_path, "a.mp4", "bad weather", name="a.mp4")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise av.error.err_check(-28) or AssertionError

    monkeypatch.setattr(clips_write, "_h264", refuse)
    refused(tmp_path, "a.mp4", "No space left", "another place", name="a.mp4")


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("a.mp4", "a.gif"):
        with pytest.raises(MediaError, match="cannot write"):
            write_clip(tmp_path / "file" / name, waves(2), 25)


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    write_clip(tmp_path / "new" / "a.mp4", waves(2), 25)
    assert len(read_clip(tmp_path / "new" / "a.mp4", 2)) == 2
