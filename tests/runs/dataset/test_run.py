"""A data set is explained into parts; a run that was stopped goes on, and another one is refused."""

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
