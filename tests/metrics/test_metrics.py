"""Measures against numbers that a person can recompute."""

import numpy as np
import pytest

from chronocam.errors import InputError
from chronocam.maps.regions import boxes
from chronocam.metrics import (
    average_drop,
    average_gain,
    bootstrap,
    box_iou,
    centre_prior,
    energy_inside,
    highlighted,
    increase_in_confidence,
    largest_region,
    localisation,
    pointing_game,
    random_maps,
    sparseness,
)

MAPS = np.array([[[1, 2], [3, 6]], [[9, 2], [-3, 0]], [[0, 0], [0, 0]]], dtype=np.float32)
MASKS = np.array([[[0, 0], [1, 1]], [[0, 1], [1, 0]], [[1, 1], [1, 1]]], dtype=bool)


def test_pointing_game_asks_where_the_maximum_is():
    assert pointing_game(MAPS, MASKS).tolist() == [1, 0, 0]  # a blank map never hits


def test_a_flat_peak_counts_by_the_share_that_lies_inside():
    flat = np.array([[5, 5, 5, 5], [1, 1, 1, 1]], dtype=np.float32)
    assert pointing_game(flat, np.array([[1, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)) == 0.25


def test_energy_inside_counts_positive_values():
    np.testing.assert_allclose(energy_inside(MAPS, MASKS), [9 / 12, 2 / 11, 0])


def test_a_clip_is_one_volume():
    """Two frames of two pixels: the maximum over all frames counts, and the energy of all frames."""
    maps = np.array([[[[1.0, 2.0]], [[4.0, 1.0]]], [[[3.0, 2.0]], [[2.0, -1.0]]]])
    masks = np.array([[[[0, 0]], [[1, 1]]], [[[0, 1]], [[1, 1]]]], dtype=bool)
    assert pointing_game(maps, masks, rank=3).tolist() == [1, 0]
    assert pointing_game(maps, masks).tolist() == [[0, 1], [0, 1]]  # frame by frame
    np.testing.assert_allclose(energy_inside(maps, masks, rank=3), [5 / 8, 4 / 7])
    np.testing.assert_allclose(energy_inside(maps, masks), [[0, 1], [2 / 5, 1]])
    assert pointing_game(maps[0, 0, 0], masks[0, 0, 0], rank=1) == 0


@pytest.mark.parametrize("measure", [pointing_game, energy_inside, localisation])
def test_maps_that_cannot_be_measured_are_refused(measure):
    with pytest.raises(
        InputError, match=r"maps have shape \(3, 2, 2\) but masks \(2, 2\); give one of the same"
    ):
        measure(MAPS, MASKS[0])
    with pytest.raises(InputError, match=r"shape \(2,\); expected .* a grid of 2 non-empty axes"):
        measure(MAPS[0, 0], MASKS[0, 0])
    for bad in (np.nan, np.inf):
        maps = MAPS.copy()
        maps[1, 0, 0] = bad
        with pytest.raises(InputError, match=r"NaN or infinity in 1 sample\(s\) \(first at sample \(1,\)\)"):
            measure(maps, MASKS)
    with pytest.raises(InputError, match=r"NaN or infinity in 1 sample\(s\); leave"):
        measure(maps[1], MASKS[1])


FIELD = np.array(
    [
        [9, 5, 0, 0, 3],
        [4, 2, 0, 0, 3],  # 2 ≥ 0.15 · 9 > 1
        [0, 1, 0, 0, 3],
        [0, 0, 0, 0, 3],
    ],
    dtype=float,
)


def test_localisation_of_the_largest_region():
    truth = np.zeros((4, 5), dtype=bool)
    truth[:3, :2] = True
    found = localisation(FIELD[None], truth[None])
    # The regions of 4 cells on the left and on the right tie: the first is taken.
    assert found.mask_iou.tolist() == [4 / 6]
    assert found.box_iou.tolist() == [4 / 6]
    assert found.localised.tolist() == [True]
    sparser = localisation(FIELD, truth, threshold=0.5)
    assert sparser.mask_iou == 2 / 6
    assert not sparser.localised
    wide = localisation(FIELD, truth, threshold=0.11)
    assert wide.mask_iou == 5 / 6
    assert wide.box_iou == 1


def test_boxes_and_masks_differ_and_half_is_not_localised():
    corner = np.array([[1, 1], [1, 0]], dtype=float)
    found = localisation(corner, np.ones((2, 2), dtype=bool))
    assert (found.mask_iou, found.box_iou) == (3 / 4, 1)
    assert localisation(np.array([[1.0, 0]]), np.ones((1, 2), dtype=bool)).box_iou == 0.5
    assert not localisation(np.array([[1.0, 0]]), np.ones((1, 2), dtype=bool)).localised


def test_localisation_in_space_and_time():
    maps = np.zeros((1, 3, 2, 2))
    maps[0, 1:, 0] = 1  # frames 1 and 2, upper row
    truth = np.zeros((1, 3, 2, 2), dtype=bool)
    truth[0, :2, 0] = True  # frames 0 and 1
    found = localisation(maps, truth, rank=3)
    assert found.mask_iou.tolist() == found.box_iou.tolist() == [2 / 6]
    assert localisation(maps, truth).mask_iou.tolist() == [[0, 1, 0]]


def test_nothing_is_localised_by_nothing():
    blank, truth = np.zeros((2, 2)), np.ones((2, 2), dtype=bool)
    for maps, masks in [(blank, truth), (-np.ones((2, 2)), truth), (blank + 1, ~truth), (blank, ~truth)]:
        found = localisation(maps, masks)
        assert (found.mask_iou, found.box_iou, found.localised) == (0, 0, False)
    with pytest.raises(InputError, match=r"threshold 1.5 is not in \(0, 1\]"):
        localisation(FIELD, FIELD > 0, threshold=1.5)


def test_the_largest_region_is_the_one_that_boxes_draws():
    rng = np.random.default_rng(0)
    for size in [(9,), (7, 9), (3, 6, 5)]:
        for _ in range(20):
            one = rng.random(size) - 0.4
            region = largest_region(one, 0.5)
            at = np.argwhere(region)[:, ::-1]
            assert boxes(one, 0.5)[0] == (*at.min(0), *(at.max(0) + 1))


def test_box_iou_of_clips():
    assert box_iou((0, 0, 0, 2, 2, 2), (0, 0, 1, 2, 2, 3)) == 4 / 12
    assert box_iou((0, 0, 0, 2, 2, 2), (0, 0, 2, 2, 2, 3)) == 0  # touching in time is not sharing
    with pytest.raises(InputError, match="boxes have 4 and 6 numbers"):
        box_iou((0, 0, 1, 1), (0, 0, 0, 1, 1, 1))


def test_sparseness_is_the_gini_index():
    maps = np.array([[[0, 0], [0, 7]], [[2, 2], [2, 2]], [[0, 0], [0, 0]], [[1, -3], [0, 0]]], dtype=float)
    # Gini of 0, 0, 1, 3: (1·1 + 3·3) / (4·4)
    np.testing.assert_allclose(sparseness(maps), [3 / 4, 0, 0, 10 / 16])
    # Of 0, 0, 0, 2, 2, 2, 2, 7 with weights −7, −5, …, 7: (2·(−1 + 1 + 3 + 5) + 7·7) / (8·15)
    np.testing.assert_allclose(sparseness(maps[:2], rank=3), 65 / 120)
    values = np.random.default_rng(0).random(30)
    pairs = np.abs(values[:, None] - values).sum() / (2 * 30**2 * values.mean())
    assert sparseness(values, rank=1) == pytest.approx(pairs)


def test_drop_increase_and_gain():
    full, kept = np.array([0.8, 0.5, 0.2, 0.0, 1.0]), np.array([0.2, 0.5, 0.6, 0.4, 1.0])
    np.testing.assert_allclose(average_drop(full, kept), [0.75, 0, 0, 0, 0])
    assert increase_in_confidence(full, kept).tolist() == [0, 0, 1, 1, 0]
    np.testing.assert_allclose(average_gain(full, kept), [0, 0, 0.5, 0.4, 0])
    for measure in (average_drop, increase_in_confidence, average_gain):
        with pytest.raises(InputError, match=r"a score is 3.5; expected probabilities in \[0, 1\]"):
            measure(full, np.array([0.0, 0.1, 3.5, 0.2, 0.3]))
        with pytest.raises(InputError, match="a score is nan; expected probabilities"):
            measure(np.full(5, np.nan), kept)


def test_highlighted_inputs_are_scaled_by_the_map():
    inputs = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 2, 2)
    maps = np.array([[[-1.0, 3.0], [1.0, -1.0]]])
    shares = np.array([[0, 1], [0.5, 0]])
    np.testing.assert_allclose(highlighted(inputs, maps), inputs * shares)
    assert highlighted(inputs, maps).dtype == np.float32
    last = np.moveaxis(inputs, 1, -1)
    np.testing.assert_allclose(highlighted(last, maps, channels=-1), last * shares[..., None])
    assert not highlighted(inputs, np.ones((1, 2, 2))).any()
    with pytest.raises(InputError, match=r"maps have shape \(1, 2, 1\); expected \(1, 2, 2\)"):
        highlighted(inputs, maps[..., :1])


def test_iou_of_boxes():
    assert box_iou((0, 0, 4, 2), (2, 0, 6, 2)) == 4 / 12
    assert box_iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert box_iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_bootstrap_interval_covers_the_mean_and_shrinks_with_samples():
    rng = np.random.default_rng(3)
    few, many = bootstrap(rng.random(20)), bootstrap(rng.random(2000))
    assert few.low < few.mean < few.high
    assert many.high - many.low < (few.high - few.low) / 5
    # The spread is that of the standard error: 1.96 · √(1/12 / 2000) on either side.
    assert many.high - many.low == pytest.approx(2 * 1.96 * np.sqrt(1 / 12 / 2000), rel=0.1)
    assert bootstrap([1, 1, 1]) == bootstrap(np.ones(3))
    assert bootstrap(rng.random(20), confidence=0.5).high < 1
    with pytest.raises(InputError, match="no values"):
        bootstrap([])
    with pytest.raises(InputError, match="2 of 3 values are NaN or infinite; leave those samples out"):
        bootstrap([np.nan, 1, np.inf])


def test_centre_and_random_maps_are_what_they_say():
    prior = centre_prior((5, 9))
    assert np.unravel_index(prior.argmax(), prior.shape) == (2, 4)
    assert prior[2, 4] == 1
    noise = random_maps(400, (3, 3), (30, 30))
    left = np.zeros((30, 30), dtype=bool)
    left[:, :15] = True
    for half in (left, left.T):  # no preferred place
        assert pointing_game(noise, np.broadcast_to(half, noise.shape)).mean() == pytest.approx(0.5, abs=0.07)
    assert not np.array_equal(noise, random_maps(400, (3, 3), (30, 30), seed=1))


def test_centre_and_random_maps_of_clips_are_what_they_say():
    prior = centre_prior((7, 5, 9))
    assert prior.shape == (7, 5, 9)
    assert np.unravel_index(prior.argmax(), prior.shape) == (3, 2, 4)
    np.testing.assert_allclose(prior[3], centre_prior((5, 9)))
    np.testing.assert_allclose(prior[:, 2, 4], np.exp(-0.5 * ((np.arange(7) - 3) / 1.75) ** 2), rtol=1e-6)
    noise = random_maps(400, (2, 3, 3), (8, 12, 12))
    early = np.zeros((8, 12, 12), dtype=bool)
    early[:4] = True
    assert pointing_game(noise, np.broadcast_to(early, noise.shape), rank=3).mean() == pytest.approx(
        0.5, abs=0.07
    )
    # Linear between slices, as the maps of clips are: frames 2 to 5 lie between the centres 1.5 and 5.5.
    np.testing.assert_allclose(np.diff(noise[:, 2:6], n=2, axis=1), 0, atol=1e-6)
