"""Small networks for clips of gestures: convolutions over space and time, and LSTMs over a CNN.

The weights that come with the package were made by `chronocam train video --data gestures`; the record beside
each file holds the command and what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor, nn

from chronocam.errors import ModelError, suggest
from chronocam.jsonable import Json
from chronocam.models.cnn_lstm import CNNLSTM

CLASSES: Final = 5
HIDDEN: Final = 64
"""Size of the LSTM's state."""


class SmallCNN(nn.Module):
    """Four convolutions to features `(n, 64)`, averaged over a grid of an eighth of the picture.

    `features` ends in a ReLU; each of its positions sees 39 pixels across.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features: nn.Module = nn.Sequential(
            _flat(3, 32, 7, 4), _flat(32, 32, 3, 1), _flat(32, 64, 3, 2), _flat(64, 64, 3, 1)
        )
        self.norm: nn.Module = nn.BatchNorm1d(64)

    def forward(self, pictures: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 64"]:
        """Return what is found in each picture."""
        return self.norm(self.features(pictures).mean((2, 3)))


class Small3D(nn.Module):
    """Four convolutions over space and time, average over the grid, one linear layer.

    Takes clips `(batch, 3, time, height, width)`; gives `(batch, classes)` logits. Every layer sees three
    places in time. `features` ends in a ReLU on half of the frames and an eighth of the height and width, and
    feeds the average; what follows is linear in eval mode, so Grad-CAM there equals CAM.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _deep(3, 32, (3, 7, 7), (1, 4, 4)),
            _deep(32, 48, (3, 3, 3), (2, 2, 2)),
            _deep(48, 64, (3, 3, 3), (1, 1, 1)),
            _deep(64, 64, (3, 3, 3), (1, 1, 1)),
        )
        self.norm = nn.BatchNorm1d(64)
        self.classifier: nn.Module = nn.Linear(64, classes)
        _see_change(next(self.features.parameters()))

    def forward(self, clips: Float[Tensor, "batch 3 time height width"]) -> Float[Tensor, "batch classes"]:
        """Return one logit per class."""
        return self.classifier(self.norm(self.features(clips).mean((2, 3, 4))))


@torch.no_grad()
def _see_change(weight: Float[Tensor, "filter channel time height width"]) -> None:
    """Let three quarters of the filters begin without a mean over time: what stands still is nothing to them.

    Otherwise a background, which fills most of the grid, drowns the movement of a hand in the average.
    """
    moving = weight[: 3 * len(weight) // 4]
    moving -= moving.mean(dim=2, keepdim=True)


def _flat(channels: int, out: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())


def _deep(
    channels: int, out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    convolution = nn.Conv3d(channels, out, kernel, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(out), nn.ReLU())


_NETWORKS: Final[dict[str, Callable[[], nn.Module]]] = {
    "gestures-3d": Small3D,
    "gestures-lstm": lambda: CNNLSTM(SmallCNN(), HIDDEN, CLASSES),
    "gestures-attention": lambda: CNNLSTM(SmallCNN(), HIDDEN, CLASSES, attention=True),
    "gestures-steps": lambda: CNNLSTM(SmallCNN(), HIDDEN, CLASSES, per_step=True),
}

NAMES: Final = tuple(_NETWORKS)
"""Convolutions over space and time; an LSTM's last state; attention over its states; logits at every step."""


def gesture_net(name: str) -> nn.Module:
    """Build one of `NAMES` with random weights; raises ModelError for another name.

    `gestures-3d` takes `(batch, 3, time, height, width)`, the others `(batch, time, 3, height, width)`.
    """
    return _NETWORKS[_known(name)]()


def load_gesture_net(name: str, path: str | Path | None = None) -> nn.Module:
    """Build one of `NAMES`, in eval mode, with the bundled weights or those of a safetensors file."""
    network = gesture_net(name)
    weights = files("chronocam.lab") / "weights" / f"{name}.safetensors" if path is None else Path(path)
    network.load_state_dict(load(weights.read_bytes()))
    return network.eval()


def gesture_record(name: str) -> Json:
    """Return the record of the bundled weights: labels, preprocessing, the command, the accuracy."""
    record: Json = json.loads((files("chronocam.lab") / "weights" / f"{_known(name)}.json").read_text())
    return record


def _known(name: str) -> str:
    if name not in _NETWORKS:
        raise ModelError(
            f"no network `{name}`; expected one of {', '.join(NAMES)}{suggest(name, list(NAMES))}"
        )
    return name
