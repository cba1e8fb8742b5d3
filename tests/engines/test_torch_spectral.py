"""Convolutions by their spectrum are convolutions, and tails of networks that run them are the same."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import chronocam as cc
from chronocam.engines.torch import spectral

CONVOLUTIONS: dict[int, Any] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
SIZES = {
    "picture": ((7, 7), (3, 3), (1, 1)),
    "oblong": ((5, 8), (1, 5), (0, 2)),
    "even kernel, no padding": ((6, 4), (4, 2), (0, 0)),
    "more padding than half": ((4, 3), (3, 3), (2, 2)),
    "one place": ((1, 1), (3, 3), (1, 1)),
    "signal": ((13,), (5,), (2,)),
    "clip": ((2, 5, 4), (3, 3, 3), (1, 1, 1)),
}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """However small a convolution is, it is computed by its spectrum; the ranks of those that are."""
    ranks: list[int] = []
    real = spectral._by_spectrum

    def noted(x: Any, weight: Any, axes: Any) -> Any:
        ranks.append(len(axes))
        return real(x, weight, axes)

    monkeypatch.setattr(spectral, "_GAIN", 0)
    monkeypatch.setattr(spectral, "_AT_ONCE", 40)  # some products at once, not all
    monkeypatch.setattr(spectral, "_by_spectrum", noted)
    return ranks


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_a_convolution_by_its_spectrum_is_one(always: list[int], kind: str, dtype: Any, error: float) -> None:
    grid, kernel, padding = SIZES[kind]
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(s, dtype=dtype) for s in ((4, 3, *grid), (5, 3, *kernel), (5,)))
    convolve = CONVOLUTIONS[len(grid)]
    found = spectral.convolved(len(grid), x, weight, bias, padding=padding)
    assert found is not None
    np.testing.assert_allclose(found, convolve(x, weight, bias, padding=padding), rtol=0, atol=error)
    assert always == [len(grid)]


def test_others_are_left_alone(always: list[int]) -> None:
    x, weight = torch.randn(4, 4, 6, 6), torch.randn(4, 4, 3, 3)
    assert spectral.convolved(2, x, weight) is not None
    for options in ({"stride": 2}, {"dilation": (1, 2)}, {"padding": "same"}, {"padding": 3}):
        assert spectral.convolved(2, x, weight, **options) is None
    assert spectral.convolved(2, x, weight[:, :1], groups=4) is None
    assert spectral.convolved(2, x[0], weight) is None
    assert spectral.convolved(2, x[:0], weight) is None
    assert spectral.convolved(2, x.bfloat16(), weight.bfloat16()) is None
    assert len(always) == 1
    with spectral.Spectral(), torch.no_grad():
        mapped = torch.vmap(lambda one: torch.conv2d(one, weight))(x[None])
    np.testing.assert_allclose(mapped[0], torch.conv2d(x, weight), atol=1e-5)
    with spectral.Spectral(), torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.conv2d(x, weight).dtype == torch.bfloat16
    with spectral.Spectral():
        assert torch.conv2d(x, weight.requires_grad_()).requires_grad
    assert len(always) == 1


def test_it_is_chosen_where_many_rows_have_many_channels_on_a_small_grid() -> None:
    small, large = (spectral.Axis(n, 3, 1) for n in (7, 28))
    assert spectral._is_faster([small, small], 96, 512, 512)
    assert not spectral._is_faster([small, small], 8, 512, 512)  # the transform of the kernels costs more
    assert not spectral._is_faster([small, small], 96, 32, 32)
    assert not spectral._is_faster([large, large], 96, 512, 512)
    assert not spectral._is_faster([spectral.Axis(7, 1, 0)] * 2, 96, 512, 512)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("method", [cc.AblationCAM, cc.ReciproCAM])
def test_the_rest_of_a_network_gives_the_same_scores(
    always: list[int], monkeypatch: pytest.MonkeyPatch, rank: int, method: Any
) -> None:
    conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    torch.manual_seed(0)
    layers = [conv(3, 6, 3, 2, 1), nn.Tanh(), conv(6, 5, 3, 1, 1), nn.ReLU(), conv(5, 5, 3, padding="same")]
    net = nn.Sequential(*layers, nn.Tanh(), conv(5, 4, 2), nn.Flatten(2)).double().eval()
    x = torch.randn(2, 3, *(9, 8, 6)[:rank], dtype=torch.float64)

    def explained() -> np.ndarray:
        return method(net, "1", signed=True).explain(x, lambda outputs: outputs.mean(-1)[:, 1]).maps

    found, times = explained(), len(always)
    monkeypatch.setattr(spectral, "_GAIN", np.inf)
    plain = explained()
    assert times == len(always) > 0
    assert set(always) == {rank}
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-6 * np.abs(plain).max())
