"""A small network for `chronocam.data.digits`: which handwritten digits are in a picture, one logit each."""

from importlib.resources import files
from typing import Final

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import nn

LABELS: Final = tuple("0123456789")
"""What each logit speaks for."""

INPUT_SIZE: Final = (96, 96)
"""Height and width of the pictures that the bundled weights were trained on."""

MEAN: Final = (0.5, 0.5, 0.5)
"""Subtracted from RGB in [0, 1], before `STD` divides."""

STD: Final = (0.5, 0.5, 0.5)


class DigitsNet(nn.Module):
    """Six 3x3 convolutions to a grid of an eighth of the input, average over the grid, one linear layer.

    Takes `(batch, 3, height, width)`, RGB normalised by `MEAN` and `STD`; gives `(batch, 10)` logits, one
    per digit and independent of each other (a picture may hold several). `features.2` ends in a ReLU and
    feeds the average, so Grad-CAM there equals CAM.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features: nn.Module = nn.Sequential(_stage(3, 16, 32), _stage(32, 48, 64), _stage(64, 96, 96))
        self.classifier: nn.Module = nn.Linear(96, len(LABELS))

    def forward(self, images: Float[torch.Tensor, "batch 3 height width"]) -> Float[torch.Tensor, "batch 10"]:
        """Return one logit per digit."""
        logits: torch.Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


def _stage(channels: int, inner: int, out: int) -> nn.Sequential:
    """Halve the grid, then look once more around each position."""
    return nn.Sequential(*_convolution(channels, inner, stride=2), *_convolution(inner, out, stride=1))


def _convolution(channels: int, out: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()


def digits_net() -> DigitsNet:
    """Build the network with random weights."""
    return DigitsNet()


def load_digits_net() -> DigitsNet:
    """Build the network, in eval mode, with the bundled weights, which `chronocam.lab.train.digits` made."""
    weights = files("chronocam.lab") / "weights" / "digits.safetensors"
    network = digits_net()
    network.load_state_dict(load(weights.read_bytes()))
    return network.eval()
