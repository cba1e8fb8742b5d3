"""`chronocam:NAME`: networks that come with the package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from chronocam.media.preprocess import Preprocess
from chronocam.models.sources.trained import odometry, recipe
from chronocam.models.specs import Parts, Request, Source, need


def _digits(loaded: bool) -> Parts:
    digits = _module("digits")
    net = digits.load_digits_net() if loaded else digits.digits_net()
    return net, Preprocess(digits.INPUT_SIZE, None, digits.MEAN, digits.STD), digits.LABELS


def _gestures(name: str, loaded: bool) -> Parts:
    gestures = _module("gestures")
    record = gestures.gesture_record(name)
    net = gestures.load_gesture_net(name) if loaded else gestures.gesture_net(name)
    return net, recipe(record), tuple(record["labels"])


def _odometry(loaded: bool) -> Parts:
    nets = _module("odometry")
    net, preprocess, labels = odometry(nets.odometry_record())
    return nets.load_odometry() if loaded else net, preprocess, labels


def _module(name: str) -> Any:
    need("safetensors", "torch")
    need("torch", "torch")
    return need(f"chronocam.lab.models.{name}", "torch")


BUNDLED: Final[dict[str, Callable[[bool], Parts]]] = {
    "digits": _digits,
    "gestures-3d": partial(_gestures, "gestures-3d"),
    "gestures-lstm": partial(_gestures, "gestures-lstm"),
    "gestures-attention": partial(_gestures, "gestures-attention"),
    "gestures-steps": partial(_gestures, "gestures-steps"),
    "odometry": _odometry,
}
"""What gives each network: with its weights, or without."""


def _parts(request: Request, loaded: bool) -> Parts:
    (name,) = request.names
    if name not in BUNDLED:
        expected = f"expected one of {', '.join(f'chronocam:{known}' for known in BUNDLED)}"
        raise request.unknown("bundled network", name, list(BUNDLED), expected)
    return BUNDLED[name](loaded)


SOURCE = Source(
    f"chronocam:{'|'.join(BUNDLED)}",
    r"chronocam:(.+)",
    partial(_parts, loaded=True),
    partial(_parts, loaded=False),
)
