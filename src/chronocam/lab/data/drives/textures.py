"""Photographs as textures, at every size at once: a pyramid keeps what is seen from afar from flickering."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from PIL import Image

from chronocam.lab.data.photos import crop_photo

TILE = 128
"""Texels across a photograph."""

_SIDE = 2 * TILE  # a photograph and its mirror images, which repeat without a seam
_LEVELS = 7
_BASES = np.cumsum([0, *((_SIDE >> level) ** 2 for level in range(_LEVELS))])

PLAIN = 0
"""The plain texture: a single colour."""


@dataclass(frozen=True)
class Atlas:
    """Textures, one after the other, each from fine to coarse."""

    texels: Float32[np.ndarray, "texel 3"]

    def sample(
        self,
        texture: Int[np.ndarray, " sample"],
        u: Float32[np.ndarray, " sample"],
        v: Float32[np.ndarray, " sample"],
        level: Float32[np.ndarray, " sample"],
    ) -> Float32[np.ndarray, "sample 3"]:
        """Look up colours at places in texels of the finest level, linearly between texels and levels."""
        level = np.clip(level, 0, _LEVELS - 1.001)
        fine = level.astype(np.int32)
        start = texture.astype(np.int32) * np.int32(_BASES[-1])
        near = self._bilinear(start, u, v, fine)
        near += (level - fine)[:, None] * (self._bilinear(start, u, v, fine + 1) - near)
        return near

    def _bilinear(self, start: np.ndarray, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
        scale = np.ldexp(np.float32(1), -np.arange(_LEVELS)).astype(np.float32)[level]
        x, y = u * scale - np.float32(0.5), v * scale - np.float32(0.5)
        left, top = np.floor(x), np.floor(y)
        x, y = (x - left)[:, None], (y - top)[:, None]
        # Sides are powers of two: a bitwise and with side - 1 wraps around, also for negative numbers.
        side = np.int32(_SIDE) >> level
        columns, rows = left.astype(np.int32), top.astype(np.int32)
        start = start + _BASES.astype(np.int32)[level]
        upper, lower = ((start + (rows + down & side - 1) * side) for down in (0, 1))
        west, east = columns & side - 1, columns + 1 & side - 1
        above, below = (self._lerp(row + west, row + east, x) for row in (upper, lower))
        below -= above
        below *= y
        above += below
        return above

    def _lerp(self, first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
        low, high = self.texels.take(first, 0), self.texels.take(second, 0)
        high -= low
        high *= share
        low += high
        return low


def draw_atlas(rng: np.random.Generator, photos: tuple[Image.Image, ...], count: int) -> Atlas:
    """Draw so many textures from photographs; number 0 is plain, the photographs follow."""
    plain = np.full((_BASES[-1], 3), 0.5, np.float32)
    return Atlas(np.concatenate([plain, *(_pyramid(_texture(rng, photos)) for _ in range(count))]))


def _texture(rng: np.random.Generator, photos: tuple[Image.Image, ...]) -> Float[np.ndarray, "tile tile 3"]:
    """Draw a crop with something in it, neither dark nor pale, about 0 to 1."""
    # Depth and motion show in texture alone: a crop of blank sky would be one more plain wall.
    crops = (crop_photo(rng, photos, TILE) for _ in range(12))
    crop = next((crop for crop in crops if _busy(crop)), None)
    if crop is None:
        crop = rng.random((TILE, TILE, 3)).astype(np.float32)
    centre, spread = rng.uniform(0.42, 0.58), rng.uniform(0.14, 0.2)
    mean = crop.mean((0, 1))
    colour = centre * np.clip(mean / mean.mean(), 0.75, 1.3)
    return np.clip(colour + (crop - mean) * (spread / crop.std((0, 1)).mean()), 0.02, 0.98).astype(np.float32)


def _busy(crop: np.ndarray) -> bool:
    """Return whether most parts of a crop have contrast of their own."""
    cells = crop.mean(2).reshape(8, TILE // 8, 8, TILE // 8).std((1, 3))
    return bool(crop.std() > 0.05 and np.quantile(cells, 0.25) > 0.12 * crop.std())


def _pyramid(texture: np.ndarray) -> np.ndarray:
    # Mirrored in both directions, a texture continues without a seam where it wraps around.
    level = np.concatenate([texture, texture[:, ::-1]], 1)
    level = np.concatenate([level, level[::-1]])
    levels = [level]
    for _ in range(_LEVELS - 1):
        level = halve(level)
        levels.append(level)
    return np.concatenate([level.reshape(-1, 3) for level in levels])


def halve(picture: Float32[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "half_height half_width 3"]:
    """Return the means of 2 x 2 pixels."""
    rows = picture[::2] + picture[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)
