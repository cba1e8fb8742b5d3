"""A data set is explained into parts; a run that was stopped goes on, and another one is refused."""

import contextlib
import errno
import importlib
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from detectors import two_spots

import chronocam as cc
from chronocam.runs.dataset.rows import decoded, encoded
from chronocam.runs.job import MapJob
from chronocam.runs.pictures import PictureJob

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
    def run(**options):
        return cc.runs.run(shots, MODEL, tmp_path / "out", **{"targets": 3, **options})

    run()
    for options, said in (
        ({"targets": 4}, "targets 3 there, 4 here"),
        ({"shard": 3}, "shard 1024 there, 3 here"),
        ({"layers": ["features"]}, "layers none there, features here"),
        ({"align": "receptive_field"}, "align half_pixel there, receptive_field here"),
        ({"maps": "float16"}, "maps uint8 there, float16 here"),
        ({"resume": False}, "holds this run already"),
    ):
        with pytest.raises(cc.errors.InputError, match=said):
            run(**options)
    (shots / "0.png").unlink()
    with pytest.raises(cc.errors.InputError, match="6 inputs there, 5 here"):
        run()


def test_another_model_under_the_same_name_is_refused(shots, tmp_path, monkeypatch):
    nets = tmp_path / "weighty.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    for seed, said in ((0, None), (0, None), (1, "the same model with other weights")):
        nets.write_text(NET.format(seed=seed))
        sys.modules.pop("weighty", None)
        importlib.invalidate_caches()
        with contextlib.nullcontext() if said is None else pytest.raises(cc.errors.InputError, match=said):
            cc.runs.run(shots, "python:weighty:net", tmp_path / "out", trust=True)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)


NET = """
import torch
from torch import nn
from chronocam.media import Preprocess

def net():
    torch.manual_seed({seed})
    body = nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return nn.Sequential(*body), Preprocess(None, None, (0.5,) * 3, (0.5,) * 3), ("cat", "dog", "bird")
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    """A network that takes pictures of any size."""
    (tmp_path / "anysize.py").write_text(NET.format(seed=0))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("anysize", None)
    return "python:anysize:net"


REFUSED = {
    "no class 99": {"targets": 99},
    "no label `zebra`": {"targets": "zebra"},
    "no layer `layer9`": {"layers": "layer9"},
    "have the same name": {"layers": ["features", "features"]},
    "no method `gradcm`; did you mean": {"methods": "gradcm"},
    "lrp makes no maps": {"methods": ["gradcam", "lrp"]},
    "no alignment `x`": {"align": "x"},
    "precision": {"precision": "bf16"},
    "maps cannot be kept as `png`": {"maps": "png"},
    "frames is for clips": {"frames": 3},
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(said, shots, tmp_path):
    options = REFUSED[said]
    with pytest.raises(cc.errors.ChronocamError, match=said):
        cc.runs.run(shots, MODEL, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_inputs_of_many_shapes_are_explained_in_batches_and_keep_their_order(tmp_path, net, monkeypatch):
    sizes = [(24, 24), (24, 32), (32, 24), (40, 40)]
    for k in range(16):
        picture = np.random.default_rng(k).integers(0, 255, (*sizes[k % 4], 3)).astype(np.uint8)
        cc.media.write_image(tmp_path / f"shots/{k:02}.png", picture)
    explain, batches = MapJob.explain, []

    def counted(self, inputs):
        batches.append(len(inputs))
        return explain(self, inputs)

    monkeypatch.setattr(MapJob, "explain", counted)
    table = cc.runs.run(
        tmp_path / "shots", net, tmp_path / "out", [0, 1], ("gradcam", "layercam"), trust=True
    )
    assert batches[1:] == [4] * 4  # the first is the noise that the call is tried with
    rows = table.to_pandas()
    assert rows["sample"].tolist() == sorted([*range(16)] * 4)
    assert rows.loc[rows["sample"] == 5, ["target", "method"]].to_numpy().tolist() == [
        [target, method] for method in ("gradcam", "layercam") for target in ("cat", "dog")
    ]
    loaded = cc.models.load(net, trust=True)
    for k in (1, 6, 15):
        alone = cc.LayerCAM(loaded).explain(tmp_path / f"shots/{k:02}.png", 1)
        np.testing.assert_allclose(table[4 * k + 3].scores, alone.scores, rtol=1e-5)
        assert table[4 * k + 3].input_size == alone.input_size == sizes[k % 4]


def test_an_input_is_explained_for_its_own_label(tmp_path, net):
    lines = ["path,label"]
    for k, label in enumerate(["dog", "", "2", "zebra", "9", "cat"]):
        cc.media.write_image(tmp_path / f"shots/{k}.png", np.full((24, 24, 3), 40 * k, np.uint8))
        lines.append(f"shots/{k}.png,{label}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    rows = cc.runs.run(tmp_path / "list.csv", net, tmp_path / "out", trust=True).to_pandas()
    shot = tmp_path / "shots/1.png"
    predicted = cc.GradCAM(cc.models.load(net, trust=True)).explain(shot).targets[0][0].name
    assert rows["target"].tolist() == ["dog", predicted, "bird", "", "", "cat"]
    assert "no label `zebra`" in rows["error"][3]
    assert "no class 9" in rows["error"][4]

    # A target that is given is explained, whatever the labels say.
    rows = cc.runs.run(tmp_path / "list.csv", net, tmp_path / "given", "bird", trust=True).to_pandas()
    assert rows["target"].tolist() == ["bird"] * 6

    # As is the predicted class, where that is asked for.
    rows = cc.runs.run(tmp_path / "list.csv", net, tmp_path / "own", "predicted", trust=True).to_pandas()
    assert rows["target"][1] == predicted
    assert not rows["error"].any()

    # Where no label means anything to the model, the call is wrong and not every input.
    (tmp_path / "list.csv").write_text("path,label\nshots/0.png,zebra\nshots/1.png,okapi\n")
    with pytest.raises(cc.errors.TargetError, match="no label `zebra`"):
        cc.runs.run(tmp_path / "list.csv", net, tmp_path / "refused", trust=True)


def test_boxes_have_a_row_each_and_the_method_that_suits_them(tmp_path, monkeypatch):
    (tmp_path / "spotty.py").write_text(SPOTTY)
    monkeypatch.syspath_prepend(str(tmp_path))
    for k, picture in enumerate([*two_spots(), torch.zeros(3, 32, 32)]):
        cc.media.write_image(tmp_path / f"shots/{k}.png", (picture * 255).byte().permute(1, 2, 0).numpy())
    how = {"shard": 8, "trust": True}
    rows = cc.runs.run(tmp_path / "shots", "python:spotty:net", tmp_path / "out", ["box:0", "box:1"], **how)
    rows = rows.to_pandas()
    assert rows["sample"].tolist() == [0, 0, 1, 2]
    assert (rows["error"] != "").tolist() == [False, False, False, True]
    assert rows["error"][3].startswith("no box")
    assert rows["method"].tolist() == ["odam"] * 3 + [""]
    for row, (y, x) in enumerate([(1, 1), (5, 6), (3, 2)]):  # each map is at its own spot
        values = np.frombuffer(rows["map"][row], np.uint8).reshape(rows["grid"][row])
        assert np.unravel_index(values.argmax(), values.shape) == (y, x)


SPOTTY = """
from chronocam.media import Preprocess
from detectors import Spots

def net():
    return Spots().eval(), Preprocess(None, None, (0,) * 3, (1,) * 3), ("red", "green")
"""


def test_what_is_said_of_a_model_is_part_of_the_plan(shots, tmp_path, net):
    labels = tmp_path / "labels.txt"
    labels.write_text("ant\nbee\nfly\n")
    wants = {"size": "24x32", "labels": str(labels)}
    table = cc.runs.run(shots / "0.png", net, tmp_path / "out", "bee", wants=wants, trust=True)
    assert table[0].input_size == (24, 32)
    assert table[0].targets[0][0].name == "bee"
    with pytest.raises(cc.errors.InputError, match=r"wants size 24x32, labels .* there, size 24x24 here"):
        cc.runs.run(shots / "0.png", net, tmp_path / "out", "1", wants={"size": "24x24"}, trust=True)


HOSTILE = {
    "empty.jpg": b"",
    "text.png": b"<html>no picture</html>",
    "bomb.png": None,
    "line\nbreak.png": b"no",
    "quote'\".png": b"no",
}


def test_hostile_files_are_rows_and_none_is_lost(tmp_path, net):
    place = tmp_path / "shots"
    for k in range(40):
        cc.media.write_image(place / f"{k:02}.png", np.full((24, 24, 3), k, np.uint8))
    for name, data in HOSTILE.items():
        (place / name).write_bytes((place / "00.png").read_bytes()[:40] if data is None else data)
    os.mkfifo(place / "pipe.png")
    (place / "gone.png").symlink_to("nowhere")
    (place / "endless.png").symlink_to("/dev/zero")
    (place / "folder.png").mkdir()
    (place / os.fsdecode(b"caf\xe9.png")).write_bytes((place / "00.png").read_bytes())
    table = cc.runs.run(place, net, tmp_path / "out", trust=True, shard=7)
    rows = table.to_pandas()
    bad = {*HOSTILE, "pipe.png", "gone.png", "endless.png"}
    assert {Path(key).name for key in rows.loc[rows["error"] != "", "key"]} == bad
    assert len(table) == 41 + len(bad)
    assert table.failures == len(bad)
    (row,) = rows.index[rows["key"].str.contains("caf")]
    assert table.input(int(row)).size == (24, 24)


def test_what_this_machine_lacks_stops_a_run_and_is_no_fault_of_an_input(tmp_path, net, monkeypatch):
    cc.media.write_image(tmp_path / "shots/0.png", np.zeros((24, 24, 3), np.uint8))

    def full(self, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PictureJob, "read", full)
    with pytest.raises(cc.errors.MediaError, match="make room, and run the same command again"):
        cc.runs.run(tmp_path / "shots", net, tmp_path / "out", trust=True)
    monkeypatch.undo()
    assert not list((tmp_path / "out").glob("part-*"))


def test_a_full_disk_leaves_nothing_and_the_run_goes_on_later(shots, tmp_path):
    out = tmp_path / "out"
    whole = cc.runs.run(shots, MODEL, out, targets=3, shard=3).to_pandas()
    for part in out.glob("part-*"):
        part.unlink()
    before, most = {one.name for one in out.iterdir()}, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most[1]))
    try:
        with pytest.raises(cc.errors.MediaError, match=r"cannot write .*part-000000"):
            cc.runs.run(shots, MODEL, out, targets=3, shard=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert {one.name for one in out.iterdir()} == before
    assert cc.runs.run(shots, MODEL, out, targets=3, shard=3).to_pandas().equals(whole)


def test_stores_hold_inputs_and_results(shots, tmp_path):
    store = fsspec.filesystem("memory")
    store.put(f"{shots}/", "/run-of/shots/", recursive=True)
    local = cc.runs.run(f"file://{shots}", MODEL, f"file://{tmp_path}/out", targets=3, shard=4)
    remote = cc.runs.run("memory://run-of/shots", MODEL, "memory://run-of/out", targets=3, shard=4)
    assert sorted(name.rpartition("/")[2] for name in store.ls("/run-of/out", detail=False)) == [
        "inputs.plan",
        "part-000000.parquet",
        "part-000001.parquet",
        "plan.json",
    ]
    assert (tmp_path / "out/plan.json").exists()
    columns = ["sample", "target", "score", "confidence", "peak", "map"]
    assert local.to_pandas(columns).equals(remote.to_pandas(columns))
    np.testing.assert_array_equal(remote[2].maps, local[2].maps)
    assert remote.input(2).size == (96, 96)
    listed = tmp_path / "list.csv"
    listed.write_text("path\nmemory://run-of/shots/none.png\n")
    missing = cc.runs.run(listed, MODEL, tmp_path / "missing", targets=3)
    assert list(missing.to_pandas()["error"]) == [
        "there is no `memory://run-of/shots/none.png`; check the path"
    ]
    with pytest.raises(cc.errors.MediaError, match=r"`http://127.0.0.1:1/out`.*choose another place"):
        cc.runs.run(shots, MODEL, "http://127.0.0.1:1/out", targets=3)


class Silent(fsspec.get_filesystem_class("memory")):
    """A store whose server does not answer, of a library with errors of its own."""

    protocol = "silent"

    class NoAnswerError(Exception):
        pass

    def _refuse(self, *args, **options):
        raise self.NoAnswerError("no answer from the endpoint")

    ls = info = find = glob = pipe_file = _open = _refuse


@pytest.mark.parametrize(
    "inputs", ["silent://shots", "silent://shots/*.png", "silent://shots.tar", "silent://shots.csv"]
)
def test_a_store_that_does_not_answer_is_one_line(shots, tmp_path, inputs):
    fsspec.register_implementation("silent", Silent, clobber=True)
    with pytest.raises(
        cc.errors.ChronocamError, match=rf"`{re.escape(inputs)}`.*no answer from the endpoint"
    ):
        cc.runs.run(inputs, MODEL, tmp_path / "out", targets=3)
    for call in (
        lambda: cc.runs.run(shots, MODEL, "silent://out", targets=3),
        lambda: cc.runs.open("silent://out"),
    ):
        with pytest.raises(cc.errors.MediaError, match=r"silent://out.*no answer from the endpoint"):
            call()


class Elsewhere(fsspec.get_filesystem_class("memory")):
    """A store that shows a file while it is still being written."""

    protocol = "elsewhere"
    store, pseudo_dirs, begun = {}, [""], []

    def pipe_file(self, path, value, **options):
        self.begun.append(path.rpartition("/")[2])
        super().pipe_file(path, value, **options)


def test_what_appears_before_it_is_whole_gets_its_name_at_the_end(shots):
    fsspec.register_implementation("elsewhere", Elsewhere, clobber=True)
    assert len(cc.runs.run(shots, MODEL, "elsewhere://place/out", targets=3)) == 6
    assert len(Elsewhere.begun) == 3
    assert all(name.startswith(".") for name in Elsewhere.begun)
    names = {path.rpartition("/")[2] for path in Elsewhere.store}
    assert names == {"inputs.plan", "plan.json", "part-000000.parquet"}


def test_a_run_that_has_written_nothing_yet_has_an_empty_table(shots, tmp_path):
    out = tmp_path / "out"
    names = [*cc.runs.run(shots, MODEL, out, targets=3).to_pandas().columns]
    (out / "part-000000.parquet").unlink()
    table = cc.runs.open(out)
    assert [*table.to_pandas().columns] == names
    assert (len(table), len(table.where("score > 0")), table.failures) == (0, 0, 0)


def test_a_part_that_is_damaged_says_what_to_do(shots, tmp_path):
    cc.runs.run(shots, MODEL, tmp_path / "out", targets=3)
    (tmp_path / "out/part-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(cc.errors.MediaError, match="delete it, and run the same command again"):
        cc.runs.open(tmp_path / "out")


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


def test_what_is_missing_is_told_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(cc.errors.InputError, match=r"this needs pyarrow .*; pip install 'chronocam\[runs\]'"):
        cc.runs.run("photos", "no:model", tmp_path / "out")
    assert not list(tmp_path.iterdir())
