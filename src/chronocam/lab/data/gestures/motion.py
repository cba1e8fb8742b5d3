"""What each action does over time: angles of arms and mouth, on a body that never stands quite still."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from chronocam.lab.data.gestures.identity import Identity

LABELS = ("wave", "clap", "smile", "raise", "lower")
"""The five actions; `lower` is `raise` with the frames in reverse."""

JOINT = 0.10
"""How far the shoulder joints lie below the line of the shoulders, in heights of the head."""

# hanging, slack, on the hip, before the belly
_RESTS = (
    (0.16, 0.08),
    (0.26, -0.35),
    (0.75, -0.80),
    (0.28, -1.25),
)
_HELD = (0.75, 2.75)  # a hand held up and still

_Curve = Float[np.ndarray, " time"]


@dataclass(frozen=True)
class Track:
    """One actor's motion.

    Angles in radians from straight down, positive away from the body; arms left, right.
    """

    upper: Float[np.ndarray, "time 2"]
    fore: Float[np.ndarray, "time 2"]
    hand: Float[np.ndarray, "time 2"]
    """The hand's turn relative to the forearm."""
    spread: Float[np.ndarray, " 2"]
    """Cosine between the plane in which the arm moves and the picture: what is left of its width."""
    sway: Float[np.ndarray, "time 2"]
    """Shift of the body, in heights of the head."""
    tilt: _Curve
    """Turn of the head in the picture's plane."""
    turn: _Curve
    """Shift of the features when the head turns aside, in heights of the head."""
    smile: _Curve
    """0 neutral to 1 a wide smile."""
    lids: _Curve
    """0 open to 1 shut."""
    active: Bool[np.ndarray, " time"]
    acting: tuple[bool, bool]
    """Which arms act: both, one, or, for a smile, none."""

    def reversed(self) -> Track:
        """Return the same motion with the frames in reverse."""
        names = ("upper", "fore", "hand", "sway", "tilt", "turn", "smile", "lids", "active")
        return replace(self, **{name: getattr(self, name)[::-1] for name in names})

    def held(self, start: int, stop: int) -> Track:
        """Return the motion with the frames from `start` to `stop` as the one before them."""
        frames = np.arange(len(self.tilt))
        shown = np.where((frames >= start) & (frames < stop), max(start - 1, 0), frames)
        names = ("upper", "fore", "hand", "sway", "tilt", "turn", "smile", "lids", "active")
        return replace(self, **{name: getattr(self, name)[shown] for name in names})


def draw_progress(rng: np.random.Generator, frames: int) -> _Curve:
    """Draw when an action happens: 0 before, 1 after, in between for 35 to 70 % of the frames."""
    length = round(rng.uniform(0.35, 0.70) * frames)
    start = 1 + int(rng.random() * (frames - length - 1))
    return np.clip((np.arange(frames) - start + 1) / (length + 1), 0, 1)


def draw_track(
    rng: np.random.Generator,
    label: str,
    progress: _Curve,
    person: Identity,
    *,
    narrow: bool,
    restless: float,
) -> Track:
    """Draw how `person` does the action `label`.

    progress: 0 before the action, 1 after it, in between on active frames.
    narrow: keep the arms near the body, where two actors share a picture.
    restless: scale of the motion that belongs to no action; 0 keeps still.
    """
    # every random curve is as likely as its reverse, so nothing else tells it from `raise`
    if label == "lower":
        mirrored = draw_track(rng, "raise", 1 - progress[::-1], person, narrow=narrow, restless=restless)
        return mirrored.reversed()
    idle = _idle(rng, progress, label, narrow, restless)
    if label == "wave":
        return _wave(rng, progress, idle, narrow)
    if label == "clap":
        return _clap(rng, progress, idle, narrow, person)
    if label == "raise":
        return _raise(rng, progress, idle, narrow)
    return replace(idle, smile=_envelope(progress, 0.3))


def smooth(rng: np.random.Generator, frames: int, fastest: float = 2.5) -> _Curve:
    """Draw a smooth curve over the clip, about -1 to 1, as likely as its reverse."""
    times = (np.arange(frames) + 0.5) / frames
    cycles, phases = rng.uniform(0.3, fastest, 3), rng.uniform(0, 2 * np.pi, 3)
    curve: np.ndarray = np.sin(2 * np.pi * np.outer(times, cycles) + phases).mean(1) * 1.2
    return curve


def _idle(rng: np.random.Generator, progress: _Curve, label: str, narrow: bool, restless: float) -> Track:
    """Draw a body at rest, where it holds its arms, and its small motions."""
    frames = len(progress)
    first = bool(rng.random() < 0.5)
    acting = {"clap": (True, True), "smile": (False, False)}.get(label, (first, not first))
    rests = np.array([_rest(rng, acts) for acts in acting])
    wobble = 0.05 * restless * np.stack([smooth(rng, frames) for _ in range(4)], 1)
    fidget = restless * np.stack([_fidget(rng, frames) for _ in range(2)], 1) * ~np.array(acting)
    return Track(
        upper=rests[:, 0] + wobble[:, :2] + 0.25 * fidget,
        fore=rests[:, 1] + wobble[:, 2:] + fidget,
        hand=np.zeros((frames, 2)),
        spread=np.full(2, 0.7 if narrow else 1.0),
        sway=restless * np.stack([0.05 * smooth(rng, frames, 1.5), 0.02 * smooth(rng, frames)], 1),
        tilt=rng.uniform(-0.1, 0.1) + restless * 0.07 * smooth(rng, frames),
        turn=rng.uniform(-0.04, 0.04) + restless * 0.03 * smooth(rng, frames),
        smile=np.zeros(frames),
        lids=restless * _blinks(rng, frames),
        active=(progress > 0) & (progress < 1),
        acting=acting,
    )


def _rest(rng: np.random.Generator, acts: bool) -> Float[np.ndarray, " 2"]:
    """Draw upper and forearm angles at rest; an arm that does not act may also be held up."""
    pose, held = rng.integers(len(_RESTS)), rng.random() < 0.15 and not acts
    around: np.ndarray = np.array(_HELD if held else _RESTS[pose]) + rng.uniform(-0.1, 0.1, 2)
    return around


def _fidget(rng: np.random.Generator, frames: int) -> _Curve:
    """Draw a small motion of an idle forearm at some time, or none."""
    times = (np.arange(frames) + 0.5) / frames
    centre, width, size = (
        rng.uniform(0, 1),
        rng.uniform(0.12, 0.3),
        rng.choice([-1, 1]) * rng.uniform(0.15, 0.4),
    )
    bump = np.cos(0.5 * np.pi * np.clip((times - centre) / width, -1, 1)) ** 2
    curve: np.ndarray = size * bump * (rng.random() < 0.6)
    return curve


def _blinks(rng: np.random.Generator, frames: int) -> _Curve:
    """Draw up to two moments at which the eyes are shut, each about a frame long at 16 frames a clip."""
    times = (np.arange(frames) + 0.5) / frames
    moments = rng.uniform(0, 1, 2)[: rng.integers(3)]
    shut = [np.clip(1.4 - np.abs(times - moment) / 0.05, 0, 1) for moment in moments]
    return np.max([np.zeros(frames), *shut], axis=0)


def _envelope(progress: _Curve, ramp: float) -> _Curve:
    """Return 0 at rest, 1 in the middle of the action, smoothly there and back over a share `ramp` of it."""
    rise = np.clip(np.minimum(progress, 1 - progress) / ramp, 0, 1)
    curve: np.ndarray = np.sin(0.5 * np.pi * rise)
    return curve


def _beat(rng: np.random.Generator, frames: int) -> _Curve:
    """Draw a swing of -1 to 1 that repeats about four times a clip, never faster than frames can show."""
    period = max(rng.uniform(0.18, 0.27), 2.7 / frames)
    curve: np.ndarray = np.sin(2 * np.pi * (np.arange(frames) / frames / period + rng.random()))
    return curve


def _wave(rng: np.random.Generator, progress: _Curve, idle: Track, narrow: bool) -> Track:
    """Raise one forearm beside the head and swing it about the elbow."""
    lifted, centre = rng.uniform(0.35, 0.7 if narrow else 1.3), rng.uniform(2.75, 3.05)
    swing = rng.uniform(0.42, 0.55 if narrow else 0.65) * _beat(rng, len(progress))
    there = _envelope(progress, 0.22)[:, None] * np.array(idle.acting)
    upper = idle.upper + there * (lifted - idle.upper)
    fore = idle.fore + there * (centre + swing[:, None] - idle.fore)
    return replace(idle, upper=upper, fore=fore, hand=there * 0.35 * swing[:, None])


def _clap(rng: np.random.Generator, progress: _Curve, idle: Track, narrow: bool, person: Identity) -> Track:
    """Bring both hands before the chest and let them meet again and again."""
    height, reach = rng.uniform(0.6, 0.85), rng.uniform(0.34, 0.40 if narrow else 0.46)
    apart = 0.13 + reach * (0.5 + 0.5 * _beat(rng, len(progress)))
    upper, fore = _reach(apart, np.full_like(apart, height), person)
    there = _envelope(progress, 0.25)[:, None]
    return replace(
        idle,
        upper=idle.upper + there * (upper[:, None] - idle.upper),
        fore=idle.fore + there * (fore[:, None] - idle.fore),
        hand=-there * np.full(2, rng.uniform(0.7, 1.1)),
        spread=np.ones(2),
    )


def _raise(rng: np.random.Generator, progress: _Curve, idle: Track, narrow: bool) -> Track:
    """Lift one arm over the head and keep it there."""
    high = np.array([rng.uniform(2.35, 2.85), rng.uniform(2.7, 3.1)])
    lead = rng.uniform(0.7, 1.4)  # whether the forearm moves before or after the upper arm
    eased = 0.5 * progress + 0.5 * progress**2 * (3 - 2 * progress)
    acting = np.array(idle.acting)
    return replace(
        idle,
        upper=idle.upper + eased[:, None] * acting * (high[0] - idle.upper),
        fore=idle.fore + (eased**lead)[:, None] * acting * (high[1] - idle.fore),
        spread=np.where(acting, rng.uniform(0.4, 0.6 if narrow else 0.8), idle.spread),
    )


def _reach(x: _Curve, y: _Curve, person: Identity) -> tuple[_Curve, _Curve]:
    """Return the angles of upper arm and forearm for a wrist at `x` from the middle, `y` below the neck."""
    across, down = x - person.shoulder, y - JOINT
    far = np.clip(
        np.hypot(across, down), abs(person.upper - person.fore) + 0.02, person.upper + person.fore - 0.02
    )
    inner = (person.upper**2 + far**2 - person.fore**2) / (2 * person.upper * far)
    upper = np.arctan2(across, down) + np.arccos(inner)  # the elbow points away from the body
    elbow_to_wrist = across - person.upper * np.sin(upper), down - person.upper * np.cos(upper)
    return upper, np.arctan2(*elbow_to_wrist)
