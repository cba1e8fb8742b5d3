"""The claims benchmark: its measures on planted maps, its intervals, and the page that it writes."""

import json
from importlib import import_module

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from chronocam.lab.models.video import ARCHITECTURES, recipe, video_net


def planted():
    """Two clips of 4 frames of 6 x 6: a square of 2 x 2, seen on frames 1 and 2, and on frame 3."""
    masks = np.zeros((2, 4, 6, 6), bool)
    masks[0, 1:3, 1:3, 2:4] = True
    masks[1, 3, 4:6, 0:2] = True
    return masks, masks.any(axis=(2, 3))


def test_a_perfect_map_has_every_measure_at_one_and_its_opposite_at_zero():
    measures = import_module("benchmarks.claims.video.measures")
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
    measures = import_module("benchmarks.claims.video.measures")
    masks, active = planted()
    actor = np.zeros(masks.shape, bool)
    actor[..., :3] = True
    found = measures.judge(np.ones(masks.shape), masks, actor, active)
    np.testing.assert_allclose(found["energy"], [8 / 144, 4 / 144])
    np.testing.assert_allclose(found["figure"], 0.5)
    np.testing.assert_allclose(found["frame pointing"], 4 / 36)
    np.testing.assert_allclose(found["time AUC"], 0.5)


def test_maps_of_two_classes_are_held_against_either_actor_in_the_order_of_the_scores():
    measures = import_module("benchmarks.claims.video.measures")
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
    measures = import_module("benchmarks.claims.video.measures")
    active = np.array([[0, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
    curves = np.array([[0.1, 0.2, 0.3, 0.15, 0.25]] * 2)
    found = measures.phases(curves, active)
    np.testing.assert_allclose(list(found.values()), [[0.1, 0], [0.65, 1], [0.25, 0]])


def test_auc_apart_takes_only_frames_on_which_one_actor_acts():
    measures = import_module("benchmarks.claims.video.measures")
    active = np.array([[[1, 1, 1, 0, 0], [0, 0, 1, 1, 0]], [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]], bool)
    curves = np.array([[[2.0, 1.0, -9.0, 1.5, 9.0], [0.0, 3.0, 9.0, 2.0, 9.0]]] * 2)
    found = measures.auc_apart(curves, active)
    np.testing.assert_allclose(found[0], [0.5, 0.5])  # 2 > 1.5 but 1 < 1.5; 2 > 0 but 2 < 3
    assert np.isnan(found[1]).all()


def test_the_truth_on_a_grid_is_the_share_of_each_cell():
    measures = import_module("benchmarks.claims.video.measures")
    masks = np.zeros((1, 1, 4, 4, 4), bool)
    masks[0, 0, 0, 0, :3] = True
    coarse = measures._coarse(masks, (2, 2, 2))
    np.testing.assert_allclose(coarse[0, 0, 0, 0], [2 / 8, 1 / 8])
    assert coarse.sum() == pytest.approx(3 / 8)


def test_the_frame_difference_is_seen_where_and_when_something_changes():
    measures = import_module("benchmarks.claims.video.measures")
    pixels = np.full((1, 3, 2, 2, 3), 100, np.uint8)
    pixels[0, 1, 0, 1] = [100, 70, 100]
    np.testing.assert_allclose(measures.moved(pixels)[0, :, 0, 1], [0, 10, 10])
    assert measures.moved(pixels).sum() == pytest.approx(20)


def test_intervals_hold_the_spread_of_networks_and_pair_clips():
    stats = import_module("benchmarks.claims.stats")
    unlike = np.repeat([[0.0], [1.0]], 50, axis=1)
    found = stats.pooled(unlike)
    assert (found.mean, found.low, found.high, found.count) == (0.5, 0, 1, 50)
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(3, 200))
    paired = stats.difference(clips + 0.1, clips)
    assert (paired.low, paired.high) == (pytest.approx(0.1), pytest.approx(0.1))
    between = stats.apart(unlike + 2, unlike)
    assert (between.mean, between.low, between.high) == (2, 1, 3)
    half = clips.copy()
    half[:, ::2] = np.nan
    assert stats.pooled(half).mean == pytest.approx(clips[:, 1::2].mean())
    assert stats.pooled(half).count == 100


def test_verdicts_follow_the_interval():
    stats = import_module("benchmarks.claims.stats")

    def say(low: float, high: float, **options: float) -> str:
        return stats.verdict(stats.Interval(0.0, low, high, 9), "more", "less", **options)

    assert say(0.1, 1.0) == "more"
    assert say(-1.0, -0.1) == "less"
    assert say(-1.0, 1.0) == stats.SAME
    assert say(0.0004, 1.0) == stats.SAME  # shown as 0.000
    assert say(0.1, 0.4, level=0.5) == "less"
    assert stats.verdict(stats.UNDEFINED, "more", "less") == stats.SAME


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
    main = import_module("benchmarks.claims.video.__main__").main
    ran = CliRunner().invoke(
        main, ["--nets", str(nets), "--quick", "--out", str(tmp_path)], catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    text, record = (tmp_path / "claims.md").read_text(), json.loads((tmp_path / "claims.json").read_text())
    assert [line[:5] for line in text.splitlines() if line.startswith("## ") and line[3].isdigit()] == [
        f"## {n}." for n in range(1, 10)
    ]
    assert "nan" not in text
    widths = [line.count(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert min(widths) >= 2
    values = record["values"]
    maps = values["r3d"]["maps"]
    for name in (
        "energy",
        "time AUC",
    ):  # an average over the grid and linear layers: per clip or per frame is the same
        np.testing.assert_allclose(
            maps["gradcam@4"][name]["pooled"], maps["gradcam@4 pool"][name]["pooled"], atol=2e-4
        )
        assert maps["gradcam@1"][name] != maps["gradcam@1 pool"][name]
    assert values["beside"]["maps"]["truth 16×16×16"]["time AUC"]["pooled"][:3] == [1, 1, 1]
    assert values["cnn-lstm-attention"]["pairs"]["weights"]["AUC apart, both"]["pooled"][0] == 0.5
    assert abs(values["r3d"]["answers"]["as filmed"]["right"]["pooled"][0] - 0.2) < 0.15  # chance


def test_a_folder_without_networks_is_refused_in_one_line(tmp_path):
    main = import_module("benchmarks.claims.video.__main__").main
    ran = CliRunner().invoke(main, ["--nets", str(tmp_path), "--quick", "--out", str(tmp_path)])
    assert ran.exit_code == 1
    assert "no record of a trained r3d" in ran.output
    assert not (tmp_path / "claims.md").exists()
