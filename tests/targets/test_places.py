"""Regressions with a place: keypoints, depth at a pixel, densities, where cells see themselves alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import chronocam as cc
from chronocam.targets import Region

OWN, OTHER = (1, 1), (5, 6)


class Places(nn.Module):
    """Outputs `(batch, channel, *grid)` of 8 × 8 cells of 4 × 4 pixels, or enlarged to the picture's size."""

    def __init__(self, channels: int, enlarged: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
        self.head = nn.Conv2d(4, channels, 1)
        self.enlarged = enlarged
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.rand(parameter.shape, generator=generator) / 4

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.features(x))
        return nn.functional.interpolate(y, scale_factor=4) if self.enlarged else y


def squares() -> Tensor:
    x = torch.zeros(1, 3, 32, 32)
    x[..., 4:8, 4:8] = 1
    x[..., 20:24, 24:28] = 0.9
    return x


@pytest.mark.parametrize(
    ("target", "channels", "enlarged", "share"),
    [
        (Region.peak(2), 3, False, 1),
        (Region.peak(1), 3, True, 1),
        (Region.peak(), 1, False, 1),
        (Region((6, 5)), 1, True, 1),  # depth at a pixel
        (Region((1, 1), 0), 2, False, 1),
        (Region((0, 0, 4, 4)), 1, False, 16),  # a density in a quarter of the picture, as its mean
    ],
)
@pytest.mark.parametrize("method", [cc.HiResCAM, cc.ODAM])
def test_nothing_lies_on_another_place(
    method: Any, target: Any, channels: int, enlarged: bool, share: int
) -> None:
    net, x = Places(channels, enlarged), squares()
    explanation = method(net).explain(x, target)
    assert explanation.layer.startswith("features")
    assert not explanation.findings
    values = explanation.maps[0, 0]
    assert values[OTHER] == 0
    with torch.no_grad():
        channel = target.channel or 0
        hand = (net.features(x)[0, :, 1, 1] * net.head.weight[channel, :, 0, 0]).sum() / share
    assert values[OWN] == pytest.approx(float(hand), rel=1e-5)
    if share == 1:
        assert np.count_nonzero(values) == 1


@pytest.mark.parametrize("target", [Region.peak(1), Region((1, 1), 0)])
def test_pooled_weights_lie_on_both_and_say_so(target: Any) -> None:
    explanation = cc.GradCAM(Places(2)).explain(squares(), target)
    assert explanation.maps[0, 0][OTHER] > explanation.maps[0, 0][OWN] / 2
    assert any("forgets the place" in text for text in explanation.diagnostics)


def test_a_peak_is_that_of_each_sample() -> None:
    x = torch.cat([squares(), squares().flip(2, 3)])
    explanation = cc.HiResCAM(Places(2)).explain(x, Region.peak(0))
    # The brighter square is at another place in the second picture.
    assert [np.argwhere(one[0]).tolist() for one in explanation.maps] == [[[1, 1]], [[6, 6]]]
