"""`chronocam:NAME`: networks that come with the package."""

from __future__ import annotations

from typing import Any

from chronocam.media.preprocess import Preprocess
from chronocam.models.specs import Parts, Request, Source, need


def _load(request: Request) -> Parts:
    return _module(request).load_digits_net(), *_recipe(request)


def _build(request: Request) -> Parts:
    return _module(request).digits_net(), *_recipe(request)


def _module(request: Request) -> Any:
    (name,) = request.names
    if name != "digits":
        raise request.unknown("bundled network", name, ["digits"], "expected chronocam:digits")
    need("safetensors", "torch")
    need("torch", "torch")
    return need("chronocam.models.digits", "torch")


def _recipe(request: Request) -> tuple[Preprocess, tuple[str, ...]]:
    digits = _module(request)
    return Preprocess(digits.INPUT_SIZE, None, digits.MEAN, digits.STD), digits.LABELS


SOURCE = Source("chronocam:digits", r"chronocam:(.+)", _load, _build)
