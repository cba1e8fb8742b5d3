"""What a page shows of one input: its pictures, the maps over them, relevance of its features, and what is said."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, TypeAlias

from chronocam.errors import InputError
from chronocam.explanation import Explanation
from chronocam.media import Stills, blank
from chronocam.report.maps import shown_maps
from chronocam.report.packed import rounded
from chronocam.report.sequences import shown_sequence
from chronocam.sequence import SequenceExplanation

Shown: TypeAlias = Mapping[str, Explanation | SequenceExplanation]
"""Explanations of the same samples by what they are called, such as `cc.explain` returns."""


def items_of(explanations: Shown, model: str = "") -> list[dict[str, Any]]:
    """Return an item for each sample. Raises InputError where the explanations are not of the same samples."""
    if not explanations:
        raise InputError("there is nothing to show: give at least one explanation")
    counts = {name: len(one) for name, one in explanations.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise InputError(f"explanations are of different samples ({told}); give those of the same inputs")
    return [_item_of(explanations, sample, model) for sample in range(next(iter(counts.values())))]


def _item_of(explanations: Shown, sample: int, model: str) -> dict[str, Any]:
    maps = {name: one for name, one in explanations.items() if isinstance(one, Explanation)}
    relevance = {name: one for name, one in explanations.items() if isinstance(one, SequenceExplanation)}
    stills = _stills(maps, sample) if maps else None
    drawn = (
        [shown_maps(one, sample, name, stills) for name, one in maps.items()] if stills is not None else []
    )
    return item(
        (stills.name if stills is not None else "") or f"sample {sample + 1}",
        model,
        stills,
        drawn,
        [shown_sequence(one, sample, name) for name, one in relevance.items()],
    )


def item(
    name: str, model: str, stills: Stills | None, maps: list[dict[str, Any]], sequences: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return an item of these parts."""
    return {
        "name": name,
        "model": model,
        "stills": None if stills is None else _pictured(stills),
        "maps": maps,
        "sequences": sequences,
    }


def _stills(maps: Mapping[str, Explanation], sample: int) -> Stills:
    """Return the pictures that the maps were saved with. Raises InputError for maps that cannot share any."""
    first = next(iter(maps.values()))
    for name, one in maps.items():
        if one.maps.ndim not in (4, 5):
            raise InputError(
                f"{name}: a page cannot show maps of dims {one.dims}; expected images, clips or sequences"
            )
        if len(one.input_size) != len(first.input_size) or one.input_size[:-2] != first.input_size[:-2]:
            raise InputError(
                f"{name} is of inputs {one.input_size}, another of {first.input_size}; show them apart"
            )
    kept = next((one.pictures[sample] for one in maps.values() if one.pictures is not None), None)
    return blank(first.input_size) if kept is None else kept


def _pictured(stills: Stills) -> dict[str, Any]:
    for place in range(len(stills.frames)):
        stills.decoded(place)  # a page that holds what is no picture would show nothing
    return {
        "frames": [encoded(frame) for frame in stills.frames],
        "count": len(stills),
        "size": list(stills.size),
        "seen": list(stills.seen),
        "seconds": None if stills.seconds is None else rounded(stills.seconds),
        "numbers": None if stills.numbers is None else list(stills.numbers),
    }


def encoded(file: bytes) -> str:
    """Return the bytes of a picture as a page holds them."""
    return base64.b64encode(file).decode()
