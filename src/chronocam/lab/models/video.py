"""Networks for clips by architecture and backbone, for `chronocam train video` and `load`.

Importing this imports no framework: the command line offers the architectures by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from chronocam.errors import ModelError, suggest

if TYPE_CHECKING:
    from torch import nn

SMALL: Final = "small"
"""The backbone of the bundled gesture networks."""

_Recipe: TypeAlias = tuple[tuple[float, ...], tuple[float, ...], int]


@dataclass(frozen=True)
class Architecture:
    """One way to put a network for clips together.

    build: makes it of a backbone's name, the number of classes and the size of an LSTM's state.
    axes: the order in which the network takes its clips, see `ClipPreprocess`.
    backbone: the default.
    known: lists the names of all.
    """

    build: Callable[[str, int, int], nn.Module]
    axes: str
    backbone: str
    known: Callable[[], list[str]]


def video_net(arch: str, backbone: str, classes: int, hidden: int) -> nn.Module:
    """Build a network with random weights; raises ModelError for an unknown architecture or backbone."""
    check_backbone(arch, backbone)
    return architecture(arch).build(backbone, classes, hidden)


def architecture(name: str) -> Architecture:
    """Return the architecture of this name; raises ModelError for an unknown one."""
    if name not in ARCHITECTURES:
        known = list(ARCHITECTURES)
        raise ModelError(
            f"no architecture `{name}`; expected one of {', '.join(known)}{suggest(name, known)}"
        )
    return ARCHITECTURES[name]


def check_backbone(arch: str, backbone: str) -> None:
    """Raise ModelError where the architecture has no such backbone."""
    known = architecture(arch).known()
    if backbone not in known:
        hint = suggest(backbone, known) or f"; expected one of {', '.join(known)}"
        raise ModelError(f"no backbone `{backbone}` for {arch}{hint}")


def recipe(backbone: str) -> _Recipe:
    """Return mean, standard deviation and side in pixels of the pictures that a backbone is made for."""
    if backbone == SMALL:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 64
    preset: Any = next(iter(_zoo().get_model_weights(backbone))).transforms()
    return tuple(preset.mean), tuple(preset.std), int(preset.crop_size[0])


def _convolutions(backbone: str, classes: int, hidden: int) -> nn.Module:
    from chronocam.lab.models.gestures import Small3D

    if backbone == SMALL:
        return Small3D(classes)
    net: nn.Module = _zoo().get_model(backbone, weights=None, num_classes=classes)
    return net


def _recurrent(
    backbone: str, classes: int, hidden: int, *, attention: bool = False, per_step: bool = False
) -> nn.Module:
    from chronocam.lab.models.gestures import SmallCNN
    from chronocam.models.cnn_lstm import CNNLSTM

    return CNNLSTM(SmallCNN() if backbone == SMALL else backbone, hidden, classes, attention, per_step)


def _over_clips() -> list[str]:
    return [SMALL, *_zoo().list_models(_zoo().video)]


def _over_pictures() -> list[str]:
    return [SMALL, *_zoo().list_models(_zoo())]


def _zoo() -> ModuleType:
    from torchvision import models

    return models


ARCHITECTURES: Final = {
    "r3d": Architecture(_convolutions, "channel time", "r3d_18", _over_clips),
    "cnn-lstm": Architecture(_recurrent, "time channel", "resnet18", _over_pictures),
    "cnn-lstm-attention": Architecture(
        partial(_recurrent, attention=True), "time channel", "resnet18", _over_pictures
    ),
    "cnn-lstm-steps": Architecture(
        partial(_recurrent, per_step=True), "time channel", "resnet18", _over_pictures
    ),
}
