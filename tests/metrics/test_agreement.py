"""Agreement of maps under noise, in closed form: maps that stay, maps that are noise, maps in between."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import chronocam as cc
from chronocam.errors import InputError
from chronocam.metrics import Agreement, noise_agreement

RNG = np.random.default_rng(0)
INPUTS = RNG.uniform(-1, 1, (3, 1, 20, 20)).astype(np.float32)
WEIGHTS = RNG.standard_normal((20, 20))


def test_the_gradient_of_a_linear_model_agrees_with_itself() -> None:
    found = noise_agreement(lambda x: np.broadcast_to(WEIGHTS, (len(x), 20, 20)), INPUTS)
    np.testing.assert_allclose(found.spearman, [1, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(found.cosine, [1, 1, 1], rtol=1e-12)
    interval = found.intervals()["spearman"]
    assert (interval.low, interval.high, interval.count) == pytest.approx((1, 1, 3))


def test_a_gradient_of_pure_noise_does_not() -> None:
    """y = Σ sin(ω x) / ω with a huge ω is all but constant, and its gradient cos(ω x) is noise."""
    found = noise_agreement(lambda x: np.cos(1e6 * x[:, 0].astype(float)), INPUTS)
    assert np.abs(found.spearman).max() < 0.05  # of 400 cells one pair has 0.05, and there are 28
    assert np.abs(found.cosine).max() < 0.05


def test_in_between() -> None:
    """w·x with x = ±1 and noise of deviation s: E cosine = Σw² x² / Σw² (x² + s²) = 1 / (1 + s²)."""
    x = np.where(RNG.random((1, 1, 100, 100)) < 0.5, -1.0, 1.0)
    w = RNG.standard_normal((100, 100))
    for noise in (0.05, 0.25):
        found = noise_agreement(lambda x: w * x[:, 0], x, noise=noise)
        assert found.cosine == pytest.approx(1 / (1 + (2 * noise) ** 2), abs=0.01)


def test_all_pairs_are_averaged_for_every_sample_and_target() -> None:
    seen: list[np.ndarray] = []

    def explain(x: np.ndarray) -> Any:
        maps = np.stack([x[:, 0], -(np.abs(x[:, 0]) ** 3)], axis=1)
        seen.append(maps)
        return torch.from_numpy(maps)

    found = noise_agreement(explain, INPUTS, noise=0.3, draws=4, seed=5)
    assert len(seen) == 4
    assert found.spearman.shape == found.cosine.shape == (3, 2)
    for i, k in np.ndindex(3, 2):
        flat = [maps[i, k].ravel().astype(float) for maps in seen]
        pairs = list(combinations(flat, 2))
        assert found.spearman[i, k] == pytest.approx(np.mean([spearmanr(a, b).statistic for a, b in pairs]))
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
        assert found.cosine[i, k] == pytest.approx(np.mean(cosines))
    assert found.intervals()["cosine"].mean == pytest.approx(found.cosine.mean())


def test_what_the_noise_is() -> None:
    """Its deviation is a share of each sample's range, its draw the same for all, its type the inputs'."""
    seen: list[np.ndarray] = []
    wide = INPUTS * np.array([1, 10, 0], np.float32).reshape(3, 1, 1, 1)

    def explain(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return x[:, 0]

    first = noise_agreement(explain, wide, noise=0.1, draws=6, seed=1)
    draws = np.array(seen, float) - wide
    ranges = np.ptp(wide.reshape(3, -1), axis=1)
    assert draws.std(axis=(0, 2, 3, 4)) == pytest.approx(0.1 * ranges, rel=0.05)
    np.testing.assert_allclose(draws[:, 0] / ranges[0], draws[:, 1] / ranges[1], atol=1e-6)
    assert seen[0].dtype == np.float32
    assert not np.array_equal(seen[0], seen[1])
    again = noise_agreement(explain, wide, noise=0.1, draws=6, seed=1)
    np.testing.assert_array_equal(first.spearman, again.spearman)
    other = noise_agreement(explain, wide, noise=0.1, draws=6, seed=2)
    assert (first.spearman[:2] != other.spearman[:2]).all()
    alone = noise_agreement(explain, wide[1:2], noise=0.1, draws=6, seed=1)
    np.testing.assert_allclose(alone.spearman[0], first.spearman[1])
    assert first.spearman[2] == first.cosine[2] == 0  # a map of zeros says nothing


def test_clips_have_grids_of_three_axes() -> None:
    clips = RNG.standard_normal((2, 1, 4, 6, 6))
    assert noise_agreement(lambda x: x[:, 0], clips, rank=3).cosine.shape == (2,)
    assert noise_agreement(lambda x: x[:, 0], clips).cosine.shape == (2, 4)


def test_through_a_network() -> None:
    """Far from the minimum of a loss maps agree, at its minimum they are noise."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.Softplus(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 1),
    )  # fmt: skip
    best = net(torch.from_numpy(INPUTS)).detach()

    def agreement(y: torch.Tensor) -> Agreement:
        target = cc.targets.NegativeLoss(torch.nn.functional.mse_loss, y)
        return noise_agreement(lambda x: cc.GradCAM(net, "1").explain(x, target).maps, INPUTS, noise=0.05)

    assert agreement(best + 1).cosine.min() > 0.98
    assert np.abs(agreement(best).cosine).max() < 0.5  # the sign of the residual is that of the noise


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": 0}, "noise is 0; expected a positive share"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"draws": 1}, "draws is 1; expected at least two"),
        ({"explain": lambda x: x[:2, 0]}, r"shape \(2, 20, 20\) for 3 inputs"),
        ({"explain": lambda x: x[0, 0]}, r"shape \(20, 20\) for 3 inputs"),
        ({"explain": lambda x: x[:, 0] / np.float32(0)}, "NaN or infinity"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"explain": lambda x: x[:, 0], "inputs": INPUTS, **options}
    with pytest.raises(InputError, match=words):
        noise_agreement(**given)
