"""Distractors behind the actors, moving and still: balls, sticks, a pictured face, an arm of wood."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from chronocam.lab.data.gestures.camera import Camera
from chronocam.lab.data.gestures.canvas import Canvas, Cones, Paint

_CHANCES = (0.45, 0.35, 0.3, 0.25, 0.25)


def draw_scenery(rng: np.random.Generator, canvas: Canvas, camera: Camera, busy: bool) -> None:
    """Paint about three distractors into the background.

    None if not `busy`, with the same draws from `rng`.
    """
    things = (_ball, _ball, _stick, _face, _branch)
    for thing, chance, seed in zip(things, _CHANCES, rng.integers(2**32, size=len(things)), strict=True):
        own = np.random.default_rng(seed)
        if own.random() < chance and busy:
            thing(own, canvas, camera)


def _cones(camera: Camera, strokes: Float[np.ndarray, "#time cone 6"]) -> Cones:
    """Bring cones, `(x, y, radius)` at one end and the same at the other, into the picture."""
    ends = np.stack([strokes[..., :3], strokes[..., 3:]])
    return Cones(camera.project(ends[..., :2]), camera.zoom[:, None] * ends[..., 2])


def _path(rng: np.random.Generator, frames: int) -> Float[np.ndarray, "time 2"]:
    """Draw a drift across the picture or a swing to and fro."""
    times = (np.arange(frames) + 0.5) / frames - 0.5
    place, heading = rng.uniform(0.05, 0.95, 2), rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.6:
        along = rng.uniform(0.2, 0.9) * times
    else:
        size, period = rng.uniform(0.05, 0.12), max(rng.uniform(0.2, 0.5), 3 / frames)
        along = size * np.sin(2 * np.pi * (times / period + rng.random()))
    path: np.ndarray = place + np.outer(along, (np.cos(heading), np.sin(heading)))
    return path


def _ball(rng: np.random.Generator, canvas: Canvas, camera: Camera) -> None:
    path, radius = _path(rng, canvas.frames), rng.uniform(0.025, 0.07)
    ball = np.concatenate([path, np.full((canvas.frames, 1), radius)], 1)
    canvas.paint(_cones(camera, np.tile(ball, 2)[:, None]), Paint(rng.uniform(0.05, 1, 3), shade=0.35))


def _stick(rng: np.random.Generator, canvas: Canvas, camera: Camera) -> None:
    path, thick = _path(rng, canvas.frames), rng.uniform(0.008, 0.02)
    angle = rng.uniform(0, 2 * np.pi) + rng.uniform(-1.5, 1.5) * np.linspace(-0.5, 0.5, canvas.frames)
    half = rng.uniform(0.08, 0.22) * np.stack([np.cos(angle), np.sin(angle)], 1)
    width = np.full((canvas.frames, 1), thick)
    stick = np.concatenate([path - half, width, path + half, width], 1)[:, None]
    canvas.paint(_cones(camera, stick), Paint(rng.uniform(0.05, 1, 3), shade=0.2))


def _face(rng: np.random.Generator, canvas: Canvas, camera: Camera) -> None:
    """Paint a face as on a poster: it never moves."""
    x, y, size = rng.uniform(0.08, 0.92), rng.uniform(0.08, 0.6), rng.uniform(0.06, 0.11)
    paper, ink = rng.uniform(0.55, 1, 3), rng.uniform(0, 0.35, 3)
    curve, across = rng.uniform(-0.2, 0.25), np.linspace(-0.45, 0.45, 5)
    mouth = np.stack([across, 0.35 + curve * (1 - (across / 0.45) ** 2)], 1)
    marks = [(-0.35, -0.2, 0.13, -0.35, -0.2, 0.13), (0.35, -0.2, 0.13, 0.35, -0.2, 0.13)]
    marks += [(*a, 0.08, *b, 0.08) for a, b in pairwise(mouth)]
    for strokes, colour in (([(0, -0.05, 1, 0, 0.1, 0.9)], paper), (marks, ink)):
        placed = size * np.array([strokes]) + np.array([x, y, 0, x, y, 0])
        canvas.paint(_cones(camera, placed), Paint(colour, shade=0.1))


def _branch(rng: np.random.Generator, canvas: Canvas, camera: Camera) -> None:
    """Paint something bent like an arm, with a knob like a hand: it never moves either."""
    x, y, length = (
        rng.choice([rng.uniform(0, 0.25), rng.uniform(0.75, 1)]),
        rng.uniform(0.5, 1),
        rng.uniform(0.15, 0.24),
    )
    first, second = rng.uniform(np.pi - 0.9, np.pi + 0.9, 2)
    bend = np.array([x + length * np.sin(first), y + length * np.cos(first)])
    tip = bend + length * np.array([np.sin(second), np.cos(second)])
    strokes = [[x, y, 0.035, *bend, 0.03], [*bend, 0.03, *tip, 0.022], [*tip, 0.04, *tip, 0.04]]
    colour = rng.uniform(0.3, 0.95) * np.array([1.0, rng.uniform(0.6, 0.85), rng.uniform(0.35, 0.7)])
    canvas.paint(_cones(camera, np.array([strokes])), Paint(colour, shade=0.3))
