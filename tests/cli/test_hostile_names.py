"""Names that take themselves for something else, through every command and on every page."""

import os
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import run
from PIL import Image

import chronocam as cc
from chronocam.errors import printable

EVIL = "<img src=x onerror=taken()>\x1b]0;taken\x07\n\u202e&'\""
NETS = f"""
import torch
from torch import nn
from chronocam.media import Preprocess
from detectors import Spots

EVIL = "</script><script>taken()</script>" + {EVIL!r} + "\\udcff"

def classes():
    torch.manual_seed(0)
    body = nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return net, Preprocess((32, 32), None, (0.5,) * 3, (0.5,) * 3), (EVIL, EVIL + "2")

def boxes():
    return Spots(), Preprocess((32, 32), None, (0.0,) * 3, (1.0,) * 3), (EVIL, "green")
"""
CLASSES, BOXES = ("--model", "python:hostile_nets:classes"), ("--model", "python:hostile_nets:boxes")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the commands say, and the folder where they wrote."""
    folder, before = tmp_path_factory.mktemp("hostile"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        os.chdir(folder)
        Path("hostile_nets.py").write_text(NETS)
        photos = [f"photos/{name}" for name in (f"{EVIL}.png", "A.png", "a.png", os.fsdecode(b"bad\xff.png"))]
        Path("photos").mkdir()
        spots = np.zeros((32, 32, 3), np.uint8)
        spots[4:8, 4:8, 0] = 255
        for path in photos:
            Image.fromarray(spots).save(path, "PNG")
        Path(f"photos/no{EVIL}.png").write_text("no picture")
        photos.append(f"photos/no{EVIL}.png")
        lines = [
            ["explain", *photos, *CLASSES, "--target", "0", "--out", "maps"],
            ["explain", *photos[:2], *BOXES, "--target", "box:0", "--out", "boxes"],
            ["report", "maps"],
            ["report", "boxes"],
            ["detect", *photos, *BOXES, "--out", "found"],
            ["run", "photos", *CLASSES, "--target", "0", "--out", "table"],
            ["report", "table", "--where", "error = ''"],
            ["report", "table", "--where", f"'{EVIL}"],
            [
                "evaluate",
                *photos[:4],
                *CLASSES,
                "--method",
                "gradcam",
                "--measure",
                "drop",
                "--out",
                "judged",
            ],
            ["doctor", CLASSES[1], photos[1]],
            ["doctor", EVIL, photos[0]],
            ["layers", CLASSES[1]],
            ["explain", photos[1], *CLASSES, "--target", EVIL],
            ["explain", photos[1], *CLASSES, "--layer", EVIL],
            ["evaluate", photos[1], *CLASSES, "--measure", EVIL],
            ["run", EVIL, *CLASSES, "--out", "none"],
        ]
        results = [run(*line) for line in lines]
        os.chdir(before)
    for line, result in zip(lines, results, strict=True):
        assert result.exception is None or isinstance(result.exception, SystemExit), line
    return "".join(result.output for result in results), folder


def test_every_line_is_plain(said: tuple[str, Path]) -> None:
    for line in said[0].split("\n"):
        assert line == printable(line), line


def pages(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.html"))
    assert {page.parent.name for page in found} >= {"maps", "boxes", "pages", "judged"}
    return found


class Tags(HTMLParser):
    """The tags of a page that carry out what a name says."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[str, object]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.taken += [(tag, pair) for pair in attrs if pair[0].startswith("on") or pair == ("src", "x")]


def test_no_page_has_a_tag_from_a_name(said: tuple[str, Path]) -> None:
    for page in pages(said[1]):
        text, tags = page.read_text("utf-8"), Tags()
        tags.feed(text)
        assert tags.taken == [], page
        assert "<script>taken" not in text


def test_no_page_runs_a_name(said: tuple[str, Path], browser, tmp_path: Path) -> None:
    words = cc.types.TargetInfo(f"</script>{EVIL}")
    caption = cc.Explanation(np.ones((1, 1, 4, 4)), np.ones((1, 1)), ((words,),), "gradcam", EVIL, (32, 32))
    extra = caption.save(tmp_path / "caption.html", np.zeros((1, 32, 32, 3), np.uint8))
    tab = browser.new_page()
    tab.add_init_script("window.taken = () => { window.wasTaken = true }")
    dialogs: list[object] = []
    tab.on("dialog", lambda dialog: dialogs.append(dialog))
    for page in [*pages(said[1]), extra]:
        tab.goto(page.as_uri())
        assert not tab.evaluate("'wasTaken' in window || document.title.startsWith('taken')"), page
        assert tab.evaluate("document.querySelectorAll('img[src=x], [onerror]').length") == 0, page
    assert not dialogs
    tab.close()


def test_names_that_are_alike_keep_files_of_their_own(said: tuple[str, Path]) -> None:
    assert len(list((said[1] / "maps").glob("*.npz"))) == 4
    assert len({path.name.lower() for path in (said[1] / "maps").glob("*.npz")}) == 4
