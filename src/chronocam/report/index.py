"""The index of a folder: a row for each item, which it is sorted and filtered by."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

import numpy as np
from PIL import Image

from chronocam.explanation import Explanation
from chronocam.jsonable import JsonRecord, keyed
from chronocam.render.page.html import asset, filled
from chronocam.render.page.packed import encoded, number
from chronocam.render.page.records import DriveItem, DriveOutput, MapTarget, Number, PageItem, SequenceTarget

_THUMBNAIL: Final = (160, 90)


@dataclass(frozen=True, kw_only=True)
class Row(JsonRecord):
    """What an index says about one item; `assets/list.js` draws it.

    href: of its page.
    kind: picture, clip, drive or sequence.
    label: the name of its first target.
    picture: a small overlay, JPEG in base64; None without pictures.
    """

    href: str
    name: str
    model: str
    kind: str
    method: str
    label: str = field(metadata=keyed("class"))
    score: Number
    confidence: Number
    findings: list[str]
    picture: str | None


def list_page(title: str, rows: Sequence[Row]) -> str:
    """Return the HTML of an index."""
    script = asset("base.js") + asset("list.js", __package__)
    data = {"title": title, "rows": [row.to_json() for row in rows]}
    return filled(asset("list.html", __package__), script, title, data)


def row_of(href: str, name: str, item: PageItem, maps: Explanation | None, sample: int) -> Row:
    """Return the row of one item: its first map, or else its first relevance, speaks for it.

    maps: of which `sample` is drawn small; None where there are none.
    """
    first = (item.maps or item.sequences)[0]
    best = next((target for target in first.targets if _score(target) is not None), first.targets[0])
    findings = [one.findings for one in item.maps] + [one.findings for one in item.sequences]
    if isinstance(item, DriveItem):
        findings.append(item.notes)
    return Row(
        href=f"{href}#{sample + 1}" if sample else href,
        name=name,
        model=item.model,
        kind=_kind(item),
        method=first.method,
        label=best.name,
        score=_score(best),
        confidence=best.confidence if isinstance(best, MapTarget) else None,
        findings=list(dict.fromkeys(chain.from_iterable(findings))),
        picture=_thumbnail(maps, sample) if maps else None,
    )


def _score(target: MapTarget | DriveOutput | SequenceTarget) -> Number:
    """Return the score of a target, the mean over several moments."""
    scores = target.scores if isinstance(target, DriveOutput) else [target.score]
    finite = [score for score in scores if score is not None]
    return number(float(np.mean(finite))) if finite else None


def _kind(item: PageItem) -> str:
    if isinstance(item, DriveItem):
        return "drive"
    if item.stills is None:
        return "sequence"
    return "clip" if item.stills.count > 1 else "picture"


def _thumbnail(one: Explanation, sample: int) -> str | None:
    """Return a small overlay of the first target; for a clip, of the frame with the most evidence."""
    if one.pictures is None:
        return None
    stills, at = one.pictures[sample], 0
    maps = one.maps[sample : sample + 1, :1]
    if maps.ndim == 5:
        # Of copies of a frame in a looped clip, `places` names the picture that all of them show.
        slice_ = int(np.clip(maps[0, 0], 0, None).sum(axis=(1, 2)).argmax())
        at = stills.places[int((slice_ + 0.5) * len(stills.places) / maps.shape[2])]
        maps = maps[:, :, slice_]
    # The part that the model saw fills the thumbnail: what lies around it has no map.
    left, top, right, bottom = stills.seen
    picture = Image.fromarray(stills.decoded(at)).crop((left, top, right, bottom))
    picture.thumbnail(_THUMBNAIL)
    flat = replace(
        one,
        maps=maps,
        scores=one.scores[:1, :1],
        targets=((one.targets[sample][0],),),
        input_size=one.input_size[-2:],
        centers=None if one.centers is None else one.centers[-2:],
        frame_spans=None,
        attention=None,
        confidences=None,
        pictures=None,
    )
    file = io.BytesIO()
    Image.fromarray(flat.overlay([picture])[0][0]).save(file, "JPEG", quality=80)
    return encoded(file.getvalue())
