"""Painting clips: shapes with smooth edges on all frames at once, with mattes that say who is seen where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

Colour: TypeAlias = Float[np.ndarray, " 3"]

_SHADOW = 0.03
"""Reach of the shadow that a limb casts on its own body, as a share of the picture's side."""


@dataclass(frozen=True)
class Cones:
    """A shape made of round cones: discs that travel from one end to the other while their radius changes.

    All in shares of the picture's side, `x` to the right and `y` down.
    """

    ends: Float[np.ndarray, " 2 time cone 2"]
    radii: Float[np.ndarray, " 2 time cone"]


@dataclass(frozen=True)
class Paint:
    """How a shape covers what is under it."""

    colour: Colour
    texture: Texture | None = None
    shade: float = 0
    """How much darker the rim is than the middle: flat paint looks round."""
    mattes: tuple[int, ...] = ()
    """Channels behind the colours that the shape turns on; it turns the others off."""


@dataclass(frozen=True)
class Texture:
    """Stripes or checks fixed to a body."""

    colour: Colour
    origin: Float[np.ndarray, "time 2"]
    waves: tuple[Float[np.ndarray, " 2"], ...]
    """Wave vectors in radians per side of the picture; two of them make checks."""


@dataclass(frozen=True)
class _Spot:
    """The pixels near a shape, frame by frame."""

    index: Int[np.ndarray, "time height width"]
    x: Float[np.ndarray, "time 1 1 width"]
    y: Float[np.ndarray, "time 1 height 1"]


class Canvas:
    """Clips in the making: red, green and blue in 0 to 1, then mattes, each `(time, height, width)`."""

    def __init__(
        self, backdrop: Float[np.ndarray, "3 time side side"], mattes: int, without: str | None = None
    ) -> None:
        self.without: str | None = without
        self.left_out: bool = False
        self.frames: int = backdrop.shape[1]
        self.size: int = backdrop.shape[2]
        self.channels: np.ndarray = np.zeros((3 + mattes, backdrop[0].size), np.float32)
        self.channels[:3] = backdrop.reshape(3, -1)

    @property
    def colours(self) -> Float[np.ndarray, "3 time side side"]:
        """The picture so far."""
        return self.channels[:3].reshape(3, self.frames, self.size, self.size)

    def matte(self, number: int) -> Float[np.ndarray, "time side side"]:
        """Return how much of each pixel belongs to matte `number`."""
        return self.channels[3 + number].reshape(self.frames, self.size, self.size)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Take what is painted within the scope for one part; the one to be left out is not painted."""
        before, self.left_out = self.left_out, self.left_out or name == self.without
        yield
        self.left_out = before

    def paint(self, shape: Cones, paint: Paint) -> None:
        """Cover the shape on every frame, its edges smoothed over one pixel."""
        if self.left_out:
            return
        spot = self._spot(shape, 1)
        distance = self._distance(shape, spot)
        near = distance < 0.5
        index, distance = spot.index[near], distance[near]
        cover = np.minimum(0.5 - distance, 1)
        under = self.channels.take(index, 1)
        over = np.zeros_like(under)
        over[:3] = paint.colour[:, None]
        if paint.texture:
            over[:3] += self._pattern(paint.texture, index) * (paint.texture.colour - paint.colour)[:, None]
        if paint.shade:
            thick = self.size * float(shape.radii.max())
            over[:3] *= 1 - paint.shade * (1 - np.clip(-distance / thick, 0, 1)) ** 2
        for matte in paint.mattes:
            over[3 + matte] = 1
        self.channels[:, index] = under + cover * (over - under)

    def mark(self, shape: Cones, matte: int) -> None:
        """Turn one matte on over the shape and leave the picture as it is."""
        spot = self._spot(shape, 1)
        cover = np.clip(0.5 - self._distance(shape, spot), 0, 1)
        self.channels[3 + matte][spot.index] = np.maximum(self.channels[3 + matte][spot.index], cover)

    def shade(self, shape: Cones, matte: int, depth: float) -> None:
        """Darken what belongs to `matte` around the shape: an arm stays visible before the trunk."""
        if self.left_out:
            return
        reach = _SHADOW * self.size
        spot = self._spot(shape, reach)
        distance = self._distance(shape, spot)
        near = distance < reach
        index, distance = spot.index[near], distance[near]
        own = self.channels[3 + matte][index]
        self.channels[:3, index] *= 1 - depth * own * np.minimum(1 - distance / reach, 1)

    def _spot(self, shape: Cones, margin: float) -> _Spot:
        """Find a window per frame, all of one size, that holds the visible part of the shape."""
        # Shapes are small: distances are computed in a window around them. It has one size on all frames, so
        # that the windows stack into one array.
        radii = shape.radii[..., None]
        low = self.size * (shape.ends - radii).min((0, 2)) - margin
        high = self.size * (shape.ends + radii).max((0, 2)) + margin
        width, height = np.minimum(np.ceil((high - low).max(0)).astype(int) + 1, self.size)
        left, top = np.clip(np.floor(low.T).astype(int), 0, self.size - np.array([[width], [height]]))
        x, y = left[:, None] + np.arange(width), top[:, None] + np.arange(height)
        rows = np.arange(self.frames)[:, None] * self.size + y
        index = rows[:, :, None] * self.size + x[:, None]
        return _Spot(index, _grid(x)[:, None, None, :], _grid(y)[:, None, :, None])

    def _distance(self, shape: Cones, spot: _Spot) -> Float[np.ndarray, "time height width"]:
        """Return the distance to the shape's edge in pixels, negative inside."""
        # A cone is a stick whose radius grows evenly from end to end: the nearest place on the stick, clamped
        # between its ends, decides. Single precision halves the time of a clip.
        ends = (self.size * shape.ends).astype(np.float32)[..., None, None]
        radii = (self.size * shape.radii).astype(np.float32)[..., None, None]
        ax, ay = ends[0, :, :, 0], ends[0, :, :, 1]
        bx, by = ends[1, :, :, 0] - ax, ends[1, :, :, 1] - ay
        squared = np.maximum(bx * bx + by * by, np.float32(1e-9))
        x, y = spot.x - ax, spot.y - ay
        along = x * (bx / squared) + y * (by / squared)
        np.minimum(np.maximum(along, 0, out=along), 1, out=along)
        x, y = x - along * bx, y - along * by
        away = np.sqrt(x * x + y * y) - (radii[0] + along * (radii[1] - radii[0]))
        nearest: np.ndarray = away.min(1)
        return nearest

    def _pattern(self, texture: Texture, index: Int[np.ndarray, " pixel"]) -> Float[np.ndarray, " pixel"]:
        """Return how much of the second colour each pixel has."""
        frame, rest = np.divmod(index, self.size * self.size)
        row, column = np.divmod(rest, self.size)
        x = _grid(column) / self.size - texture.origin[frame, 0]
        y = _grid(row) / self.size - texture.origin[frame, 1]
        mix = np.ones(len(index))
        for wave in texture.waves:
            sharp = 0.6 * self.size / np.hypot(*wave)  # an edge of about a pixel
            mix *= np.clip(sharp * np.sin(wave[0] * x + wave[1] * y), -1, 1)
        return 0.5 + 0.5 * mix


def _grid(pixels: np.ndarray) -> np.ndarray:
    """Return the centres of pixels."""
    centres: np.ndarray = pixels.astype(np.float32) + np.float32(0.5)
    return centres
