"""Boxes drawn into pictures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import ImageDraw
from PIL.Image import Image


def outline(picture: Image, box: Sequence[float], size: Sequence[int]) -> None:
    """Draw a box of an input of this size (height, width) into a picture of that input."""
    across, down = picture.width / size[1], picture.height / size[0]
    corners = [box[0] * across, box[1] * down, box[2] * across - 1, box[3] * down - 1]
    width = max(1, round(max(picture.size) / 200))
    ImageDraw.Draw(picture).rectangle([round(side) for side in corners], outline=(255, 255, 255), width=width)
