"""What verdicts say of differences that were planted, and of none."""

import re

import numpy as np
import pytest

from chronocam.evaluation import Complexity, Deletion, Energy, Evaluation, Gain, Pointing
from chronocam.evaluation.panel import Row

GRADCAM, OTHER, RANDOM = Row("gradcam", "top"), Row("layercam", "top"), Row("random", control=True)


def judged(difference, spread=0.1, count=60, rows=(GRADCAM, OTHER), base=0.5, above=0.3):
    rng = np.random.default_rng(1)
    samples = []
    for k in range(count):
        value = base + 0.05 * rng.normal()
        of = {GRADCAM: value, OTHER: value + difference + spread * rng.normal(), RANDOM: value - above}
        samples.append({"sample": k, "group": str(k), "values": {row: {"energy": of[row]} for row in rows}})
    return Evaluation(rows, (Energy(),), tuple(samples))


@pytest.mark.parametrize(("difference", "verb"), [(0.1, "beats"), (-0.1, "loses to")])
def test_a_planted_difference_is_found(difference, verb):
    (said,) = judged(difference).verdicts
    assert said.startswith(f"layercam {verb} gradcam in energy inside ({'+' if difference > 0 else '-'}0.")
    assert said.endswith("60 samples).")


def test_where_there_is_none_it_says_how_many_samples_would_decide():
    (said,) = judged(0.0, spread=0.2, count=20).verdicts
    assert said.startswith("layercam and gradcam cannot be told apart in energy inside")
    assert "more would decide a difference of 0.05" in said  # a tenth of gradcam's 0.5
    (said,) = judged(0.0, spread=0.02, count=60).verdicts
    assert said.endswith("one of 0.05 would very likely have been seen.")


def test_equal_maps_are_said_to_be_equal():
    for rounding in (0.0, 1e-9):
        (said,) = judged(rounding, spread=rounding).verdicts
        assert said == "layercam and gradcam are equal in energy inside on every one of 60 samples."


def test_what_is_not_above_a_control_is_named():
    rows = (GRADCAM, OTHER, RANDOM)
    assert judged(0.0, rows=rows).verdicts[-1] == "Every method is above a random map in every measure."
    said = judged(-0.4, rows=rows).verdicts
    assert said[-1] == "layercam is below a random map in energy inside."
    assert judged(0.0, rows=rows, above=0.0).verdicts[-1] == (
        "gradcam and layercam are not shown to be above a random map in energy inside."
    )


def test_the_shape_of_a_control_is_no_verdict_on_a_map():
    result = judged(0.0, rows=(GRADCAM, OTHER, RANDOM))
    for sample in result.samples:
        for row, of in sample["values"].items():
            of["complexity"] = 0.1 if row == RANDOM else of["energy"]
    said = Evaluation(result.rows, (Energy(), Complexity()), result.samples).verdicts
    assert said[-1] == "Every method is above a random map in every measure."
    assert any("cannot be told apart in complexity" in text for text in said)


def test_few_samples_give_no_verdict():
    (said, other, few) = judged(0.3, spread=0.01, count=5).verdicts
    assert said == "5 samples are too few for a verdict: 1 comparison needs at least 6."
    assert re.search(r"cannot be told apart in energy inside \(.*, 5 samples; p = 0.062 over 1 comp", other)
    assert few.startswith("Intervals over 5 samples are too optimistic where values are skewed")
    assert "beats" in judged(0.3, spread=0.01, count=6).verdicts[0]
    assert not any("optimistic" in text for text in judged(0.3, count=10).verdicts)


def test_a_measure_of_which_less_is_better_says_so():
    result = judged(-0.1)
    for sample in result.samples:
        values = sample["values"]
        sample["values"] = {row: {"deletion": [[0, 1], [of["energy"]] * 2]} for row, of in values.items()}
    said = Evaluation(result.rows, (Deletion(),), result.samples).verdicts[0]
    assert said.startswith("layercam beats gradcam in deletion, where less is better (-0.")


def test_false_verdicts_are_few_where_nothing_differs():
    rng = np.random.default_rng(2)
    rows = tuple(Row(f"m{k}") for k in range(5))
    claims = 0
    for _ in range(60):
        values = rng.normal(0.5, 0.1, size=(25, 5))
        samples = [
            {
                "sample": i,
                "group": str(i),
                "values": {row: {"energy": v} for row, v in zip(rows, of, strict=True)},
            }
            for i, of in enumerate(values)
        ]
        claims += any(
            "told apart" not in text for text in Evaluation(rows, (Energy(),), tuple(samples)).verdicts
        )
    assert claims / 60 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


def test_one_sample_has_no_interval():
    said = judged(0.3, spread=0.01, count=1).verdicts[1]
    assert re.fullmatch(
        r"layercam and gradcam cannot be told apart in energy inside \(\+0\.\d{3}, 1 sample\)\.", said
    )


def test_a_number_of_samples_that_nobody_gathers_is_not_said():
    said = judged(0.001, spread=30.0).verdicts[0]
    assert "; over 100,000 more would decide a difference of" in said


def test_no_interval_goes_beyond_what_a_measure_can_be():
    values = [0.0, 0.0, 0.02, 0.9]
    rows = (GRADCAM, OTHER)
    samples = tuple(
        {
            "sample": k,
            "group": str(k),
            "values": {row: {"energy": v, "gain": 0.0, "pointing": 1.0} for row in rows},
        }
        for k, v in enumerate(values)
    )
    energy, gain, pointing = Evaluation(rows, (Energy(), Gain(), Pointing()), samples).lines[::2]
    assert energy.interval.low == 0
    assert energy.interval.high <= 1
    # No gain at all is no miss, and four hits are.
    assert (gain.interval.low, gain.interval.high) == (0, 0)
    assert pointing.interval.low < 0.6
