"""Explanations of the same samples as the items of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol, TypeAlias, runtime_checkable

from chronocam.errors import InputError
from chronocam.media._stills import Stills, blank
from chronocam.render.page.captions import SampleWords, shown_words
from chronocam.render.page.maps import SampleMaps, shown_maps
from chronocam.render.page.packed import encoded, numbers
from chronocam.render.page.records import PageItem, ShownStills
from chronocam.render.page.sequences import SampleRelevance, shown_sequence
from chronocam.types import TargetInfo

Part: TypeAlias = SampleMaps | SampleRelevance | SampleWords
"""What a page draws of one sample, by one method."""

_NAMED: Final = 3  # targets in a title


@runtime_checkable
class Shown(Protocol):
    """An explanation of a batch, as a page sees it."""

    def __len__(self) -> int:
        """How many samples there are."""

    def on_page(self, sample: int) -> Part:
        """Return what is drawn of one sample."""


def items_of(explanations: Mapping[str, Shown], model: str = "", count: int | None = None) -> list[PageItem]:
    """Return an item for each sample.

    explanations: of the same samples, by what the page calls them.
    model: how the page names the model.
    count: of how many samples at most; None for all.

    Raises InputError where the explanations are of different samples.
    """
    if not explanations:
        raise InputError("there is nothing to show: give at least one explanation")
    counts = {name: len(part) for name, part in explanations.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise InputError(f"explanations have different samples ({listed}); give those of the same inputs")
    samples = range(next(iter(counts.values())))[:count]
    return [_item({name: part.on_page(k) for name, part in explanations.items()}, k, model) for k in samples]


def title_of(targets: Iterable[Iterable[TargetInfo]], how: str, name: str = "") -> str:
    """Return the title of a page, such as `dog.jpg · beagle, tabby · gradcam at layer4`.

    targets: of each sample.
    how: they were explained.
    name: of the only sample, where it has one.
    """
    rows = [[str(info) for info in row] for row in targets]
    names = list(dict.fromkeys(name for row in rows for name in row))
    many = f"{len(rows)} samples" if len(rows) > 1 else f"{len(names)} targets"
    what = ", ".join(names) if len(names) <= _NAMED else many
    return " · ".join(filter(None, (name, what, how)))


def _item(parts: Mapping[str, Part], sample: int, model: str) -> PageItem:
    maps = {name: part for name, part in parts.items() if isinstance(part, SampleMaps)}
    sequences = {name: part for name, part in parts.items() if isinstance(part, SampleRelevance)}
    words = {name: part for name, part in parts.items() if isinstance(part, SampleWords)}
    maps |= {f"{name}, surely": sure for name, part in maps.items() if (sure := part.surely) is not None}
    stills = _stills(maps) if maps else None
    named = stills or next((part.pictures for part in words.values() if part.pictures is not None), None)
    return PageItem(
        name=(named.name if named else "") or f"sample {sample + 1}",
        model=model,
        stills=shown_stills(stills) if stills else None,
        maps=[shown_maps(part, name, stills) for name, part in maps.items()] if stills else [],
        sequences=[shown_sequence(part, name) for name, part in sequences.items()],
        words=[shown_words(part, name, alone=stills is None) for name, part in words.items()],
    )


def _stills(maps: Mapping[str, SampleMaps]) -> Stills:
    """Return the pictures that maps were saved with. Raises InputError for maps that cannot share any."""
    first = next(iter(maps.values()))
    for name, part in maps.items():
        if part.input_size[:-2] != first.input_size[:-2]:
            raise InputError(
                f"{name} explains inputs {part.input_size}, another {first.input_size}; show them apart"
            )
    saved = (part.pictures for part in maps.values() if part.pictures is not None)
    return next(saved, None) or blank(first.input_size)


def shown_stills(stills: Stills) -> ShownStills:
    """Return the pictures of an item. Raises MediaError where one cannot be decoded."""
    for place in range(len(stills.frames)):
        stills.decoded(place)  # a damaged picture would only be an empty canvas in the browser
    return ShownStills(
        frames=[encoded(frame) for frame in stills.frames],
        count=len(stills),
        size=list(stills.size),
        seen=list(stills.seen),
        seconds=None if stills.seconds is None else numbers(stills.seconds),
        numbers=None if stills.numbers is None else list(stills.numbers),
        unit=stills.unit,
    )
