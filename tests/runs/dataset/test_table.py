"""Rows come back as the explanations that they were, and other programs read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as arrow
import pytest
from click.testing import CliRunner
from helpers import one_line
from pyarrow import parquet

import chronocam as cc
from chronocam.cli import main
from chronocam.runs.dataset.inputs import fetched
from chronocam.runs.dataset.inputs.base import Item

NETS = """
import torch
from torch import nn
from chronocam.media import ClipPreprocess, Preprocess

FRAME = Preprocess(40, (32, 32), (0.5,) * 3, (0.5,) * 3)

def of(convolution, pool):
    torch.manual_seed(0)
    body = convolution(3, 4, 3, 2), nn.ReLU(), convolution(4, 8, 3), nn.ReLU()
    return nn.Sequential(*body, pool(1), nn.Flatten(), nn.Linear(8, 3))

def pictures():
    return of(nn.Conv2d, nn.AdaptiveAvgPool2d), FRAME, ("cat", "dog", "bird")

def clips():
    return of(nn.Conv3d, nn.AdaptiveAvgPool3d), ClipPreprocess(FRAME, 8), ("cat", "dog", "bird")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rowed.py").write_text(NETS)
    draw = np.random.default_rng(0)
    for k in range(4):
        coarse = draw.integers(0, 256, (6, 9, 3)).astype(np.uint8)
        cc.media.write_image(tmp_path / f"photos/{k}.png", coarse.repeat(10, 0).repeat(10, 1))
        frames = np.stack([np.roll(coarse, t, 1) for t in range(12)])
        cc.media.write_clip(tmp_path / f"clips/{k}.gif", frames.repeat(8, 1).repeat(8, 2), 10)
    (tmp_path / "photos/bad.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("align", ["half_pixel", "receptive_field"])
@pytest.mark.parametrize(("kind", "path"), [("pictures", "photos/2.png"), ("clips", "clips/2.gif")])
@pytest.mark.parametrize("maps", ["uint8", "float16"])
def test_a_row_is_the_explanation_that_a_call_gives(
    kind: str, path: str, align: str, maps: str, place: Path
) -> None:
    layers, methods = ["1", "3"], ("gradcam", "hirescam")
    spec, folder = f"python:rowed:{kind}", path.partition("/")[0]
    table = cc.runs.run(
        folder, spec, "out", ["dog", 2], methods, layers=layers, align=align, maps=maps, trust=True
    )
    loaded = cc.models.load(spec, trust=True)
    known = cc.explain(loaded, path, ["dog", 2], methods=methods, layers=layers, align=align)
    rows = table.to_pandas()
    for _, alone in known.items():
        for t, info in enumerate(alone.targets[0]):
            chosen = (rows.method == alone.method) & (rows.layer == alone.layer) & (rows.target == info.name)
            (row,) = rows.index[chosen & rows.key.str.endswith(path)]
            one = table[row]
            for name in ("method", "layer", "input_size", "centers", "windows", "frame_spans", "preprocess"):
                assert getattr(one, name) == getattr(alone, name), name
            assert one.targets == ((info,),)
            assert one.targets[0][0].signed == info.signed
            np.testing.assert_allclose(one.scores, alone.scores[:, t : t + 1], rtol=1e-5)
            np.testing.assert_allclose(one.confidences, alone.confidences[:, t : t + 1], rtol=1e-5)
            said = tuple(f for f in alone.findings if f.target in (None, info.name))
            assert [(f.kind, f.target) for f in one.findings] == [(f.kind, f.target) for f in said]
            step = np.abs(alone.maps).max() / (120 if maps == "uint8" else 1000)
            np.testing.assert_allclose(one.maps, alone.maps[:, t : t + 1], atol=step)
            drawn = one.overlay(table.input(row))[0][0].astype(int)
            own = cc.explain(loaded, path, [info.name], methods=one.method, layers=[one.layer], align=align)
            np.testing.assert_allclose(drawn, own[one.method].overlay(path)[0][0].astype(int), atol=12)


def test_frames_of_a_clip_are_as_many_as_asked_for(place: Path) -> None:
    table = cc.runs.run("clips", "python:rowed:clips", "out", 0, frames=12, trust=True)
    assert table[0].input_size[0] == len(table.input(0)) == 12
    with pytest.raises(cc.errors.InputError, match="frames is for clips"):
        cc.runs.run("photos", "python:rowed:pictures", "other", 0, frames=12, trust=True)


def test_videos_go_through_a_model_of_pictures(place: Path) -> None:
    cc.media.write_clip("videos/a.mp4", np.zeros((8, 32, 32, 3), np.uint8), 10)
    table = cc.runs.run("videos", "python:rowed:pictures", "out", 0, frames=4, trust=True)
    assert table[0].maps.ndim == 5
    assert len(table.input(0)) == 4
    # A folder of pictures is no clip because another one has nothing but videos.
    with pytest.raises(cc.errors.MediaError, match="`videos` names no pictures"):
        cc.runs.run(["photos", "videos"], "python:rowed:pictures", "both", 0, trust=True)


def test_duckdb_and_pandas_read_the_parts(place: Path) -> None:
    table = cc.runs.run(
        "photos", "python:rowed:pictures", "out", [0, 1], ("gradcam", "layercam"), shard=2, trust=True
    )
    assert len(table) == 4 * 2 * 2 + 1
    rows = table.to_pandas()
    names = "key sample target method layer score confidence peak map grid signed findings error"
    assert " ".join(rows.columns) == names
    asked = "select method, count(*), avg(score) from 'out/*.parquet' where error = '' group by 1 order by 1"
    mean = rows[rows.error == ""].groupby("method").score.mean()
    for method, count, score in duckdb.sql(asked).fetchall():
        assert count == 8
        assert score == pytest.approx(mean[method])
    assert [*table.to_pandas(["score", "key"]).columns] == ["score", "key"]
    with pytest.raises(cc.errors.InputError, match="no column `scor`; did you mean `score`"):
        table.to_pandas(["scor"])
    first = pd.read_parquet("out/part-000000.parquet")
    assert first.equals(rows[: len(first)])
    values = np.frombuffer(first["map"][0], np.uint8).reshape(first.grid[0]) * (first.peak[0] / 255)
    np.testing.assert_allclose(values, table[0].maps[0, 0], rtol=1e-5)
    assert rows.loc[rows.error != "", ["target", "score"]].isna().to_numpy().tolist() == [[False, True]]


def test_rows_are_chosen_by_a_condition(place: Path) -> None:
    table = cc.runs.run("photos", "python:rowed:pictures", "out", [0, 1], shard=2, trust=True)
    rows = table.to_pandas()
    least = float(rows.score.median())
    chosen = table.where(f"score > {least} or target = 'dog' and sample < 3")
    expected = rows[(rows.score > least) | ((rows.target == "dog") & (rows["sample"] < 3))].reset_index(
        drop=True
    )
    assert 0 < len(chosen) < len(table)
    assert chosen.to_pandas().equals(expected)
    np.testing.assert_array_equal(chosen[0].scores[0, 0], expected.score[0])
    assert len(chosen.where("sample < 2")) == (expected["sample"] < 2).sum()
    assert table.where("error <> ''").failures == 1
    for condition in ("scor > 0", "score >", "score > 0); drop table rows; --", "1 = 1 union select 1"):
        with pytest.raises(cc.errors.InputError, match="chooses no rows"):
            table.where(condition)


@pytest.mark.parametrize(("kind", "folder"), [("pictures", "photos"), ("clips", "clips")])
def test_pages_are_made_of_the_rows_that_are_asked_for(kind: str, folder: str, place: Path) -> None:
    cc.runs.run(folder, f"python:rowed:{kind}", "out", [0, 1], shard=2, trust=True)
    done = run_report("out", "--where", "sample in (1, 2) or error <> ''")
    assert done.exit_code == 0, done.stderr
    pages = sorted(path.name for path in Path("out/pages").glob("*.html"))
    assert pages == ["1.html", "2.html", "index.html"]
    page = Path("out/pages/1.html").read_text()
    assert all(word in page for word in ("cat", "dog", "gradcam"))
    assert ("bad.png" in done.stderr) == (kind == "pictures")

    # Other rows take the place of these, but not in a folder of the user's own.
    assert run_report("out", "--where", "sample = 3").exit_code == 0
    assert {path.name for path in Path("out/pages").glob("*.html")} == {"index.html", "3.html"}


def run_report(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["report", *arguments])


REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    ("no run", lambda: run_report("photos", "--where", "score > 0"), "`photos` holds none; drop --where"),
    (
        "no row",
        lambda: run_report("out", "--where", "score > 9e9"),
        "no row of `out` fits `score > 9e9`; choose others",
    ),
    ("a file", lambda: run_report("photos/0.png"), "`photos/0.png` is not a folder"),
    ("no column", lambda: run_report("out", "--where", "scor > 0"), "expected SQL on the columns"),
]


@pytest.mark.parametrize(("call", "said"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_pages_of_nothing_are_refused(call: Callable[[], Any], said: str, place: Path) -> None:
    cc.runs.run("photos", "python:rowed:pictures", "out", 0, trust=True)
    done = call()
    assert done.exit_code == 1
    assert said in done.stderr


def test_more_inputs_than_one_looks_at_are_not_made_pages(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cc.runs.run("photos", "python:rowed:pictures", "out", 0, trust=True)
    monkeypatch.setattr("chronocam.runs.dataset.pages.MOST", 3)
    assert "5 inputs are too many for pages; choose at most 3" in run_report("out").stderr


def part_with(path: Path, change: Callable[[Any], Any]) -> None:
    """Write a part again, its table changed."""
    parquet.write_table(change(parquet.read_table(path)), path)


def without_notes(table: Any) -> Any:
    return table.replace_schema_metadata({"chronocam": "{}"})


def cut_short(table: Any) -> Any:
    return table.set_column(8, table.schema.field(8), [[value.as_py()[:-1] for value in table["map"]]])


def without_scores(table: Any) -> Any:
    return table.set_column(5, table.schema.field(5), arrow.nulls(len(table), arrow.float32()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_notes, "does not say what its rows are of"),
        (cut_short, "has a map of"),
        (without_scores, "lacks values of row 0"),
        (lambda table: table.drop_columns(["key"]), "has other columns"),
    ],
)
def test_a_part_that_does_not_fit_is_one_line(change: Any, told: str, place: Path) -> None:
    table = cc.runs.run("photos/1.png", "python:rowed:pictures", "maps", targets="cat")
    table[0]
    part_with(Path("maps/part-000000.parquet"), change)
    with pytest.raises(cc.errors.MediaError) as error:
        cc.runs.open("maps")[0]
    one_line(error, "part-000000.parquet", told)


@pytest.mark.parametrize(
    ("name", "value"), [("inputs", 10**15), ("inputs", -1), ("preprocess", {"mean": "grey"}), ("format", 3)]
)
def test_a_plan_of_no_run_is_one_line(name: str, value: Any, place: Path) -> None:
    cc.runs.run("photos/1.png", "python:rowed:pictures", "maps", targets="cat")
    plan = json.loads(Path("maps/plan.json").read_text())
    Path("maps/plan.json").write_text(json.dumps(plan | {name: value}))
    with pytest.raises(cc.errors.MediaError) as error:
        cc.runs.open("maps")
    one_line(error, "plan.json", "cannot be read")


def test_an_input_of_no_kind_is_one_line() -> None:
    kind: Any = "gile"
    item = Item("a.png", kind, "/photos/a.png")
    with pytest.raises(cc.errors.InputError) as error, fetched(item):
        pass
    one_line(error, "a.png is a `gile`; expected one of")
