"""What arguments name: every input once, in the order of the arguments, and a failure in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import run
from PIL import Image

from chronocam.errors import InputError
from chronocam.media.clips.find import find_clips
from chronocam.records import Failure
from chronocam.runs.inputs import find_arrays, find_pictures, holds_arrays, holds_videos, search


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    for name in ("b.png", "a.png", "set/c.png", "set/d.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    for name in ("x.npy", "set/y.npy"):
        np.save(tmp_path / name, np.zeros((2, 3)))
    return tmp_path


def names(found):
    return [f"{one.input}: {one.error}" if isinstance(one, Failure) else str(one) for one in found]


def test_every_input_comes_once_and_a_failure_in_its_place(folder):
    first, second, failure, third, fourth = names(
        search(["b.png", "*.png", "gone.png", "set"], find_pictures)
    )
    assert [first, second, third, fourth] == ["b.png", "a.png", "set/c.png", "set/d.png"]
    assert failure.startswith("gone.png: ")


def test_what_names_nothing_says_what_was_expected(folder):
    found = names(search(["none.npy", "none*.npy", "x.npy"], find_arrays))
    expected = "expected arrays `(time, feature)` that numpy.save wrote"
    assert found == [
        f"none.npy: there is no `none.npy`; {expected}",
        f"none*.npy: nothing matches `none*.npy`; {expected}",
        "x.npy",
    ]


def test_a_folder_of_frames_is_one_clip(folder):
    assert names(search(["set", "set"], find_clips)) == ["set"]


def test_arrays_and_others_are_told_apart(folder):
    assert holds_arrays(["x.npy", "set"])
    assert not holds_arrays(["a.png"])
    with pytest.raises(InputError, match="a separate call"):
        holds_arrays(["x.npy", "a.png"])
    assert not holds_videos(["a.png", "set"])


def test_inputs_that_are_not_there_are_told_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_bytes(b"")
    # The model is none: it is not looked at.
    done = run("explain", "none.png", "also-none.png", "--model", "python:nowhere:at_all", "--trust")
    assert done.exit_code == 1
    assert "there is no `none.png`; expected a file, a folder, or a pattern" in done.stderr
    assert "nowhere" in run("explain", "there.png", "none.png", "--model", "python:nowhere:at_all").stderr
