"""Score-CAM and its kin, against replicas that run one masked input after the other."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import chronocam as cc
from chronocam.maps.blur import blurred
from chronocam.masks.search import likely_scores

X = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def seeded() -> Any:
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 6, 3, 2, 1), nn.Tanh()]
    return nn.Sequential(*features, nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(24, 4)).double().eval()


def enlarged(a: Tensor) -> Tensor:
    large = F.interpolate(a, size=X.shape[2:], mode="bilinear", align_corners=False)
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    return (large - low) / (high - low).clamp(min=1e-300)


def replica(net: Any, looks: Any) -> np.ndarray:
    """The map of class 1, by the mean score over the looks at each channel."""
    with torch.no_grad():
        a = net[:2](X)
        m = enlarged(a)
        scores = [[net(X * one)[:, 1].numpy() for one in looks(m[:, k : k + 1])] for k in range(a.shape[1])]
    mean = np.mean(scores, axis=1)
    weights = np.exp(mean - mean.max(0))
    return np.einsum("kb,bkhw->bhw", weights / weights.sum(0), a.numpy())


def test_scorecam_is_the_formula() -> None:
    net = seeded()
    found = cc.ScoreCAM(net, "1", signed=True).explain(X, 1)
    np.testing.assert_allclose(found.maps[:, 0], replica(net, lambda m: [m]), atol=1e-6)
    both = cc.ScoreCAM(net, "1", batch_size=3).explain(X, [cc.targets.Class(0), cc.targets.Class(1)])
    np.testing.assert_allclose(both.maps[:, 1], np.maximum(found.maps[:, 0], 0), atol=1e-6)


def test_iscam_is_the_formula() -> None:
    net = seeded()
    found = cc.ISCAM(net, "1", steps=4, signed=True).explain(X, 1)
    expected = replica(net, lambda m: [m * (t / 4) for t in (1, 2, 3, 4)])
    np.testing.assert_allclose(found.maps[:, 0], expected, atol=1e-6)


def test_sscam_without_noise_is_scorecam_and_with_a_little_is_near() -> None:
    net = seeded()
    plain = cc.ScoreCAM(net, "1", signed=True).explain(X, 1).maps
    quiet = cc.SSCAM(net, "1", noise=0.0, samples=2, signed=True).explain(X, 1).maps
    np.testing.assert_allclose(quiet, plain, atol=1e-6)
    noisy = cc.SSCAM(net, "1", noise=0.05, samples=20, signed=True).explain(X, 1).maps
    assert 0 < np.abs(noisy - plain).max() < 0.1 * np.abs(plain).max()


def test_groupcam_is_the_formula() -> None:
    net = seeded()
    a = net[:2](X).detach().requires_grad_()
    g = torch.autograd.grad(net[2:](a)[:, 1].sum(), a)[0]
    parts = (g.mean((2, 3), keepdim=True) * a).detach()
    hidden = blurred(X, 0.1 * 16)
    expected = np.zeros((2, 8, 6))
    with torch.no_grad():
        base = net(hidden)[:, 1]
        for low, high in ((0, 2), (2, 4), (4, 6)):
            group = parts[:, low:high].sum(1, keepdim=True).relu()
            rise = (net(hidden + enlarged(group) * (X - hidden))[:, 1] - base).relu()
            expected += (rise[:, None, None] * group[:, 0]).numpy()
    found = cc.GroupCAM(net, "1", groups=3).explain(X, [cc.targets.Class(1), cc.targets.Class(2)])
    np.testing.assert_allclose(found.maps[:, 0], expected, atol=1e-6)
    alone = cc.GroupCAM(net, "1", groups=3).explain(X, 2)
    np.testing.assert_allclose(found.maps[:, 1], alone.maps[:, 0], atol=1e-6)


def test_a_few_channels_are_scored_and_those_of_most_weight_are_among_them() -> None:
    """The score of a mask is smooth in what it shows, with a peak that few masks are near."""
    rng = np.random.default_rng(0)
    middles = rng.permutation(np.linspace(0, 1, 120))
    masks = np.exp(-(((np.arange(40) / 39 - middles[:, None]) / 0.1) ** 2))
    truth = np.stack([8 * np.exp(-(((middles - peak) / 0.05) ** 2)) for peak in (0.3, 0.8)], axis=1)
    asked: list[int] = []

    def score(some: np.ndarray) -> np.ndarray:
        asked.extend(some.tolist())
        return truth[some][:, None]

    found, share = likely_scores(score, masks, masks[:, None], 30)
    assert share < 0.05
    assert len(asked) == len(set(asked)) == 30
    np.testing.assert_array_equal(found[asked, 0], truth[asked])
    for target in (0, 1):
        own, weights = (np.exp(scores - 8) for scores in (found[:, 0, target], truth[:, target]))
        assert {int(truth[:, target].argmax())} <= set(asked)
        np.testing.assert_allclose(own / own.sum(), weights / weights.sum(), atol=0.02)


def test_how_well_a_map_of_some_channels_is_known_is_told() -> None:
    """Of scores that nothing tells, and of those that masks tell: how far the map is from that of all."""
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((60, 1, 12))
    parts -= parts.mean(axis=2, keepdims=True)
    for smooth in (False, True):
        told, true = list[float](), list[float]()
        for _ in range(20):
            noise = rng.standard_normal(60)
            truth = (parts[:, 0] @ rng.standard_normal(12) * 0.3 if smooth else noise)[:, None, None]
            found, share = likely_scores(lambda some, s=truth: s[some], parts[:, 0], parts, 30)
            maps = [np.einsum("k,kc->c", np.exp(s[:, 0, 0]), parts[:, 0]) for s in (found, truth)]
            maps = [m / np.linalg.norm(m) for m in maps]
            told.append(share)
            true.append(float(np.linalg.norm(maps[0] - maps[1])))
        assert 0.5 < np.sqrt(np.mean(np.square(told)) / np.mean(np.square(true))) < 2


def test_it_stops_where_the_map_is_known_and_says_where_it_is_not() -> None:
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 64, 3, 2, 1), nn.Tanh()]
    net = nn.Sequential(*features, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 4)).eval()
    with torch.no_grad():
        net[-1].weight *= 20
    x, passes = X[:1].float(), list[int]()
    net.register_forward_hook(lambda module, args, output: passes.append(len(output)))

    def explained(**options: Any) -> tuple[cc.Explanation, int]:
        passes.clear()
        return cc.ScoreCAM(net, "1", signed=True, **options).explain(x, 1), sum(passes)

    whole, all_passes = explained()
    loose, few = explained(until=0.5)
    tight, more = explained(until=0.02)
    errors = [np.linalg.norm(one.maps - whole.maps) / np.ptp(whole.maps) for one in (loose, tight)]
    assert few < more <= all_passes
    assert errors[1] < errors[0]
    assert not loose.findings
    capped, least = explained(until=1e-9, channels=8)
    assert least < few
    assert "8 of 64 channels leave the map uncertain by" in capped.findings[-1].text
    alone, _ = explained(channels=1)
    assert "1 of 64 channels leave the map uncertain; raise" in alone.findings[-1].text


def test_channels_that_are_the_same_everywhere_cost_one_pass() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 4)).double().eval()
    with torch.no_grad():
        net[0].bias[2:7] = torch.tensor([-9.0, -8.0, 9.0, 7.0, -7.0])
        net[0].weight[2:7] = 0
        a = net[:2](X)
    passes: list[int] = []
    net.register_forward_hook(lambda module, args, output: passes.append(len(output)))
    found = cc.ScoreCAM(net, "1", signed=True).explain(X, 1)
    masks = enlarged(a)
    with torch.no_grad():
        scores = torch.stack([net(X * masks[:, k : k + 1])[:, 1] for k in range(8)], 1)
    np.testing.assert_allclose(
        found.maps[:, 0], torch.einsum("bk,bkhw->bhw", scores.softmax(1), a), atol=1e-6
    )
    assert passes[-10] == 2 * 4  # three channels, and one of the five that show nothing, of two samples


def test_scorecam_of_some_channels_takes_the_exact_scores_of_those() -> None:
    net = seeded()
    whole = cc.ScoreCAM(net, "1", signed=True).explain(X, 1).maps
    all_but_one = cc.ScoreCAM(net, "1", channels=5, signed=True).explain(X, 1).maps
    np.testing.assert_array_equal(cc.ScoreCAM(net, "1", channels=6, signed=True).explain(X, 1).maps, whole)
    assert 0 < np.abs(all_but_one - whole).max() < 0.2 * np.abs(whole).max()
