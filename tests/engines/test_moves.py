"""Which cuts move a map: a row or column cut off at an end does not, more of them and frames do."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.engines import engine_for

PICTURE, CLIP = (2, 3, 16, 20), (2, 3, 6, 16, 20)
CUTS: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor], bool]] = {
    "nothing": (PICTURE, lambda x: x, False),
    "a row and a column": (PICTURE, lambda x: x[:, :, 1:, 1:], False),
    "the last column": (PICTURE, lambda x: x[..., :-1], False),
    "a shift by one": (PICTURE, lambda x: F.pad(x, (-1, 1, -1, 1)), False),
    "two rows": (PICTURE, lambda x: x[:, :, 2:], True),
    "a shift by two": (PICTURE, lambda x: F.pad(x, (-2, 2)), True),
    "every other column": (PICTURE, lambda x: x[..., ::2], True),
    "a frame": (CLIP, lambda x: x[:, :, 1:], True),
    "rows in pairs": (PICTURE, lambda x: x.unflatten(2, (2, 8)).sum(2), True),
    "channels in groups": (PICTURE, lambda x: x.view(2, 3, 1, 16, 20).sum(2), False),
    "a sort": (PICTURE, lambda x: x.sort(3).values, True),
    "a flip": (PICTURE, lambda x: x.flip(3), True),
}


class Cut(nn.Module):
    def __init__(self, axes: int, cut: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = (nn.Conv2d if axes == 4 else nn.Conv3d)(3, 4, 3, padding=1)
        self.head, self.cut = nn.Linear(4, 2), cut

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(self.cut(x)).flatten(2).mean(2))
        return logits


@pytest.mark.parametrize(("shape", "cut", "moves"), CUTS.values(), ids=CUTS)
def test_what_counts_as_moving(shape: tuple[int, ...], cut: Callable[[Tensor], Tensor], moves: bool) -> None:
    net = seeded(lambda: Cut(len(shape), cut))
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    engine = engine_for(net)
    calls = {call.path: call for call in engine.trace(x, lambda result: result.logits())}
    assert calls["conv"].keeps_places is not moves
    engine.record(x, lambda result: result.logits(), cc.engines.Request(["conv"]))
    assert engine.learned.moves is moves
