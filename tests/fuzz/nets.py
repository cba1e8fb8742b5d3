"""The network whose weights and words are fuzzed."""

import torch
from torch import nn


def net() -> nn.Module:
    """Return a small network for pictures, with labels."""
    torch.manual_seed(0)
    body = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    model.labels = ["cat", "dog", "bird"]
    return model
