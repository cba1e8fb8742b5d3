"""Layers that only say again what the model says are not explained by default."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import seeded
from plain_hooks import agrees
from torch import Tensor, nn

import chronocam as cc

X = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Resized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU()), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.head(self.body(x)), size=x.shape[2:], mode="bilinear")


@pytest.mark.parametrize("align", [False, True])
def test_logits_that_are_only_resized_afterwards_are_passed_over(align: bool) -> None:
    class Net(Resized):
        def forward(self, x: Tensor) -> Tensor:
            y = self.head(self.body(x))
            return F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=align)

    region = cc.targets.Region(np.ones((64, 64), bool), 1)
    assert cc.GradCAM(seeded(Net)).explain(X, region).layer == "body"


RESIZED: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "the only channel, with corners on corners": (
        1,
        lambda y: F.interpolate(y, size=(64, 64), mode="bilinear", align_corners=True),
    ),
    "without its channel": (1, lambda y: F.interpolate(y, size=(64, 64), mode="bilinear")[:, 0]),
    "after a softmax": (3, lambda y: F.interpolate(y.softmax(1), size=(64, 64), mode="bilinear")),
}


@pytest.mark.parametrize("case", RESIZED)
def test_logits_are_passed_over_whatever_they_are_resized_to(case: str) -> None:
    channels, end = RESIZED[case]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            first, second = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 4, 1)
            self.body = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
            self.head = nn.Conv2d(16, channels, 1)

        def forward(self, x: Tensor) -> Tensor:
            return end(self.head(self.body(x)))

    region = cc.targets.Region(np.ones((64, 64), bool), None if channels == 1 else 1)
    assert cc.GradCAM(seeded(Net)).explain(X, region).layer == "body"


@pytest.mark.parametrize(
    ("width", "end"),
    [
        (5, lambda y: F.interpolate(y.mT.unflatten(2, (8, 12)), scale_factor=8, mode="bilinear")),
        (5 * 64, lambda y: F.pixel_shuffle(y.mT.unflatten(2, (8, 12)), 8)),
    ],
    ids=["resized", "pixel shuffle"],
)
def test_logits_of_tokens_that_become_a_picture_are_passed_over(
    width: int, end: Callable[[Tensor], Tensor]
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.body, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 8), nn.Linear(8, width)

        def forward(self, x: Tensor) -> Tensor:
            return end(self.head(self.body(self.patch(x).flatten(2).mT).tanh()))

    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    region = cc.targets.Region(np.ones((64, 96), bool), 1)
    assert cc.GradCAM(seeded(Net)).explain(x, region).layer == "body"


def test_logits_that_are_only_added_up_afterwards_are_passed_over() -> None:
    class Branches(nn.Module):
        """Two branches give logits, on two grids, as in LR-ASPP."""

        def __init__(self) -> None:
            super().__init__()
            self.fine = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
            self.coarse = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
            self.first, self.second = nn.Conv2d(8, 5, 1), nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            f = self.fine(x)
            y = F.interpolate(self.first(self.coarse(f)), size=f.shape[2:])
            return F.interpolate(self.second(f) + y, size=x.shape[2:])

    region = cc.targets.Region(np.ones((64, 64), bool), 1)
    assert cc.GradCAM(seeded(Branches)).explain(X, region).layer == "coarse"


@pytest.mark.parametrize("levels", [1, 2])
def test_what_becomes_the_rows_of_an_output_is_passed_over(levels: int) -> None:
    class Rows(nn.Module):
        """A detector: every cell of every level is a row of 4 + 3 values."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU())
            self.head, self.down = nn.Conv2d(8, 7, 1), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            f = self.body(x)
            grids = [self.head(f), self.head(self.down(f))][:levels]
            return torch.cat([grid.flatten(2).transpose(1, 2) for grid in grids], 1).sigmoid()

    def score(rows: Tensor) -> Tensor:
        return rows[:, 37, 5]

    assert cc.GradCAM(seeded(Rows)).explain(X, score).layer == "body"


class Head(nn.Module):
    """A tower, and boxes and classes beside each other in the channels."""

    def __init__(self, tower: int) -> None:
        super().__init__()
        self.tower = nn.Conv2d(8, 8, tower, padding=tower // 2)
        self.boxes, self.classes = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)

    def forward(self, f: Tensor) -> Tensor:
        f = self.tower(f)
        return torch.cat([self.boxes(f), self.classes(f)], 1).flatten(2).transpose(1, 2)


@pytest.mark.parametrize(("tower", "layer"), [(3, "neck"), (1, "body")])
def test_layers_whose_one_cell_is_the_score_are_passed_over(tower: int, layer: str) -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.neck, self.head = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 8, 3, 1, 1), Head(tower)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.neck(self.body(x).relu()))

    def score(rows: Tensor) -> Tensor:
        return rows[:, 37, 5] * rows[:, 37, 6]

    net = seeded(Detector)
    agrees(net, layer, X, score, score)
    both = cc.GradCAM(net).explain(X, [score, lambda rows: rows[:, 90, 4]])
    assert both.layer == layer


def test_a_score_of_one_cell_is_explained_at_the_last_layer_where_none_spreads() -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), Head(1)))
    assert cc.GradCAM(net).explain(X, lambda rows: rows[:, 37, 5]).layer == "2.classes"


def test_features_that_are_returned_beside_logits_can_be_explained() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.h = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 3)
            self.l3 = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU())

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            f = self.l3(self.c(x))
            return {"features": f, "logits": self.h(f.mean((2, 3)))}

    agrees(seeded(Both), "l3", X, 1, lambda o: o["logits"][:, 1])


class Stacked(nn.Module):
    """Two stacked decoders that each return maps of four points, resized or through a sigmoid, as a list."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, 1, 1) for _ in range(2))
        self.heads, self.end = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(2)), end

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.stem(x), []
        for block, head in zip(self.blocks, self.heads, strict=True):
            x = block(x).relu()
            maps.append(self.end(head(x)))
        return maps


@pytest.mark.parametrize(
    "end",
    [lambda y: y, torch.sigmoid, lambda y: nn.functional.interpolate(y, scale_factor=2, mode="bilinear")],
    ids=["as they are", "sigmoid", "resized"],
)
def test_one_of_several_dense_outputs_is_not_explained_by_itself(end: Callable[[Tensor], Tensor]) -> None:
    found = cc.GradCAM(seeded(lambda: Stacked(end))).explain(X, lambda maps: maps[1][:, 2].mean((1, 2)))
    assert found.layer == "blocks.1"
