"""Where the camera goes: smooth, mostly forward, with turns and a little shake."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

FOCAL = 0.58
"""Focal length as a share of the picture's width, like KITTI's cameras: 82 degrees across."""

STEPS = {"room": (0.12, 0.28), "street": (0.3, 0.65)}
"""How far the camera goes between two frames, in metres."""


@dataclass(frozen=True)
class CameraPath:
    """Place and direction of the camera on every frame, in the scene's axes (x right, y down, z ahead)."""

    poses: Float64[np.ndarray, "time 4 4"]
    """Camera to scene."""
    track: Float64[np.ndarray, "time 2"]
    """x and z of the camera."""
    heading: Float64[np.ndarray, " time"]
    """Yaw without the shake, in radians, positive to the right."""
    step: float
    """Metres between two frames, about."""

    def beside(
        self, right: Float64[np.ndarray, " time"], ahead: Float64[np.ndarray, " time"]
    ) -> Float64[np.ndarray, "time 2"]:
        """Return x and z of what is so far to the right and ahead of the camera on every frame."""
        sine, cosine = np.sin(self.heading), np.cos(self.heading)
        place: np.ndarray = self.track + np.stack(
            [cosine * right + sine * ahead, cosine * ahead - sine * right], 1
        )
        return place


def camera_matrix(height: int, width: int) -> Float64[np.ndarray, "3 3"]:
    """Return the intrinsics of the rendered camera."""
    focal = FOCAL * width
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def draw_path(rng: np.random.Generator, frames: int, scene: str) -> CameraPath:
    """Draw a path of so many frames.

    In rooms it may also lead backward or sideways, and start in any direction.
    """
    times = np.arange(frames, dtype=np.float64)
    step = float(rng.uniform(*STEPS[scene]))
    course, base = _course(rng, scene)
    heading = base + _turns(rng, times)
    speed = step * (1 + 0.2 * np.sin(2 * np.pi * (times / rng.uniform(8, 20) + rng.random())))
    direction = heading[:-1] + np.diff(heading) / 2 + course
    strides = speed[:-1, None] * np.stack([np.sin(direction), np.cos(direction)], 1)
    track = np.concatenate([np.zeros((1, 2)), np.cumsum(strides, 0)])
    poses = np.tile(np.eye(4), (frames, 1, 1))
    pitch, roll, yaw = (_shake(rng, times, np.radians(limit)) for limit in (0.5, 0.5, 0.25))
    poses[:, :3, :3] = _rotation(heading + yaw, pitch, roll)
    poses[:, [0, 2], 3] = track
    poses[:, 1, 3] = _shake(rng, times, 0.06 * step)
    return CameraPath(poses, track, heading, step)


def _course(rng: np.random.Generator, scene: str) -> tuple[float, float]:
    """Draw where the camera goes relative to where it looks, and where it looks at first, in radians."""
    if scene == "street":
        return float(np.radians(rng.uniform(-3, 3))), 0.0
    course = rng.choice([0, 180, -90, 90], p=[0.6, 0.16, 0.12, 0.12]) + rng.uniform(-12, 12)
    return float(np.radians(course)), float(rng.uniform(-np.pi, np.pi))


def _turns(rng: np.random.Generator, times: Float64[np.ndarray, " time"]) -> Float64[np.ndarray, " time"]:
    """Draw a yaw that swings to and fro, by up to 2.2 degrees a frame.

    Two drives of five go almost straight.
    """
    fastest = rng.uniform(0, 0.4) if rng.random() < 0.4 else rng.uniform(0.6, 2.2)
    period = rng.uniform(16, 40)
    reach = np.radians(fastest) * period / (2 * np.pi)
    return np.asarray(reach * np.sin(2 * np.pi * (times / period + rng.random())))


def _shake(rng: np.random.Generator, times: Float64[np.ndarray, " time"], limit: float) -> np.ndarray:
    """Draw a restless value: two swings of periods from 4 to 12 frames."""
    swings = [np.sin(2 * np.pi * (times / rng.uniform(4, 12) + rng.random())) for _ in range(2)]
    return np.asarray(rng.uniform(0.2, 1) * limit / 2 * np.sum(swings, 0))


def _rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> Float64[np.ndarray, "time 3 3"]:
    """Turn first about z (roll), then x (pitch), then y (yaw)."""
    one, nought = np.ones_like(yaw), np.zeros_like(yaw)

    def matrix(*values: np.ndarray) -> np.ndarray:
        return np.stack(values, -1).reshape(-1, 3, 3)

    (sy, cy), (sp, cp), (sr, cr) = ((np.sin(angle), np.cos(angle)) for angle in (yaw, pitch, roll))
    about_y = matrix(cy, nought, sy, nought, one, nought, -sy, nought, cy)
    about_x = matrix(one, nought, nought, nought, cp, -sp, nought, sp, cp)
    about_z = matrix(cr, -sr, nought, sr, cr, nought, nought, nought, one)
    return np.asarray(about_y @ about_x @ about_z)
