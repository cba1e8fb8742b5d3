"""The rows of an index: what is seen of an item at a glance, and what the index sorts and filters by."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from PIL import Image

from chronocam.explanation import Explanation
from chronocam.report.items import Shown, encoded
from chronocam.report.packed import rounded

_THUMBNAIL: Final = (160, 90)


def row(href: str, name: str, item: Mapping[str, Any], shown: Shown, sample: int) -> dict[str, Any]:
    """Return the row of one item: its first map, or else its first relevance, speaks for it."""
    first = (item["maps"] or item["sequences"])[0]
    maps = [one for one in shown.values() if isinstance(one, Explanation)]
    best = next(one for one in first["targets"] if _score(one) is not None)
    return {
        "href": f"{href}#{sample + 1}" if sample else href,
        "name": name,
        "model": item["model"],
        "kind": _kind(item),
        "method": first["method"],
        "class": best["name"],
        "score": _score(best),
        "confidence": best.get("confidence"),
        "findings": _findings(item),
        "picture": _thumbnail(maps[0], sample) if maps else None,
    }


def _score(target: Mapping[str, Any]) -> float | None:
    """Return the score of a target, of several moments their mean."""
    known = [score for score in target.get("scores", [target["score"]]) if score is not None]
    return rounded(np.mean(known)) if known else None


def _kind(item: Mapping[str, Any]) -> str:
    if not item["maps"]:
        return "sequence"
    if "path" in item:
        return "drive"
    return "clip" if item["stills"]["count"] > 1 else "picture"


def _findings(item: Mapping[str, Any]) -> list[str]:
    told = [text for one in (*item["maps"], *item["sequences"]) for text in one["findings"]]
    return list(dict.fromkeys([*told, *item.get("notes", [])]))


def _thumbnail(one: Explanation, sample: int) -> str | None:
    """Return a small overlay of the first target, of a clip at the frame with the most evidence."""
    if one.pictures is None:
        return None
    stills, at = one.pictures[sample], 0
    maps = one.maps[sample : sample + 1, :1]
    if maps.ndim == 5:
        slice_ = int(np.clip(maps[0, 0], 0, None).sum(axis=(1, 2)).argmax())
        at = stills.places[int((slice_ + 0.5) * len(stills.places) / maps.shape[2])]
        maps = maps[:, :, slice_]
    left, top, right, bottom = stills.seen
    picture = Image.fromarray(stills.decoded(at)).crop((left, top, right, bottom))
    picture.thumbnail(_THUMBNAIL)
    centers = None if one.centers is None else one.centers[-2:]
    flat = replace(
        one,
        maps=maps,
        scores=one.scores[:1, :1],
        targets=((one.targets[sample][0],),),
        input_size=one.input_size[-2:],
        centers=centers,
        frame_spans=None,
        attention=None,
        confidences=None,
        pictures=None,
    )
    file = io.BytesIO()
    Image.fromarray(flat.overlay([picture])[0][0]).save(file, "JPEG", quality=80)
    return encoded(file.getvalue())
