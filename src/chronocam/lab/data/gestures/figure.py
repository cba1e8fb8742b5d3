"""A person as round cones: where the joints are on every frame, and what is painted in which order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from chronocam.lab.data.gestures.camera import Camera
from chronocam.lab.data.gestures.canvas import Canvas, Cones, Paint, Texture
from chronocam.lab.data.gestures.identity import Identity
from chronocam.lab.data.gestures.motion import JOINT, Track

SIDES = np.array([-1.0, 1.0])
"""Left and right in the picture."""

# the head turns about this point, in heights of the head from between the shoulders
_NECK = np.array([0.0, -0.2])
_FACE = np.array([0.0, -0.66])  # the middle of the face
_RIM = 0.3
_LIMB_SHADOW = 0.45

Place = Float[np.ndarray, "time 2"]
_Strokes = Float[np.ndarray, "time cone 6"] | Sequence[tuple[float, ...]]
"""Cones as (x, y, radius) at one end and the same at the other, in heights of the head."""


@dataclass(frozen=True)
class Figure:
    """One actor: who, doing what, where in the picture."""

    person: Identity
    track: Track
    foot: Float[np.ndarray, " 2"]
    """Point between the shoulders when the body does not sway, in shares of the picture."""
    scale: float
    """Height of the head as a share of the picture."""


@dataclass(frozen=True)
class Joints:
    """Places on every frame in heights of the head, `x` from the middle of the picture's body.

    Left arm first.
    """

    shoulder: Float[np.ndarray, "time 2 2"]
    elbow: Float[np.ndarray, "time 2 2"]
    wrist: Float[np.ndarray, "time 2 2"]
    grip: Float[np.ndarray, "time 2 2"]
    """Direction of the hand, of length 1 unless the arm's plane is turned away."""


def joints(person: Identity, track: Track) -> Joints:
    """Return where shoulders, elbows and wrists are, and where the hands point."""
    sides = SIDES * track.spread

    def along(angle: Float[np.ndarray, "time 2"]) -> Float[np.ndarray, "time 2 2"]:
        return np.stack([sides * np.sin(angle), np.cos(angle)], -1)

    rest = np.stack([SIDES * person.shoulder, np.full(2, JOINT)], -1)
    shoulder = rest + track.sway[:, None]
    elbow = shoulder + person.upper * along(track.upper)
    wrist = elbow + person.fore * along(track.fore)
    return Joints(shoulder, elbow, wrist, along(track.fore + track.hand))


def reach(person: Identity, track: Track) -> tuple[float, float]:
    """Return how far the actor reaches to the left and to the right, in heights of the head."""
    body = joints(person, track)
    tips = body.wrist + 0.36 * body.grip
    across = np.concatenate([body.elbow, body.wrist, tips], 1)[..., 0]
    widest = person.shoulder + 0.2
    return max(widest, 0.15 - float(across.min())), max(widest, 0.15 + float(across.max()))


PARTS = ("hair", "trunk", "head", "mouth", "left arm", "left hand", "right arm", "right hand")
"""What may be left out of a figure, a `person`; the mouth is of the head, and each hand of its arm."""


def draw_figure(
    canvas: Canvas, camera: Camera, figure: Figure, whole: int, acting: int, prefix: str = ""
) -> None:
    """Paint the actor; matte `whole` takes all of it, `acting` the parts whose motion is the action.

    prefix: of the names of its parts.
    """
    _Painter(canvas, camera, figure, whole, acting, prefix).draw()


class _Painter:
    """What the parts of one figure share while it is painted."""

    def __init__(
        self, canvas: Canvas, camera: Camera, figure: Figure, whole: int, acting: int, prefix: str
    ) -> None:
        self.prefix = prefix
        self.canvas = canvas
        self.camera = camera
        self.figure = figure
        self.person = figure.person
        self.track = figure.track
        self.body = joints(self.person, self.track)
        self.whole = whole
        self.acting = acting
        cos, sin = np.cos(self.track.tilt), np.sin(self.track.tilt)
        self.tilt = np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2)  # for points in rows
        self.aside = self.track.turn[:, None, None] * np.array([1.0, 0.0])
        self.neck = _NECK + self.track.sway[:, None]

    def draw(self) -> None:
        with self._part("person"):
            self._body()

    def _body(self) -> None:
        with self._part("hair"):
            self._hair_behind()
        with self._part("trunk"):
            self._trunk()
        with self._part("head"):
            self._head()
        for arm, side in enumerate(("left", "right")):
            with self._part(f"{side} arm"):
                self._arm(arm)
                with self._part(f"{side} hand"):
                    self._hand(arm)

    def _part(self, name: str) -> AbstractContextManager[None]:
        return self.canvas.part(self.prefix + name)

    def _paint(self, cones: Cones, colour: np.ndarray, shade: float = 0, acting: bool = False) -> None:
        mattes = (self.whole, self.acting) if acting else (self.whole,)
        self.canvas.paint(cones, Paint(colour, shade=shade, mattes=mattes))

    def _place(
        self, ends: Float[np.ndarray, " 2 #time cone 2"], radii: Float[np.ndarray, " 2 #time cone"]
    ) -> Cones:
        """Bring cones from heights of the head into the picture."""
        figure = self.figure
        placed = self.camera.project(figure.foot + figure.scale * ends)
        return Cones(placed, figure.scale * self.camera.zoom[:, None] * radii)

    def _on_body(self, strokes: _Strokes) -> Cones:
        ends = _ends(strokes)
        return self._place(ends[..., :2] + self.track.sway[:, None], ends[..., 2])

    def _on_head(self, strokes: _Strokes, turned: float = 0) -> Cones:
        """Place cones given from the middle of the face; `turned` is how much they follow a turn aside."""
        ends = _ends(strokes)
        points = ends[..., :2] + (_FACE - _NECK)
        if turned:
            points = points + turned * self.aside
        return self._place(points @ self.tilt + self.neck, ends[..., 2])

    def _trunk(self) -> None:
        person = self.person
        half, girth = person.shoulder, person.girth
        hip = 0.26 * girth
        cones = self._on_body(
            [
                (0.03 - half, 0.12, 0.15, half - 0.03, 0.12, 0.15),
                (0.10 - half, 0.25, 0.20, -hip, 2.9, 0.2),
                (half - 0.10, 0.25, 0.20, hip, 2.9, 0.2),
                (0, 0.2, 0.3, 0, 2.9, 0.3),
            ]
        )
        self.canvas.paint(cones, Paint(person.cloth, self._texture(), _RIM, (self.whole,)))
        self._paint(self._on_body([(0, 0.02, 0.17, 0, 0.09, 0.13)]), 0.9 * person.skin)
        self._paint(self._on_body([(0, -0.25, 0.16, 0, 0.05, 0.16)]), 0.82 * person.skin)

    def _texture(self) -> Texture | None:
        person, figure = self.person, self.figure
        if person.pattern == "plain":
            return None
        wave = 2 * np.pi / (person.between("period", 0.22, 0.5) * figure.scale)
        down, across = np.array([0.0, wave]), np.array([wave, 0.0])
        waves = {"hoops": (down,), "stripes": (across,), "checks": (down, across)}[person.pattern]
        origin = self.camera.project((figure.foot + figure.scale * self.track.sway)[:, None])[:, 0]
        return Texture(person.trim, origin, waves)

    def _hair_behind(self) -> None:
        person, volume = self.person, self.person.between("volume", 0.0, 0.06)
        if person.style == "long":
            fall = 0.75 + 3 * volume
            strokes = [(side * 0.3, -0.2, 0.2, side * 0.36, fall, 0.12 + volume) for side in SIDES]
            self._paint(self._on_head(strokes), person.hair, 0.25)
        if person.style == "bun":
            self._paint(
                self._on_head([(0, -0.62, 0.17 + volume, 0, -0.62, 0.17 + volume)]), person.hair, 0.25
            )

    def _head(self) -> None:
        person = self.person
        jaw, volume = person.between("jaw", 0.22, 0.29), person.between("volume", 0.0, 0.06)
        back = {"curls": 0.47 + volume, "bald": 0.0, "cap": 0.40}.get(person.style, 0.42 + volume)
        if back:
            with self._part("hair"):
                self._paint(self._on_head([(0, -0.14, back, 0, -0.10, back - 0.03)]), person.hair, 0.25)
        ears = [(side * 0.37, 0.0, 0.08, side * 0.36, 0.08, 0.07) for side in SIDES]
        self._paint(self._on_head(ears, -0.5), 0.88 * person.skin)
        self._paint(self._on_head([(0, -0.12, 0.38, 0, 0.22, jaw)]), person.skin, 0.22)
        with self._part("hair"):
            self._fringe()
        self._eyes()
        with self._part("mouth"):
            self._mouth()

    def _fringe(self) -> None:
        person = self.person
        if person.style == "bald":
            return
        thick = 0.09 + person.between("volume", 0.0, 0.04)
        crown = [(-0.36, -0.16), (-0.30, -0.36), (-0.12, -0.47), (0.12, -0.47), (0.30, -0.36), (0.36, -0.16)]
        if person.style == "fringe":
            crown[1:5] = [(-0.27, -0.31), (-0.10, -0.37), (0.10, -0.40), (0.28, -0.36)]
            thick += 0.03
        strokes = [(*a, thick, *b, thick) for a, b in pairwise(crown)]
        self._paint(self._on_head(strokes, 0.3), person.trim if person.style == "cap" else person.hair, 0.15)
        if person.style == "cap":
            self._paint(self._on_head([(-0.36, -0.27, 0.055, 0.36, -0.27, 0.055)], 0.5), 0.7 * person.trim)

    def _eyes(self) -> None:
        person, frames = self.person, self.canvas.frames
        apart, opened = person.between("eyes", 0.14, 0.18), 1 - self.track.lids
        height, open_ = np.full((frames, 2), -0.05), np.repeat(opened[:, None], 2, 1)
        places = np.tile(SIDES * apart, (frames, 1))
        whites = np.stack([places - 0.03, height, 0.065 * open_, places + 0.03, height, 0.065 * open_], -1)
        self._paint(self._on_head(whites, 1), np.full(3, 0.97))
        pupil = np.stack([places + self.track.turn[:, None], height, 0.048 * open_], -1)
        self._paint(self._on_head(np.concatenate([pupil, pupil], -1), 1.2), np.array([0.10, 0.07, 0.06]))
        arch, brow = person.between("brows", 0.15, 0.21), 0.6 * person.hair
        strokes = [
            (side * (apart - 0.07), -arch, 0.024, side * (apart + 0.08), -arch - 0.01, 0.02) for side in SIDES
        ]
        self._paint(self._on_head(strokes, 1.0), brow)
        self._paint(self._on_head([(0, 0.02, 0.02, 0, 0.10, 0.04)], 1.4), 0.82 * person.skin)

    def _mouth(self) -> None:
        """Paint the mouth: a short line, or a smile that is wide, with corners up and teeth shown."""
        smile, across = self.track.smile[:, None], np.linspace(-1, 1, 7)
        bow = 1 - across**2
        x = across * (self.person.between("mouth", 0.10, 0.13) + 0.15 * smile)
        upper = 0.235 - 0.075 * smile * across**2
        rim = np.stack([x, upper, np.full_like(x, 0.028)], -1)
        sagging = rim + (0.14 * smile * bow)[..., None] * [0, 1, 0]
        line = np.concatenate([rim[:, :-1], rim[:, 1:]], -1)
        lips = np.concatenate([np.concatenate([rim, sagging], -1), line], 1)
        self._paint(self._on_head(lips, 1), 0.55 * self.person.skin + [0.12, 0, 0.02])
        gap = 0.030 * smile * bow
        teeth = np.stack([x, upper + 0.02 * smile, gap, x, sagging[..., 1] - 0.035 * smile, gap], -1)
        self._paint(self._on_head(teeth, 1), np.full(3, 0.97))
        if self.track.acting == (False, False):
            self.canvas.mark(self._on_head([(-0.13, 0.25, 0.19, 0.13, 0.25, 0.19)], 1.0), self.acting)

    def _arm(self, arm: int) -> None:
        """Paint an arm that throws a shadow on the body: cloth over skin, or all cloth, and the hand."""
        person, body, acts = self.person, self.body, self.track.acting[arm]
        shoulder, elbow, wrist = (places[:, arm] for places in (body.shoulder, body.elbow, body.wrist))
        hem = shoulder + 0.55 * (elbow - shoulder)
        upper, fore = (0.15, 0.12) if person.sleeves else (0.115, 0.105), (0.115, 0.085)
        whole = self._limb((shoulder, elbow, *upper), (elbow, wrist, *fore))
        self.canvas.shade(whole, self.whole, _LIMB_SHADOW)
        self._paint(whole, 0.92 * person.cloth if person.sleeves else person.skin, _RIM, acts)
        if not person.sleeves:
            self._paint(self._limb((shoulder, hem, 0.15, 0.135)), 0.92 * person.cloth, _RIM, acts)

    def _limb(self, *parts: tuple[Place, Place, float, float]) -> Cones:
        """Place cones given by both ends on every frame and by their radii."""
        ends = np.stack([np.stack([part[end] for part in parts], 1) for end in (0, 1)])
        radii = self.person.girth * np.array([part[2:] for part in parts]).T
        return self._place(ends, radii[:, None])

    def _hand(self, arm: int) -> None:
        """Paint palm, four fingers and a thumb on the side of the head."""
        size = self.person.between("hand", 0.95, 1.15)
        wrist, grip = self.body.wrist[:, arm, None], self.body.grip[:, arm, None]
        side = -SIDES[arm] * np.stack([-grip[..., 1], grip[..., 0]], -1)
        grip, side = size * grip, size * side

        fan = np.array([-0.085, -0.03, 0.03, 0.085])
        along = np.array([[0.06, *np.full(4, 0.16), 0.08], [0.15, 0.31, 0.36, 0.36, 0.32, 0.19]])
        across = np.array([[0, *fan, 0.06], [0, *(1.75 * fan), 0.2]])
        radii = size * np.array([[0.09, *np.full(4, 0.04), 0.045], [0.11, *np.full(4, 0.034), 0.04]])
        ends = wrist + along[:, None, :, None] * grip + across[:, None, :, None] * side
        hand = self._place(ends, radii[:, None])
        self.canvas.shade(hand, self.whole, _LIMB_SHADOW)
        self._paint(hand, self.person.skin, 0.15, self.track.acting[arm])


def _ends(strokes: _Strokes) -> Float[np.ndarray, " 2 time cone 3"]:
    array = np.asarray(strokes)
    array = array if array.ndim == 3 else array[None]
    return np.stack([array[..., :3], array[..., 3:]])
