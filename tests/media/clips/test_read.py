"""Clips of many formats are read upright, at their size, or refused with a reason."""

import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_files import FORMATS, HEIGHT, WIDTH, animation, encode, encoder, fails, numbered, numbers, remuxed
from PIL import Image

from chronocam.errors import MediaError
from chronocam.media import limits
from chronocam.media.clips.read import read_clip, write_clip

av = pytest.importorskip("av")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_its_frames_in_order(tmp_path: Path, name: str) -> None:
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


def test_ten_bits_are_read_as_eight(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 5, pix_fmt="yuv420p10le")
    assert numbers(read_clip(path, 2)) == [0, 4]


def test_an_mp4_by_another_name_is_read(tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.gif", "a.webm", "a", "50%d of it.mp4", "a:b.mp4"):
        (tmp_path / name).write_bytes(plain.read_bytes())
        assert numbers(read_clip(tmp_path / name, 2)) == [0, 59]
    monkeypatch.chdir(tmp_path)
    assert numbers(read_clip("a:b.mp4", 2)) == [0, 59]


def test_a_title_in_another_encoding_does_no_harm(tmp_path: Path) -> None:
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


def test_the_largest_video_of_several_is_read(tmp_path: Path) -> None:
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
def test_the_shorter_side_or_both_are_as_asked(plain: Path, size: Any, expected: tuple[int, int]) -> None:
    clip = read_clip(plain, 3, size=size)
    assert clip.pixels.shape[1:3] == expected
    whole = read_clip(plain, 3).pixels
    resized = [Image.fromarray(p).resize(expected[::-1], Image.Resampling.BILINEAR) for p in whole]
    difference = np.abs(clip.pixels.astype(int) - np.stack([np.asarray(image) for image in resized]))
    assert np.median(difference) < 4
    assert difference.mean() < 8


# What cannot be read


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    fails(str(tmp_path / "no.mp4"), "does not exist", path=tmp_path / "no.mp4")
    (tmp_path / "a.mp4").touch()
    fails("a.mp4", "is empty", path=tmp_path / "a.mp4")


@pytest.mark.parametrize("text", ["Hello, world.\n" * 200, "#EXTM3U\nhttp://example.com/a.ts\n", "ünï" * 500])
def test_text_by_the_name_of_a_video_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.mp4").write_text(text, encoding="utf-8")
    fails("a.mp4", "is text", path=tmp_path / "a.mp4")


def test_noise_by_the_name_of_a_video_is_refused(tmp_path: Path) -> None:
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
def test_a_file_with_sound_alone_is_refused(tmp_path: Path, cover: bool) -> None:
    fails("a.mp4", "sound but no video", path=sound(tmp_path / "a.mp4", cover))


def test_a_file_without_frames_is_refused(tmp_path: Path, plain: Path) -> None:
    """A whole header, and no packets."""
    path = remuxed(plain, tmp_path / "a.mp4", "+frag_keyframe+empty_moov")
    movie = path.read_bytes()
    path.write_bytes(movie[: movie.index(b"moof") - 4])
    fails("a.mp4", "no", path=path)


def test_a_damaged_gif_is_refused(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.gif", [100] * 5)
    path.write_bytes(path.read_bytes()[:-30])
    fails("a.gif", "4 of the 5 frames wanted can be decoded", path=path, frames=5)
    assert numbers(read_clip(path, 4, "contiguous")) == [0, 1, 2, 3]
    path.write_bytes(b"GIF89a")
    fails("a.gif", "cannot be read as an animated GIF or WebP", path=path)


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
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
def test_bad_arguments_are_refused_with_what_was_expected(
    plain: Path, arguments: dict[str, Any], words: list[str]
) -> None:
    fails(*words, path=plain, **arguments)


def test_bad_arguments_are_found_before_the_file_is(tmp_path: Path) -> None:
    fails("frames = 0", path=tmp_path / "no.mp4", frames=0)
    fails("size = 0", path=tmp_path / "no.mp4", size=0)


def test_a_size_of_three_sides_is_refused(plain: Path) -> None:
    three: Any = (1, 2, 3)
    fails("size = (1, 2, 3); expected the shorter side or (height, width)", path=plain, size=three)


# Real clips


@pytest.mark.parametrize(
    ("name", "shape", "rate"),
    [("nasa_13013.mp4", (270, 480), 29.97), ("tfjs_pose_squats.mp4", (1280, 720), 5.0)],
)
def test_real_clips_have_their_shape_and_rate(
    data: Path, name: str, shape: tuple[int, int], rate: float
) -> None:
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


def test_a_clip_of_more_pixels_than_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gif"
    write_clip(path, np.zeros((4, 32, 32, 3), np.uint8), fps=10)
    monkeypatch.setattr(limits, "CLIP", 4 * 32 * 32)
    assert read_clip(path, 4).pixels.shape == (4, 32, 32, 3)
    with pytest.raises(MediaError, match="gives 5 frames of 32 × 32 pixels; expected at most 4,096 in all"):
        read_clip(path, 5)
    monkeypatch.setattr(limits, "PICTURE", 32 * 31)
    with pytest.raises(MediaError, match="has 32 × 32 pixels; expected at most 992"):
        read_clip(path, 1)


def test_a_video_of_too_large_frames_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, np.zeros((4, 32, 32, 3), np.uint8), fps=10)
    monkeypatch.setattr(limits, "PICTURE", 32 * 31)
    with pytest.raises(MediaError, match="has 32 × 32 pixels; expected at most 992"):
        read_clip(path, 1)
