"""Clips that are written can be read, and nothing is left half-written."""

import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_files import HEIGHT, WIDTH, numbered
from PIL import Image

from chronocam.errors import MediaError
from chronocam.media.clips import write as clips_write
from chronocam.media.clips.read import read_clip, write_clip

av = pytest.importorskip("av")


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
def test_odd_sizes_are_written_and_read_back(tmp_path: Path, height: int, width: int, suffix: str) -> None:
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


def test_names_and_rates_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "a.mpx", "`.mpx`", ".mp4, .gif, .webp", name="a.mpx")
    refused(tmp_path, "a.gif", "no frames", frames=[])
    for fps in (0, -1.0, float("nan"), float("inf"), 1e-9):
        refused(tmp_path, "fps = ", fps=fps)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp"])
def test_arrays_that_are_not_frames_are_refused(tmp_path: Path, name: str) -> None:
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


def test_an_encoder_that_refuses_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise av.error.InvalidDataError(1, "bad weather")

    monkeypatch.setattr(clips_write, "_h264", refuse)
    refused(tmp_path, "a.mp4", "bad weather", name="a.mp4")


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise av.error.err_check(-28) or AssertionError

    monkeypatch.setattr(clips_write, "_h264", refuse)
    refused(tmp_path, "a.mp4", "No space left", "another place", name="a.mp4")


def test_a_place_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("a.mp4", "a.gif"):
        with pytest.raises(MediaError, match="cannot write"):
            write_clip(tmp_path / "file" / name, waves(2), 25)


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    write_clip(tmp_path / "new" / "a.mp4", waves(2), 25)
    assert len(read_clip(tmp_path / "new" / "a.mp4", 2)) == 2
