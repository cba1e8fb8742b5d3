"""`chronocam detect`, and `chronocam explain` of boxes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectors import two_spots
from helpers import run
from PIL import Image

import chronocam as cc

SPEC = "python:detectors:spots"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures with spots, of 64 × 64 pixels, and an empty one."""
    for name, x in zip("ab", two_spots(), strict=True):
        pixels = np.repeat(np.repeat((x.permute(1, 2, 0).numpy() * 255).astype(np.uint8), 2, 0), 2, 1)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "empty.png")
    return tmp_path


def out_of(result: Any) -> Any:
    return json.loads(result.stdout)["inputs"]


def test_boxes_are_listed_in_pixels_of_the_picture(photos: Path) -> None:
    out = photos / "out"
    result = run("detect", photos / "a.png", photos / "empty.png", "--model", SPEC, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    first, empty = out_of(result)
    assert [(one["label"], one["row"]) for one in first["boxes"]] == [("red", 9), ("green", 46)]
    assert first["boxes"][0]["box"] == pytest.approx([6, 6, 18, 18])
    assert (first["size"], empty["boxes"]) == ([64, 64], [])
    drawn = np.asarray(Image.open(first["picture"]))
    assert (drawn[6, 8:16] > 200).all()  # the outline
    assert json.loads((out / "a.boxes.json").read_text())["boxes"] == first["boxes"]
    assert "red 86 %, green 74 %" in result.stderr
    assert "nothing found" in result.stderr


def test_fewer_boxes_of_a_higher_score(photos: Path) -> None:
    result = run(
        "detect", photos / "a.png", "--model", SPEC, "--out", photos / "o", "--json", "--min-score", "0.8"
    )
    assert [one["label"] for one in out_of(result)[0]["boxes"]] == ["red"]


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ((), ["red (3, 3, 9, 9)", "green (23, 19, 29, 25)"]),
        (("box:1",), ["green (23, 19, 29, 25)"]),
        (("box:green", "box:0"), ["green (23, 19, 29, 25)", "red (3, 3, 9, 9)"]),
        (("box:22,18,30,26",), ["green (23, 19, 29, 25)"]),
        (("box:all",), ["red (3, 3, 9, 9)", "green (23, 19, 29, 25)"]),
    ],
)
def test_boxes_are_explained(photos: Path, targets: tuple[str, ...], names: list[str]) -> None:
    words = [word for target in targets or ("box:all",) for word in ("--target", target)]
    result = run("explain", photos / "a.png", "--model", SPEC, "--out", photos / "o", "--json", *words)
    assert result.exit_code == 0, result.output
    (entry,) = out_of(result)
    assert [one["target"] for one in entry["maps"]] == names
    assert {one["method"] for one in entry["maps"]} == {"odam"}
    for one in entry["maps"]:
        assert one["inside"] > 0.5
        assert one["box"] in ([6, 6, 18, 18], [46, 38, 58, 50])
    again = cc.load(entry["maps"][0]["explanation"])
    assert [info.box is not None for info in again.targets[0]] == [True] * len(names)


def test_a_class_that_is_not_found_is_one_line_and_the_others_go_on(photos: Path) -> None:
    result = run("explain", photos, "--model", SPEC, "--out", photos / "o", "--json", "--target", "box:green")
    assert result.exit_code == 1
    a, b, empty = out_of(result)
    assert [one["target"] for one in a["maps"]] == ["green (23, 19, 29, 25)"]
    for one in (b, empty):
        assert one["error"].startswith("the model finds no `green` of score 0.3 or more")
        assert "\n" not in one["error"]


def test_pictures_of_one_batch_have_their_own_boxes(photos: Path) -> None:
    words = ("--target", "box:all", "--batch-size", 3)
    result = run("explain", photos, "--model", SPEC, "--out", photos / "o", "--json", *words)
    a, b, empty = out_of(result)
    assert [len(one["maps"]) for one in (a, b)] == [2, 1]
    assert "no box" in empty["error"]


def test_boxes_of_lower_scores_are_explained_where_asked_for(photos: Path) -> None:
    common = ("explain", photos / "a.png", "--model", SPEC, "--out", photos / "o", "--json", "--no-pictures")
    for least, names in (("0.8", ["red"]), ("0.3", ["red", "green"])):
        (one,) = out_of(run(*common, "--min-score", least, "--target", "box:all"))
        assert [entry["target"].split()[0] for entry in one["maps"]] == names
    result = run(*common, "--target", "box:0", "--min-score", "0.9")
    assert "--min-score" in result.stderr
    result = run(*common, "--target", "red", "--min-score", "0.2")
    assert result.exit_code == 1
    assert "--target box:0" in result.stderr


def test_how_rows_are_read_may_be_said(photos: Path) -> None:
    common = ("--model", SPEC, "--out", photos / "o", "--json", "--adapter", "detectors:flipped_rows")
    (found,) = out_of(run("detect", photos / "a.png", *common))
    assert [one["label"] for one in found["boxes"]] == ["green", "red"]
    (explained,) = out_of(run("explain", photos / "a.png", *common, "--target", "box:red"))
    assert [one["target"] for one in explained["maps"]] == ["red (23, 19, 29, 25)"]
    result = run("detect", photos / "a.png", "--model", SPEC, "--out", photos / "o", "--boxes", "yxyx")
    assert result.exit_code == 1
    assert "xywh" in result.stderr


def test_a_detector_has_no_classes(photos: Path) -> None:
    result = run("explain", photos / "a.png", "--model", SPEC, "--out", photos / "o", "--target", "red")
    assert result.exit_code == 1
    assert "cc.targets.Boxes" in result.stderr


def test_a_place_that_cannot_be_written_is_a_line(photos: Path) -> None:
    (photos / "file").write_text("no folder")
    result = run("detect", photos / "a.png", "--model", SPEC, "--out", photos / "file" / "out")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "a.boxes.png`: Not a directory; choose another place" in result.stderr.replace("\n", "")


def test_an_input_that_is_not_there_is_told_by_its_name(photos: Path) -> None:
    result = run(
        "detect", photos / "a.png", photos / "none.png", "--model", SPEC, "--out", photos / "o", "--json"
    )
    assert result.exit_code == 1
    a, none = out_of(result)
    assert len(a["boxes"]) == 2
    assert none["input"] == str(photos / "none.png")
    assert none["error"].startswith("there is no `")
