"""Photographs behind generated scenes: scikit-image's, none of which needs a download."""

from importlib import import_module
from types import ModuleType

import numpy as np
from jaxtyping import Float
from PIL import Image

from chronocam.errors import ChronocamError


def load_photos(names: tuple[str, ...]) -> tuple[Image.Image, ...]:
    """Return `skimage.data`'s photographs as RGB, at most 640 pixels wide or high.

    Raises ChronocamError where scikit-image is not installed.
    """
    data = load_module("skimage.data")
    return tuple(_photo(getattr(data, name)()) for name in names)


def load_module(name: str) -> ModuleType:
    """Import a module of the extra `train`; raises ChronocamError with the command that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ChronocamError(f"`{name}` is not installed; run pip install 'chronocam[train]'") from error


def crop_photo(
    rng: np.random.Generator, photos: tuple[Image.Image, ...], size: int
) -> Float[np.ndarray, "height width 3"]:
    """Crop a photograph at random to `size` x `size`, about 0 to 1, softer and with shifted colours."""
    photo = photos[rng.integers(len(photos))]
    side = rng.uniform(0.2, 0.8) * min(photo.size)
    left, top = (rng.uniform(0, length - side) for length in photo.size)
    crop = photo.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    canvas = np.asarray(crop, np.float32) / 255
    if rng.random() < 0.5:
        canvas = canvas[:, ::-1]
    mean = canvas.mean((0, 1))
    cast = rng.uniform(0.75, 1.25, 3).astype(np.float32)
    softened: np.ndarray = mean * cast + (canvas - mean) * rng.uniform(0.4, 1.0)
    return softened


def _photo(pixels: np.ndarray | tuple[np.ndarray, ...]) -> Image.Image:
    """Return one photograph (a stereo pair gives its left view)."""
    photo = Image.fromarray(pixels[0] if isinstance(pixels, tuple) else pixels).convert("RGB")
    photo.thumbnail((640, 640))
    return photo
