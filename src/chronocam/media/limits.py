"""How many pixels are decoded: a small file may claim to hold any number."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from chronocam.errors import MediaError

PICTURE: Final = 2**26
"""Pixels of a picture or a frame, at most: 67 million, such as 8192 × 8192."""

CLIP: Final = 2**29
"""Pixels of all frames of a clip, at most: 1.6 GB, such as 64 frames of 3840 × 2160."""


def check_picture(path: Path, width: int, height: int) -> None:
    """Raise MediaError for a picture or a frame that is too large to decode."""
    if width * height > PICTURE:
        raise MediaError(
            f"`{path}` has {width} × {height} pixels; expected at most {PICTURE:,}, crop or shrink it"
        )


def check_clip(path: Path, frames: int, width: int, height: int) -> None:
    """Raise MediaError for a clip that is too large to hold."""
    check_picture(path, width, height)
    if frames * width * height > CLIP:
        raise MediaError(
            f"`{path}` gives {frames} frames of {width} × {height} pixels; expected at most {CLIP:,} in all, "
            "take fewer frames or read them at a smaller size"
        )
