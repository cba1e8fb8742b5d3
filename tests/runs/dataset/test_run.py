"""A data set is explained into parts; a run that was stopped goes on, and another one is refused."""

import contextlib
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import chronocam as cc
from chronocam.runs.dataset.rows import decoded, encoded

MODEL = "chronocam:digits"


@pytest.fixture
def shots(tmp_path):
    for k in range(5):
        picture = np.random.default_rng(k).integers(0, 255, (96, 96, 3)).astype(np.uint8)
        cc.media.write_image(tmp_path / f"shots/{k}.png", picture)
    (tmp_path / "shots/bad.png").write_text("no picture")
    return tmp_path / "shots"


def test_every_input_has_its_row_and_its_own_score(shots, tmp_path):
    table = cc.runs.run(shots, MODEL, tmp_path / "out", methods=("layercam",), shard=4, batch_size=2)
    loaded = cc.models.load(MODEL)
    for k in range(5):
        array = loaded.preprocess(cc.media.read_image(shots / f"{k}.png"))[None]
        alone = cc.LayerCAM(loaded.model).explain(array)
        np.testing.assert_allclose(table[k].scores, alone.scores, rtol=1e-5)
        np.testing.assert_allclose(table[k].maps, alone.maps, atol=alone.maps.max() / 255)
    assert len(table) == 6
    with pytest.raises(cc.errors.MediaError, match=r"bad\.png"):
        table[5]


def test_a_part_that_is_missing_is_made_again_and_others_are_left(shots, tmp_path):
    out = tmp_path / "out"
    first = cc.runs.run(shots, MODEL, out, targets=3, shard=2).to_pandas()
    kept = (out / "part-000000.parquet").stat().st_mtime_ns
    (out / "part-000001.parquet").unlink()
    (out / ".part-000001.parquet.lock").touch()
    again = cc.runs.run(shots, MODEL, out, targets=3, shard=2).to_pandas()
    assert again.equals(first)
    assert (out / "part-000000.parquet").stat().st_mtime_ns == kept


def test_another_run_in_the_same_place_is_refused(shots, tmp_path):
    cc.runs.run(shots, MODEL, tmp_path / "out", targets=3)
    with pytest.raises(cc.errors.InputError, match="targets 3 there, 4 here"):
        cc.runs.run(shots, MODEL, tmp_path / "out", targets=4)


@pytest.mark.parametrize(("kind", "share"), [("uint8", 1 / 250), ("float16", 1 / 2000)])
@pytest.mark.parametrize("low", [0, -1])
def test_maps_come_back_within_a_step(kind, share, low):
    values = np.random.default_rng(0).uniform(low, 3, (7, 7)).astype(np.float32)
    peak, data, signed = encoded(values, kind)
    np.testing.assert_allclose(decoded(peak, data, [7, 7], signed), values, atol=2 * peak * share)


KILLED = """
import sys, time
import chronocam as cc
from chronocam.runs.dataset import work
explain = work.Worker._explain
def slow(self, *args):
    time.sleep(0.02)
    return explain(self, *args)
work.Worker._explain = slow
cc.runs.run("photos", "chronocam:digits", "out", targets=3, shard=2, batch_size=2)
"""


@pytest.mark.slow
def test_runs_that_are_killed_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """Killed without a chance to tidy up, at moments drawn at random, and two at a time."""
    rng, draw = random.Random(0), np.random.default_rng(0)
    for k in range(24):
        cc.media.write_image(tmp_path / f"photos/{k:03}.png", draw.integers(0, 255, (96, 96), np.uint8))
    (tmp_path / "photos/007.png").write_bytes(b"no picture")
    for _ in range(4):
        both = [subprocess.Popen([sys.executable, "-c", KILLED], cwd=tmp_path) for _ in range(2)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            both[0].wait(timeout=rng.uniform(2.0, 5.0))
        for one in both:
            one.kill()
            one.wait()
    table = cc.runs.run(tmp_path / "photos", "chronocam:digits", tmp_path / "out", targets=3, shard=2)
    rows = table.to_pandas()
    assert sorted(Path(key).name for key in rows["key"]) == [f"{k:03}.png" for k in range(24)]
    assert [Path(key).name for key in rows.loc[rows["error"] != "", "key"]] == ["007.png"]
    assert table.failures == 1
