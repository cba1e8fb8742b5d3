"""The default layer is the last that counts."""

import pytest
import torch
from explained import AT_INPUT, AT_LAYER, X, batches_seen, seeded
from helpers import one_line
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import LayerError
from chronocam.methods import METHODS

# The default layer


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv2(self.conv1(x).relu())).relu()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.block1, self.block2 = Block(), Block()
        self.drop, self.keep = nn.Dropout2d(0.5), nn.Identity()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(16, 5)
        self.aside = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.keep(self.drop(self.block2(self.block1(self.stem(x)))))
        self.never_used = self.aside(x).shape
        return self.fc(self.pool(x).flatten(1))


def test_the_default_layer_is_the_last_that_counts_after_the_residual_add() -> None:
    assert cc.GradCAM(seeded(Residual)).explain(X).layer == "block2"
    for name in AT_LAYER:
        if name != "cam":
            assert METHODS[name](seeded(Residual)).explain(X[:1], 1).layer == "block2"
    for name in AT_INPUT:
        assert METHODS[name](seeded(Residual)).explain(X[:1], 1).layer == "input"


def test_the_default_layer_is_looked_for_once_and_with_one_sample() -> None:
    net = seeded()
    seen = batches_seen(net)
    method = cc.GradCAM(net)
    method.explain(X)
    assert seen == [1] * (len(seen) - 1) + [7]
    assert 1 < len(seen) <= 6  # one of them with a backward pass
    seen.clear()
    method.explain(X)
    assert seen == [7]
    seen.clear()
    cc.explain(net, X, methods=["gradcam", "layercam", "hirescam"])
    assert seen.count(7) == 1


def test_the_default_layer_of_a_dense_network_is_not_its_output() -> None:
    net = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    assert cc.GradCAM(net).explain(X, cc.targets.Region((0, 0, 2, 2), 1)).layer == "1"


def test_without_any_grid_a_layer_must_be_named() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 9), nn.ReLU(), nn.Linear(9, 5)))
    with pytest.raises(LayerError) as error:
        cc.GradCAM(net).explain(X)
    one_line(error, "no layer of the model has a grid", "conv_layer=", "layout=")
    assert cc.Saliency(net).explain(X).maps.shape == (7, 1, 16, 16)


def test_the_default_layer_of_a_resnet_is_its_last_stage() -> None:
    resnet = seeded(pytest.importorskip("torchvision").models.resnet18)
    assert cc.GradCAM(resnet).explain(torch.randn(1, 3, 64, 64)).layer == "layer4"


def test_the_default_layer_of_a_model_with_an_input_without_batch_axis() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            assert scale.shape == (3, 1, 1)
            return self.fc(self.conv(x * scale).relu().mean((2, 3)))

    x, scale = torch.randn(4, 3, 16, 16), torch.rand(3, 1, 1)
    assert cc.GradCAM(seeded(Scaled)).explain((x, scale), 1).layer == "conv"
