"""Rooms and streets made of rectangles, built around the camera's path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
from jaxtyping import Bool, Float64, Int

from chronocam.lab.data.drives.caster import Quads
from chronocam.lab.data.drives.path import CameraPath
from chronocam.lab.data.drives.textures import TILE

TEXTURES = 9
"""Photographs of a scene; rectangles that share one differ in place and tint."""

_SEAM = 0.01
"""How far the sides of a room reach behind each other, in metres."""

_BEHIND = 2.0
"""How far the pavement reaches under the houses, in metres."""

_SIDE = 10**6
"""Numbers of walls on one side of a street."""


@dataclass(frozen=True)
class Scene:
    """Everything that can be seen, and how it looks."""

    quads: Quads
    texture: Int[np.ndarray, " quad"]
    """The place in the atlas."""
    texels: Float64[np.ndarray, "quad 2 2"]
    """Where the texture lies: size in texels and offset, to the right and down."""
    tint: Float64[np.ndarray, "quad 3"]
    wall: Int[np.ndarray, " quad"]
    """Which wall a rectangle belongs to, -1 for none."""
    mover: Bool[np.ndarray, " quad"]
    """What moves by itself."""
    thing: Int[np.ndarray, " quad"]
    """Which thing a rectangle belongs to: those of a box are one."""
    sky: Float64[np.ndarray, "2 3"]
    """Colours at the horizon and above."""


@dataclass(frozen=True)
class Stand:
    """Where a box stands (x, z), its size (across, high, along) in metres, and its yaw."""

    place: Float64[np.ndarray, " 2"]
    size: Float64[np.ndarray, " 3"]
    yaw: float = 0.0

    @property
    def radius(self) -> float:
        """How far it reaches around its place."""
        return float(np.hypot(self.size[0], self.size[2])) / 2

    def corners(self) -> list[np.ndarray]:
        """Return the corners of its ground; from one to the next, a side leads to the right as it is seen."""
        turn = np.array([[np.cos(self.yaw), np.sin(self.yaw)], [-np.sin(self.yaw), np.cos(self.yaw)]])
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        return list(self.place + (signs * self.size[[0, 2]] / 2) @ turn.T)


@dataclass(frozen=True)
class Mover:
    """A box that moves by itself: as it stands at first, and where it is on every frame."""

    stand: Stand
    track: Float64[np.ndarray, "time 2"]


def draw_mover(rng: np.random.Generator, path: CameraPath, scene: str) -> Mover:
    """Draw a box ahead of the camera that swings about its place there, about as fast as the camera goes."""
    room, times = scene == "room", np.arange(len(path.track))
    ahead = rng.uniform(2.0, 3.0) if room else rng.uniform(7, 11)
    beside = rng.uniform(-0.4, 0.4) * ahead
    period, angle, phase = rng.uniform(12, 20), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    reach = rng.uniform(0.6, 1.1) * path.step * period / (2 * np.pi)
    swing = reach * np.sin(2 * np.pi * times / period + phase)
    track = path.beside(beside + np.sin(angle) * swing, ahead + np.cos(angle) * swing)
    size = (
        rng.uniform((0.4, 0.5, 0.4), (0.7, 1.1, 0.7)) if room else rng.uniform((1.5, 1.3, 2), (1.9, 1.9, 3.5))
    )
    return Mover(Stand(track[0], size, float(rng.uniform(0, np.pi)) if room else 0.0), track)


def draw_scene(rng: np.random.Generator, path: CameraPath, mover: Mover, scene: str, moving: bool) -> Scene:
    """Draw a room or a street; the mover's way is kept free, also where it is left out."""
    builder = _Builder(rng)
    sky = np.array([0.8, 0.85, 0.9]) * np.array([[1.0], [0.75]]) * rng.uniform(0.85, 1.05, (2, 3))
    floor = (_room if scene == "room" else _street)(builder, path, mover)
    if moving:
        density = rng.uniform(80, 130) if scene == "room" else rng.uniform(40, 70)
        builder.box(mover.stand, floor, _Surface(density, mover=True))
    return builder.scene(sky)


@dataclass(frozen=True)
class _Surface:
    """How a surface looks: texels a metre, the place in the atlas (None draws one), which wall it is of."""

    density: float
    texture: int | None = None
    wall: int = -1
    mover: bool = False
    thing: int | None = None


@dataclass
class _Builder:
    """Collects rectangles."""

    rng: np.random.Generator
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    looks: list[tuple[int, np.ndarray, np.ndarray, int, bool, int]] = field(default_factory=list)

    def quad(self, corners: tuple[np.ndarray, np.ndarray, np.ndarray], look: _Surface) -> None:
        """Add a rectangle by its corners: top left, top right, bottom left, as it is seen."""
        origin, right, down = corners[0], corners[1] - corners[0], corners[2] - corners[0]
        size = look.density * np.array([np.linalg.norm(right), np.linalg.norm(down)])
        texels = np.stack([size, self.rng.uniform(0, 2 * TILE, 2)])
        tint = self.rng.uniform(0.9, 1.1, 3) * self.rng.uniform(0.8, 1.15)
        texture = self.texture() if look.texture is None else look.texture
        self.rows.append((origin, right, down))
        thing = len(self.looks) if look.thing is None else look.thing
        self.looks.append((texture, texels, tint, look.wall, look.mover, thing))

    def texture(self) -> int:
        """Draw a photograph's place in the atlas."""
        return 1 + int(self.rng.integers(TEXTURES))

    def upright(self, left: np.ndarray, right: np.ndarray, top: float, bottom: float, look: _Surface) -> None:
        """Add a wall between two places (x, z), left and right as it is seen."""
        origin, end = (np.array([place[0], top, place[1]]) for place in (left, right))
        self.quad((origin, end, np.array([left[0], bottom, left[1]])), look)

    def level(self, west: float, east: float, far: float, near: float, y: float, look: _Surface) -> None:
        """Add a floor, or a ceiling where `far` < `near`: its far edge is then lower in the picture."""
        self.quad((np.array([west, y, far]), np.array([east, y, far]), np.array([west, y, near])), look)

    def box(self, stand: Stand, floor: float, look: _Surface) -> None:
        """Add a box that stands on the floor: four sides and the top, of one texture."""
        look = replace(look, texture=self.texture(), thing=len(self.looks))
        corners, top = stand.corners(), floor - stand.size[1]
        for left, right in zip(corners, corners[1:] + corners[:1], strict=True):
            self.upright(left, right, top, floor, look)
        near_left, _, far_right, far_left = (np.array([corner[0], top, corner[1]]) for corner in corners)
        self.quad((far_left, far_right, near_left), look)

    def scene(self, sky: np.ndarray) -> Scene:
        """Put everything together."""
        origin, right, down = (np.stack(column) for column in zip(*self.rows, strict=True))
        columns = (np.array(column) for column in zip(*self.looks, strict=True))
        texture, texels, tint, wall, mover, thing = columns
        tint = tint * _light(np.cross(right, down))
        return Scene(Quads(origin, right, down), texture, texels, tint, wall, mover, thing, sky)


def _light(inward: Float64[np.ndarray, "quad 3"]) -> Float64[np.ndarray, "quad 1"]:
    """Return how bright each side is: tops the most, sides along z less than those across."""
    normal = inward / np.linalg.norm(inward, axis=1, keepdims=True)
    return np.asarray(1.0 + 0.15 * normal[:, 1:2] - 0.12 * np.abs(normal[:, :1]))


def _room(builder: _Builder, path: CameraPath, mover: Mover) -> float:
    """Add a room with furniture; returns the floor's y."""
    rng, ways = builder.rng, np.concatenate([path.track, mover.track])
    low, high = ways.min(0) - rng.uniform(2.0, 4.2, 2), ways.max(0) + rng.uniform(2.0, 4.2, 2)
    floor = float(rng.uniform(0.6, 1.3))
    top = floor - float(rng.uniform(2.3, 3.2))
    corners = Stand((low + high) / 2, np.array([high[0] - low[0], 0, high[1] - low[1]])).corners()
    for wall, (right, left) in enumerate(zip(corners, corners[1:] + corners[:1], strict=True)):
        along = _SEAM * (right - left) / np.linalg.norm(right - left)
        look = _Surface(rng.uniform(32, 55), wall=wall)
        builder.upright(left - along, right + along, top - _SEAM, floor + _SEAM, look)
    (west, south), (east, north) = low - _SEAM, high + _SEAM
    builder.level(west, east, north, south, floor, _Surface(rng.uniform(32, 60)))
    builder.level(west, east, south, north, top, _Surface(rng.uniform(32, 60)))
    pieces = max(14, int(np.prod(high - low) / 6))
    sizes = (rng.uniform((0.35, 0.4, 0.35), (1.1, 1.9, 1.0)) for _ in range(pieces))
    for stand in _furnish(rng, sizes, low, high, _keep_out(path, mover, 1.1)):
        builder.box(replace(stand, yaw=float(rng.uniform(0, np.pi))), floor, _Surface(rng.uniform(60, 110)))
    return floor


def _street(builder: _Builder, path: CameraPath, mover: Mover) -> float:
    """Add a street along z, closed by a house at its end; returns the ground's y."""
    rng, ways = builder.rng, np.concatenate([path.track, mover.track])
    floor = float(rng.uniform(1.3, 1.9))
    low = ways.min(0) - np.array([rng.uniform(3.6, 5.5), 6.0])
    high = ways.max(0) + np.array([rng.uniform(3.6, 5.5), rng.uniform(26, 45)])
    builder.level(low[0] - 15, high[0] + 15, high[1] + 15, low[1], floor, _Surface(rng.uniform(16, 26)))
    for first, edge, side in ((0, low[0], -1), (_SIDE, high[0], 1)):
        _houses(builder, edge, side, (low[1], high[1]), floor, first)
        paving, length = rng.uniform(1.0, 1.8), high[1] - low[1]
        place = np.array([edge + side * (_BEHIND - paving) / 2, low[1] + length / 2])
        builder.box(
            Stand(place, np.array([paving + _BEHIND, 0.14, length])), floor, _Surface(rng.uniform(25, 40))
        )
    size = np.array([high[0] - low[0] + 24, rng.uniform(6, 12), 8.0])
    place = np.array([(low[0] + high[0]) / 2, high[1] + 4])
    builder.box(Stand(place, size), floor, _Surface(rng.uniform(10, 16), wall=2 * _SIDE))
    _kerb(builder, low, high, floor, _keep_out(path, mover, 1.6))
    return floor


def _houses(
    builder: _Builder, edge: float, side: int, span: tuple[float, float], floor: float, first: int
) -> None:
    """Add a row of houses along one side (-1 or 1) of the street, as walls from number `first` on."""
    rng, z = builder.rng, span[0]
    for wall in count(first):
        if z >= span[1]:
            return
        width, height, back = rng.uniform(5, 11), rng.uniform(3.5, 9), rng.uniform(0, 1.3)
        stand = Stand(np.array([edge + side * (back + 4), z + width / 2]), np.array([8.0, height, width]))
        builder.box(stand, floor, _Surface(rng.uniform(16, 28), wall=wall))
        z += width


def _kerb(builder: _Builder, low: np.ndarray, high: np.ndarray, floor: float, keep: _KeepOut) -> None:
    """Add poles, boxes and parked blocks beside the road."""
    rng = builder.rng
    for west, east in ((low[0], low[0] + 3.2), (high[0] - 3.2, high[0])):
        sizes = (_thing(rng) for _ in range(int((high[1] - low[1]) / 2)))
        for stand in _furnish(rng, sizes, np.array([west, low[1]]), np.array([east, high[1]]), keep):
            builder.box(stand, floor, _Surface(rng.uniform(30, 60)))


def _thing(rng: np.random.Generator) -> Float64[np.ndarray, " 3"]:
    """Draw the size of a pole, a box or a parked block."""
    kind = rng.random()
    if kind < 0.4:
        across = rng.uniform(0.18, 0.35)
        return np.array([across, rng.uniform(2.5, 5), across])
    if kind < 0.75:
        return rng.uniform((0.5, 0.6, 0.5), (1.1, 1.6, 1.1))
    return rng.uniform((1.5, 1.3, 2.2), (1.9, 1.8, 3.8))


@dataclass(frozen=True)
class _KeepOut:
    """Places (x, z) that nothing may come near, with the distance to keep."""

    places: Float64[np.ndarray, "place 2"]
    radii: Float64[np.ndarray, " place"]


def _keep_out(path: CameraPath, mover: Mover, clear: float) -> _KeepOut:
    radii = np.repeat([clear, mover.stand.radius + 0.1], len(path.track))
    return _KeepOut(np.concatenate([path.track, mover.track]), radii)


def _furnish(
    rng: np.random.Generator, sizes: Iterator[np.ndarray], low: np.ndarray, high: np.ndarray, keep: _KeepOut
) -> Iterator[Stand]:
    """Yield boxes that stand free of each other and of what is kept out; those that cannot are dropped."""
    places, radii = keep.places, keep.radii
    for size in sizes:
        radius = Stand(low, size).radius
        place = rng.uniform(low + radius, np.maximum(high - radius, low + radius))
        if (np.linalg.norm(places - place, axis=1) >= radii + radius).all():
            places, radii = np.concatenate([places, place[None]]), np.append(radii, radius)
            yield Stand(place, size)
