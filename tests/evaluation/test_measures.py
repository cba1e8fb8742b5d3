"""Each measure against a replica, a closed form or a peer, on one case."""

import numpy as np
import pytest
import torch

import chronocam as cc
from chronocam.evaluation.case import Answer, AskScores, Case
from chronocam.evaluation.measures import MEASURES, measure_named
from chronocam.evaluation.truth import truth_of


def case_of(x, truth=None, score=2.0, probability=0.8, index=1, classes=4, others=()):
    given = None if truth is None else truth_of(truth, x.shape[1:])
    return Case(x, score, probability, index, classes, given, seed=3, others=others)


def answered(measure, case, values, score=None, maps=None):
    """Return the value of a measure whose asks are answered by functions of the changed inputs."""
    found = measure.of(case, values)
    if not hasattr(found, "send"):
        return found
    answer = None
    while True:
        try:
            ask = found.send(answer)
        except StopIteration as end:
            return end.value
        made = [one.make() for one in (ask.inputs if ask.inputs is not None else [case.itself])]
        if isinstance(ask, AskScores):
            pairs = [score(x) for x in made]
            answer = Answer(*(np.array(side, dtype=float) for side in zip(*pairs, strict=True)))
        else:
            answer = np.stack([maps(x, ask) for x in made])


def probability(x):
    """A score of the sum, and a probability of it."""
    total = float(x.sum())
    return total, 1 / (1 + np.exp(-total))


X = np.random.default_rng(0).normal(size=(2, 6, 6)).astype(np.float32) / 6
MAP = np.random.default_rng(1).random((6, 6)).astype(np.float32)


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_deletion_and_insertion_are_those_of_the_metrics(name):
    measure = measure_named(name)
    value = answered(measure, case_of(X), MAP, probability)
    own = getattr(cc.metrics, name)(
        lambda x: np.array([probability(one)[1] for one in x]), X[None], MAP[None], steps=10, seed=3
    )
    assert measure.number(value) == pytest.approx(own.area[0], rel=1e-6)
    np.testing.assert_allclose(value[1], own.scores[0], rtol=1e-6)


def test_whole_frames_are_deleted_where_that_is_asked_for():
    clip = np.random.default_rng(2).normal(size=(1, 5, 4, 4)).astype(np.float32)
    values = np.zeros((5, 4, 4), np.float32)
    values[2, 1, 1] = 1
    measure = cc.evaluation.Deletion(steps=5, over="frames", baseline=0.0)
    shares, scores = answered(measure, case_of(clip), values, probability)
    without = clip.copy()
    without[:, 2] = 0
    assert scores[1] == pytest.approx(probability(without)[1], rel=1e-6)
    np.testing.assert_allclose(shares, np.arange(6) / 5)


def test_drop_increase_and_gain_are_of_what_the_map_highlights():
    shown = (MAP - MAP.min()) / (MAP.max() - MAP.min())
    after = probability(X * shown)[1]
    values = {
        name: answered(measure_named(name), case_of(X, probability=0.8), MAP, probability)
        for name in ("drop", "increase", "gain")
    }
    assert values["drop"] == pytest.approx(max(0, 0.8 - after) / 0.8, rel=1e-5)
    assert values["increase"] == float(after > 0.8)
    assert values["gain"] == pytest.approx(max(0, after - 0.8) / 0.2, rel=1e-5)
    # Without a probability there is nothing to fall.
    assert np.isnan(answered(measure_named("drop"), case_of(X, probability=np.nan), MAP, probability))


def test_black_is_what_the_model_takes_for_black():
    dark = case_of(X)
    dark = Case(**{**vars(dark), "black": np.full((2, 1, 1), -3, np.float32)})
    seen = []

    def score(x):
        seen.append(x)
        return probability(x)

    answered(measure_named("drop"), dark, MAP, score)
    at = np.unravel_index(MAP.argmin(), MAP.shape)
    np.testing.assert_allclose(seen[0][:, at[0], at[1]], -3)


def road(x, stays):
    """ROAD's system solved densely."""
    filled, gone = x.copy(), np.argwhere(~stays)
    number = {tuple(at): k for k, at in enumerate(gone)}
    system, right = np.zeros((len(gone), len(gone))), np.zeros((len(gone), len(x)))
    for k, (i, j) in enumerate(gone):
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                a, b = i + di, j + dj
                if (di, dj) == (0, 0) or not (0 <= a < x.shape[1] and 0 <= b < x.shape[2]):
                    continue
                weight = 1 / 6 if 0 in (di, dj) else 1 / 12
                system[k, k] += weight
                if stays[a, b]:
                    right[k] += weight * x[:, a, b]
                else:
                    system[k, number[a, b]] -= weight
    filled[:, ~stays] = np.linalg.solve(system, right).T
    return filled


@pytest.mark.parametrize(("shape", "share"), [((6, 7), 0.5), ((17, 12), 0.9), ((17, 12), 0.2)])
def test_removed_pixels_solve_the_system_of_road(shape, share):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, *shape))
    stays = rng.random(shape) > share
    np.testing.assert_allclose(cc.maps.impute.imputed(x, stays, 1e-12), road(x, stays), atol=1e-9)


def test_road_removes_exact_shares_in_both_orders():
    seen = []

    def score(x):
        seen.append(x)
        return probability(x)

    flat = np.zeros((6, 6), np.float32)
    flat[0] = 1  # 30 of 36 values are equal: no percentile tells them apart
    value = answered(cc.evaluation.ROAD(shares=(0.25, 0.5)), case_of(X), flat, score)
    changed = [(np.abs(x - X).max(axis=0) > 1e-6).sum() for x in seen]
    assert changed == [9, 18, 9, 18]
    best = [probability(x)[1] for x in seen]
    assert value == pytest.approx((np.mean(best[:2]) - np.mean(best[2:])) / 2, rel=1e-6)
    # The most relevant go first in the second half.
    assert all((np.abs(x - X).max(axis=0)[0] > 1e-6).all() for x in seen[2:])


def test_coherency_adcc_and_arcc_are_their_formulas():
    rng = np.random.default_rng(4)
    again = rng.random((6, 6)).astype(np.float32)
    coherent = (np.corrcoef(MAP.ravel(), again.ravel())[0, 1] + 1) / 2
    unit = (MAP - MAP.min()) / (MAP.max() - MAP.min())
    drop = max(0, 0.8 - probability(X * unit)[1]) / 0.8

    def of(name):
        return answered(measure_named(name), case_of(X), MAP, probability, lambda x, ask: again)

    assert of("coherency") == pytest.approx(coherent, rel=1e-5)
    assert of("complexity") == pytest.approx(unit.mean(), rel=1e-5)
    assert of("adcc") == pytest.approx(3 / (1 / coherent + 1 / (1 - unit.mean()) + 1 / (1 - drop)), rel=1e-4)
    gap = answered(cc.evaluation.ROAD(shares=(0.2, 0.4, 0.6, 0.8)), case_of(X), MAP, probability)
    kept = min(max(2 * gap, 0), 1)
    expected = 3 / (1 / coherent + 1 / (1 - unit.mean()) + 1 / kept) if kept else 0
    assert of("arcc") == pytest.approx(expected, rel=1e-4)


def test_mufidelity_is_one_for_the_truth_of_a_linear_score():
    weights = np.random.default_rng(6).normal(size=(2, 6, 6))

    def linear(x):
        return float((weights * x).sum()), 0.5

    case = case_of(X, score=linear(X)[0])
    true = (weights * X).sum(axis=0).astype(np.float32)
    assert answered(cc.evaluation.MuFidelity(cells=6), case, true, linear) == pytest.approx(1, abs=1e-3)
    assert answered(cc.evaluation.MuFidelity(cells=6), case, -true, linear) == pytest.approx(-1, abs=1e-3)
    assert answered(cc.evaluation.Infidelity(cells=6), case, 7 * true, linear) == pytest.approx(0, abs=1e-8)
    assert answered(cc.evaluation.Infidelity(cells=6), case, MAP, linear) > 1e-3


def test_infidelity_is_captums_of_the_same_sets():
    captum = pytest.importorskip("captum.metrics")
    weights = torch.from_numpy(np.random.default_rng(6).normal(size=(2, 6, 6)).astype(np.float32))

    def forward(x):
        return torch.tanh((weights * x).sum(dim=(1, 2, 3)))

    measure = cc.evaluation.Infidelity(sets=40, cells=6)
    case = case_of(X, score=float(forward(torch.from_numpy(X[None]))[0]))
    own = answered(measure, case, MAP, lambda x: (float(forward(torch.from_numpy(x[None]))[0]), 0.5))
    rng = case.rng("subsets")
    hidden = iter([measure._drawn(rng, (6, 6)) for _ in range(40)])

    def perturb(inputs):
        gone = torch.from_numpy(np.stack([next(hidden) for _ in range(len(inputs))]))[:, None]
        # Each set counts once for all channels: half of it in either.
        return (gone.float() / 2).expand_as(inputs), torch.where(gone, 0.0, inputs)

    maps = torch.from_numpy(MAP)[None, None].expand(1, 2, 6, 6)
    theirs = captum.infidelity(
        forward, perturb, torch.from_numpy(X[None]), maps, n_perturb_samples=40, normalize=True
    )
    assert own == pytest.approx(float(theirs[0]), rel=1e-4)


def test_sensitivity_is_of_the_worst_and_of_the_mean_noise():
    case, asked = case_of(X), []

    def maps(x, ask):
        asked.append(x)
        return MAP + np.float32(x.sum())

    worst = answered(measure_named("max_sensitivity"), case, MAP, maps=maps)
    changes = [abs(float(x.sum())) * 6 / np.linalg.norm(MAP) for x in asked]
    assert len(asked) == 10
    assert all(0 < np.abs(x - X).max() <= 0.02 + 1e-6 for x in asked)
    assert worst == pytest.approx(max(changes), rel=1e-4)
    mean = answered(measure_named("avg_sensitivity"), case, MAP, maps=maps)
    assert mean == pytest.approx(np.mean(changes), rel=1e-4)
    assert answered(measure_named("stability"), case, MAP, maps=maps) == pytest.approx(1, abs=1e-6)


def test_randomisation_and_another_class_compare_with_the_maps_they_ask_for():
    asks = []

    def maps(x, ask):
        asks.append(ask)
        return -MAP if ask.random or ask.other is not None else MAP

    assert answered(measure_named("randomisation"), case_of(X), MAP, maps=maps) == pytest.approx(1)
    assert [ask.weights for ask in asks] == [(0.02, False), (0.5, False), (1.0, False)]
    alone = cc.evaluation.Randomisation(shares=(0.5,), independent=True, noises=3)
    before = len(asks)
    assert answered(alone, case_of(X), MAP, maps=maps) == pytest.approx(1)
    assert [(ask.random, ask.alone) for ask in asks[before:]] == [(0.0, False)] * 3 + [(0.5, True)] * 3
    assert answered(measure_named("random_logit"), case_of(X), MAP, maps=maps) == pytest.approx(-1)
    assert asks[-1].other in (0, 2, 3)  # never the class itself
    assert np.isnan(answered(measure_named("random_logit"), case_of(X, index=None), MAP, maps=maps))
    entropy = measure_named("efficient_randomisation")
    assert answered(entropy, case_of(X), MAP, maps=lambda x, ask: MAP) == 0
    two = np.repeat([[0.0, 1.0]], 18, axis=0).reshape(6, 6).astype(np.float32)
    four = np.tile(np.float32([0, 1, 2, 3]), 9).reshape(6, 6)
    assert answered(entropy, case_of(X), two, maps=lambda x, ask: four) == pytest.approx(1)  # ln 4 over ln 2


def test_focus_counts_what_lies_on_the_tiles_of_the_class():
    rng = np.random.default_rng(7)
    own, same, a, b = (np.full((1, 8, 8), value, np.float32) for value in (1, 2, 3, 4))
    case = case_of(own, others=[(same, 1), (a, 0), (b, 2), (rng.random((1, 4, 4)), 3)])
    seen = []

    def on_own(x, ask):
        seen.append(x[0])
        return np.isin(x[0], (1, 2)).astype(np.float32) + 0.25

    assert answered(measure_named("focus"), case, own[0], maps=on_own) == pytest.approx(1.25 / 1.5)
    assert sorted(np.unique(seen[0])) == [1, 2, 3, 4]
    assert np.isnan(answered(measure_named("focus"), case_of(own), own[0], maps=on_own))


def test_focus_joins_clips_in_time():
    own, other = (np.full((1, 6, 4, 4), value, np.float32) for value in (1, 5))
    case = case_of(own, others=[(other, 0)])
    value = answered(measure_named("focus"), case, own[0], maps=lambda x, ask: (x[0] == 1).astype(np.float32))
    assert value == 1


def test_pointing_takes_a_tolerance_in_pixels():
    values = np.zeros((9, 9), np.float32)
    values[4, 8] = 1
    mask = np.zeros((9, 9), bool)
    mask[4, 2] = True
    near = [cc.evaluation.Pointing(tolerance=t).of(case_of(X[:, :1], None), values) for t in (0,)]
    assert np.isnan(near[0])
    case = case_of(np.zeros((1, 9, 9), np.float32), mask)
    assert cc.evaluation.Pointing(tolerance=6).of(case, values) == 0  # strictly nearer
    assert cc.evaluation.Pointing(tolerance=6.5).of(case, values) == 1


def test_energy_of_boxes_and_points_is_inside_what_they_fill():
    x = np.zeros((1, 6, 6), np.float32)
    boxed = measure_named("energy").of(case_of(x, [(1.0, 2.0, 3.0, 5.0)]), np.ones((6, 6), np.float32))
    assert boxed == pytest.approx(6 / 36)
    assert measure_named("energy").of(case_of(x, [(2.5, 3.5)]), np.ones((6, 6), np.float32)) == pytest.approx(
        1 / 36
    )


def test_maxboxacc_takes_the_best_threshold_of_all_samples():
    measure = cc.evaluation.MaxBoxAcc(thresholds=10)
    x = np.zeros((1, 10, 10), np.float32)
    mask = np.zeros((10, 10), bool)
    mask[2:6, 2:6] = True
    sharp, wide = mask * 1.0, mask * 0.6
    wide[0:8, 0:8] += 0.4
    rows = np.stack([measure.of(case_of(x, mask), m.astype(np.float32)) for m in (sharp, wide)])
    assert measure.total(rows) == 1  # above 0.4 both have the box
    assert measure.total(rows[:, ::-1].reshape(2, -1)) == 1
    low = rows.reshape(2, 3, 10)[:, :, 1].mean(axis=0)
    assert low.tolist() == [0.5, 0.5, 0.5]  # at 0.1 the wide one is 8 × 8: IoU 16/64
    assert np.isnan(measure.number(rows[0]))


def test_pxap_is_the_average_precision_of_all_pixels():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(8)
    measure = measure_named("pxap")
    masks = rng.random((3, 8, 8)) < 0.3
    maps = (np.floor((rng.random((3, 8, 8)) + 0.4 * masks) * 100) / 100).astype(np.float32)
    rows = np.stack(
        [measure.of(case_of(np.zeros((1, 8, 8)), m), v) for m, v in zip(masks, maps, strict=True)]
    )
    levels = [np.minimum((v - v.min()) / (v.max() - v.min()) * 256 // 1, 255) for v in maps]
    expected = sklearn.average_precision_score(masks.ravel(), np.stack(levels).ravel())
    assert measure.total(rows) == pytest.approx(expected, rel=1e-9)


def test_times_are_judged_by_the_frames_that_have_the_object():
    x = np.zeros((1, 4, 3, 3), np.float32)
    values = np.zeros((4, 3, 3), np.float32)
    values[1:3] = 1
    frames = np.array([False, True, True, True])
    assert measure_named("temporal_iou").of(case_of(x, frames), values) == pytest.approx(2 / 3)
    assert measure_named("temporal_auc").of(case_of(x, frames), values) == pytest.approx(5 / 6)
    assert np.isnan(measure_named("temporal_iou").of(case_of(x), values))
    assert measure_named("flicker").of(case_of(x), values) == pytest.approx(float(cc.metrics.flicker(values)))


def test_truth_is_laid_on_what_the_model_sees():
    mask = np.zeros((40, 80), bool)
    mask[10:30, 30:50] = True
    truth = truth_of(mask, (8, 8), (80, 40), (20.0, 0.0, 60.0, 40.0))
    assert np.argwhere(truth.mask).min(axis=0).tolist() == [2, 2]
    assert np.argwhere(truth.mask).max(axis=0).tolist() == [5, 5]
    assert truth.boxes == ((2, 2, 6, 6),)
    boxed = truth_of([(30, 10, 50, 30)], (8, 8), (80, 40), (20.0, 0.0, 60.0, 40.0))
    assert boxed.boxes == ((2, 2, 6, 6),)
    np.testing.assert_array_equal(boxed.mask, truth.mask)
    # What lies beside the view is no truth.
    assert truth_of([(0, 0, 10, 10)], (8, 8), (80, 40), (20.0, 0.0, 60.0, 40.0)) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4), bool), r"a mask of the truth has shape \(4, 4\); expected \(8, 8\)"),
        ([(0, 0, 9, 9)], "is empty, or outside a picture of 8 × 8 pixels"),
        ([(3, 3, 3, 5)], "is empty, or outside a picture"),
        (np.full((8, 8), 0.3), "expected a mask of truth values, boxes"),
        ("dog", "expected a mask of truth values, boxes"),
    ],
)
def test_a_truth_that_fits_nothing_is_refused(given, message):
    with pytest.raises(cc.errors.InputError, match=message):
        truth_of(given, (8, 8))


def test_sparseness_is_that_of_the_metrics():
    value = measure_named("sparseness").of(case_of(X), MAP)
    assert value == pytest.approx(float(cc.metrics.sparseness(MAP)))


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_every_measure_says_what_it_is(name):
    measure = measure_named(name)
    assert measure.title
    assert measure.better in ("high", "low", None)
    assert measure.truth in ("mask", "boxes", "frames", None)
