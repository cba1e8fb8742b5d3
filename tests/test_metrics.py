"""Measures against numbers that a person can recompute."""

import numpy as np
import pytest

from chronocam.errors import InputError
from chronocam.metrics import bootstrap, box_iou, centre_prior, energy_inside, pointing_game, random_maps

MAPS = np.array([[[1, 2], [3, 6]], [[9, 2], [-3, 0]], [[0, 0], [0, 0]]], dtype=np.float32)
MASKS = np.array([[[0, 0], [1, 1]], [[0, 1], [1, 0]], [[1, 1], [1, 1]]], dtype=bool)


def test_pointing_game_asks_where_the_maximum_is():
    assert pointing_game(MAPS, MASKS).tolist() == [1, 0, 0]  # a blank map never hits


def test_a_flat_peak_counts_by_the_share_that_lies_inside():
    flat = np.array([[5, 5, 5, 5], [1, 1, 1, 1]], dtype=np.float32)
    assert pointing_game(flat, np.array([[1, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)) == 0.25


def test_energy_inside_counts_positive_values():
    np.testing.assert_allclose(energy_inside(MAPS, MASKS), [9 / 12, 2 / 11, 0])


def test_box_iou():
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


def test_baselines():
    prior = centre_prior((5, 9))
    assert np.unravel_index(prior.argmax(), prior.shape) == (2, 4)
    assert prior[2, 4] == 1
    noise = random_maps(400, (3, 3), (30, 30))
    left = np.zeros((30, 30), dtype=bool)
    left[:, :15] = True
    for half in (left, left.T):  # no preferred place
        assert pointing_game(noise, np.broadcast_to(half, noise.shape)).mean() == pytest.approx(0.5, abs=0.07)
    assert not np.array_equal(noise, random_maps(400, (3, 3), (30, 30), seed=1))
