"""Animations and folders of pictures are clips too."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_files import animation, fails, numbered, numbers
from PIL import Image

from chronocam.media.clips.read import read_clip

av = pytest.importorskip("av")


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


def test_pictures_of_a_folder_come_in_the_order_of_their_numbers(folder: Path) -> None:
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


def test_pictures_of_unequal_size_are_refused(folder: Path) -> None:
    Image.new("RGB", (30, 20)).save(folder / "frame11.png")
    fails(str(folder), "frame 11 is 20 x 30", "96 x 160", "size=(height, width)", path=folder, frames=2)
    assert read_clip(folder, 2, size=(10, 12)).pixels.shape == (2, 10, 12, 3)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    fails("no pictures", str(tmp_path), path=tmp_path)
