"""How often intervals hold what they should, by simulation; the figures of `docs/evaluate.md`."""

import numpy as np
import pytest
from scipy import stats

from chronocam.errors import InputError
from chronocam.metrics import bootstrap, intervals, paired

RUNS = 5000
COUNTS = (10, 20, 50, 100, 300)

DRAWS = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0),
    "log-normal": (lambda rng, n: rng.lognormal(sigma=0.5, size=n), np.exp(0.125)),
    "heavy tails": (lambda rng, n: rng.standard_t(3, size=n), 0.0),
}
"""Values by the name of their distribution, and its mean."""

PAIRS = {
    "exponential": (lambda rng, n: (rng.exponential(size=n) + 0.1, rng.exponential(size=n)), 0.1),
    "hits": (lambda rng, n: (rng.random(n) < 0.5, rng.random(n) < 0.4), 0.1),
}


def covered(intervals, means):
    return float(np.mean([one.low <= mean <= one.high for one, mean in zip(intervals, means, strict=True)]))


def coverage(name, count, runs=RUNS):
    rng = np.random.default_rng([count, len(name)])
    draw, mean = DRAWS[name]
    return covered([bootstrap(draw(rng, count)) for _ in range(runs)], [mean] * runs)


def coverage_of_hits(count, runs=RUNS):
    """Return how often the rate is held, over rates from 10 to 90 %: of one rate, it jumps with the count."""
    rng = np.random.default_rng(count)
    rates = rng.uniform(0.1, 0.9, runs)
    return covered([bootstrap((rng.random(count) < rate).astype(float)) for rate in rates], rates)


def coverage_of_differences(name, count, runs=RUNS):
    rng = np.random.default_rng([count, len(name)])
    draw, mean = PAIRS[name]
    pairs = [np.asarray(draw(rng, count), float) for _ in range(runs)]
    return covered([paired(a, b) for a, b in pairs], [mean] * runs)


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_intervals_hold_the_mean_in_95_percent(count):
    figures = {name: coverage(name, count) for name in DRAWS}
    figures["hits"] = coverage_of_hits(count)
    figures |= {f"difference of {name}": coverage_of_differences(name, count) for name in PAIRS}
    # 95 ± 1.5 %, and one standard error of the runs.
    room = 0.015 + np.sqrt(0.95 * 0.05 / RUNS)
    for name, figure in figures.items():
        assert abs(figure - 0.95) < room, name


@pytest.mark.parametrize("name", DRAWS)
def test_intervals_of_twenty_samples_hold_the_mean(name):
    # 300 runs show what is far off.
    assert abs(coverage(name, 20, runs=300) - 0.95) < 0.015 + 2 * np.sqrt(0.95 * 0.05 / 300)


def test_skewed_values_have_an_interval_that_reaches_further_to_their_long_side():
    values = np.random.default_rng(1).exponential(size=40)
    one, mirrored = bootstrap(values), bootstrap(-values)
    assert one.high - one.mean > 1.15 * (one.mean - one.low)
    assert (mirrored.low, mirrored.high) == pytest.approx((-one.high, -one.low), rel=0.05)


def test_scale_and_place_are_those_of_the_values():
    values = np.random.default_rng(2).gamma(2, size=25)
    one, moved = bootstrap(values), bootstrap(1e6 + 1e-3 * values)
    assert moved.low - 1e6 == pytest.approx(1e-3 * one.low, rel=1e-4)
    assert moved.high - 1e6 == pytest.approx(1e-3 * one.high, rel=1e-4)


def test_hits_alone_leave_room_for_misses():
    one = bootstrap([1.0] * 10)
    assert (one.mean, one.high) == (1, pytest.approx(1))
    assert one.low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)  # Wilson's
    assert bootstrap([0.37] * 10).low == 0.37
    same = paired([1.0] * 10, [1.0] * 10)
    assert (same.low, same.high) == (0, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_each_end_lies_toward_the_farther_of_student_and_the_bootstrap(sign, monkeypatch):
    # So many resamples that chance is less than what is tested.
    monkeypatch.setattr(intervals, "DRAWS", 50_000)
    monkeypatch.setattr(intervals, "_resamples", intervals._resamples.__wrapped__)
    values = sign * np.random.default_rng(3).exponential(size=25)
    n, mean, error = len(values), values.mean(), stats.sem(values)
    student = mean + error * stats.t.ppf([0.025, 0.975], n - 1)
    draws = np.random.default_rng(0).choice(values, (50_000, n))
    t = np.quantile((draws.mean(axis=1) - mean) / stats.sem(draws, axis=1), [0.975, 0.025])
    resampled = mean - error * t
    lows, highs = np.sort([student[0], resampled[0]]), np.sort([student[1], resampled[1]])
    one = bootstrap(values)
    assert one.low == pytest.approx(0.75 * lows[0] + 0.25 * lows[1], abs=0.04 * error)
    assert one.high == pytest.approx(0.25 * highs[0] + 0.75 * highs[1], abs=0.04 * error)


def test_differences_that_are_all_0_and_1_are_no_hits_where_that_is_said():
    values = [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    assert bootstrap(values, hits=False) != bootstrap(values) == bootstrap(values, hits=True)
    one, other = bootstrap(values, hits=False), paired(values, np.zeros(6))
    assert (one.low, one.high) == (other.low, other.high)
    assert bootstrap([0.0] * 6, hits=False).high == 0 < bootstrap([0.0] * 6).high
    with pytest.raises(InputError, match="values hold -1; expected hits and misses, 1 and 0"):
        bootstrap([1.0, 0.0, -1.0], hits=True)


def test_a_handful_of_samples_has_no_endless_interval():
    one = bootstrap([0.1, 0.1, 0.1, 0.9])
    assert np.isfinite([one.low, one.high]).all()
    assert one.high - one.low < 1.5 * 2 * 3.18245 * np.std([0.1, 0.1, 0.1, 0.9], ddof=1) / 2
