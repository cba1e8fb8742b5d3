"""Claims about maps of odometry: measures on planted maps, and the tables and the page of a small run."""

import numpy as np
import pytest
import torch

from benchmarks.claims.odometry import faithful, measures, world
from benchmarks.claims.odometry.__main__ import about, held_out, measured, scenes_of
from benchmarks.claims.odometry.claims import EXACT, PAGE
from benchmarks.claims.page import DOCS
from benchmarks.claims.tables import Record, rows_of
from chronocam.lab.models.odometry import Odometry

DRIVES = 4


@pytest.fixture(scope="module")
def scenes():
    return scenes_of(DRIVES)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return Odometry(0.0625, 0.125).eval()


@pytest.fixture(scope="module")
def tables(scenes, network):
    torch.manual_seed(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faithful, "STEPS", 2)
        patch.setattr(faithful, "BASELINES", {"blur": faithful.BASELINES["blur"]})
        return measured(network, Odometry(0.0625, 0.125).eval(), scenes)


def test_concentration_is_one_for_an_even_map_and_one_over_the_area_for_the_mask_itself():
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :2, :3] = True  # a quarter
    masks[1, 0, 0] = True
    np.testing.assert_allclose(world.concentration(np.ones(masks.shape), masks), 1)
    np.testing.assert_allclose(world.concentration(masks.astype(float), masks), [4, 24])
    np.testing.assert_allclose(world.concentration(1.0 - masks, masks), 0)
    of_targets = np.stack([np.ones(masks.shape), masks.astype(float)], axis=1)
    np.testing.assert_allclose(world.concentration(of_targets, masks), [[1, 4], [1, 24]])
    np.testing.assert_allclose(world.concentration(np.zeros(masks.shape), masks), 1)


def test_parts_of_a_map_add_up_to_it():
    maps = np.array([-2.0, 0.0, 3.0])
    positive, negative, magnitude = (
        world.PARTS[name](maps) for name in ("positive part", "negative part", "magnitude")
    )
    np.testing.assert_array_equal(positive - negative, maps)
    np.testing.assert_array_equal(positive + negative, magnitude)


def test_a_part_that_no_map_has_is_left_out_of_the_table():
    masks = np.zeros((3, 4, 6), bool)
    masks[:, 0, 0] = True
    table = rows_of({"positive only": measures._by_part(np.ones(masks.shape), masks)}, list(world.PARTS))
    assert list(table["positive only"]) == ["positive part", "magnitude"]
    assert table["positive only"]["magnitude"].mean == pytest.approx(1)


def test_a_faultless_map_on_a_coarse_grid_reaches_over_the_outline():
    masks = np.ones((1, 8, 8), bool)
    masks[:, :, 3:] = False
    fine, coarse = (world.on_grid(~masks, grid) for grid in ((8, 8), (2, 2)))
    np.testing.assert_allclose(fine, ~masks)
    assert world.concentration(fine, masks)[0] == 0
    assert 0 < world.concentration(coarse, masks)[0] < 1


def test_drives_differ_by_their_switches_alone(scenes):
    textured, plain, moving = (scenes[name] for name in ("textured", "plain", "moving"))
    same = (textured.pixels[:, 0] == plain.pixels[:, 0]).all(axis=-1)
    assert plain.plain.any()
    assert not textured.plain.any()
    assert same[~plain.plain].mean() > 0.9
    assert not same[plain.plain].all()
    np.testing.assert_array_equal(textured.transforms, moving.transforms)
    assert moving.moving.any(axis=(1, 2)).all()


def test_the_error_left_by_the_truth_lies_on_what_moves_by_itself(scenes, network):
    moving = scenes["moving"]
    errors = measures.photometric_errors(network, moving)["error with the true depth and motion"]
    assert (world.concentration(errors, moving.moving) > 1.5).all()


def test_a_loss_map_of_the_pose_network_is_a_mixture_of_six(tables):
    (row,) = tables["object: PoseNet's map − a mixture of those of its outputs"].values()
    assert row["largest difference"] < 1e-5


def test_changes_are_zero_for_the_frames_themselves_and_those_of_the_score_for_others(scenes, network):
    pairs = scenes["textured"]
    other = pairs.frames.flip(0)
    for name in world.TARGETS:
        np.testing.assert_allclose(faithful._change(network, pairs, name)(pairs.frames.numpy()), 0, atol=1e-6)
    score = world.pose_loss(network, pairs)
    before, after = (-score.of_outputs(network.pose(x), pairs.frames) for x in (pairs.frames, other))
    expected = ((after - before) / before.mean()).detach().numpy()
    np.testing.assert_allclose(faithful._change(network, pairs, "loss")(other.numpy()), expected, atol=1e-5)
    poses = network.pose(torch.cat([pairs.frames, other])).detach().numpy()
    moved = np.abs(poses[DRIVES:, 4] - poses[:DRIVES, 4]) / poses[:DRIVES, 4].std(ddof=1)
    np.testing.assert_allclose(faithful._change(network, pairs, "ry")(other.numpy()), moved, rtol=1e-3)


def test_signs_are_exact_where_a_method_is_linear_in_the_gradient(tables):
    table = tables["sign: map of −ry + map of ry"]
    exact = {arm for arm, row in table.items() if row["largest value"] <= EXACT}
    assert exact == {arm for arm in table if not arm.startswith("layercam")}
    assert tables["sign: sum of the map + bias − output"]["hirescam, conv7"]["largest difference"] < 1e-5
    assert tables["sign: sum of a map of ry and ry"]["hirescam, conv7"]["share of drives"].count == DRIVES


def test_the_mirror_turns_the_picture_and_its_maps(scenes):
    pairs = scenes["textured"]
    mirrored = pairs.mirrored()
    np.testing.assert_array_equal(mirrored.pixels[:, 1, :, 0], pairs.pixels[:, 1, :, -1])
    np.testing.assert_allclose(world.prepared(mirrored.pixels.copy()), mirrored.frames)


def test_the_page_holds_what_was_measured(tables):
    record = {
        "size": [64, 208],
        "depth_width": 0.0625,
        "pose_width": 0.125,
        "drives": {"train": 1500},
        "best epoch": 3,
        "held-out": {
            "depth": {"network": {"abs rel": [0.2, 0.1, 0.3, 9], "within 1.25^1": [0.5, 0.4, 0.6, 9]}},
            "motion": {"network": {"ate": [0.4, 0.3, 0.5, 9], "rotation error in degrees": [1, 0.5, 2, 9]}},
        },
        "command": "chronocam train odometry",
    }
    every = held_out(record) | tables
    facts = about("x", record, every) | {"drives": DRIVES, "default": "conv5", "minutes": 1.5}
    text = PAGE.text(Record(facts, every))
    assert "{" not in text
    assert "network 0.200 [0.100, 0.300]" in text
    assert "in 1.5 minutes" in text
    assert f"it takes {tables['wall: share of the picture']['wall']['area']} of it" in text
    assert "less for" in text
    assert text.count("Not measured.") == 1  # real frames
    for picture in ("drive", "trajectory", "wall", "mover"):
        assert f"images/odometry-{picture}.png" in text


def test_the_numbers_of_the_documentation_are_those_that_a_run_measures(tables):
    committed = Record.from_json((DOCS / "odometry.json").read_text(encoding="utf-8")).tables
    baselines = {name for name in committed if name.startswith("mean, ")}  # left out above
    beside = {name for name in committed if name.startswith(("held-out", "real"))}
    assert set(committed) - baselines - beside == set(tables)
    for name, rows in tables.items():
        if "faultless" not in name and "activity" not in name:
            assert set(rows) == set(committed[name]), name
