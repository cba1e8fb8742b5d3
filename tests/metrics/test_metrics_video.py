"""Measures over time and over models, against numbers that a person can recompute."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from chronocam.errors import InputError
from chronocam.metrics import (
    active_frames,
    deletion,
    flicker,
    frame_importance,
    insertion,
    motion_test,
    temporal_auc,
    temporal_iou,
)

# When: frame importance and the active frames.


def test_frame_importance_is_a_share_of_positive_energy() -> None:
    maps = np.array([[[[1, 2], [0, -9]], [[3, 0], [0, 0]], [[-1, 0], [2, 2]]], np.zeros((3, 2, 2))])
    np.testing.assert_allclose(frame_importance(maps), [[0.3, 0.3, 0.4], [0, 0, 0]])
    assert frame_importance(maps[:, None]).shape == (2, 1, 3)
    np.testing.assert_allclose(frame_importance(maps[0, :1]), [1])  # a single frame has it all
    with pytest.raises(InputError, match=r"shape \(2, 2\); expected .* a grid of 3"):
        frame_importance(np.zeros((2, 2)))
    with pytest.raises(InputError, match="NaN or infinity in 1 sample"):
        frame_importance(np.full((1, 2, 2, 2), np.nan))


CURVE = np.array([0, 4, 1, 2, 3, 2.0, 0])
ACTIVE = np.array([0, 0, 0, 1, 1, 1, 1], dtype=bool)


def test_active_frames_and_their_iou() -> None:
    assert active_frames(CURVE).tolist() == [0, 0, 0, 1, 1, 1, 0]  # the longest run at half the maximum
    assert active_frames(CURVE, largest=False).tolist() == [0, 1, 0, 1, 1, 1, 0]
    assert active_frames(CURVE, threshold=0.75).tolist() == [
        0,
        1,
        0,
        0,
        0,
        0,
        0,
    ]  # of two runs of one, the first
    assert temporal_iou(CURVE, ACTIVE) == 3 / 4
    assert temporal_iou(CURVE, ACTIVE, largest=False) == 3 / 5
    assert temporal_iou(CURVE, ACTIVE, threshold=0.25) == 3 / 6  # frames 1 to 5
    both = np.stack([CURVE, CURVE[::-1]])
    np.testing.assert_allclose(temporal_iou(both, np.stack([ACTIVE, ACTIVE])), [3 / 4, 1 / 6])


@pytest.mark.parametrize("largest", [True, False])
def test_a_curve_without_a_positive_value_marks_nothing(largest: bool) -> None:
    for curve in (np.zeros(7), -CURVE - 1):
        assert not active_frames(curve, largest=largest).any()
        assert temporal_iou(curve, ACTIVE, largest=largest) == 0
    assert temporal_iou(np.zeros(7), np.zeros(7, dtype=bool)) == 0
    assert temporal_iou(np.ones(1), np.ones(1, dtype=bool)) == 1
    with pytest.raises(InputError, match="threshold 0 is not in"):
        active_frames(CURVE, threshold=0, largest=largest)


def test_temporal_auc_is_the_share_of_pairs() -> None:
    # Active 2, 3, 2, 0 against idle 0, 4, 1: wins 2 + 2 + 2 + 0 and one tie at 0.
    assert temporal_auc(CURVE, ACTIVE) == 6.5 / 12
    assert temporal_auc(np.zeros(7), ACTIVE) == 0.5
    assert temporal_auc(ACTIVE.astype(float), ACTIVE) == 1
    rng = np.random.default_rng(0)
    curves, active = rng.integers(0, 5, (20, 9)).astype(float), rng.random((20, 9)) < 0.4
    active[:, 0], active[:, 1] = True, False
    pairs = [
        np.mean([(a > b) + (a == b) / 2 for a in c[on] for b in c[~on]])
        for c, on in zip(curves, active, strict=True)
    ]
    np.testing.assert_allclose(temporal_auc(curves, active), pairs)


def test_temporal_auc_needs_both_kinds_of_frames() -> None:
    found = temporal_auc(
        np.stack([CURVE] * 3), np.stack([ACTIVE, ~np.zeros(7, dtype=bool), np.zeros(7, dtype=bool)])
    )
    assert found[0] == 6.5 / 12
    assert np.isnan(found[1:]).all()
    for measure in (temporal_auc, temporal_iou):
        with pytest.raises(InputError, match=r"maps have shape \(7,\) but active frames \(6,\)"):
            measure(CURVE, ACTIVE[1:])
        with pytest.raises(InputError, match="curves hold NaN"):
            measure(CURVE * np.nan, ACTIVE)


# How restless.


def test_flicker_is_the_change_from_frame_to_frame() -> None:
    still = np.ones((4, 2, 2))
    on_off = still * np.array([1, 0, 1, 0])[:, None, None]
    ramp = still * np.array([1, 2, 3, 4])[:, None, None]
    once = still * np.array([0, 1, 0, 0])[:, None, None]
    found = flicker(np.stack([still, on_off, ramp, once, -on_off, np.zeros((4, 2, 2))]))
    np.testing.assert_allclose(found, [0, 2, 1 / 2.5, (2 / 3) / (1 / 4), 2, 0])
    np.testing.assert_allclose(flicker(1000 * ramp), 0.4)
    assert flicker(still[:1]) == 0
    swap = np.array([[[1.0, 0]], [[0, 1]]])  # the same energy elsewhere
    assert flicker(swap) == 2


# Insertion and deletion. The score weighs every cell, so that the curve is known.


def weighing(weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda inputs: (inputs * weights).reshape(len(inputs), -1).sum(1)


def test_deletion_and_insertion_of_pixels() -> None:
    image = np.array([[[[4.0, 3.0], [2.0, 1.0]], [[40.0, 30.0], [20.0, 10.0]]]])  # two channels
    maps = np.array([[[0.9, 0.1], [0.5, 0.2]]])  # removed: 4, 2, 1, 3
    total = weighing(np.ones(1))
    out = deletion(total, image, maps, baseline=0, steps=4)
    np.testing.assert_allclose(out.shares, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(out.scores, [[110, 66, 44, 33, 0]])
    np.testing.assert_allclose(out.area, [(110 / 2 + 66 + 44 + 33) / 4])
    come = insertion(total, image, maps, baseline=0, steps=4)
    np.testing.assert_allclose(come.scores, [[0, 44, 66, 77, 110]])
    np.testing.assert_allclose(deletion(total, image, maps, baseline=0, steps=2).scores, [[110, 44, 0]])
    np.testing.assert_allclose(deletion(total, image, maps, baseline=0, steps=99).shares, out.shares)
    five = deletion(total, np.ones((1, 1, 1, 5)), np.ones((1, 1, 5)), baseline=0, steps=3)
    np.testing.assert_allclose(five.shares, [0, 2 / 5, 3 / 5, 1])  # thirds of five cells, to the nearest
    last = np.moveaxis(image, 1, -1)
    np.testing.assert_allclose(
        deletion(total, last, maps, channels=-1, baseline=0, steps=4).scores, out.scores
    )


def test_every_sample_has_its_own_order_and_class() -> None:
    images = np.array([[[[1.0, 2.0]]], [[[3.0, 5.0]]]])
    maps = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    weights = np.array(
        [[[[1.0, 1.0]]], [[[10.0, 10.0]]]]
    )  # a score per sample, told by its place in the batch
    found = deletion(weighing(weights), images, maps, baseline=0)
    np.testing.assert_allclose(found.scores, [[3, 2, 0], [80, 30, 0]])


def test_baselines_replace_what_is_removed() -> None:
    seen: list[np.ndarray] = []

    def score(inputs: np.ndarray) -> np.ndarray:
        seen.append(inputs)
        return np.zeros(len(inputs))

    image = np.random.default_rng(0).random((2, 3, 20, 20), dtype=np.float32)
    maps = image.sum(1)

    def removed(baseline: Any) -> np.ndarray:
        seen.clear()
        deletion(score, image, maps, baseline=baseline, steps=1)
        assert np.array_equal(seen[0], image)
        assert seen[1].dtype == np.float32
        return seen[1]

    grid = (2, 3)
    np.testing.assert_allclose(
        removed("mean"), np.ones_like(image) * image.mean(grid, keepdims=True), rtol=1e-6
    )
    np.testing.assert_allclose(removed("black"), np.ones_like(image) * image.min(grid, keepdims=True))
    np.testing.assert_allclose(removed(np.ones((3, 1, 1))), np.ones_like(image))
    blurred = removed("blur")
    np.testing.assert_allclose(blurred.mean(grid), image.mean(grid), atol=0.02)
    assert (blurred.std(grid) < image.std(grid) / 4).all()
    assert np.array_equal(deletion(score, image, maps, steps=1).scores, np.zeros((2, 2)))
    assert np.array_equal(seen[-1], blurred)  # the default
    impulse = np.zeros((1, 1, 41, 41))
    impulse[..., 20, 20] = 1
    deletion(score, impulse, impulse[:, 0], steps=1)
    row = seen[-1][0, 0].sum(0)
    assert np.sqrt((row * (np.arange(41) - 20) ** 2).sum()) == pytest.approx(4.1, rel=0.02)  # a tenth of 41


LAYOUTS = {1: (0, 1, 2, 3, 4), 2: (0, 2, 1, 3, 4)}


@pytest.mark.parametrize("channels", LAYOUTS)
def test_frames_pixels_and_cells_of_clips(channels: int) -> None:
    rng = np.random.default_rng(1)
    clip, weights = rng.random((2, 3, 4, 2, 2)), rng.random((1, 3, 4, 2, 2))
    each = (clip * weights).sum(1)  # what every cell is worth
    for cells, summed in [((0, 1, 2, 3), ()), ((0, 1), (2, 3)), ((0, 2, 3), (1,))]:
        worth = each.sum(summed)
        order = rng.permuted(np.tile(np.arange(worth[0].size), (2, 1)), axis=1)
        maps = -np.argsort(order, axis=1).reshape([each.shape[a] for a in cells]).astype(float)
        left = np.take_along_axis(worth.reshape(2, -1), order, 1)
        expected = left.sum(1, keepdims=True) - np.pad(np.cumsum(left, 1), ((0, 0), (1, 0)))
        shown, score = clip.transpose(LAYOUTS[channels]), weighing(weights.transpose(LAYOUTS[channels]))
        found = deletion(score, shown, maps, channels=channels, baseline=0, steps=worth[0].size)
        np.testing.assert_allclose(found.scores, expected, atol=1e-12)


@pytest.mark.parametrize("channels", LAYOUTS)
def test_frozen_frames_show_the_last_one_left(channels: int) -> None:
    frames = np.array([1.0, 2, 4, 8]).reshape(1, 1, 4, 1, 1).transpose(LAYOUTS[channels])
    shown: list[list[float]] = []

    def score(clips: np.ndarray) -> np.ndarray:
        shown.append(clips.ravel().tolist())
        return np.zeros(1)

    options: dict[str, Any] = {"channels": channels, "baseline": "freeze"}
    deletion(score, frames, np.array([[2.0, 1, 4, 3]]), **options)
    assert shown == [[1, 2, 4, 8], [1, 2, 2, 8], [1, 2, 2, 2], [1, 2, 2, 2], [1, 1, 1, 1]]
    shown.clear()
    insertion(score, frames, np.array([[2.0, 1, 4, 3]]), **options)
    assert shown == [[1, 1, 1, 1], [1, 1, 4, 4], [1, 1, 4, 8], [1, 1, 4, 8], [1, 2, 4, 8]]


def test_ties_are_broken_at_random_not_by_place() -> None:
    image, flat = np.ones((1, 1, 20, 20)), np.zeros((1, 20, 20))
    upper = np.zeros((1, 1, 20, 20))
    upper[..., :10, :] = 1
    found = deletion(weighing(upper), image, flat, baseline=0, steps=2)
    assert 0.35 < found.scores[0, 1] / found.scores[0, 0] < 0.65
    again = deletion(weighing(upper), image, flat, baseline=0, steps=2)
    assert np.array_equal(again.scores, found.scores)
    others = [
        deletion(weighing(upper), image, flat, baseline=0, steps=2, seed=s).scores[0, 1] for s in (1, 2, 3)
    ]
    assert len({found.scores[0, 1], *others}) > 1


@pytest.mark.parametrize("measure", [deletion, insertion])
def test_what_cannot_be_deleted_is_refused(measure: Callable[..., Any]) -> None:
    total, clip, image = weighing(np.ones(1)), np.ones((2, 3, 4, 5, 6)), np.ones((2, 3, 5, 6))
    with pytest.raises(
        InputError, match=r"\(2, 9\); expected \(2, 4, 5, 6\) or \(2, 5, 6\) or \(2, 4\) for these"
    ):
        measure(total, clip, np.ones((2, 9)))
    with pytest.raises(InputError, match=r"\(1, 5, 6\); expected \(2, 5, 6\) for these"):
        measure(total, image, np.ones((1, 5, 6)))
    with pytest.raises(InputError, match="`freeze` is for frames"):
        measure(total, clip, np.ones((2, 5, 6)), baseline="freeze")
    with pytest.raises(InputError, match="`freeze` is for frames"):
        measure(total, image, np.ones((2, 5, 6)), baseline="freeze")
    with pytest.raises(InputError, match="no baseline `blurr`; did you mean `blur`"):
        measure(total, image, np.ones((2, 5, 6)), baseline="blurr")
    with pytest.raises(InputError, match=r"baseline has shape \(4,\); expected one that broadcasts"):
        measure(total, image, np.ones((2, 5, 6)), baseline=np.ones(4))
    with pytest.raises(InputError, match="steps is 0"):
        measure(total, image, np.ones((2, 5, 6)), steps=0)
    with pytest.raises(InputError, match=r"score returned shape \(2, 1\); expected .* \(2,\)"):
        measure(lambda x: total(x)[:, None], image, np.ones((2, 5, 6)))
    with pytest.raises(InputError, match="score of sample 1 is not finite"):
        measure(lambda x: np.array([1, np.nan]), image, np.ones((2, 5, 6)))
    with pytest.raises(InputError, match="NaN or infinity"):
        measure(total, image, np.full((2, 5, 6), np.nan))
    with pytest.raises(InputError, match="channels=0; expected"):
        measure(total, image, np.ones((2, 5, 6)), channels=0)


# Does it use motion?


def frame_weights(weights: list[float]) -> Callable[[np.ndarray], torch.Tensor]:
    """A model of one value per frame, `(batch, time)`, that weighs the frames by their place."""
    return lambda clips: torch.from_numpy(clips) @ torch.tensor(weights, dtype=torch.float64)


def test_motion_by_hand() -> None:
    clips = np.array([[1.0, 2, 4], [0, 0, 3]])
    found = motion_test(frame_weights([0, 0, 1]), clips, time_axis=1, shuffles=200)
    assert found.as_is.tolist() == [4, 3]
    assert found.backwards.tolist() == [1, 0]
    assert found.frozen.tolist() == [2, 0]
    # Over the five orders that are not the clip's own: 4 once, 1 and 2 twice each.
    np.testing.assert_allclose(found.shuffled, [2, 0.6], atol=0.35)
    np.testing.assert_allclose(found.drops["shuffled"], found.as_is - found.shuffled)
    assert found.drops["frozen"].tolist() == [2, 3]
    assert found.drops["backwards"].tolist() == [3, 3]


def test_frames_are_moved_along_the_time_axis() -> None:
    clips = np.random.default_rng(0).random((2, 3, 5, 4, 4))
    seen: list[np.ndarray] = []

    def score(inputs: np.ndarray) -> np.ndarray:
        seen.append(inputs)
        return np.zeros(2)

    motion_test(score, clips, time_axis=2, seed=3, shuffles=6)
    as_is, *shuffled, backwards, frozen = seen
    assert np.array_equal(as_is, clips)
    assert np.array_equal(backwards, clips[:, :, ::-1])
    assert np.array_equal(frozen, clips[:, :, [2] * 5])
    orders = [[int(np.abs(clips[0, 0] - f).sum((1, 2)).argmin()) for f in one[0, 0]] for one in shuffled]
    for order, one in zip(orders, shuffled, strict=True):
        assert sorted(order) == list(range(5))
        assert order != list(range(5))
        assert np.array_equal(one, clips[:, :, order])
    assert len({tuple(order) for order in orders}) > 1
    seen.clear()
    motion_test(score, clips, time_axis=-3, seed=4, shuffles=6)
    assert not np.array_equal(seen[1], shuffled[0])
    assert np.array_equal(seen[-1], frozen)


@pytest.mark.parametrize(
    ("weights", "verdict"),
    [
        ([-1.0, 0.0, 0.0, 1.0], "the order of frames matters"),
        ([0.25, 0.25, 0.25, 0.25], "several frames matter, their order does not show"),
        ([0.0, 0.0, 0.0, 0.0], "no sign that motion is used"),
    ],
)
def test_the_verdict_follows_the_intervals(weights: list[float], verdict: str) -> None:
    rng = np.random.default_rng(0)
    clips = np.array([0.0, 3, 1, 4]) + rng.normal(0, 0.1, (40, 4))  # the middle frame, 1, is below the mean
    found = motion_test(frame_weights(weights), clips, time_axis=1)
    line = found.verdict()
    assert line.startswith(f"{verdict}: the score falls by shuffled ")
    assert str(found.intervals()["frozen"]) in line
    assert line.endswith("(40 clips, 95% intervals)")
    assert "\n" not in line
    assert found.verdict(confidence=0.5).endswith("50% intervals)")
    assert motion_test(frame_weights(weights), clips[:5], time_axis=1).verdict().startswith(verdict)
    few = motion_test(frame_weights(weights), clips[:4], time_axis=1).verdict()
    assert few.startswith("fewer than 5 clips prove nothing: the score falls by shuffled ")


def test_a_still_is_no_clip() -> None:
    score = frame_weights([1.0])
    with pytest.raises(InputError, match=r"clips have 1 frame\(s\) along axis 1; expected at least two"):
        motion_test(score, np.ones((2, 1)), time_axis=1)
    for axis in (0, 2, -2):
        with pytest.raises(InputError, match=rf"time_axis is {axis}; clips have shape \(2, 3\)"):
            motion_test(score, np.ones((2, 3)), time_axis=axis)
    with pytest.raises(InputError, match="shuffles is 0"):
        motion_test(frame_weights([1.0, 1]), np.ones((2, 2)), time_axis=1, shuffles=0)
