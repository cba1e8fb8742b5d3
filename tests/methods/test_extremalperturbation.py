"""Extremal perturbation: its slopes against finite differences, models whose part is known, and its area."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, LayerError
from chronocam.maps.blur import blurred
from chronocam.methods.extremalperturbation import LEVELS, _blurs, _Levels, _Smooth, of_area, of_area_slope

GRIDS = [(40,), (36, 48), (5, 30, 24)]


class Contrast(nn.Module):
    """Scores how much values differ from their neighbours within one part."""

    def __init__(self, *part: slice) -> None:
        super().__init__()
        self.part, self.scale = (slice(None), *part), nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        edges = (x[..., 1:] - x[..., :-1]).abs().mean(1)
        return self.scale * edges[self.part].flatten(1).mean(1, keepdim=True)


def noise(*grid: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *grid, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_slope_equals_finite_differences(grid: tuple[int, ...]) -> None:
    smooth, rng = _Smooth(grid, None, 1.0), np.random.default_rng(1)
    theta, pull = rng.normal(size=(2, *smooth.cells)), rng.normal(size=(2, *grid))

    def value(theta: np.ndarray) -> float:
        return float((smooth.laid(of_area(smooth.blur(theta) * 5, 0.3)) * pull).sum())

    mask = of_area(smooth.blur(theta) * 5, 0.3)
    np.testing.assert_allclose(mask.reshape(2, -1).mean(1), 0.3, atol=1e-9)
    found = smooth.pull(of_area_slope(smooth.gathered(pull), mask) * 5)
    for _ in range(3):
        way = rng.normal(size=theta.shape)
        rise = (value(theta + 1e-5 * way) - value(theta - 1e-5 * way)) / 2e-5
        np.testing.assert_allclose((found * way).sum(), rise, rtol=1e-4, atol=1e-6)


def test_the_input_is_shown_between_its_levels_of_blur() -> None:
    x = noise(20, 30).double()
    levels = _Levels([*_blurs(x), x])
    for i in (0, 3, LEVELS - 1):
        shown = levels.shown(np.full((2, 20, 30), i / (LEVELS - 1)))
        torch.testing.assert_close(shown, blurred(x, 0.09 * 30 * (1 - i / (LEVELS - 1))))
    mask = torch.rand(2, 20, 30, generator=torch.Generator().manual_seed(2)).double().numpy()
    pull, step = torch.randn_like(x), 1e-6
    rise = ((levels.shown(mask + step) - levels.shown(mask - step)) * pull).sum(1) / (2 * step)
    np.testing.assert_allclose(levels.slope(pull, mask), rise, atol=1e-6)
    assert np.abs(levels.slope(pull, np.ones_like(mask))).max() > 0  # from where masks start


@pytest.mark.parametrize("area", [0.06, 0.2])
def test_the_part_that_counts_is_shown_and_the_area_is_kept(area: float) -> None:
    net = Contrast(slice(4, 16), slice(20, 32))  # a sixteenth of the picture
    maps = cc.ExtremalPerturbation(net, area=area).explain(noise(48, 48), cc.targets.Regression(0)).maps
    np.testing.assert_allclose(maps.mean((2, 3)), area, atol=1e-4)
    inside = maps[:, 0, 2:7, 9:14]
    if area > 0.1:
        assert inside.min() > 0.8
    else:
        assert inside.sum() > 0.8 * maps.sum()


@pytest.mark.parametrize("baseline", ["zero", "mean", np.full((3, 1, 1), 0.5)], ids=["zero", "mean", "array"])
def test_what_is_hidden_is_replaced_by_the_baseline(baseline: Any) -> None:
    """Values themselves are scored, which a blur would leave: one part's are far from any baseline."""
    net, x = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(12, 1)), torch.zeros(1, 3, 16, 16)
    with torch.no_grad():
        net[2].weight.fill_(1.0)
    x[:, :, 8:, :8] = 5.0
    explained = cc.ExtremalPerturbation(net, area=0.25, steps=40, baseline=baseline, sigma=2.0)
    maps = explained.explain(x, cc.targets.Regression(0)).maps
    assert maps[0, 0, 4:, :4].sum() > 0.9 * maps.sum()


def test_a_clip_shows_the_frames_that_count() -> None:
    net = Contrast(slice(5, 8))
    explanation = cc.ExtremalPerturbation(net, area=0.3, steps=60).explain(
        noise(12, 24, 24, batch=1), cc.targets.Regression(0)
    )
    assert explanation.dims[2:] == ("time", "height", "width")
    frames = explanation.maps[0, 0].mean((1, 2))
    assert frames[5:8].min() > 0.8
    assert frames[[0, 1, 2, 10, 11]].max() < 0.2


def test_too_small_an_area_is_said_and_a_large_one_is_not() -> None:
    net, x = Contrast(slice(0, 48), slice(0, 47)), noise(48, 48, batch=1)
    for area, said in ((0.1, True), (0.8, False)):
        method = cc.ExtremalPerturbation(net, area=area, steps=20)
        findings = method.explain(x, cc.targets.Regression(0)).findings
        assert any("larger area=" in finding.text for finding in findings) is said


OTHERS: dict[str, Any] = {"area": 0.3, "baseline": "zero", "steps": 4, "lr": 0.1, "sigma": 5.0, "drift": 0.0}


@pytest.mark.parametrize("option", OTHERS)
def test_every_argument_changes_the_mask(option: str) -> None:
    net, x = Contrast(slice(1, 3), slice(3, 9)), noise(4, 16, 16, batch=1)

    def laid(**options: Any) -> np.ndarray:
        method = cc.ExtremalPerturbation(net, **{"steps": 6, **options})
        return np.asarray(method.explain(x, cc.targets.Regression(0)).upsample())

    assert np.abs(laid() - laid(**{option: OTHERS[option]})).max() > 1e-2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"area": 0.0}, "area is 0.0; expected a share"),
        ({"area": 1.5}, "area is 1.5; expected a share"),
        ({"steps": 0}, "steps is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"sigma": 0.5}, "sigma is 0.5; expected at least one pixel"),
        ({"drift": -1.0}, "drift is -1.0"),
        ({"baseline": "freeze"}, "no baseline `freeze`; choose one of blur, mean, zero, or give"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cc.ExtremalPerturbation(nn.Identity(), **options)


def test_a_layer_is_refused() -> None:
    with pytest.raises(LayerError, match="leave conv_layer out"):
        cc.ExtremalPerturbation(nn.Sequential(nn.Conv2d(1, 1, 1)), "0")
