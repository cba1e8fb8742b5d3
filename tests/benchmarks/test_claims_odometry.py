"""The claims about odometry: measures on planted maps, words that follow from intervals, and the page."""

from importlib import import_module

import numpy as np
import pytest
import torch

from chronocam.lab.models.odometry import Odometry
from chronocam.metrics import Interval

DRIVES = 4


@pytest.fixture(scope="module")
def scenes():
    return import_module("benchmarks.claims.odometry.__main__").scenes_of(DRIVES)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return Odometry(0.0625, 0.125).eval()


@pytest.fixture(scope="module")
def found(scenes, network):
    torch.manual_seed(4)
    with pytest.MonkeyPatch.context() as patch:
        faithful = import_module("benchmarks.claims.odometry.faithful")
        patch.setattr(faithful, "STEPS", 2)
        patch.setattr(faithful, "BASELINES", {"blur": faithful.BASELINES["blur"]})
        return import_module("benchmarks.claims.odometry.__main__").measured(
            network, Odometry(0.0625, 0.125).eval(), scenes
        )


def test_concentration_is_one_for_an_even_map_and_one_over_the_area_for_the_mask_itself():
    world = import_module("benchmarks.claims.odometry.world")
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
    parts = import_module("benchmarks.claims.odometry.world").PARTS
    maps = np.array([-2.0, 0.0, 3.0])
    positive, negative, magnitude = (
        parts[name](maps) for name in ("positive part", "negative part", "magnitude")
    )
    np.testing.assert_array_equal(positive - negative, maps)
    np.testing.assert_array_equal(positive + negative, magnitude)


def test_a_part_that_no_map_has_is_left_out_of_the_table():
    world, measures = (
        import_module("benchmarks.claims.odometry.world"),
        import_module("benchmarks.claims.odometry.measures"),
    )
    masks = np.zeros((3, 4, 6), bool)
    masks[:, 0, 0] = True
    table = world.rows_of(
        {"positive only": measures._by_part(np.ones(masks.shape), masks)}, list(world.PARTS)
    )
    assert list(table["positive only"]) == ["positive part", "magnitude"]
    assert table["positive only"]["magnitude"].mean == pytest.approx(1)


def test_a_faultless_map_on_a_coarse_grid_reaches_over_the_outline():
    world = import_module("benchmarks.claims.odometry.world")
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
    measures, world = (
        import_module("benchmarks.claims.odometry.measures"),
        import_module("benchmarks.claims.odometry.world"),
    )
    moving = scenes["moving"]
    errors = measures.photometric_errors(network, moving)["error with the true depth and motion"]
    assert (world.concentration(errors, moving.moving) > 1.5).all()


def test_a_loss_map_of_the_pose_network_is_a_mixture_of_six(found):
    assert found.movers.mixture < 1e-5


def test_changes_are_zero_for_the_frames_themselves_and_those_of_the_score_for_others(scenes, network):
    faithful, world = (
        import_module("benchmarks.claims.odometry.faithful"),
        import_module("benchmarks.claims.odometry.world"),
    )
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


def test_signs_are_exact_where_a_method_is_linear_in_the_gradient(found):
    words = import_module("benchmarks.claims.odometry.words")
    exact = {arm for arm, value in found.signs.opposite.items() if value <= words.EXACT}
    assert exact == {arm for arm in found.signs.opposite if not arm.startswith("layercam")}
    assert found.signs.exact < 1e-5
    assert found.signs.same["hirescam, conv7"].count == DRIVES


def test_the_mirror_turns_the_picture_and_its_maps(scenes):
    pairs = scenes["textured"]
    mirrored = pairs.mirrored()
    np.testing.assert_array_equal(mirrored.pixels[:, 1, :, 0], pairs.pixels[:, 1, :, -1])
    prepared = import_module("benchmarks.claims.odometry.world").prepared
    np.testing.assert_allclose(prepared(mirrored.pixels.copy()), mirrored.frames)


def of(low: float | int, high: float | int) -> Interval:
    return Interval((low + high) / 2, float(low), float(high), 9)


def test_rows_are_sorted_by_the_side_of_the_interval():
    words = import_module("benchmarks.claims.odometry.words")
    rows = {"a": of(0.2, 0.9), "b": of(1.1, 2), "c": of(0.9, 1.1)}
    assert words.sides(rows, 1) == {"above": ["b"], "below": ["a"], "undecided": ["c"]}
    assert words.tally({"m": {"x": of(1, 2)}, "n": {"x": of(-2, -1)}})["below"] == ["n: x"]


def test_outcomes_follow_from_the_counts():
    outcome = import_module("benchmarks.claims.odometry.words").outcome
    assert outcome(["a", "b"], [], 2, "maps") == "comes out for all 2 maps"
    assert outcome(["a"], ["b"], 3, "maps") == "comes out for 1 of 3 maps (the opposite for 1)"
    assert outcome([], [], 3, "maps") == "comes out for none of 3 maps"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (of(0.2, 0.6), "comes out for all 1"),
        (of(0.8, 1.2), "comes out for none of 1"),
        (of(1.2, 1.6), "comes out for none of 1 pairs of a map and a target (the opposite for 1)"),
    ],
)
def test_what_is_said_of_walls_follows_the_interval(interval, expected):
    measures, words = (
        import_module("benchmarks.claims.odometry.measures"),
        import_module("benchmarks.claims.odometry.words"),
    )
    table = {"map": {"tz": interval}}
    walls = measures.Walls(
        of(0.1, 0.2),
        {"magnitude": table},
        {
            "magnitude": {
                other: {"map": {"tz": of(-1, 1)}} for other in ("random", "centre prior", "with its texture")
            }
        },
        {"centre prior": of(0.5, 0.7)},
        {"conv5": of(0.4, 0.5)},
        {"conv5": interval},
        table,
        {"map": {"tz": of(-0.2, -0.1)}},
    )
    told = words.wall_words(walls).splitlines()
    assert expected in told[0]
    assert "the centre prior has less than its share" in "\n".join(told)
    assert ("no cause by itself" in "\n".join(told)) == (interval.high < 1)
    assert "than on all of it: comes out for all 1" in told[-1]


@pytest.mark.parametrize(
    ("low", "expected"), [(0.1, "both for tz, where"), (-0.1, "the one in the middle for tz, where")]
)
def test_what_is_said_of_curves_follows_the_interval(low, expected):
    words = import_module("benchmarks.claims.odometry.words")
    tables = {
        "deletion, random": {"map": {"tz": of(0.1, 0.3)}, "other": {"tz": of(-0.3, -0.1)}},
        "insertion, one piece": {"centre prior": {"tz": of(0.1, 0.2)}, "side prior": {"tz": of(low, 0.5)}},
    }
    told = words.faithful_words({"blur": tables})
    assert (
        "than with a random map on the same grid: comes out for 1 of 2 pairs of a map and a target (the opp"
        in told
    )
    assert "tz: slower for other, faster for map." in told
    assert f"than scattered random cells: {expected}" in told


@pytest.mark.parametrize(
    ("mixture", "expected"), [(1e-7, "is, to rounding, a mixture"), (0.3, "is not a mixture")]
)
def test_what_is_said_of_movers_follows_the_interval(mixture, expected):
    measures, words = (
        import_module("benchmarks.claims.odometry.measures"),
        import_module("benchmarks.claims.odometry.words"),
    )
    cells = {"positive part": of(0.2, 0.4), "negative part": of(1.5, 2.5), "magnitude": of(0.9, 1.3)}
    error = {f"error with the {whose} depth and motion": of(4, 6) for whose in ("true", "networks'")}
    powers = {"absolute error, hirescam, iconv3": of(0.8, 1.2), "squared error, hirescam, iconv3": of(1.4, 2)}
    movers = measures.Movers(
        of(0.05, 0.07),
        {"map": cells},
        {other: {"map": cells} for other in ("without the object", "random", "centre prior")},
        error,
        mixture,
        powers,
        {"squared error, hirescam, iconv3": of(0.2, 0.9)},
    )
    told = words.mover_words(movers)
    assert (
        "Positive part: more on the object than its share of the area: comes out for none of 1 maps (the opp"
        in told
    )
    assert "Negative part: more on the object than its share of the area: comes out for all 1 maps" in told
    assert (
        "Magnitude: more on the object than its share of the area: comes out for none of 1 maps. More: none."
        in told
    )
    assert expected in told
    assert "more than its share, and more: +0.550 [+0.200, +0.900]" in told


def test_the_page_holds_every_number_and_no_empty_place(found):
    page = import_module("benchmarks.claims.odometry.page")
    figures = {"network": {"abs rel": [0.2, 0.1, 0.3]}, "mean depth": {"abs rel": [0.4, 0.3, 0.5]}}
    record = {
        "size": [64, 208],
        "depth_width": 0.0625,
        "pose_width": 0.125,
        "drives": {"train": 1500},
        "best epoch": 3,
        "held-out": {"depth": figures},
        "command": "chronocam train odometry",
    }
    told = {
        "spec": "x",
        "count": DRIVES,
        "default": "conv5",
        "again": page.again(" --real FOLDER", record, 90),
    }
    text = page.page(found, record, told)
    assert "{" not in text.replace("{}", "")
    assert "| network | 0.200 [0.100, 0.300] |" in text
    assert "in 1.5 minutes" in text
    for arm, cells in found.walls.of["magnitude"].items():
        assert f"| {arm} | {' | '.join(str(cell) for cell in cells.values())} |" in text
    for picture in ("drive", "trajectory", "wall", "mover"):
        assert f"images/odometry-{picture}.png" in text
