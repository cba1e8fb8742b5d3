"""How the scene is filmed: a hand-held camera, light that changes, a sensor that is noisy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from chronocam.lab.data.gestures.motion import smooth

MARGIN = 0.16
"""How far the photograph goes on beyond the picture's edges, in shares of its side: the camera moves less."""

_BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Camera:
    """Where the camera looks on every frame; the picture's sides are 1 long."""

    shift: Float[np.ndarray, "time 2"]
    zoom: Float[np.ndarray, " time"]
    roll: Float[np.ndarray, " time"]
    """Radians."""

    def project(
        self, points: Float[np.ndarray, "*more #time point 2"]
    ) -> Float[np.ndarray, "*more time point 2"]:
        """Return where points of the scene are in the picture."""
        return (points - 0.5) @ self._turn + (0.5 + self.shift[:, None])

    @cached_property
    def _turn(self) -> Float[np.ndarray, "time 2 2"]:
        """Zoom and roll as matrices for points in rows."""
        cos, sin = self.zoom * np.cos(self.roll), self.zoom * np.sin(self.roll)
        return np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2)

    def film(
        self, photo: UInt8[np.ndarray, "side side 3"], size: int
    ) -> Float[np.ndarray, "3 time size size"]:
        """Film a still photograph that reaches `MARGIN` beyond the picture on all sides, 0 to 1."""
        image, per_side = Image.fromarray(photo), len(photo) / (1 + 2 * MARGIN)
        film = np.empty((len(self.zoom), size, size, 3), np.uint8)
        back = np.linalg.inv(self._turn).transpose(0, 2, 1) * (per_side / size)
        starts = per_side * (0.5 + MARGIN) - size * np.einsum("tij,tj->ti", back, 0.5 + self.shift)
        for frame, (matrix, start) in enumerate(zip(back.tolist(), starts.tolist(), strict=True)):
            affine = (*matrix[0], start[0], *matrix[1], start[1])
            film[frame] = np.asarray(image.transform((size, size), Image.Transform.AFFINE, affine, _BILINEAR))
        return film.transpose(3, 0, 1, 2).astype(np.float32) / np.float32(255)


def draw_camera(rng: np.random.Generator, frames: int, shake: float) -> Camera:
    """Draw a hand-held camera; `shake` scales its motion, and 0 puts it on a stand."""
    drift = np.outer(np.linspace(-0.5, 0.5, frames), rng.uniform(-0.04, 0.04, 2))
    tremor = rng.uniform(0.005, 0.018) * np.stack([smooth(rng, frames, 3.5) for _ in range(2)], 1)
    zoom = 1 + shake * rng.uniform(0, 0.025) * smooth(rng, frames, 1)
    return Camera(shake * (drift + tremor), zoom, shake * rng.uniform(0, 0.03) * smooth(rng, frames, 2))


@dataclass(frozen=True)
class Light:
    """Light and sensor."""

    gain: Float[np.ndarray, "3 time"]
    ramp: Float[np.ndarray, " 2"]
    """How much brighter the bottom and the right are than the middle."""
    noise: float

    def expose(
        self, colours: Float[np.ndarray, "3 time side side"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "time side side 3"]:
        """Light the scene, add sensor noise, and count in 8 bits."""
        line = np.linspace(-1, 1, colours.shape[-1], dtype=np.float32)
        field = 255 * (1 + self.ramp[0] * line[:, None] + self.ramp[1] * line)
        lit = colours * self.gain.astype(np.float32)[..., None, None]
        lit *= field.astype(np.float32)
        lit += np.float32(255 * self.noise) * rng.standard_normal(lit.shape, np.float32) + np.float32(0.5)
        pixels = np.clip(lit, 0, 255, out=lit).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 3, 0))


def draw_light(rng: np.random.Generator, frames: int, change: float, noise: float) -> Light:
    """Draw light from one side; `change` scales how it varies over time, `noise` how grainy the sensor is."""
    cast = rng.uniform(0.85, 1.1) * rng.uniform(0.93, 1.07, 3)
    over_time = 1 + change * rng.uniform(0, 0.15) * smooth(rng, frames, 1.5)
    return Light(np.outer(cast, over_time), rng.uniform(-0.2, 0.2, 2), noise * rng.uniform(0.006, 0.035))
