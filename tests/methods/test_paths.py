"""Gradients along a way to the input: their sum is the rise of the score, and each is what calculus says."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError, LayerError
from chronocam.maps.blur import blurred

SHAPES: dict[str, tuple[int, ...]] = {"signal": (3, 24), "picture": (3, 12, 16), "clip": (3, 4, 8, 8)}


def smooth(kind: str) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    shape = SHAPES[kind]
    conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 2]
    x = torch.rand(2, *shape, dtype=torch.float64)
    body = nn.Sequential(conv(3, 6, 3, 2, 1), nn.Softplus(), conv(6, 4, 3, 1, 1), nn.Tanh(), nn.Flatten())
    net = nn.Sequential(*body, nn.Linear(body.double()(x).shape[1], 3).double())
    return net.eval(), x


def gradient(net: nn.Module, x: Tensor, c: int) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(net(x)[:, c].sum(), x)[0]


def blur(x: Tensor, sigma: float) -> Tensor:
    """The blur of SciPy over the places of each frame."""
    out = x.numpy()
    for axis in range(max(2, x.ndim - 2), x.ndim):
        reach = int(np.ceil(4 * sigma))
        out = gaussian_filter1d(out, sigma, axis=axis, mode="reflect", radius=reach) if sigma else out
    return torch.from_numpy(np.ascontiguousarray(out))


def summed(maps: np.ndarray) -> np.ndarray:
    return maps[:, 0].reshape(len(maps), -1).sum(1)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("baseline", ["zero", "mean", "blur", "array"])
def test_integrated_gradients_add_up_to_the_rise_of_the_score(kind: str, baseline: str) -> None:
    net, x = smooth(kind)
    start = {
        "zero": 0 * x,
        "mean": x.mean(tuple(range(2, x.ndim)), keepdim=True).expand_as(x),
        "blur": blur(x, 0.1 * max(x.shape[2:])),
        "array": torch.full_like(x, 0.3),
    }[baseline]
    given = np.full((3, *[1] * (x.ndim - 2)), 0.3) if baseline == "array" else baseline
    found = cc.IntegratedGradients(net, baseline=given, steps=20).explain(x, 1)
    rise = (net(x) - net(start))[:, 1].detach().numpy()
    np.testing.assert_allclose(summed(found.maps), rise, rtol=1e-3, atol=1e-6)
    # Each value by a midpoint rule of its own.
    shares = (np.arange(200) + 0.5) / 200
    mean = torch.stack([gradient(net, start + s * (x - start), 1) for s in shares]).mean(0)
    expected = ((x - start) * mean).sum(1).numpy()
    np.testing.assert_allclose(found.maps[:, 0], expected, atol=1e-4 * np.abs(expected).max())
    assert not found.findings


@pytest.mark.parametrize("kind", SHAPES)
def test_blurig_is_the_integral_over_the_blur(kind: str) -> None:
    net, x = smooth(kind)
    found = cc.BlurIG(net, sigma=3.0, steps=100).explain(x, 2)
    at = np.arange(101) / 100
    expected = torch.zeros_like(x)
    for low, high in pairwise(at):
        sharpened = blur(x, 3 * low**2) - blur(x, 3 * high**2)
        expected += gradient(net, blur(x, 3 * ((low + high) / 2) ** 2), 2) * sharpened
    scale = float(expected.sum(1).abs().max())
    np.testing.assert_allclose(found.maps[:, 0], expected.sum(1).numpy(), atol=1e-4 * scale)
    rise = (net(x) - net(blur(x, 3.0)))[:, 2].detach().numpy()
    np.testing.assert_allclose(summed(found.maps), rise, atol=1e-2 * np.abs(rise).max())


def test_expected_gradients_are_the_mean_over_the_data() -> None:
    net, x = smooth("picture")
    data = torch.rand(4, *SHAPES["picture"], generator=torch.Generator().manual_seed(3)).double()
    found = cc.ExpectedGradients(net, baseline=data, steps=400, seed=1).explain(x, 1)
    expected = torch.zeros_like(x)
    for one in data:
        for share in (np.arange(40) + 0.5) / 40:
            expected += (x - one) * gradient(net, one + share * (x - one), 1) / 160
    scale = float(expected.sum(1).abs().max())
    np.testing.assert_allclose(found.maps[:, 0], expected.sum(1).numpy(), atol=0.03 * scale)
    rise = (net(x)[:, 1] - net(data)[:, 1].mean()).detach().numpy()
    np.testing.assert_allclose(summed(found.maps), rise, atol=0.03 * np.abs(rise).max())
    again = cc.ExpectedGradients(net, baseline=list(data), steps=400, seed=1).explain(x, 1)
    np.testing.assert_array_equal(again.maps, found.maps)


def test_too_few_steps_are_told_with_the_gap() -> None:
    net, x = smooth("picture")
    (finding,) = cc.IntegratedGradients(net, baseline=np.float32(9.0), steps=1).explain(x, 1).findings
    assert "adds up to" in finding.text
    assert "1 steps=" in finding.text


def test_rounding_is_no_gap() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 49, 2)).eval()
    found = cc.BlurIG(net).explain(torch.full((1, 3, 14, 14), 0.5), 1)  # a blur changes rounding alone
    assert not any("adds up to" in finding.text for finding in found.findings)


def test_only_the_explained_of_several_inputs_moves() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Linear(5, 4)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.a(x).tanh().mean((2, 3)) * self.b(y)

    torch.manual_seed(0)
    net, x, y = Two().eval(), torch.rand(2, 3, 9, 9), torch.rand(2, 5)
    found = cc.IntegratedGradients(net, steps=20).explain((x, y), 1)
    rise = (net(x, y) - net(0 * x, y))[:, 1].detach().numpy()
    np.testing.assert_allclose(summed(found.maps), rise, rtol=1e-3)


@pytest.mark.parametrize("sigma", [0.4, 2.0, 30.0])
def test_the_blur_is_that_of_scipy(sigma: float) -> None:
    x = torch.rand(2, 3, 9, 13, dtype=torch.float64)
    np.testing.assert_allclose(blurred(x, sigma), blur(x, sigma), atol=1e-10)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "a layer": (lambda net: cc.IntegratedGradients(net, "0"), LayerError, "leave conv_layer out"),
    "a name": (lambda net: cc.IntegratedGradients(net, baseline="blurr"), InputError, "no baseline `blurr`"),
    "no step": (lambda net: cc.IntegratedGradients(net, steps=0), InputError, "steps is 0"),
    "a size": (
        lambda net: cc.IntegratedGradients(net, baseline=np.zeros((3, 5, 5))),
        InputError,
        "has shape",
    ),
    "many": (
        lambda net: cc.IntegratedGradients(net, baseline=np.zeros((4, 3, 12, 16))),
        InputError,
        "ExpectedGradients",
    ),
    "none": (lambda net: cc.ExpectedGradients(net), InputError, "give baseline="),
    "no numbers": (lambda net: cc.IntegratedGradients(net, baseline=np.nan), InputError, "is not finite"),
    "ragged": (
        lambda net: cc.ExpectedGradients(net, baseline=[[1.0], [1.0, 2.0]]),
        InputError,
        "is not an array",
    ),
    "no inputs": (
        lambda net: cc.ExpectedGradients(net, baseline=np.zeros((0, 3, 12, 16))),
        InputError,
        "holds no inputs",
    ),
    "a blur": (lambda net: cc.BlurIG(net, sigma=-1), InputError, "sigma is -1"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_one_line(kind: str) -> None:
    make, error, says = REFUSED[kind]
    net, x = smooth("picture")
    with pytest.raises(error, match=says) as caught:
        make(net).explain(x, 1)
    assert "\n" not in str(caught.value)
