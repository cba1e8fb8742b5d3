"""Explanations are saved, and load again as they were."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explained import FULL, RNG, X, blob, explanation, same, seeded
from helpers import one_line

import chronocam as cc
from chronocam.errors import MediaError
from chronocam.types import Finding, note


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
    np.savez_compressed(path, **{**arrays, "header": np.asarray(json.dumps(header))})
    assert cc.load(path).findings == (note("all zero"),)
