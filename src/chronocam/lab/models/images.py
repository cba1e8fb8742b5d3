"""Networks for pictures by architecture, as `chronocam train images` builds and `load` rebuilds them."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from torch import nn

from chronocam.errors import ModelError, suggest
from chronocam.media.preprocess import Preprocess

_OPTIONS: Final[dict[str, Any]] = {"aux_logits": False, "init_weights": False, "transform_input": True}
_OF_INCEPTION: Final = ("googlenet", "inception_v3")
"""Built without heads that only training uses, and with colours as their published weights expect them."""


def image_net(arch: str, classes: int) -> nn.Module:
    """Build one of torchvision's classifiers with `classes` outputs and random weights.

    All but its last layer is as torchvision has it: VGG keeps its other fully connected layers.
    Raises ModelError for an unknown architecture.
    """
    check_arch(arch)
    options = _OPTIONS if arch in _OF_INCEPTION else {}
    net: nn.Module = _zoo().get_model(arch, weights=None, num_classes=classes, **options)
    return net


def check_arch(arch: str) -> None:
    """Raise ModelError where torchvision has no such classifier."""
    names = _zoo().list_models(_zoo())
    if arch not in names:
        hint = suggest(arch, names) or "; torchvision.models.list_models() lists them"
        raise ModelError(f"no architecture `{arch}`{hint}")


def last_layer(net: nn.Module) -> str:
    """Return the path of the layer that gives the logits: the last linear one, or the last convolution."""
    return [path for path, module in net.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]


def recipe(arch: str, size: int | None = None) -> Preprocess:
    """Return how an architecture wants its pictures.

    size: the side of the pictures in pixels, None for the architecture's own; the share that is cut off at
        the border stays the same.
    """
    preset: Any = next(iter(_zoo().get_model_weights(arch))).transforms()
    side, crop = preset.resize_size[0], preset.crop_size[0]
    size = size or crop
    resize = max(size, round(side * size / crop))
    return Preprocess(resize, (size, size), tuple(preset.mean), tuple(preset.std), preset.interpolation.value)


def _zoo() -> ModuleType:
    from torchvision import models

    return models
