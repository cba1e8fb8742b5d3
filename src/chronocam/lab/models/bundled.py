"""The networks that come with the package or its extra `demo`: entry points of `chronocam.models`."""

from __future__ import annotations

from functools import partial
from types import ModuleType

from chronocam.lab.data.gestures.motion import LABELS
from chronocam.lab.models.trained import odometry_parts, recipe
from chronocam.media.preprocess import Preprocess
from chronocam.models.specs import Parts, need


def digits(*, weights: bool = True) -> Parts:
    """Return the network that finds handwritten digits; without `weights`, random ones."""
    nets = _module("digits")
    net = nets.load_digits_net() if weights else nets.digits_net()
    return net, Preprocess(nets.INPUT_SIZE, None, nets.MEAN, nets.STD), nets.LABELS


def efficientnet_lite0(*, weights: bool = True) -> Parts:
    """Return EfficientNet-Lite0 for ImageNet, of the extra `demo`; without `weights`, random ones."""
    need("timm", "demo")
    nets = _module("efficientnet")
    return nets.efficientnet(weights=weights), nets.PREPROCESS, nets.labels()


def gestures(name: str, *, weights: bool = True) -> Parts:
    """Return one of the networks that name the gesture in a clip; without `weights`, random ones."""
    nets = _module("gestures")
    record = nets.gesture_record(name)
    net = nets.load_gesture_net(name) if weights else nets.gesture_net(name)
    return net, recipe(record), tuple(record["labels"])


gestures_3d = partial(gestures, "gestures-3d")
gestures_lstm = partial(gestures, "gestures-lstm")
gestures_attention = partial(gestures, "gestures-attention")
gestures_steps = partial(gestures, "gestures-steps")


def transformer(name: str, *, weights: bool = True) -> Parts:
    """Return one of the transformers, for pictures or for clips; without `weights`, random ones."""
    nets = _module("transformers")
    net = nets.load_transformer(name) if weights else nets.NETWORKS[name]()
    if name == "gestures-transformer":
        return net, recipe(_module("gestures").gesture_record("gestures-3d")), tuple(LABELS)
    of_digits = _module("digits")
    picture = Preprocess(of_digits.INPUT_SIZE, None, of_digits.MEAN, of_digits.STD)
    return net, picture, of_digits.LABELS if name == "digits-vit" else None


digits_vit = partial(transformer, "digits-vit")
gestures_transformer = partial(transformer, "gestures-transformer")
colours = partial(transformer, "colours")


def odometry(*, weights: bool = True) -> Parts:
    """Return the networks for depth and motion; without `weights`, random ones."""
    nets = _module("odometry")
    net, preprocess, labels = odometry_parts(nets.odometry_record())
    return nets.load_odometry() if weights else net, preprocess, labels


def _module(name: str) -> ModuleType:
    need("safetensors", "torch")
    need("torch", "torch")
    return need(f"chronocam.lab.models.{name}", "torch")
