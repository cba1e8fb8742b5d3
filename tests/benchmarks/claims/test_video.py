"""Claims about maps of video networks: measures on planted maps, and a run on untrained networks."""

import json
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from benchmarks.claims.page import DOCS
from benchmarks.claims.video import measures
from benchmarks.claims.video.__main__ import main
from chronocam.lab.models.video import ARCHITECTURES, recipe, video_net


def planted():
    """Two clips of 4 frames of 6 x 6: a square of 2 x 2, seen on frames 1 and 2, and on frame 3."""
    masks = np.zeros((2, 4, 6, 6), bool)
    masks[0, 1:3, 1:3, 2:4] = True
    masks[1, 3, 4:6, 0:2] = True
    return masks, masks.any(axis=(2, 3))


def test_a_perfect_map_has_every_measure_at_one_and_its_opposite_at_zero():
    masks, active = planted()
    for name in (
        "energy",
        "pointing",
        "frame pointing",
        "figure",
        "pointing figure",
        "IoU",
        "time IoU",
        "time AUC",
    ):
        np.testing.assert_array_equal(
            measures.judge(masks.astype(float), masks, masks, active)[name], 1, err_msg=name
        )
    for name in ("energy", "pointing", "frame pointing", "time AUC"):
        np.testing.assert_array_equal(
            measures.judge(1.0 - masks, masks, masks, active)[name], 0, err_msg=name
        )


def test_an_even_map_has_the_masks_share_of_the_volume():
    masks, active = planted()
    actor = np.zeros(masks.shape, bool)
    actor[..., :3] = True
    found = measures.judge(np.ones(masks.shape), masks, actor, active)
    np.testing.assert_allclose(found["energy"], [8 / 144, 4 / 144])
    np.testing.assert_allclose(found["figure"], 0.5)
    np.testing.assert_allclose(found["frame pointing"], 4 / 36)
    np.testing.assert_allclose(found["time AUC"], 0.5)


def test_maps_of_two_classes_are_held_against_either_actor_in_the_order_of_the_scores():
    actors = np.zeros((1, 2, 2, 4, 4), bool)
    actors[0, 0, :, :, :2] = True
    actors[0, 1, :, :, 2:] = True
    maps = np.zeros(actors.shape)
    maps[0, 0, :, 0, 0] = 3  # on its own actor, mostly
    maps[0, 0, :, 0, 3] = 1
    maps[0, 1, :, 0, 0] = 1  # on the wrong actor
    active = np.array([[[True, False], [False, True]]])
    found = measures.judge_pairs(maps, actors, actors, active, np.array([[1, 0]]))
    assert found["own share, other"] == pytest.approx([0.75])
    assert found["own actor, likelier"] == [0]
    assert found["wrong actor, likelier"] == [1]
    assert found["pointing own, other"] == [1]


def test_phases_are_the_parts_of_a_curve_before_during_and_after_the_action():
    active = np.array([[0, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
    curves = np.array([[0.1, 0.2, 0.3, 0.15, 0.25]] * 2)
    found = measures.phases(curves, active)
    np.testing.assert_allclose(list(found.values()), [[0.1, 0], [0.65, 1], [0.25, 0]])


def test_auc_apart_takes_only_frames_on_which_one_actor_acts():
    active = np.array([[[1, 1, 1, 0, 0], [0, 0, 1, 1, 0]], [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]], bool)
    curves = np.array([[[2.0, 1.0, -9.0, 1.5, 9.0], [0.0, 3.0, 9.0, 2.0, 9.0]]] * 2)
    found = measures.auc_apart(curves, active)
    np.testing.assert_allclose(found[0], [0.5, 0.5])  # 2 > 1.5 but 1 < 1.5; 2 > 0 but 2 < 3
    assert np.isnan(found[1]).all()


def test_the_truth_on_a_grid_is_the_share_of_each_cell():
    masks = np.zeros((1, 1, 4, 4, 4), bool)
    masks[0, 0, 0, 0, :3] = True
    coarse = measures._coarse(masks, (2, 2, 2))
    np.testing.assert_allclose(coarse[0, 0, 0, 0], [2 / 8, 1 / 8])
    assert coarse.sum() == pytest.approx(3 / 8)


def test_the_frame_difference_is_seen_where_and_when_something_changes():
    pixels = np.full((1, 3, 2, 2, 3), 100, np.uint8)
    pixels[0, 1, 0, 1] = [100, 70, 100]
    np.testing.assert_allclose(measures.moved(pixels)[0, :, 0, 1], [0, 10, 10])
    assert measures.moved(pixels).sum() == pytest.approx(20)


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    mean, std, side = recipe("small")
    for arch in ("r3d", "cnn-lstm", "cnn-lstm-attention"):
        made = ARCHITECTURES[arch]
        torch.manual_seed(0)
        network = video_net(arch, "small", 5, 64)
        record = {
            "format": "chronocam video 1",
            "arch": arch,
            "backbone": "small",
            "hidden": 64,
            "frames": 16,
        }
        record |= {
            "labels": ["wave", "clap", "smile", "raise", "lower"],
            "size": [side, side],
            "mean": mean,
            "std": std,
        }
        record |= {"axes": made.axes, "sampling": "uniform", "seed": 0, "command": "chronocam train video"}
        (folder / f"{arch}-0.json").write_text(json.dumps(record))
        save_file(network.state_dict(), folder / f"{arch}-0.safetensors")
    return folder


@pytest.mark.slow
def test_the_page_of_untrained_networks(nets, tmp_path):
    ran = CliRunner().invoke(
        main, ["--nets", str(nets), "--quick", "--out", str(tmp_path)], catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    text = (tmp_path / "claims.md").read_text(encoding="utf-8")
    record = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    numbered = [line[:5] for line in text.splitlines() if re.match(r"## \d", line)]
    assert numbered == [f"## {n}." for n in range(1, 10)]
    assert "nan" not in text
    maps = record["values"]["r3d"]["maps"]
    for name in ("energy", "time AUC"):  # per clip or frame is the same before an average and linear layers
        per_clip, per_frame = (maps[arm][name]["pooled"] for arm in ("gradcam@4", "gradcam@4 pool"))
        np.testing.assert_allclose(per_clip, per_frame, atol=2e-4)
        assert maps["gradcam@1"][name] != maps["gradcam@1 pool"][name]
    values = record["values"]
    assert values["beside"]["maps"]["truth 16×16×16"]["time AUC"]["pooled"][:3] == [1, 1, 1]
    assert values["cnn-lstm-attention"]["pairs"]["weights"]["AUC apart, both"]["pooled"][0] == 0.5
    assert abs(values["r3d"]["answers"]["as filmed"]["right"]["pooled"][0] - 0.2) < 0.15  # chance
    committed = json.loads((DOCS / "claims.json").read_text(encoding="utf-8"))
    assert set(record["about"]) == set(committed["about"])
    assert {name: list(rows) for name, rows in record["tables"].items()} == {
        name: list(rows) for name, rows in committed["tables"].items()
    }


def test_a_folder_without_networks_is_refused_in_one_line(tmp_path):
    ran = CliRunner().invoke(main, ["--nets", str(tmp_path), "--quick", "--out", str(tmp_path)])
    assert ran.exit_code == 1
    assert "no record of a trained r3d" in ran.output
    assert not (tmp_path / "claims.md").exists()
