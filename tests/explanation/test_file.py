"""Explanations are saved, and load again as they were."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explained import FULL, RNG, X, blob, explanation, same, seeded
from helpers import one_line
from PIL import Image

import chronocam as cc
from chronocam.errors import MediaError
from chronocam.types import Finding
from chronocam.types.findings import note


@pytest.mark.parametrize("e", [FULL, explanation(blob()), explanation(RNG.normal(size=(1, 3, 5)))])
def test_npz_keeps_everything(e: cc.Explanation, tmp_path: Path) -> None:
    path = e.save(tmp_path / "new" / "folder" / "map.npz")
    assert [p.name for p in path.parent.iterdir()] == ["map.npz"]
    back = cc.load(path)
    for field in fields(cc.Explanation):
        before, after = getattr(e, field.name), getattr(back, field.name)
        assert type(after) is type(before), field.name
        if isinstance(before, np.ndarray):
            assert after.dtype == before.dtype
            np.testing.assert_array_equal(after, before)
        else:
            assert after == before, field.name
    np.testing.assert_array_equal(back.upsample(), e.upsample())
    assert cc.load(str(path)).dims == e.dims
    assert hash(back.targets) == hash(e.targets)


def test_npz_of_real_explanations(tmp_path: Path) -> None:
    targets = [cc.targets.Class(np.int64(2)), cc.targets.Regression(np.int32(1)), lambda out: out[:, 0]]
    e = cc.GradCAM(seeded(), ["conv1", "conv2"]).explain(X, targets)
    back = cc.load(e.save(tmp_path / "a.npz"))
    same(back, e, 0)
    nan = replace(e, maps=np.full_like(e.maps, np.nan), scores=np.full_like(e.scores, np.inf))
    back = cc.load(nan.save(tmp_path / "a.npz"))  # over the first
    assert np.isnan(back.maps).all()
    assert np.isinf(back.scores).all()


GREY_RANGE = {"mean": (np.float32(0.5),), "std": (np.float32(0.25),)}
COLOURS: dict[str, Any] = {"mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 3.0)}
PREPARED = [
    cc.media.Preprocess(20, (16, 24), **COLOURS, interpolation="bicubic", scale=1.0, order="bgr"),
    cc.media.Preprocess((16, 24), None, **GREY_RANGE, antialias=False, assumption="a guess"),
    cc.media.Preprocess(None, (np.int64(16), 24), **COLOURS, channels="last"),
]


@pytest.mark.parametrize("prepares", PREPARED)
def test_pictures_are_drawn_as_the_model_saw_them_after_loading(
    prepares: cc.media.Preprocess, tmp_path: Path
) -> None:
    e = explanation(blob(), preprocess=prepares)
    back = cc.load(e.save(tmp_path / "map.npz"))
    assert back.preprocess == prepares
    assert back.preprocess.assumption == prepares.assumption
    photo = Image.fromarray(RNG.integers(0, 255, (30, 50, 3)).astype(np.uint8))
    drawn = back.overlay(photo)[0][0]
    np.testing.assert_array_equal(drawn, e.overlay(photo)[0][0])
    assert drawn.shape != replace(e, preprocess=None).overlay(photo)[0][0].shape


def test_how_clips_were_prepared_is_kept(tmp_path: Path) -> None:
    prepares = cc.media.ClipPreprocess(PREPARED[0], 16, "time channel", "midpoint")
    assert cc.load(replace(FULL, preprocess=prepares).save(tmp_path / "map.npz")).preprocess == prepares
    function = replace(FULL, preprocess=lambda clip: clip)  # which no file holds
    assert cc.load(function.save(tmp_path / "map.npz")).preprocess is None


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def test_files_that_are_no_explanation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = explanation(blob()).save(tmp_path / "good.npz")
    with np.load(good) as file:
        parts = dict(file)
    header = json.loads(str(parts["header"]))
    objects = np.empty(1, dtype=object)
    objects[0] = Bomb()

    def written(name: str, **changes: Any) -> Path:
        np.savez(tmp_path / name, **(parts | changes))
        return tmp_path / name

    bad = [
        written("pickle.npz", maps=objects),
        written("pickled header.npz", header=objects),
        written("no json.npz", header=np.asarray("{")),
        written(
            "other format.npz", header=np.asarray(json.dumps(header | {"format": "chronocam explanation 99"}))
        ),
        written("unknown field.npz", header=np.asarray(json.dumps(header | {"surprise": 1}))),
        written(
            "no targets.npz",
            header=np.asarray(json.dumps({k: v for k, v in header.items() if k != "targets"})),
        ),
        written("list.npz", header=np.asarray("[1]")),
    ]
    (tmp_path / "text.npz").write_text("not a zip")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:-200])
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    bad += [tmp_path / name for name in ("text.npz", "empty.npz", "cut.npz", "other.npz", "array.npy")]
    for path in bad:
        with pytest.raises(MediaError) as error:
            cc.load(path)
        one_line(error, path.name, "Explanation.save")
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(MediaError) as error:
        cc.load(tmp_path / "missing.npz")
    one_line(error, "no file", "missing.npz")


def test_places_and_suffixes_that_cannot_be_written(tmp_path: Path) -> None:
    e = explanation(blob())
    for name in ("map.bmp", "map", "map.npy"):
        with pytest.raises(MediaError) as error:
            e.save(tmp_path / name)
        one_line(error, f"`{name}`", ".npz", ".png")
    (tmp_path / "file").write_text("")
    for suffix in (".npz", ".png"):
        with pytest.raises(MediaError) as error:
            e.save(tmp_path / "file" / f"map{suffix}")
        one_line(error, "cannot write", "another place")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_files_with_diagnostics_in_words_alone_still_load(tmp_path: Path) -> None:
    path = explanation(blob(), findings=(Finding("zero map", 0, "cat", "all zero"),)).save(tmp_path / "x.npz")
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    header["diagnostics"] = [finding[-1] for finding in header.pop("findings")]
    assert header.pop("on") == 0
    np.savez_compressed(path, **{**arrays, "header": np.asarray(json.dumps(header))})
    assert cc.load(path).findings == (note("all zero"),)


def prepared(**values: Any) -> dict[str, Any]:
    """Return what a header says of the preprocessing, with other values."""
    about = {"resize": None, "crop": None, "mean": [0.0], "std": [1.0], "interpolation": "bilinear"}
    return {
        "preprocess": about | {"scale": 1.0, "channels": "first", "order": "rgb", "antialias": True} | values
    }


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "scores": ({"scores": np.zeros((2, 3), np.float32)}, {}, "scores are (2, 3) of maps (2, 2, 2, 3, 4)"),
    "whole maps": ({"maps": np.zeros((2, 2, 2, 3, 4), np.int64)}, {}, "maps are int64"),
    "flat maps": ({"maps": np.zeros((2, 2), np.float32)}, {}, "maps are float32 (2, 2)"),
    "confidences": ({"confidences": np.zeros((1, 2), np.float32)}, {}, "confidences are (1, 2)"),
    "half an attention": ({"attention.weights": np.ones((2, 4))}, {}, "attention is [(2, 4)]"),
    "an attention of nothing": (
        {"attention.weights": np.float64(1), "attention.contributions": np.ones((2, 2, 4))},
        {},
        "attention is [(), (2, 2, 4)]",
    ),
    "unknown array": ({"surprise": np.ones(3)}, {}, "unknown array `surprise`"),
    "a picture of nobody": ({"picture.0.0": np.ones(3, np.uint8)}, {}, "unknown array `picture.0.0`"),
    "targets": ({}, {"targets": [[["a", 0]], [["b", 1]]]}, "targets are not one for each"),
    "names": ({}, {"targets": [[["a", 0], [1, 0]]] * 2}, "targets are not one for each"),
    "size": ({}, {"input_size": [16, 12]}, "inputs are (16, 12) for maps on (2, 3, 4)"),
    "no size": ({}, {"input_size": [16, 0, 16]}, "inputs are (16, 0, 16)"),
    "a size beyond memory": (
        {},
        {"input_size": [16, 10**5, 10**5]},
        "have too many places",
    ),
    "more frames than memory": ({}, {"input_size": [30_000_000, 2, 2]}, "more than 134,217,728"),
    "more frames than time": ({}, {"input_size": [200_000, 2, 2]}, "or 100,000 frames"),
    "centers": ({}, {"centers": [[0.0, 8.0], [1.0], [1.0, 2.0, 3.0, 4.0]]}, "centers are not one for each"),
    "no centers": ({}, {"centers": [[0.0, 1e999], [1.0] * 3, [1.0] * 4]}, "centers are not one for each"),
    "spans": ({}, {"frame_spans": [[0, 15]]}, "frame_spans are not one for each of 2 slices"),
    "spans beyond": ({}, {"frame_spans": [[0, 7], [8, 16]]}, "frame_spans are not one for each"),
    "pictures": (
        {},
        {"pictures": [{"size": [4, 4], "seen": [0, 0, 4, 4], "places": list(range(16))}]},
        "1 pictures are kept of 2 samples",
    ),
    "places": ({}, {"pictures": [{"size": [4, 4], "seen": [0, 0, 4, 4]}] * 2}, "has 1 places for 16 frames"),
    "a picture beyond memory": (
        {},
        {"pictures": [{"size": [4, 10**6], "seen": [0, 0, 4, 4], "places": list(range(16))}] * 2},
        "kept pictures are (4, 1000000)",
    ),
    "a size in words": ({}, {"input_size": "large"}, "`input_size` of its header is 'large'"),
    "input": ({}, {"on": -1}, "on is -1, no number of an input"),
    "findings": ({}, {"findings": [["note", None]]}, "expected a list of 4"),
    "a picture resized beyond memory": ({}, prepared(resize=[10**5, 10**5]), "which is too large"),
    "a picture of three sides": ({}, prepared(resize=[8, 8, 8]), "neither one side nor two"),
    "a crop beyond memory": ({}, prepared(crop=[10**5, 10**5]), "which is too large"),
    "prepared frames beyond time": (
        {},
        prepared(clip=[200_000, "channel time", "uniform"]),
        "more than 100,000",
    ),
    "unknown axes": ({}, prepared(clip=[16, "sideways", "uniform"]), "axes `sideways`"),
    "no spread": ({}, prepared(std=[]), "expected one value per channel"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_parts_that_do_not_fit_are_named(tmp_path: Path, name: str) -> None:
    arrays, words, told = CHANGES[name]
    path = FULL.save(tmp_path / "x.npz")
    with np.load(path) as file:
        parts = dict(file)
    header = json.loads(str(parts["header"])) | words
    np.savez(path, **(parts | arrays | {"header": np.asarray(json.dumps(header))}))
    with pytest.raises(MediaError) as error:
        cc.load(path)
    one_line(error, "x.npz", told)


def test_a_file_that_is_larger_than_the_limit_is_refused_unless_more_is_allowed(tmp_path: Path) -> None:
    path = explanation(np.zeros((1, 1, 500, 500))).save(tmp_path / "x.npz")
    with pytest.raises(MediaError, match=r"would take 1,00.* bytes, more than 100,000"):
        cc.load(path, limit=100_000)
    assert cc.load(path, cc.Explanation, limit=2_000_000).maps.shape == (1, 1, 500, 500)


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), ValueError("x"), AttributeError("x")])
def test_a_fault_of_our_own_is_not_told_as_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = explanation(blob()).save(tmp_path / "x.npz")

    def faulty(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("chronocam.explanation.file.TargetInfo", faulty)
    with pytest.raises(type(error)) as caught:
        cc.load(path)
    assert not isinstance(caught.value, MediaError)


def test_names_out_of_a_file_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    path = explanation(blob(), method="a\x1b[31m", layer="b\n").save(tmp_path / "x.npz")
    assert repr(cc.load(path)) == r"Explanation(a\x1b[31m at b\n: 1 sample, 1 target, grid 4 × 6)"
