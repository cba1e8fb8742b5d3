"""`torchvision:NAME`."""

from __future__ import annotations

import inspect
import pickle
from types import ModuleType
from typing import Any, Final, TypeAlias

from chronocam.errors import first_line
from chronocam.jsonable import Json
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess
from chronocam.models.specs import ModelRequest, ModelSource, Parts, need

Published: TypeAlias = Any
"""Torchvision's enumeration of a network's published weights, or one of them."""

_TRANSFORM_INPUT: Final = ("googlenet", "inception_v3")
_FRAMES: Final = 16
_MORE_FRAMES: Final = {"swin3d_t": 32, "swin3d_s": 32, "swin3d_b": 32}
"""The length of the clips that a network was trained on, where that is another one."""


def _load(request: ModelRequest) -> Parts:
    (name,) = request.names
    weights = _weights(name, request).DEFAULT
    preprocess = _preprocess(weights, request)
    try:
        return _models().get_model(name, weights=weights), preprocess, _labels(weights)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        folder = f"{need('torch', 'torch').hub.get_dir()}/checkpoints"
        raise request.error(
            f"could not fetch {weights.url} ({first_line(error)})",
            f"put that file into {folder}, or give the weights: PATH.safetensors@{request.text}",
        ) from error


def _build(request: ModelRequest) -> Parts:
    (name,) = request.names
    weights = next(iter(_weights(name, request)))  # the first recipe is the one that other weights follow
    labels = _labels(weights)
    if labels is not None and request.classes not in (None, len(labels)):
        labels = None
    return _models().get_model(name, **_options(name, request)), _preprocess(weights, request), labels


def _options(name: str, request: ModelRequest) -> Json:
    """Return the builder's arguments: no download and, where asked for, another number of classes."""
    options: Json = {"weights": None}
    if "weights_backbone" in inspect.signature(_models().get_model_builder(name)).parameters:
        options["weights_backbone"] = None
    if name in _TRANSFORM_INPUT:  # as the builder itself sets it for published weights
        options |= {"transform_input": True, "init_weights": False}
    if request.classes is not None:
        options["num_classes"] = request.classes
    return options


def _models() -> ModuleType:
    return need("torchvision.models", "torch")


def _names() -> list[str]:
    names: list[str] = _models().list_models()
    return names


def _weights(name: str, request: ModelRequest) -> Published:
    """Return the enumeration of published weights."""
    known = _names()
    if name not in known:
        raise request.unknown("torchvision model", name, known, "torchvision.models.list_models() lists them")
    return _models().get_model_weights(name)


def _labels(weights: Published) -> tuple[str, ...] | None:
    categories = weights.meta.get("categories")
    return tuple(categories) if categories else None


def _preprocess(weights: Published, request: ModelRequest) -> Preprocess | ClipPreprocess:
    """Translate a preset for classification, segmentation, detection (no normalisation) or video."""
    preset = weights.transforms()
    kind = type(preset).__name__
    if kind == "OpticalFlow":
        raise request.error("takes pairs of pictures", "expected a network of one picture or clip")
    interpolation = getattr(preset, "interpolation", None)
    picture = Preprocess(
        resize=_side(getattr(preset, "resize_size", None)),
        crop=_square(getattr(preset, "crop_size", None)),
        mean=tuple(getattr(preset, "mean", (0.0, 0.0, 0.0))),
        std=tuple(getattr(preset, "std", (1.0, 1.0, 1.0))),
        interpolation=interpolation.value if interpolation is not None else "bilinear",
        antialias=kind != "VideoClassification",
    )
    if kind != "VideoClassification":
        return picture
    return ClipPreprocess(picture, _MORE_FRAMES.get(request.names[0], _FRAMES))


def _side(size: list[int] | None) -> int | tuple[int, int] | None:
    if size is None:
        return None
    return size[0] if len(size) == 1 else (size[0], size[1])


def _square(size: list[int] | None) -> tuple[int, int] | None:
    return None if size is None else (size[0], size[-1])


SOURCE = ModelSource(
    "torchvision:NAME",
    r"torchvision:(.+)",
    _load,
    _build,
    about="torchvision's networks with their published weights",
    catalogue=_names,
)
