"""Clips made of pictures: animated GIF and WebP, and folders of frames."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from chronocam.errors import MediaError
from chronocam.media.clips.sample import Size, Timeline, fit
from chronocam.media.images import find_images, read_image
from chronocam.media.limits import check_picture

_UNTIMED: Final = 100
"""Milliseconds for which browsers show a frame without a duration."""


@dataclass(frozen=True)
class Animation:
    """An animated GIF or WebP, and when its frames are shown."""

    path: Path
    timeline: Timeline

    def frames(
        self, indices: Int64[np.ndarray, " index"], size: Size
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        """Yield (index, pixels) of these frames, on white where transparent; damaged ones are left out."""
        with Image.open(self.path) as image:
            for number in indices.tolist():
                with suppress(Exception):  # decoders raise anything
                    image.seek(number)
                    yield number, _pixels(image, size)


@dataclass(frozen=True)
class Folder:
    """A folder of frames, sorted as a person would."""

    paths: list[Path]
    timeline: Timeline

    def frames(
        self, indices: Int64[np.ndarray, " index"], size: Size
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        """Yield (index, pixels) of these frames. Raises MediaError for one that cannot be read."""
        for number in indices.tolist():
            yield number, _pixels(read_image(self.paths[number]), size)


def is_animation(head: bytes) -> bool:
    """Return whether a file that begins like this is a GIF or WebP."""
    return head.startswith((b"GIF87a", b"GIF89a")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def open_animation(path: Path) -> Animation:
    """Read when the frames of a GIF or WebP are shown. Raises MediaError for a damaged file."""
    try:
        with Image.open(path, formats=("GIF", "WEBP")) as image:
            check_picture(path, *image.size)
            ends = np.cumsum(list(_durations(image)))
    except MediaError:
        raise
    except Exception as error:
        reason = "it may be cut off or damaged; fetch or convert it again"
        raise MediaError(f"`{path}` cannot be read as an animated GIF or WebP: {reason}") from error
    times = np.concatenate([[0.0], ends[:-1] / 1000])
    rate = 1000 * len(ends) / float(ends[-1])
    return Animation(path, Timeline(times, float(ends[-1]) / 1000, rate, 0.001, len(ends)))


def open_folder(path: Path, rate: float | None) -> Folder:
    """Find the frames of a folder, `rate` of them a second; without a rate the times count frames.

    Raises MediaError where the folder holds no pictures.
    """
    paths = sorted(find_images([path]), key=_natural)
    times = np.arange(len(paths)) / float(rate or 1)
    tick = 1 / float(rate or 1)
    return Folder(paths, Timeline(times, len(paths) * tick, float(rate) if rate else None, tick, len(paths)))


def _durations(image: Image.Image) -> Iterator[float]:
    """Yield how long each frame is shown, in milliseconds, up to the last or to where the file is damaged."""
    yield _duration(image)
    with suppress(EOFError, OSError):
        while True:
            image.seek(image.tell() + 1)
            yield _duration(image)


def _duration(image: Image.Image) -> float:
    if image.format == "WEBP":
        image.load()  # a WebP file has the duration beside the pixels
    return float(image.info.get("duration", 0) or _UNTIMED)


def _pixels(image: Image.Image, size: Size) -> UInt8[np.ndarray, "height width 3"]:
    height, width = fit(size, image.height, image.width)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def _natural(path: Path) -> list[str | int]:
    """Return a key under which `frame2` comes before `frame10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name.lower())]
