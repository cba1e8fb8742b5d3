"""The index of a folder: a card for each item, which are sorted and filtered by what is known of it."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

import numpy as np
from PIL import Image

from chronocam.explanation import Explanation
from chronocam.explanation.drawing import strip
from chronocam.jsonable import JsonRecord, keyed
from chronocam.media._stills import blank
from chronocam.render import strength
from chronocam.render._overlay import colour_map, scale_of
from chronocam.render.page.html import asset, filled
from chronocam.render.page.packed import encoded, number
from chronocam.render.page.records import (
    DriveItem,
    DriveOutput,
    MapTarget,
    Number,
    PageItem,
    SequenceTarget,
    ShownMap,
    WordsTarget,
)
from chronocam.render.theme import DIVERGING
from chronocam.sequence import SequenceExplanation
from chronocam.types.targets import WORDS

_THUMBNAILS: Final = {200: 420, 600: 320, 10**9: 208}
"""The longest side of a small picture in pixels, for so many pages at most: an index stays quick to open."""


@dataclass(frozen=True, kw_only=True)
class Row(JsonRecord):
    """What an index says about one item; `assets/list.js` draws it.

    href: of its page.
    kind: picture, clip, signal, drive, sequence or captions.
    label: the name of the target that its page opens on.
    sentence: what was found of that target.
    picture: a small overlay, JPEG in base64.
    """

    href: str
    name: str
    model: str
    kind: str
    method: str
    label: str = field(metadata=keyed("class"))
    score: Number
    confidence: Number
    sentence: str
    findings: list[str]
    picture: str


def list_page(title: str, rows: Sequence[Row]) -> str:
    """Return the HTML of an index."""
    script = asset("base.js") + asset("list.js", __package__)
    data = {"title": title, "rows": [row.to_json() for row in rows]}
    body, style = asset("list.html", __package__), asset("list.css", __package__)
    return filled(body, script, title, data, style)


def thumbnail_side(pages: int) -> int:
    """Return the longest side of the small pictures of an index of so many pages."""
    return next(side for most, side in _THUMBNAILS.items() if pages <= most)


def row_of(
    href: str,
    name: str,
    item: PageItem,
    shown: Explanation | SequenceExplanation,
    sample: int,
    side: int,
    usual: Collection[str] = (),
) -> Row:
    """Return the row of one item: the target that its page opens on speaks for it.

    shown: the first explanation of the item, of which `sample` is drawn small.
    side: the longest of the small picture, in pixels.
    usual: findings that most networks have, which are left to the page.
    """
    first = (item.maps or item.sequences or item.words)[0]
    at = first.first if isinstance(first, ShownMap) else 0
    targets = [*first.targets[at:], *first.targets[:at]]
    best = next((target for target in targets if _score(target) is not None), targets[0])
    findings = [one.findings for one in item.maps] + [one.findings for one in item.sequences]
    findings += [one.findings for one in item.words]
    if isinstance(item, DriveItem):
        findings.append(item.notes)
    unusual = dict.fromkeys(text for text in chain.from_iterable(findings) if text not in usual)
    small = _small(shown, sample, at, side)
    return Row(
        href=f"{href}#{sample + 1}" if sample else href,
        name=name,
        model=item.model,
        kind=_kind(item),
        method=first.method,
        label=best.name,
        score=_score(best),
        confidence=best.confidence if isinstance(best, MapTarget) else None,
        sentence=best.sentence,
        findings=list(unusual),
        picture=encoded(_jpeg(small)),
    )


def _small(shown: Explanation | SequenceExplanation, sample: int, target: int, side: int) -> Image.Image:
    """Return a small picture of a target; of words, what they are of."""
    if not isinstance(shown, Explanation):
        return _heat(shown, sample, side)
    if shown.axes != WORDS:
        return _map(shown, sample, target, side)
    stills = blank((side, side)) if shown.pictures is None else shown.pictures[sample]
    picture = Image.fromarray(stills.decoded(0)) if stills.frames else Image.new("RGB", (side, side), "grey")
    picture.thumbnail((side, side))
    return picture


def _score(target: MapTarget | DriveOutput | SequenceTarget | WordsTarget) -> Number:
    """Return the score of a target, the mean over several moments."""
    scores = target.scores if isinstance(target, DriveOutput) else [target.score]
    finite = [score for score in scores if score is not None]
    return number(float(np.mean(finite))) if finite else None


def _kind(item: PageItem) -> str:
    if isinstance(item, DriveItem):
        return "drive"
    if item.stills is None:
        return "sequence" if item.sequences else "captions"
    if isinstance(first := item.maps[0].targets[0], MapTarget) and first.line is not None:
        return "signal"
    return "clip" if item.stills.count > 1 else "picture"


def _map(one: Explanation, sample: int, target: int, side: int) -> Image.Image:
    """Return a small overlay of a target on the scale that all share; of a clip, of its strongest frame."""
    maps, at = one.maps[sample : sample + 1], 0
    bound = float(scale_of(maps).item())
    maps = maps[:, target : target + 1]
    size = strip(one).input_size if maps.ndim == 3 else one.input_size
    stills = blank(size) if one.pictures is None else one.pictures[sample]
    if maps.ndim == 5:
        # Of copies of a frame in a looped clip, `places` names the picture that all of them show.
        slice_ = int(np.clip(maps[0, 0], 0, None).sum(axis=(1, 2)).argmax())
        at = stills.places[int((slice_ + 0.5) * len(stills.places) / maps.shape[2])]
        maps = maps[:, :, slice_]
    # The part that the model saw fills the picture: what lies around it has no map.
    left, top, right, bottom = stills.seen
    whole = Image.fromarray(stills.decoded(at)) if stills.frames else Image.new("RGB", stills.size[::-1])
    picture = whole.crop((left, top, right, bottom))
    picture.thumbnail((side, side))
    flat = replace(
        one,
        maps=maps,
        scores=one.scores[:1, :1],
        targets=((one.targets[sample][target],),),
        input_size=one.input_size[-2:],
        centers=None if one.centers is None else one.centers[-2:],
        frame_spans=None,
        attention=None,
        confidences=None,
        pictures=None,
        copies=None,
        preprocess=None,
    )
    return Image.fromarray(flat.overlay([picture], scope=(-bound, bound))[0][0])


def _heat(one: SequenceExplanation, sample: int, side: int) -> Image.Image:
    """Return relevance, steps across and features down; where every step has an output, of its features."""
    values = one.own()[sample] if one.consecutive else one.relevance[sample, 0]
    strengths = strength(values[None, None])[0, 0]
    colours = colour_map(DIVERGING)((strengths.T + 1) / 2)[..., :3]
    picture = Image.fromarray(np.rint(255 * colours).astype(np.uint8))
    return picture.resize((side, 3 * side // 4), Image.Resampling.NEAREST)


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    return file.getvalue()
