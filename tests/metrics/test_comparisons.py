"""Intervals that cover what they say, differences that are no chance, and how many samples decide."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from chronocam.errors import InputError
from chronocam.metrics import bootstrap, holm, paired, samples_needed
from chronocam.metrics.comparisons import _exchanged


@pytest.mark.parametrize(
    ("name", "count", "mean"),
    [("normal", 5, 0.0), ("normal", 20, 0.0), ("exponential", 60, 1.0), ("hits", 100, 0.3)],
)
def test_intervals_cover_the_truth_in_95_percent(name, count, mean):
    rng = np.random.default_rng(4)
    draw = {
        "normal": lambda: rng.normal(size=count),
        "exponential": lambda: rng.exponential(size=count),
        "hits": lambda: (rng.random(count) < 0.3).astype(float),
    }[name]
    runs = 300
    found = [bootstrap(draw(), seed=k) for k in range(runs)]
    covered = np.mean([one.low <= mean <= one.high for one in found])
    # 95 ± 1.5 %, and two standard errors of 300 runs.
    assert abs(covered - 0.95) < 0.015 + 2 * np.sqrt(0.95 * 0.05 / runs)


def test_p_is_the_share_of_exchanges_with_as_large_a_difference():
    rng = np.random.default_rng(0)
    a, b = rng.random(9) + 0.2, rng.random(9)
    d = a - b
    means = [abs(np.dot(signs, d)) for signs in product((1, -1), repeat=9)]
    assert paired(a, b).p == pytest.approx(np.mean(np.array(means) >= abs(d.sum()) - 1e-12))


@pytest.mark.parametrize("shift", [0.1, 0.4, 0.8])
def test_p_of_many_samples_is_near_the_whole_count(shift):
    d = np.random.default_rng(1).exponential(size=18) - 1 + shift
    signs = 1 - 2 * (np.arange(2**18)[:, None] >> np.arange(18) & 1)
    exact = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12)
    assert paired(d, np.zeros(18)).p == pytest.approx(exact, rel=0.1)


def test_p_of_hits_is_that_of_the_sign_test():
    rng = np.random.default_rng(2)
    a, b = (rng.random(80) < 0.7).astype(float), (rng.random(80) < 0.4).astype(float)
    wins, losses = int((a > b).sum()), int((a < b).sum())
    assert paired(a, b).p == pytest.approx(binomtest(wins, wins + losses).pvalue)


def test_equal_values_are_no_difference():
    difference = paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (difference.mean, difference.low, difference.high, difference.p) == (0, 0, 0, 1)
    assert str(difference) == "+0.000 [+0.000, +0.000]"


def test_a_statistic_of_all_samples_is_compared_as_a_whole():
    rng = np.random.default_rng(3)
    rows = rng.random((40, 3))
    difference = paired(rows + 0.5, rows, statistic=lambda r: float(np.median(r)))
    assert difference.mean == pytest.approx(0.5)
    assert difference.p < 0.01
    assert difference.low > 0
    nothing = paired(rows, rng.random((40, 3)), statistic=lambda r: float(np.median(r)))
    assert nothing.p > 0.05


def test_holm_is_the_textbooks():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert holm([]).size == 0
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    with pytest.raises(InputError, match="outside"):
        holm([1.2])


def test_false_claims_are_few_where_nothing_differs():
    rng = np.random.default_rng(6)
    runs = 300
    null = [[_exchanged(rng.normal(size=25)) for _ in range(8)] for _ in range(runs)]
    claims = sum(holm(p).min() < 0.05 for p in null)
    assert claims / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)


def test_samples_needed_have_the_power_they_promise():
    n = samples_needed(0.2, 0.05)
    assert n == 126
    rng = np.random.default_rng(7)
    found = [_exchanged(rng.normal(0.05, 0.2, n)) < 0.05 for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)
    with pytest.raises(InputError, match="the smallest difference that matters"):
        samples_needed(0.2, 0)


def test_unpaired_values_are_refused():
    with pytest.raises(InputError, match="expected a pair for each sample"):
        paired([1.0, 2.0], [1.0])
