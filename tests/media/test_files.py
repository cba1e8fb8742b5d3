"""Files appear whole or not at all, leave nothing behind, and have names of their own everywhere."""

import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import chronocam as cc
from chronocam.errors import ChronocamError, MediaError
from chronocam.media.files import distinct, replace_file, within

KILLED = """
import os, signal, sys
from pathlib import Path
from chronocam.media.files import replace_file
def write(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
replace_file(Path(sys.argv[1]), write)
"""


@pytest.mark.parametrize(
    "name", ["x" * 300, "猫" * 100, "nul\0", "~nobody-of-this-name.png", "\udcff"], ids=range(5)
)
@pytest.mark.parametrize(
    "door",
    [
        cc.load,
        cc.media.read_image,
        cc.media.read_clip,
        cc.data.drives.read_drive,
        cc.data.drives.find_drives,
        cc.report.write_folder,
        lambda path: cc.media.find_images([path]),
        lambda path: cc.models.load(f"{path}.safetensors@chronocam:digits"),
    ],
)
def test_names_that_no_file_can_have_are_told_like_any_other(door, name):
    with pytest.raises(ChronocamError):
        door(name)


def test_what_is_there_and_no_file_is_not_said_to_be_missing(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    for name, told in (
        ("pipe.png", "is a pipe, a socket or a device, and not a file"),
        ("link.png", "is a link that leads nowhere"),
    ):
        with pytest.raises(MediaError, match=told):
            cc.media.read_image(tmp_path / name)


def test_a_file_whose_name_begins_like_a_home_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cc.media.write_image("~a.png", np.zeros((2, 2), np.uint8))
    assert cc.media.find_images(["~a.png"]) == [Path("~a.png")]


@pytest.mark.skipif(sys.platform == "win32", reason="processes are told apart by signals")
def test_what_a_killed_process_left_is_removed_and_what_others_write_is_not(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a.png"])
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".chronocam-")
    alive = left.with_name(left.name.replace(f"-{left.name.split('-')[2]}-", f"-{os.getpid()}-"))
    elsewhere = left.with_name(f".chronocam-elsewhere-1-{'0' * 32}.png")
    old = left.with_name(f".chronocam-elsewhere-1-{'1' * 32}.png")
    for path in (alive, elsewhere, old, tmp_path / ".chronocam-notes.txt"):
        path.write_text("half")
    os.utime(old, (time.time() - 1e6,) * 2)
    replace_file(tmp_path / "a.png", lambda path: path.write_text("whole"))
    kept = {alive.name, elsewhere.name, ".chronocam-notes.txt", "a.png"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(MediaError, match=r"cannot write `.*a\.png`: No space left on device"):
        replace_file(tmp_path / "a.png", lambda path: path.write_text("whole"))
    assert list(tmp_path.iterdir()) == []


def test_names_that_some_systems_take_for_one_are_told_apart():
    taken: set[str] = set()
    names = ["cat", "Cat", "CAT", "cat-2", "é", unicodedata.normalize("NFD", "é"), "straße", "STRASSE"]
    expected = ["cat", "Cat-2", "CAT-3", "cat-2-2", "é", "é-2", "straße", "STRASSE-2"]
    assert [distinct(name, taken) for name in names] == [
        *expected[:5],
        unicodedata.normalize("NFD", "é") + "-2",
        *expected[6:],
    ]


@pytest.mark.parametrize("letter", ["x", "é", "猫", "🐈", "\udcff"])
def test_a_long_name_is_cut_by_its_bytes_and_stays_its_own(letter):
    one, other = within(letter * 100 + "a", 60), within(letter * 100 + "b", 60)
    assert one != other
    assert 45 < len(os.fsencode(one)) <= 60
    assert within(letter, 60) == letter
