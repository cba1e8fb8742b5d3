"""Networks for motion see each frame with the one before it: these pairs are the slices of the map."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import seeded
from torch import Tensor, nn

import chronocam as cc

TIME = (4, 5, 6, 7)  # 6 frames are as many as a pair has channels


class Motion(nn.Module):
    """Pairs of frames through a CNN, then an LSTM and six numbers for each pair, as DeepVO has it."""

    def __init__(self, stepped: bool = False, together: int = 2) -> None:
        super().__init__()
        self.stepped, self.together = stepped, together
        layers = nn.Conv2d(3 * together, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.Tanh()
        self.cnn = nn.Sequential(*layers)
        self.lstm = nn.LSTM(8 * 12, 7, batch_first=True)
        self.head = nn.Linear(7, 6)

    def rows(self, x: Tensor) -> Tensor:
        """Frames in a row as channels, (batch, slice, channel, height, width)."""
        slices = x.shape[1] - self.together + 1
        return torch.cat([x[:, k : k + slices] for k in range(self.together)], 2)

    def tail(self, features: Tensor) -> Tensor:
        states: Tensor = self.head(self.lstm(features.flatten(2))[0])
        return states

    def forward(self, x: Tensor) -> Tensor:
        pairs = self.rows(x)
        if self.stepped:
            return self.tail(torch.stack([self.cnn(one) for one in pairs.unbind(1)], 1))
        return self.tail(self.cnn(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2]))


def by_hand(net: Any, x: Tensor, output: int) -> Tensor:
    """Grad-CAM, signed and by slice, of one output after the last pair."""
    pairs = net.rows(x)
    a = net.cnn(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2]).detach().requires_grad_()
    (g,) = torch.autograd.grad(net.tail(a)[:, -1, output].sum(), a)
    return (g.mean((-2, -1), keepdim=True) * a).sum(2).detach()


def check(net: Any, x: Tensor) -> cc.Explanation:
    target = cc.targets.Step(-1, cc.targets.Regression(2))
    e = cc.GradCAM(net).explain(x, target)
    expected = by_hand(net, x, 2).numpy()
    np.testing.assert_allclose(e.maps[:, 0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    return e


@pytest.mark.parametrize("stepped", [False, True], ids=["rows", "calls"])
@pytest.mark.parametrize("time", TIME)
def test_the_pairs_are_the_slices_by_default(time: int, stepped: bool) -> None:
    e = check(seeded(lambda: Motion(stepped)), torch.rand(2, time, 3, 12, 16))
    assert e.frame_spans == tuple((k, k + 1) for k in range(time - 1))


def test_three_frames_at_once_are_slices_too() -> None:
    check(seeded(lambda: Motion(together=3)), torch.rand(2, 6, 3, 12, 16))


def test_a_pair_lies_between_its_frames() -> None:
    net, x = seeded(Motion), torch.rand(1, 5, 3, 12, 16)
    e = cc.GradCAM(net, align="receptive_field").explain(x, cc.targets.Step(-1, cc.targets.Regression(0)))
    assert e.centers is not None
    assert e.centers[0] == (0.5, 1.5, 2.5, 3.5)
