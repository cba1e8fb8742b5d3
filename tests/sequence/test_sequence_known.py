"""Relevance where the answer is known: two cues in noise decide the class."""

import numpy as np
import pytest

from benchmarks import sequence as task


def test_the_cues_decide_the_class_and_stand_where_they_are_said_to():
    x, y, where = task.cues(200, 40.0, 0)
    rows = np.arange(200)
    first, second = (x[rows, where[:, k], k] for k in range(2))
    np.testing.assert_array_equal(2 * (first > 0) + (second > 0), y)
    loud = np.abs(x).max(axis=2) > 20
    assert (loud.sum(axis=1) == 2).all()
    assert loud[rows[:, None], where].all()


@pytest.mark.slow
def test_relevance_finds_saturated_cues_where_plain_gradients_fail():
    model, accuracy = task.trained(40.0, 0)
    assert accuracy > 0.95
    lrp, gradient, integrated = (
        task.hits(name, model, 40.0, 0, 40).mean() for name in ("lrp", "gradient", "integratedgradients")
    )
    chance = 2 / 24
    assert gradient < chance + 0.15
    assert min(lrp, integrated) > 0.5
