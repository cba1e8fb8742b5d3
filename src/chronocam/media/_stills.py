"""Small encoded copies of what was explained, kept beside the maps: a picture, or the frames of a clip."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from chronocam._repr import ShortRepr
from chronocam.errors import MediaError
from chronocam.media.limits import CLIP, PICTURE

_SIDES: Final = (1024, 800, 640, 512, 448, 384, 320, 256, 224, 192, 160, 128, 96)
"""Longest sides that are tried, in pixels."""

_BYTES: Final = 560_000  # of all frames: with the maps, a page of 32 frames stays below 1 MB
_ENLARGED: Final = 480  # pixels that the longest side of small pictures is brought to, by a whole factor
_QUALITY: Final = 85

_LARGEST: Final = 16_384  # pixels along a side, of what is kept or seen
_MOST: Final = 100_000  # frames


@dataclass(frozen=True)
class Stills(ShortRepr):
    """What one sample looks like.

    frames: JPEG files, one of a picture; of a clip one for each of its source's frames, copies once. Empty
        where there is nothing to show but the maps.
    size: (height, width) of all frames.
    seen: (left, top, right, bottom) in their pixels, of the part that the model saw.
    places: for each frame that the model was given, which of `frames` it is.
    seconds: when each of `frames` is shown; None for a picture, and for frames without times.
    numbers: the number of each of `frames` in the source; None for a picture.
    name: of the source.
    unit: what a frame is called; those of a volume are slices.

    Example:
    >>> small = cc.media.still(np.zeros((480, 640, 3), np.uint8), "cat.jpg")
    >>> small.size, small.seen, small.name
    ((480, 640), (0, 0, 640, 480), 'cat.jpg')
    """

    frames: tuple[bytes, ...]
    size: tuple[int, int]
    seen: tuple[int, int, int, int]
    places: tuple[int, ...] = (0,)
    seconds: tuple[float, ...] | None = None
    numbers: tuple[int, ...] | None = None
    name: str = ""
    unit: str = "frame"

    def __post_init__(self) -> None:
        """Raise MediaError for numbers that fit no pictures: they may come out of a file."""
        left, top, right, bottom = self.seen
        sides, count = (*self.size, right - left, bottom - top), len(self)
        if not all(0 < side <= _LARGEST for side in sides) or not all(
            -_LARGEST <= at <= _LARGEST for at in self.seen
        ):
            raise MediaError(
                f"kept pictures are {self.size}, and {self.seen} of them was seen; save them again"
            )
        if self.frames and (math.prod(self.size) > PICTURE or count * math.prod(self.size) > CLIP):
            raise MediaError(f"{count} pictures of {self.size} are kept, too many pixels; save them again")
        by_frame = [values for values in (self.frames, self.seconds, self.numbers) if values]
        if min(self.places) < 0 or count > _MOST or any(len(values) != count for values in by_frame):
            raise MediaError(f"{len(self.frames)} pictures are kept of {count} frames; save them again")

    def __len__(self) -> int:
        """How many frames are shown."""
        return max(self.places) + 1

    @property
    def view(self) -> tuple[float, ...]:
        """The part that the model saw, x0, y0, x1, y1 in shares of the picture's sides."""
        height, width = self.size
        return tuple(at / side for at, side in zip(self.seen, (width, height) * 2, strict=True))

    def split(self) -> tuple[Stills, ...]:
        """Return every frame as a picture of its own."""
        return tuple(Stills((frame,), self.size, self.seen, name=self.name) for frame in self.frames)

    def as_seen(self) -> Image.Image | UInt8[np.ndarray, "time height width 3"]:
        """Return what the model saw: the picture, or of a clip every frame that the model was given."""
        seen = [Image.fromarray(self.decoded(place)).crop(self.seen) for place in self.places]
        return seen[0] if self.numbers is None else np.stack([np.asarray(frame) for frame in seen])

    def decoded(self, place: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Return one of the frames. Raises MediaError unless it is a JPEG file of the right size."""
        try:
            with Image.open(io.BytesIO(self.frames[place]), formats=["JPEG"]) as image:
                if image.size[::-1] != tuple(self.size):
                    raise MediaError(
                        f"a picture of the input is {image.size[::-1]}; expected {self.size}, save it again"
                    )
                return np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise MediaError(
                "a picture of the input is not a JPEG file; save the explanation again"
            ) from error


def joined(pictures: Sequence[Stills]) -> Stills:
    """Return pictures of one size as the frames of a clip: the reverse of `split`."""
    first, frames = pictures[0], tuple(frame for picture in pictures for frame in picture.frames)
    return replace(first, frames=frames, places=tuple(range(len(pictures))))


def blank(grid: Sequence[int]) -> Stills:
    """Return stills without frames, for an unknown input of a grid `(height, width)` or with time before."""
    *time, height, width = grid
    whole = max(1, math.ceil(_ENLARGED / max(height, width)))
    frames = tuple(range(time[0] if time else 1))
    return Stills((), (height * whole, width * whole), (0, 0, width * whole, height * whole), frames)


def still(
    picture: UInt8[np.ndarray, "height width 3"], name: str = "", seen: Sequence[float] | None = None
) -> Stills:
    """Return a picture made small enough to keep.

    seen: (left, top, right, bottom), in its pixels, of the part that the model saw; None for all.

    Example:
    >>> cc.media.still(np.zeros((480, 640, 3), np.uint8), seen=(80, 0, 560, 480)).seen
    (80, 0, 560, 480)
    """
    return Stills(*_encoded(picture[None], seen), name=name)


def stills(clip: Any, name: str | None = None, seen: Sequence[float] | None = None) -> Stills:
    """Return the frames of a `Clip`, each once, made small enough to keep; name and seen are as for `still`.

    The name is that of the clip's file where it is None.

    Example:
    >>> pixels = np.zeros((3, 480, 640, 3), np.uint8)
    >>> clip = cc.media.Clip(pixels, np.arange(3) / 8, 8.0, np.arange(3), Path("a.mp4"))
    >>> cc.media.stills(clip).seconds
    (0.0, 0.125, 0.25)
    """
    unique = clip.unique
    return Stills(
        *_encoded(clip.pixels[unique], seen),
        tuple(np.searchsorted(unique, clip.first).tolist()),
        None if clip.rate is None else tuple(round(float(at), 6) for at in clip.seconds[unique]),
        tuple(clip.indices[unique].tolist()),
        clip.path.name if name is None else name,
    )


def _encoded(
    pixels: UInt8[np.ndarray, "time height width 3"], seen: Sequence[float] | None
) -> tuple[tuple[bytes, ...], tuple[int, int], tuple[int, int, int, int]]:
    """Return the frames, their size, and what was seen of them."""
    height, width = pixels.shape[1:3]
    frames, (high, wide) = _small(pixels)
    region = (0, 0, width, height) if seen is None else seen
    across, down = wide / width, high / height
    left, top, right, bottom = region
    return (
        frames,
        (high, wide),
        (round(left * across), round(top * down), round(right * across), round(bottom * down)),
    )


def _small(pixels: UInt8[np.ndarray, "time height width 3"]) -> tuple[tuple[bytes, ...], tuple[int, int]]:
    """Return the largest frames that are small enough, or else the smallest, and their size."""
    for attempt in _tries(pixels):
        if sum(map(len, attempt[0])) <= _BYTES:
            break
    return attempt


def _tries(
    pixels: UInt8[np.ndarray, "time height width 3"],
) -> Iterator[tuple[tuple[bytes, ...], tuple[int, int]]]:
    """Yield the frames encoded, from their own size, or the largest that is kept, downwards."""
    longest = max(pixels.shape[1:3])
    enlarged = longest * max(1, math.ceil(_ENLARGED / longest))
    for side in [min(enlarged, _SIDES[0]), *(side for side in _SIDES[1:] if side < enlarged)]:
        scale = side / longest
        size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[2] * scale))
        yield tuple(_jpeg(frame, size) for frame in pixels), size


def _jpeg(frame: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> bytes:
    image = Image.fromarray(frame)
    image = image if image.size[::-1] == size else image.resize(size[::-1], Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()
