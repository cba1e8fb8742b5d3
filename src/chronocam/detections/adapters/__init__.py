"""Adapters: how the rows of a family of detectors are read, one file per family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from chronocam.detections.adapters.base import Adapter
from chronocam.detections.adapters.detr import Detr
from chronocam.detections.adapters.function import Function
from chronocam.detections.adapters.hugging_face import HuggingFace
from chronocam.detections.adapters.listed import Listed
from chronocam.detections.adapters.raw import Form, Raw
from chronocam.detections.adapters.torchvision_anchors import Anchors
from chronocam.detections.adapters.torchvision_proposals import Proposals
from chronocam.errors import ModelError, suggest

ADAPTERS: Mapping[str, type[Adapter]] = MappingProxyType(
    {one.name: one for one in (Proposals, Anchors, HuggingFace, Detr, Listed, Raw)}
)
"""The adapters by name, in the order in which a model is tried."""

AdapterLike: TypeAlias = Adapter | Callable[..., Any] | str | None
"""What `adapter=` takes: a name, a function of the output, or None to tell it from the model."""

__all__ = ["ADAPTERS", "Adapter", "AdapterLike", "Form", "adapter_for", "finds_boxes"]


def finds_boxes(model: Any) -> bool:
    """Say whether a model is a detector by its own account, and not by the shape of what it returns."""
    return _own(model) is not None or any(one.fits(model) for one in ADAPTERS.values())


def _own(model: Any) -> AdapterLike:
    """Return the adapter that a model carries, as one that was loaded with `adapter=`."""
    adapter: AdapterLike = getattr(model, "box_adapter", None)
    return replace(adapter, model=model) if isinstance(adapter, Adapter) else adapter


def adapter_for(model: Any, adapter: AdapterLike = None, boxes: str | None = None) -> Adapter:
    """Return how the boxes of a model are read: what is given, or what the model carries, or by its kind.

    Raises ModelError for an unknown name, and for `boxes=` where the adapter knows the form itself.
    """
    if adapter is None and boxes is None:
        adapter = _own(model)
    if isinstance(adapter, Adapter):
        return adapter
    if isinstance(adapter, str):
        if adapter not in ADAPTERS:
            raise ModelError(
                f"no adapter `{adapter}`{suggest(adapter, list(ADAPTERS))}; choose one of "
                f"{', '.join(ADAPTERS)}, or give a function"
            )
        made = ADAPTERS[adapter]
    elif adapter is not None:
        return Function(model, function=adapter)
    else:
        made = next((one for one in ADAPTERS.values() if one.fits(model)), Raw)
    if issubclass(made, Raw):
        return made(model, cast("Form | None", boxes))
    if boxes is not None:
        raise ModelError(f"boxes= states the form of raw rows; adapter `{made.name}` knows its own")
    return made(model)
