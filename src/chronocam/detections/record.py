"""What was found in images: boxes that know their row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from chronocam.detections.adapters.base import Adapter

Corners = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Detection:
    """A box that a detector found in an image.

    image: the number of the image. box: x0, y0, x1, y1 in pixels of the given input. label: the name of the
    class, index: its number among the model's. score: a probability. row: which of the model's rows, before
    suppression, it is. level: of a pyramid, which that row comes from; 0 where there is one.

    Example:
    >>> cc.Detection(0, (3.0, 3.0, 9.0, 9.0), "dog", 1, 0.9, row=9).score
    0.9
    """

    image: int
    box: Corners
    label: str
    index: int
    score: float
    row: int
    level: int = 0
    adapter: Adapter | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return name_of(self.label, self.box)


def name_of(label: str, box: Corners) -> str:
    """Return what a box is called: its class, and where it is."""
    return f"{label} ({', '.join(f'{value:.0f}' for value in box)})"


@dataclass(frozen=True)
class Detections(Sequence[Detection]):
    """What was found in all images of a call: of each image the best first.

    found: the detections. images: how many images there were.

    Example:
    >>> found = cc.detect(detector, photos)
    >>> len(found), found.images, found[:2].found == (found[0], found[1])
    (3, 2, True)
    """

    found: tuple[Detection, ...]
    images: int

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        labels = ", ".join(
            f"{label} {count}" for label, count in Counter(one.label for one in self).most_common(5)
        )
        images = "image" if self.images == 1 else "images"
        return f"Detections({len(self)} in {self.images} {images}: {labels or 'nothing'})"

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.found)

    @overload
    def __getitem__(self, which: int) -> Detection: ...

    @overload
    def __getitem__(self, which: slice) -> Detections: ...

    def __getitem__(self, which: int | slice) -> Detection | Detections:
        return Detections(self.found[which], self.images) if isinstance(which, slice) else self.found[which]

    def of(self, image: int) -> Detections:
        """Return those of one image."""
        return Detections(tuple(one for one in self.found if one.image == image), self.images)
