"""How a picture becomes a network's input, and where the network's view lies in the picture."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from PIL import Image

from chronocam.errors import MediaError
from chronocam.media.images import as_image
from chronocam.media.limits import PICTURE

Box: TypeAlias = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; x1 and y1 lie past the last pixel."""

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
# Luma, and the differences of blue and red to it: 0.492 (B − Y) and 0.877 (R − Y), around 128.
_LUMA: Final = np.asarray((0.299, 0.587, 0.114), np.float32)
_YUV: Final = np.stack(
    [_LUMA, 0.492 * (np.asarray((0, 0, 1)) - _LUMA), 0.877 * (np.asarray((1, 0, 0)) - _LUMA)]
).astype(np.float32)
_MIDDLE: Final = np.asarray((0, 128, 128), np.float32)
_IMAGENET: Final = (
    "pictures are normalised as for ImageNet, which is assumed (a guess): nothing says what the model was "
    'trained with; give preprocess={"range": (-1, 1)} (--range=-1..1, or --mean and --std), or say it in a '
    "chronocam.json beside the file, or return (model, Preprocess, labels) from a python: factory"
)


@dataclass(frozen=True)
class Preprocess:
    """How a network wants its pictures: resize, centre crop, scale, normalise.

    resize: an int for the shorter side (the longer one keeps the aspect, rounded down), or (height, width).
    crop: (height, width) cut from the centre; where the picture is smaller, black is added around it.
    mean: per channel, of values already multiplied by `scale`; one channel means grey.
    std: per channel, likewise.
    interpolation: `nearest`, `bilinear`, `bicubic`, `lanczos`, `box` or `hamming`.
    channels: `first` gives (channel, height, width), `last` (height, width, channel).
    scale: what 8-bit values are multiplied by.
    order: of the colour channels, which `mean` and `std` follow: `rgb`, `bgr`, `yuv` as OpenCV's RGB2YUV
        makes it of 8 bits, or `bgr2yuv` as its BGR2YUV makes it of an array of red, green and blue.
    antialias: False takes the nearest pixels even where the picture shrinks; `bilinear` only.
    assumption: what in this recipe is assumed rather than stated, in words; None where nothing is.

    Equal to torchvision's `ImageClassification` preset and to timm's evaluation transform on PIL images.

    Example:
    >>> from PIL import Image
    >>> preprocess = cc.media.Preprocess(256, (224, 224), mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> picture = Image.new("RGB", (640, 480))
    >>> preprocess(picture).shape, [round(at) for at in preprocess.region(640, 480)]
    ((3, 224, 224), [109, 30, 529, 450])
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    scale: float = 1 / 255
    channels: Literal["first", "last"] = "first"
    order: Literal["rgb", "bgr", "yuv", "bgr2yuv"] = "rgb"
    antialias: bool = True
    assumption: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        numbers = (*_several(self.mean), *_several(self.std), self.scale)
        sides = (*_several(self.resize), *_several(self.crop))
        if not all(isinstance(one, Real) and math.isfinite(one) for one in numbers) or not all(
            isinstance(one, Integral) and int(one) > 0 for one in sides
        ):
            raise MediaError(
                f"resize {self.resize}, crop {self.crop}, mean {self.mean}, std {self.std} and scale "
                f"{self.scale}; expected whole numbers of pixels, and numbers"
            )
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise MediaError(
                f"mean {self.mean} and std {self.std}: expected one value per channel, 1 or 3 channels"
            )
        if self.interpolation.upper() not in Image.Resampling.__members__:
            filters = ", ".join(name.lower() for name in Image.Resampling.__members__)
            raise MediaError(f"unknown interpolation `{self.interpolation}`; expected one of {filters}")
        if not self.antialias and self.interpolation != "bilinear":
            raise MediaError(f"antialias=False with `{self.interpolation}`; expected `bilinear`")

    def __call__(self, picture: Image.Image | np.ndarray | str | Path) -> Float32[np.ndarray, "_ _ _"]:
        """Return the network's input of one picture, without a batch axis.

        picture: a PIL image, uint8 `(height, width)` or `(height, width, 3)`, or the path of a file.

        Raises MediaError for anything else.
        """
        pixels = np.atleast_3d(np.asarray(self.view(as_image(picture)), dtype=np.float32))
        return self.normalised(pixels)

    def normalised(
        self, pixels: Float32[np.ndarray, "*frames _ _ _"]
    ) -> Float32[np.ndarray, "*frames _ _ _"]:
        """Return RGB from 0 to 255, channels last, as the network takes it."""
        if self.order.startswith("bgr"):
            pixels = pixels[..., ::-1]
        if self.order.endswith("yuv"):
            pixels = np.clip(np.rint(pixels @ _YUV.T + _MIDDLE), 0, 255)
        mean, std = (np.asarray(values, dtype=np.float32) for values in (self.mean, self.std))
        values = (pixels * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(values if self.channels == "last" else np.moveaxis(values, -1, -3))

    def pixels(self, values: Float32[np.ndarray, "*frames _ _ channel"]) -> Float32[np.ndarray, ...]:
        """Return RGB from 0 to 255 of what the network takes, channels last: the reverse of `normalised`."""
        mean, std = (np.asarray(one, dtype=np.float32) for one in (self.mean, self.std))
        pixels = (values * std + mean) / np.float32(self.scale)
        if self.order.endswith("yuv"):
            pixels = (pixels - _MIDDLE) @ np.linalg.inv(_YUV).T.astype(np.float32)
        return pixels[..., ::-1] if self.order.startswith("bgr") else pixels

    def view(self, image: Image.Image) -> Image.Image:
        """Return the part of the picture that the network sees, at the network's resolution."""
        image = image.convert("L" if len(self.mean) == 1 else "RGB")
        size = self._resized(*image.size)
        if self.antialias:
            resized = image.resize(size, Image.Resampling[self.interpolation.upper()])
        else:
            resized = Image.fromarray(_between_neighbours(np.asarray(image), *size))
        return resized.crop(self._crop_box(*resized.size))

    def region(self, width: int, height: int) -> Box:
        """Return the box of the view in pixels of a `width` by `height` picture.

        It reaches outside the picture where black is added.
        """
        new_width, new_height = self._resized(width, height)
        x0, y0, x1, y1 = self._crop_box(new_width, new_height)
        across, down = width / new_width, height / new_height
        return x0 * across, y0 * down, x1 * across, y1 * down

    def to_original(self, box: Box, size: tuple[int, int]) -> Box:
        """Turn a box in pixels of the view into one in pixels of the picture, of size (width, height)."""
        width, height = size
        new_width, new_height = self._resized(width, height)
        left, top, _, _ = self._crop_box(new_width, new_height)
        across, down = width / new_width, height / new_height
        x0, y0, x1, y1 = box
        return (x0 + left) * across, (y0 + top) * down, (x1 + left) * across, (y1 + top) * down

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) after the resize."""
        if self.resize is None:
            return width, height
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        short, long = self.resize, int(self.resize * max(width, height) / min(width, height))
        if short * long > PICTURE:
            raise MediaError(
                f"a {width} x {height} picture would be enlarged to {short} x {long}; crop it first"
            )
        return (short, long) if width <= height else (long, short)

    def _crop_box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the crop in pixels of the resized picture."""
        rows, columns = self.crop or (height, width)
        left, top = _offset(width, columns), _offset(height, rows)
        return left, top, left + columns, top + rows


def imagenet(height: int = 224, width: int = 224, channels: int = 3) -> Preprocess:
    """Return the usual ImageNet recipe for an input size: the centre 7/8, ImageNet's mean and std.

    A picture is resized as a whole to an input that is not square; one channel takes the mean of the three.
    """
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels != 1 else ((0.449,), (0.226,))
    resize, crop = ((height, width), None) if height != width else (height * 8 // 7, (height, width))
    return Preprocess(resize, crop, mean, std, assumption=_IMAGENET)


def placed(
    whole: Shaped[np.ndarray, "*frames height width channels"],
    view: Shaped[np.ndarray, "*frames _ _ channels"],
    region: Sequence[int],
) -> Shaped[np.ndarray, "*frames height width channels"]:
    """Return a copy of pictures with a view laid over the part that it shows.

    region: x0, y0, x1, y1 of the view in pixels of the pictures; what reaches outside of them is left out.
    """
    left, top, right, bottom = region
    height, width = whole.shape[-3:-1]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    copy = whole.copy()
    copy[..., y0:y1, x0:x1, :] = view[..., y0 - top : y1 - top, x0 - left : x1 - left, :]
    return copy


def _between_neighbours(
    pixels: UInt8[np.ndarray, "old_height old_width *channels"], width: int, height: int
) -> UInt8[np.ndarray, "height width *channels"]:
    """Resize bilinearly from the two nearest rows and columns alone, as most video networks were trained."""
    values = pixels
    for axis, size in enumerate((height, width)):
        # In single precision throughout, as OpenCV and PyTorch compute it: the same pixels come out.
        share = np.float32(values.shape[axis]) / np.float32(size)
        at = np.maximum((np.arange(size, dtype=np.float32) + np.float32(0.5)) * share - np.float32(0.5), 0)
        low = np.minimum(at.astype(np.int64), values.shape[axis] - 1)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        weight = (at - low).reshape([-1] + [1] * (values.ndim - 1 - axis))
        values = values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight
    return np.rint(values).astype(np.uint8)


def _several(value: object) -> Iterable[object]:
    return () if value is None else value if isinstance(value, Collection) else (value,)


def _offset(size: int, crop: int) -> int:
    """Return where a centre crop begins, rounded as in torchvision; negative in a smaller picture."""
    return round((size - crop) / 2) if size >= crop else -((crop - size) // 2)
