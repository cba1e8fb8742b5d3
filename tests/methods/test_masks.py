"""Masks on the input: exact for a linear score, and known as well as they say for any other."""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter
from scipy.stats import t as student
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, LayerError
from chronocam.maps.blur import blurred
from chronocam.masks.designs import all_shapley, balanced, balanced_size
from chronocam.masks.looks import Looks
from chronocam.masks.regions import KINDS, regions_of
from chronocam.masks.replacements import fill_of

X = torch.rand(2, 3, 14, 14, generator=torch.Generator().manual_seed(0))


def linear() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 14, 4)).eval()


def bent() -> nn.Module:
    torch.manual_seed(2)
    conv = nn.Conv2d(3, 6, 3, 2, 1)
    return nn.Sequential(conv, nn.Tanh(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(24, 4)).eval()


def shares(net: Any, x: Tensor, c: int, start: Tensor) -> np.ndarray:
    """What each place of the input adds to a linear score over that of the baseline."""
    weights = net[1].weight[c].detach().view(x.shape[1:])
    return (weights * (x - start)).sum(1).numpy()


def summed(values: np.ndarray, cells: int) -> np.ndarray:
    """Sum over the cells of a grid, and put the sum at each of their places."""
    n, h, w = values.shape
    sums = values.reshape(n, cells, h // cells, cells, w // cells).sum((2, 4))
    return sums.repeat(h // cells, 1).repeat(w // cells, 2)


@pytest.mark.parametrize("baseline", ["zero", "mean", 0.25])
@pytest.mark.parametrize("method", [cc.RISE, cc.LIME, cc.KernelSHAP])
def test_a_linear_score_is_split_over_the_regions(method: Any, baseline: Any) -> None:
    net = linear()
    found = method(net, regions="cells", baseline=baseline, signed=True).explain(X, 2)
    start = {"zero": 0 * X, "mean": X.mean((2, 3), keepdim=True)}.get(baseline, torch.full_like(X, 0.25))
    expected = summed(shares(net, X, 2, start), 7)
    assert (np.abs(found.maps[:, 0] - expected) <= found.interval[:, 0] + 1e-5).all()
    assert found.interval.max() < 1e-4
    assert not found.findings


CLIP = torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0)) / 8
CLIP[..., 4:] += 0.5
CLIP[..., 4:, :] += 0.25
STILL: dict[str, Any] = {"zero": 0.0, "mean": None, "blur": None, "an array": 0.3 * CLIP[0].numpy()}


@pytest.mark.parametrize("baseline", STILL)
@pytest.mark.parametrize("regions", [kind for kind in KINDS if kind != "features"])
@pytest.mark.parametrize("method", [cc.RISE, cc.LIME, cc.KernelSHAP])
def test_any_regions_get_what_they_hold_of_a_linear_score(method: Any, regions: str, baseline: str) -> None:
    """Each region is worth the shares of its places, those of two regions by how much of each they are."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(CLIP[0].numel(), 4)).eval()
    start = {"mean": CLIP.mean((2, 3, 4), keepdim=True), "blur": blurred(CLIP, 0.8)}.get(baseline, 0.0)
    if baseline == "an array":
        start = torch.as_tensor(STILL[baseline])
    cells = {"superpixels": 6, "frames": None, "tubes": (1, 2, 2)}.get(regions, 2)
    spread = regions_of(regions, cells).draw(CLIP.numpy(), np.random.default_rng(0))
    assert 1 < spread.count < 10
    each = spread(np.broadcast_to(np.eye(spread.count), (2, spread.count, spread.count)))
    of_places = shares(net, CLIP, 2, start).reshape(2, -1)
    effects = np.einsum("brp,bp->br", each.reshape(2, spread.count, -1), of_places)
    named = STILL[baseline] if baseline == "an array" else baseline
    found = method(net, regions=regions, cells=cells, baseline=named, signed=True).explain(CLIP, 2)
    expected = spread(effects[:, None])
    peak = np.abs(expected).max()
    np.testing.assert_allclose(found.maps, expected, rtol=0, atol=2e-3 * peak)
    assert found.interval.max() < 5e-3 * peak


def test_windows_of_a_linear_score_take_what_is_in_them() -> None:
    net = linear()
    found = cc.Occlusion(net, window=2, stride=2, baseline="zero", signed=True).explain(X, 2)
    np.testing.assert_allclose(found.maps[:, 0], summed(shares(net, X, 2, 0 * X), 7), atol=1e-5)
    assert found.interval is not None
    assert not found.interval.any()


def test_places_of_several_windows_get_their_mean() -> None:
    net, x = bent(), X[:1, :, :7, :5]
    found = cc.Occlusion(net, window=(3, 2), stride=2, baseline="zero", signed=True).explain(x, 1)
    total, times = np.zeros((7, 5)), np.zeros((7, 5))
    for top in (0, 2, 4):
        for left in (0, 2, 4):
            hidden = x.clone()
            hidden[:, :, top : top + 3, left : left + 2] = 0
            total[top : top + 3, left : left + 2] += (net(x) - net(hidden))[0, 1].item()
            times[top : top + 3, left : left + 2] += 1
    np.testing.assert_allclose(found.maps[0, 0], total / times, atol=1e-6)


def of_table(values: np.ndarray) -> Any:
    """A score by a table over all masks of a few regions."""

    def score(shown: np.ndarray) -> np.ndarray:
        return values[(shown @ 2 ** np.arange(shown.shape[1])).astype(int)][:, None, None]

    return score


def test_shapley_values_are_those_of_all_orders() -> None:
    values = np.random.default_rng(0).normal(size=2**5)
    expected = np.zeros(5)
    orders = list(permutations(range(5)))
    for order in orders:
        seen = 0
        for region in order:
            expected[region] += (values[seen | 1 << region] - values[seen]) / len(orders)
            seen |= 1 << region
    np.testing.assert_allclose(all_shapley(of_table(values), 5)[0, 0], expected, atol=1e-9)


def test_sampled_shapley_values_come_to_the_exact_ones() -> None:
    net = bent()
    exact = cc.KernelSHAP(net, cells=3, baseline="zero", signed=True).explain(X, 1)
    assert exact.interval is not None
    assert not exact.interval.any()
    few = {"budget": 500, "until": None}
    sampled = cc.KernelSHAP(net, cells=3, baseline="zero", signed=True, **few).explain(X, 1)
    assert (np.abs(sampled.maps - exact.maps) <= sampled.interval).mean() > 0.9


def test_balanced_masks_give_the_mean_effect_of_each_region() -> None:
    """Of all 2⁴ masks of a score with interactions, within the spread of the blocks."""
    values = np.random.default_rng(3).normal(size=16)
    every = np.array([[m >> j & 1 for j in range(4)] for m in range(16)])
    expected = [values[every[:, j] == 1].mean() - values[every[:, j] == 0].mean() for j in range(4)]
    rng = np.random.default_rng(0)
    for pairs in (balanced_size(4), 2):
        blocks = np.array([balanced(of_table(values), 4, pairs, rng)[0, 0] for _ in range(4000)])
        error = blocks.std(0) / np.sqrt(len(blocks))
        assert (np.abs(blocks.mean(0) - expected) < 4 * error + 1e-12).all()


def test_intervals_hold_under_the_rule_that_stops() -> None:
    """Looked at until narrow: at most 5 % of cells miss, where a plain interval misses far more often."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(1, 1, 40))
    missed, plain, runs = 0, 0, 150
    for _ in range(runs):
        looks, ever, values = Looks(0.25, most=400), np.zeros(truth.shape, bool), list[np.ndarray]()
        while not looks.enough() and looks.count < 400:
            values.append(truth + rng.normal(size=truth.shape))
            looks.add(values[-1])
            if looks.count > 2:
                error = np.std(values, axis=0, ddof=1) / np.sqrt(looks.count)
                ever |= np.abs(np.mean(values, axis=0) - truth) > 1.96 * error
        missed += int((np.abs(looks.mean - truth) > looks.interval()).sum())
        plain += int(ever.sum())
    assert missed / (runs * 40) < 0.05
    assert plain / (runs * 40) > 0.15


def test_every_planned_look_has_the_same_share() -> None:
    """Intervals of the same estimates: wider the more looks are planned, and not for those that were made."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 1, 1, 5))
    widths = {}
    for most in (3, 12, 62, None):
        looks = Looks(None if most is None else 1e-9, most=most or 12)
        for value in values:
            looks.add(value)
            looks.enough()
        widths[most] = looks.interval()
        error = values.std(0, ddof=1) / np.sqrt(12)
        planned = {3: 1, 12: 4, 62: 8, None: 1}[most]
        np.testing.assert_allclose(widths[most], student.ppf(1 - 0.025 / planned, 11) * error)


def test_an_interval_is_that_of_repeated_runs() -> None:
    """Maps of many seeds lie around their mean as each one's interval says."""
    net, options = bent(), {"cells": 3, "until": None, "budget": 400, "baseline": "zero", "signed": True}
    runs = [cc.RISE(net, seed=seed, **options).explain(X[:1], 1) for seed in range(30)]
    truth = np.mean([run.maps for run in runs], axis=0)
    assert np.mean([np.abs(run.maps - truth) <= run.interval for run in runs]) > 0.95
    np.testing.assert_array_equal(cc.RISE(net, seed=4, **options).explain(X[:1], 1).maps, runs[4].maps)


def test_how_well_a_map_is_known_is_logged_at_each_look(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="chronocam.methods"):
        found = cc.RISE(bent(), until=0.5, budget=4000, cells=3, signed=True).explain(X, 1)
    lines = [record.getMessage() for record in caplog.records]
    assert "after 98 forward passes" in lines[0]  # three blocks of 16 pairs, nothing and all
    shares = found.interval.max((2, 3)) / np.ptp(found.maps, axis=(2, 3))
    assert f"±{shares.max():.2g} of the map's range" in lines[-1]


def test_the_budget_ends_it_with_a_finding() -> None:
    (finding,) = cc.RISE(bent(), until=0.01, budget=60).explain(X, 1).findings
    assert "stopped after 56 forward passes" in finding.text


def test_targets_come_from_the_same_passes() -> None:
    net = bent()
    both = cc.RISE(net, until=None, budget=120).explain(X, [cc.targets.Class(0), cc.targets.Class(3)])
    alone = cc.RISE(net, until=None, budget=120).explain(X, 3)
    np.testing.assert_allclose(both.maps[:, 1:], alone.maps, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_regions_share_each_place_out(kind: str) -> None:
    clips = kind in ("frames", "tubes")
    x = np.random.default_rng(0).random((2, 3, *((6, 9, 11) if clips else (9, 11))))
    spread = regions_of(kind, None, kind == "features").draw(x, np.random.default_rng(1))
    np.testing.assert_allclose(spread(np.ones((1, 1, spread.count))), 1)
    one = spread(np.eye(spread.count)[None])
    assert ((one >= 0) & (one <= 1)).all()
    np.testing.assert_allclose(one.sum(1), 1)


def test_tubes_follow_what_moves() -> None:
    rng = np.random.default_rng(0)
    still = gaussian_filter(rng.random((40, 60)), 1.5)
    clip = np.stack([np.roll(still, 2 * t, 1)[:, 10:50] for t in range(6)])[None, None].repeat(3, 1)
    spread = regions_of("tubes", (1, 2, 4)).draw(clip, rng)
    labels = spread(np.arange(spread.count, dtype=float)[None, None])[0, 0]
    for t in range(6):
        inside = np.s_[4:-4, 12:-12]
        moved = np.roll(labels[0], 2 * t, 1)
        assert (labels[t][inside] == moved[inside]).mean() > 0.9
    assert spread.count == 8
    (still_run, moved_run) = (regions_of("tubes", (n, 2, 4)).draw(clip, rng) for n in (6, 1))
    assert still_run.count == 48
    assert moved_run.count == 8


def test_supervoxels_share_out_space_and_time() -> None:
    clip = np.zeros((1, 3, 6, 12, 12))
    clip[:, :, 3:, :, 6:] = 1.0
    spread = regions_of("superpixels", 8).draw(clip, np.random.default_rng(0))
    ones = spread(np.eye(spread.count)[None])[0] > 0
    assert 2 <= spread.count <= 16
    assert all(not (one[clip[0, 0] > 0].any() and one[clip[0, 0] == 0].any()) for one in ones)


def test_noise_is_the_linear_imputation_of_road() -> None:
    """Each hidden place is the weighted mean of its neighbours, and what stays is as it was."""
    x, mask = X.double(), np.ones((1, 1, 14, 14))
    mask[..., 3:7, 5:9] = 0
    filled = fill_of(x, "noise", lambda x: x, np.random.default_rng(0))(mask)
    np.testing.assert_array_equal(filled.numpy()[:, :, mask[0, 0] == 1], x.numpy()[:, :, mask[0, 0] == 1])
    weights = np.array([[1 / 12, 1 / 6, 1 / 12], [1 / 6, 0, 1 / 6], [1 / 12, 1 / 6, 1 / 12]])
    around = np.stack([[convolve(c, weights, mode="nearest") for c in one] for one in filled.numpy()])
    gap = (filled.numpy() - around)[:, :, 3:7, 5:9]
    assert 0.005 < gap.std() < 0.02  # the noise, of 0.01
    assert np.abs(filled.numpy() - x.numpy())[:, :, 3:7, 5:9].max() > 0.1


def test_frozen_frames_repeat_what_was_last_seen() -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, -1].mean((1, 2, 3))[:, None].repeat(1, 2)

    clip = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(1, 3, 6, 8, 8).contiguous()
    found = cc.KernelSHAP(Last(), regions="frames", baseline="freeze", signed=True).explain(clip, 0)
    per_frame = found.maps[0, 0, :, 0, 0]
    assert per_frame.argmax() == 5  # the frame that the score reads
    np.testing.assert_allclose(per_frame.sum(), 5, atol=1e-4)  # from the first frame everywhere to the last


def test_saved_and_joined_with_the_interval(tmp_path: Path) -> None:
    net = bent()
    whole = cc.RISE(net, until=None, budget=60, batch_size=1).explain(X, 1)
    assert whole.interval is not None
    assert whole.interval.shape == whole.maps.shape
    loaded: Any = cc.load(whole.save(tmp_path / "x.npz"))
    np.testing.assert_array_equal(loaded.interval, whole.interval)
    assert cc.GradCAM(net).explain(X, 1).interval is None


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "a layer": (lambda net: cc.RISE(net, "0"), LayerError, "leave conv_layer out"),
    "regions": (lambda net: cc.RISE(net, regions="cell"), InputError, "no regions `cell`"),
    "a baseline": (lambda net: cc.RISE(net, baseline="blurr"), InputError, "no baseline `blurr`"),
    "no frames to freeze": (lambda net: cc.RISE(net, baseline="freeze"), InputError, "for clips"),
    "no frames": (lambda net: cc.RISE(net, regions="frames"), InputError, "for clips"),
    "cells": (lambda net: cc.RISE(net, cells=0), InputError, "cells= is 0"),
    "parts of cells": (lambda net: cc.RISE(net, cells=2.5), InputError, "cells= is 2.5"),
    "no superpixels": (lambda net: cc.LIME(net, regions="superpixels", cells=0), InputError, "cells= is 0"),
    "axes of superpixels": (
        lambda net: cc.LIME(net, regions="superpixels", cells=(3, 3)),
        InputError,
        r"cells= is \(3, 3\); expected a positive whole number",
    ),
    "no steps": (lambda net: cc.RISE(net, regions="features"), InputError, "for sequences"),
    "no baseline": (lambda net: cc.RISE(net, baseline=None), InputError, "baseline= is None; choose one of"),
    "no array": (
        lambda net: cc.Occlusion(net, baseline={}),
        InputError,
        "baseline= is of type dict, which is not an arr",
    ),
    "several baselines": (
        lambda net: cc.RISE(net, baseline=np.zeros((2, 3, 14, 14))),
        InputError,
        "baseline= holds 2 inputs; give one",
    ),
    "more than the range": (lambda net: cc.RISE(net, until=2), InputError, "until is 2; expected a share"),
    "a budget": (lambda net: cc.RISE(net, budget=2), InputError, "budget is 2"),
    "part of a window": (lambda net: cc.Occlusion(net, window=2.5), InputError, "window= is 2.5"),
    "a window": (lambda net: cc.Occlusion(net, window=(1, 2, 3)), InputError, "window= is"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_one_line(kind: str) -> None:
    make, error, says = REFUSED[kind]
    with pytest.raises(error, match=says) as caught:
        make(bent()).explain(X, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [cc.RISE, cc.LIME, cc.KernelSHAP])
def test_one_region_is_worth_all_there_is_to_lose(method: Any) -> None:
    net = linear()
    found = method(net, regions="cells", cells=1, baseline="zero", signed=True).explain(X, 2)
    expected = (net(X) - net(0 * X))[:, 2].detach().numpy()
    np.testing.assert_allclose(
        found.maps[:, 0], np.broadcast_to(expected[:, None, None], (2, 14, 14)), atol=1e-5
    )


class Centred(nn.Module):
    """Scores less half of their mean over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = bent()

    def forward(self, x: Tensor) -> Tensor:
        scores = self.net(x)
        return scores - scores.mean(0) / 2


@pytest.mark.parametrize("method", [cc.RISE, cc.Occlusion, cc.ScoreCAM, cc.AblationCAM, cc.ReciproCAM])
def test_a_change_is_scored_by_itself_where_samples_couple(method: Any) -> None:
    net = Centred().eval()
    options: dict[str, Any] = {"until": None, "budget": 150} if method is cc.RISE else {}
    layer = [] if method in (cc.RISE, cc.Occlusion) else ["net.0"]
    found = method(net, *layer, signed=True, **options).explain(X[:1], 1)
    alone = method(net, *layer, signed=True, batch_size=1, **options).explain(X[:1], 1)
    np.testing.assert_allclose(found.maps, alone.maps, rtol=0, atol=1e-6 * np.abs(alone.maps).max())
    assert any("samples of a batch change each other's scores" in f.text for f in found.findings)
    plain = method(net.net, *(["0"] if layer else []), signed=True, **options).explain(X[:1], 1)
    assert not plain.findings


def test_random_scores_are_no_coupling() -> None:
    net = nn.Sequential(nn.Dropout(0.5), linear())
    calls: list[int] = []
    net.register_forward_hook(lambda module, args, output: calls.append(len(output)))
    cc.Occlusion(net, baseline="zero").explain(X, 1)
    assert max(calls) > 8


@pytest.mark.parametrize("method", [cc.RISE, cc.LIME, cc.KernelSHAP])
def test_rounding_is_no_evidence(method: Any) -> None:
    """What nothing moves is zero and known at once; where scores are not finite, nothing is to be learnt."""
    passes = [0]

    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            passes[0] += len(x)
            noise = 1e-7 * torch.cos(1e3 * x.sum((1, 2, 3)))
            return (0.7 + noise)[:, None] * torch.tensor([1.0, 2.0, torch.nan])

    found = method(Deaf(), until=0.01, signed=True).explain(X, [cc.targets.Class(0), cc.targets.Class(1)])
    assert not found.maps.any()
    assert any("4 of 4 scores stay the same whatever is hidden" in finding.text for finding in found.findings)
    assert passes[0] < 3000
    passes[0] = 0
    method(Deaf(), until=0.01, regions="cells").explain(X, 2)
    assert passes[0] < 3000  # of two samples; the budget allows 4,000
    windows = cc.Occlusion(Deaf(), window=5, signed=True).explain(X, 0)
    assert not windows.maps.any()
    assert any("2 of 2 scores stay the same" in finding.text for finding in windows.findings)


def test_what_is_not_finite_is_refused_or_said(recwarn: pytest.WarningsRecorder) -> None:
    broken = X.clone()
    broken[0, 0, 3, 3] = torch.nan
    with pytest.raises(InputError, match="inputs hold NaN or infinity"):
        cc.LIME(bent(), regions="superpixels").explain(broken, 1)
    found = cc.Occlusion(bent(), baseline="noise", window=7, stride=7).explain(broken, 1)
    assert "not finite" in found.findings[0].text
    assert np.isfinite(found.maps[1]).all()
    assert not recwarn.list


def test_a_network_takes_no_whole_numbers() -> None:
    with pytest.raises(InputError, match="no input holds floating-point numbers"):
        cc.RISE(bent()).explain((X * 255).byte(), 1)


def test_a_function_of_whole_numbers_turns_them_back_itself() -> None:
    def served(batch: np.ndarray) -> np.ndarray:
        assert batch.dtype == np.uint8
        return batch.astype(np.float64).sum((2, 3))

    x = (X * 255).byte().numpy()
    with pytest.raises(InputError, match=r"inputs are uint8.*x\.round\(\)\.astype\(\"uint8\"\)"):
        cc.Occlusion(cc.blackbox(served)).explain(x, 1)
    box = cc.blackbox(lambda batch: served(batch.round().astype("uint8")))
    found = cc.Occlusion(box, window=1, stride=1, baseline="zero").explain(x.astype(np.float32), 1)
    np.testing.assert_allclose(found.maps[:, 0], x[:, 1], atol=1e-3)


class Stop(KeyboardInterrupt):
    """Ctrl-C, which pytest does not take for its own."""


MASKS = {
    "rise": lambda net: cc.RISE(net, budget=100),
    "kernelshap": lambda net: cc.KernelSHAP(net, cells=4, budget=100),
    "lime": lambda net: cc.LIME(net, cells=6, budget=100),
    "noise": lambda net: cc.RISE(net, budget=40, baseline="noise"),
    "occlusion": lambda net: cc.Occlusion(net),
    "scorecam": lambda net: cc.ScoreCAM(net, "0", channels=4),
    "sscam": lambda net: cc.SSCAM(net, "0", samples=2),
    "ablationcam": lambda net: cc.AblationCAM(net, "0"),
    "reciprocam": lambda net: cc.ReciproCAM(net, "0"),
}


@pytest.mark.parametrize("kind", MASKS)
def test_what_is_interrupted_can_be_run_again(kind: str) -> None:
    net, runs, stop_at = bent(), 0, 0
    method = MASKS[kind](net)

    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal runs
            runs += 1
            if runs == stop_at:
                raise Stop
            return x

    net.append(Counted())
    before = method.explain(X, 1)
    stop_at, runs = runs - 1, 0
    with pytest.raises(Stop):
        method.explain(X, 1)
    stop_at = 0
    again = method.explain(X, 1)
    np.testing.assert_array_equal(again.maps, before.maps)  # seeds are the method's own, too
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_gaps_between_windows_are_told() -> None:
    found = cc.Occlusion(linear(), window=2, stride=4, baseline="zero").explain(X, 1)
    assert any("were never hidden" in finding.text for finding in found.findings)
    assert not cc.Occlusion(linear(), window=4, stride=4, baseline="zero", signed=True).explain(X, 1).findings


@pytest.mark.parametrize("shape", [(3, 16), (3, 14, 14), (3, 4, 8, 8)])
def test_an_interval_of_any_grid_covers_the_effect_of_all_masks(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rank = len(shape) - 1
    pieces = {1: 8, 2: (2, 4), 3: (2, 2, 2)}[rank]
    conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    net = nn.Sequential(conv(3, 6, 3), nn.Tanh(), nn.Flatten(2)).eval()
    x = torch.rand(2, *shape)

    class Largest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.fc = net, nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.net(x).amax(2))

    whole = Largest().eval()
    options: dict[str, Any] = {"regions": "cells", "cells": pieces, "baseline": "zero", "signed": True}
    found = cc.RISE(whole, until=0.2, budget=4000, **options).explain(x, 1)
    assert not found.findings
    spread = regions_of("cells", pieces).draw(x.numpy(), np.random.default_rng(0))
    every = np.array([[m >> j & 1 for j in range(8)] for m in range(256)], float)
    masks = torch.from_numpy(spread(every[None])[0]).float()
    with torch.no_grad():
        scores = np.stack([whole(masks[:, None] * one)[:, 1].numpy() for one in x])
    effects = [[s[every[:, j] == 1].mean() - s[every[:, j] == 0].mean() for j in range(8)] for s in scores]
    truth = spread(np.array(effects)[:, None])
    assert (np.abs(found.maps - truth) <= found.interval).mean() > 0.9
    assert (
        found.interval <= 0.2 * np.ptp(found.maps, axis=tuple(range(2, rank + 2)), keepdims=True) + 1e-9
    ).all()


def test_intervals_of_views_are_moved_back_with_the_maps() -> None:
    net, options = bent(), {"budget": 200, "until": None, "signed": True}
    plain, mirrored = (cc.RISE(net, **options).explain(x, 1) for x in (X, X.flip(3)))
    both = cc.RISE(net, views="flip", **options).explain(X, 1)
    np.testing.assert_allclose(both.interval, (plain.interval + mirrored.interval[..., ::-1]) / 2, atol=1e-6)


def test_a_map_does_not_depend_on_how_long_its_neighbours_take() -> None:
    net = bent()
    hard = torch.cat([X, 5 * X.flip(3)])
    options: dict[str, Any] = {"until": 0.6, "budget": 6000, "cells": 3, "signed": True}
    together = cc.RISE(net, **options).explain(hard, [cc.targets.Class(1), cc.targets.Class(2)])
    for sample in range(len(hard)):
        alone = cc.RISE(net, **options).explain(hard[sample : sample + 1], 2)
        np.testing.assert_allclose(together.maps[sample, 1], alone.maps[0, 0], atol=1e-5)
        np.testing.assert_allclose(together.interval[sample, 1], alone.interval[0, 0], atol=1e-5)


def scored(weights: np.ndarray) -> Any:
    """A black box of two scores, nothing and the sum of weighted values."""
    return cc.blackbox(lambda x: np.stack([0 * x[:, 0, 0, 0], (x * weights).sum((1, 2, 3))], 1))


@pytest.mark.parametrize("method", [cc.LIME, cc.KernelSHAP])
@pytest.mark.parametrize(("cells", "budget"), [(8, 100), (8, 340), (12, 800)])
def test_a_small_budget_for_many_regions_claims_no_more_than_it_knows(
    method: Any, cells: int, budget: int
) -> None:
    """A regression on fewer pairs of masks than regions is wrong by the same in every block."""
    x, weights = np.random.default_rng(0).random((2, 1, 24, 24)).astype(np.float32)
    options: dict[str, Any] = {"regions": "cells", "cells": cells, "budget": budget, "until": None}
    found = method(scored(weights), baseline="zero", signed=True, **options).explain(x[None], 1)
    expected = summed(x * weights, cells)
    assert (np.abs(found.maps[:, 0] - expected) <= found.interval[:, 0] + 1e-4).all()
    unknown = np.isinf(found.interval).all()
    assert unknown == any("too few for intervals; raise budget=" in f.text for f in found.findings)
    assert unknown == (budget == 100)


@pytest.mark.parametrize(("regions", "most"), [(6, 5), (7, 4)])
def test_intervals_hold_for_what_few_masks_show(regions: int, most: int) -> None:
    """A score that is more than zero with many regions together may be zero in all blocks looked at."""
    every = np.array([[m >> j & 1 for j in range(regions)] for m in range(2**regions)], float)
    values = (every.sum(1) > most).astype(float)
    truth = values[every[:, 0] == 1].mean() - values[every[:, 0] == 0].mean()
    box = cc.blackbox(lambda x: (x[:, 0].sum(1, keepdims=True) > most).astype(np.float64), axes="ct")
    options: dict[str, Any] = {"regions": "cells", "cells": regions, "baseline": "zero", "batch_size": None}
    x, missed, runs = np.ones((1, 1, regions), np.float32), 0, 12
    for seed in range(runs):
        method = cc.RISE(box, seed=seed, budget=300, signed=True, **options)
        found = method.explain(x, cc.targets.Regression(0))
        missed += int((np.abs(found.maps - truth) > found.interval + 1e-6).sum())
    assert missed <= 0.05 * runs * regions


def test_a_few_regions_are_shown_in_all_ways() -> None:
    passes: list[int] = []

    def score(x: np.ndarray) -> np.ndarray:
        passes.append(len(x))
        return np.stack([x.min((1, 2, 3)), x.reshape(len(x), -1) @ np.arange(16)], 1)

    x, box = np.ones((1, 1, 4, 4), np.float32), cc.blackbox(score)
    found = cc.RISE(box, regions="cells", cells=2, baseline="zero", until=0.01).explain(x, 0)
    np.testing.assert_allclose(found.maps, 1 / 8, atol=1e-6)  # one of the 8 masks with a cell shows all
    assert not found.interval.any()
    assert sum(passes) < 20
    passes.clear()
    options: dict[str, Any] = {"cells": 4, "baseline": "zero", "budget": 10**7}
    cc.KernelSHAP(box, regions="cells", batch_size=None, **options).explain(x, 1)
    assert sum(passes) < 10_000  # of 65,536 masks


def test_a_region_for_each_pixel_takes_little_memory() -> None:
    rng, weights = np.random.default_rng(0), np.arange(200.0 * 200)
    effects = balanced(lambda shown: (shown @ weights)[:, None, None], len(weights), 2, rng)
    assert effects.shape == (1, 1, 40_000)  # a whole matrix of Hadamard would have 4 · 10⁹ numbers
