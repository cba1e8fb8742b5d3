"""`timm:NAME`."""

from __future__ import annotations

import math

from chronocam.errors import ModelError, first_line
from chronocam.jsonable import Json
from chronocam.media.preprocess import Preprocess
from chronocam.models.hub import patient_only_online
from chronocam.models.specs import Model, ModelRequest, ModelSource, Parts, need


def _load(request: ModelRequest) -> Parts:
    try:
        with patient_only_online():
            model = _create(request, pretrained=True)
    except ModelError:
        raise
    except Exception as error:  # whatever the hub's client raises without a network
        if request.names[0].startswith("local-dir:"):
            raise request.error(
                f"cannot be loaded ({first_line(error)})",
                "expected config.json and weights as timm writes them",
            ) from error
        raise request.error(
            f"could not fetch {_where(request)} ({first_line(error)})",
            f"fetch it once online, or give the weights: PATH.safetensors@{request.text}",
        ) from error
    return _parts(model, request)


def _build(request: ModelRequest) -> Parts:
    return _parts(_create(request, pretrained=False), request)


def _create(request: ModelRequest, *, pretrained: bool) -> Model:
    timm = need("timm", "hub")
    (name,) = request.names
    if ":" not in name and not timm.is_model(name.partition(".")[0]):
        raise request.unknown("timm model", name, _names(), "timm.list_models() lists them")
    return timm.create_model(name, pretrained=pretrained, num_classes=request.classes)


def _names() -> list[str]:
    names: list[str] = need("timm", "hub").list_models()
    return names


def _parts(model: Model, request: ModelRequest) -> Parts:
    config = need("timm.data", "hub").resolve_model_data_config(model)
    return model, translate(config, request), _labels(model)


def translate(config: Json, request: ModelRequest) -> Preprocess:
    """Translate timm's data config, as `timm.data.create_transform` reads it for evaluation."""
    height, width = config["input_size"][1:]
    grown = math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"])
    squash = config["crop_mode"] == "squash"
    if not squash and (config["crop_mode"] != "center" or height != width):
        raise request.error(
            f"crop mode `{config['crop_mode']}` at {height} x {width} is not supported",
            "give model and Preprocess through python:package.module:factory",
        )
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocess(grown if squash else grown[0], (height, width), mean, std, config["interpolation"])


def _labels(model: Model) -> tuple[str, ...] | None:
    """Return the labels that its folder has, or ImageNet's where there are as many as of a subset of it."""
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    if names:
        return tuple(map(str, names))
    data = need("timm.data", "hub")
    subset = data.infer_imagenet_subset(model)
    return tuple(data.ImageNetInfo(subset).label_descriptions()) if subset else None


def _where(request: ModelRequest) -> str:
    """Return what holds the weights, as timm's own table says."""
    (name,) = request.names
    config = need("timm.models", "hub").get_pretrained_cfg(name, allow_unregistered=True)
    hub = getattr(config, "hf_hub_id", None)
    return f"`{hub}` from the Hugging Face hub" if hub else getattr(config, "url", None) or f"`{name}`"


SOURCE = ModelSource(
    "timm:NAME",
    r"timm:(.+)",
    _load,
    _build,
    about="timm's networks with their published weights",
    catalogue=_names,
)
