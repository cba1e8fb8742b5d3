"""Scenes put together: who does what, where, before which background, and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from chronocam._repr import ShortRepr
from chronocam.errors import InputError, suggest
from chronocam.lab.data.gestures.camera import MARGIN, draw_camera, draw_light
from chronocam.lab.data.gestures.canvas import Canvas
from chronocam.lab.data.gestures.figure import PARTS, Figure, draw_figure, reach
from chronocam.lab.data.gestures.identity import SPLITS, draw_identity
from chronocam.lab.data.gestures.motion import LABELS, draw_progress, draw_track
from chronocam.lab.data.gestures.scenery import draw_scenery
from chronocam.lab.data.parts import Part
from chronocam.lab.data.photos import crop_photo, load_photos

PHOTOS = {
    "train": (
        "astronaut",
        "brick",
        "camera",
        "clock",
        "hubble_deep_field",
        "immunohistochemistry",
        "moon",
        "stereo_motorcycle",
        "text",
    ),
    "validation": ("cell", "coffee", "gravel", "page"),
    "test": ("chelsea", "coins", "grass", "retina", "rocket"),
}
"""Names in `skimage.data` of the photographs behind the actors of each split; none needs a download."""

SMALLEST = 48
"""Smallest picture in pixels: heads are about 11 to 15 pixels high."""

SHORTEST = 8
"""Fewest frames in which a wave or a clap is still seen to repeat."""


@dataclass(frozen=True)
class Record:
    """One clip and the truth about it.

    Example:
        >>> record = cc.data.gestures.clip(2, frames=8, size=48)
        >>> record.pixels.shape, record.masks.shape, cc.data.gestures.LABELS[record.labels[0]]
        ((8, 48, 48, 3), (1, 8, 48, 48), 'wave')
    """

    pixels: UInt8[np.ndarray, "time height width 3"]
    """RGB, 0 to 255."""
    labels: Int[np.ndarray, " actor"]
    """What each actor does: an index into `LABELS`. Two actors do different things, left actor first."""
    masks: Bool[np.ndarray, "actor time height width"]
    """Where the action is seen: the acting arms with their hands, or the mouth's region.

    Empty when not active.
    """
    active: Bool[np.ndarray, "actor time"]
    """Frames on which the action happens."""
    actor_masks: Bool[np.ndarray, "actor time height width"]
    """Where each actor is seen, on every frame."""


@dataclass(frozen=True)
class Clips(ShortRepr):
    """Several clips: every field of `Record`, stacked.

    Example:
        >>> world = cc.data.gestures.clips(2, frames=8, size=48, actors=2)
        >>> world.pixels.shape, world.active.shape
        ((2, 8, 48, 48, 3), (2, 2, 8))
    """

    pixels: UInt8[np.ndarray, "count time height width 3"]
    """RGB, 0 to 255."""
    labels: Int[np.ndarray, "count actor"]
    """What each actor does: an index into `LABELS`."""
    masks: Bool[np.ndarray, "count actor time height width"]
    """Where the action is seen; empty when not active."""
    active: Bool[np.ndarray, "count actor time"]
    """Frames on which the action happens."""
    actor_masks: Bool[np.ndarray, "count actor time height width"]
    """Where each actor is seen, on every frame."""


@dataclass(frozen=True)
class Conditions:
    """What makes a clip hard: scales of what moves and changes besides the action, 0 for none of it."""

    shake: float = 1
    light: float = 1
    noise: float = 1
    restless: float = 1
    busy: bool = True


def clips(
    count: int, *, seed: int = 0, split: str = "test", frames: int = 16, size: int = 64, actors: int = 1
) -> Clips:
    """Generate `count` clips of `frames` frames, `size` x `size` pixels each, with known truth.

    Every actor stands before a crop of one of scikit-image's photographs and does one of `LABELS` during 35
    to 70 % of the clip, at rest before and after. With `actors=2` two of them do different things at
    overlapping times, side by side. The camera shakes, the light changes, the sensor is noisy, things drift
    through the background. `lower` is `raise` with the frames in reverse, so no single frame tells them
    apart.

    Splits `"train"`, `"validation"` and `"test"` share neither photographs nor properties of persons. Classes
    (or, for two actors, ordered pairs of them) are balanced: each occurs once in every 5 (20) clips. A clip
    depends on `seed`, `split`, `frames`, `size`, `actors` and its index alone, so a longer run starts with
    the shorter one.

    Raises `InputError` for an argument out of range, and `ChronocamError` where scikit-image is not
    installed.

    Example:
        >>> world = cc.data.gestures.clips(2, seed=1, frames=8, size=48)
        >>> world.pixels.shape, world.labels.shape
        ((2, 8, 48, 48, 3), (2, 1))
    """
    _check_least("count", count, 1)
    records = [
        clip(index, seed=seed, split=split, frames=frames, size=size, actors=actors) for index in range(count)
    ]
    names = ("pixels", "labels", "masks", "active", "actor_masks")
    return Clips(**{name: np.stack([getattr(record, name) for record in records]) for name in names})


def clip(
    index: int, *, seed: int = 0, split: str = "test", frames: int = 16, size: int = 64, actors: int = 1
) -> Record:
    """Generate clip number `index` of those that `clips` returns.

    Raises `InputError` for an argument out of range, and `ChronocamError` where scikit-image is not
    installed.

    Example:
        >>> record = cc.data.gestures.clip(2, frames=8, size=48)
        >>> bool((record.masks.any((2, 3)) <= record.active).all())  # seen while it happens, never else
        True
    """
    check(seed, split, frames, size, actors)
    _check_least("index", index, 0)
    return render(index, seed, split, frames, size, actors, Conditions())


def parts(
    index: int, *, seed: int = 0, split: str = "test", frames: int = 16, size: int = 64, actors: int = 1
) -> tuple[Record, tuple[Part, ...]]:
    """Return clip number `index`, and the same clip without each of its parts.

    Parts of an actor are hair, trunk, head, mouth, both arms (with their hands) and both hands, of two actors
    each named with `first` or `second`; the last one is what else moves or stands before the photograph,
    `background`. Raises `InputError` and `ChronocamError` as `clip`.

    Example:
        >>> whole, parts = cc.data.gestures.parts(2, frames=8, size=48)
        >>> part = next(part for part in parts if part.name == "trunk")
        >>> bool(part.where(whole.pixels).any())
        True
    """
    check(seed, split, frames, size, actors)
    _check_least("index", index, 0)
    asked = (index, seed, split, frames, size, actors, Conditions())
    names = [prefix + name for prefix in _prefixes(actors) for name in PARTS] + ["background"]
    return render(*asked), tuple(Part(name, render(*asked, without=name).pixels) for name in names)


def moments(
    index: int,
    *,
    length: int = 2,
    seed: int = 0,
    split: str = "test",
    frames: int = 16,
    size: int = 64,
    actors: int = 1,
) -> tuple[Record, tuple[Part, ...]]:
    """Return clip number `index`, and the same clip without the motion of each `length` frames.

    In such a clip the actors stay on these frames as they were on the one before; camera, light and
    background go on. Parts are named by their first and last frame, `"1-2"`; frame 0 has none before it, and
    what is left over at the end is in no part. Raises `InputError` and `ChronocamError` as `clip`.

    Example:
        >>> whole, parts = cc.data.gestures.moments(2, length=3, frames=8, size=48)
        >>> [part.name for part in parts]
        ['1-3', '4-6']
    """
    check(seed, split, frames, size, actors)
    _check_least("index", index, 0)
    _check_least("length", length, 1)
    asked = (index, seed, split, frames, size, actors, Conditions())
    spans = [(start, start + length) for start in range(1, frames - length + 1, length)]
    return render(*asked), tuple(
        Part(f"{start}-{stop - 1}", render(*asked, held=(start, stop)).pixels) for start, stop in spans
    )


def _prefixes(actors: int) -> tuple[str, ...]:
    return ("",) if actors == 1 else ("first ", "second ")


def check(seed: int, split: str, frames: int, size: int, actors: int) -> None:
    """Raise `InputError` for an argument out of range."""
    if split not in PHOTOS:
        known = ", ".join(f"`{name}`" for name in PHOTOS)
        raise InputError(f"no split `{split}`, expected one of {known}{suggest(split, list(PHOTOS))}")
    if actors not in (1, 2):
        raise InputError(f"actors is {actors}, expected 1 or 2; pass actors=1 or actors=2")
    for name, value, least in (("seed", seed, 0), ("frames", frames, SHORTEST), ("size", size, SMALLEST)):
        _check_least(name, value, least)


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} is {value}, expected at least {least}; pass {name}={least} or more")


def labels_of(index: int, seed: int, split: str, actors: int) -> tuple[int, ...]:
    """Return the classes of clip `index`: each class, or ordered pair, once in every block of clips."""
    choices = list(permutations(range(len(LABELS)), actors))
    block, place = divmod(index, len(choices))
    order = np.random.default_rng((seed, SPLITS.index(split), actors, block, 1)).permutation(len(choices))
    return choices[order[place]]


def render(
    index: int,
    seed: int,
    split: str,
    frames: int,
    size: int,
    actors: int,
    conditions: Conditions,
    without: str | None = None,
    held: tuple[int, int] | None = None,
) -> Record:
    """Generate one clip under `conditions`; what they switch off leaves everything else as it was.

    without: a part that is left out. held: frames on which the actors stay as before them.
    """
    labels = labels_of(index, seed, split, actors)
    rng = np.random.default_rng((seed, SPLITS.index(split), actors, index))
    camera = draw_camera(rng, frames, conditions.shake)
    light = draw_light(rng, frames, conditions.light, conditions.noise)
    figures = _cast(rng, labels, split, frames, conditions.restless)
    if held is not None:
        figures = [replace(figure, track=figure.track.held(*held)) for figure in figures]
    photo = crop_photo(rng, _photos(split), round(size * (1 + 2 * MARGIN)))
    film = camera.film((255 * np.clip(photo, 0, 1) + 0.5).astype(np.uint8), size)
    canvas = Canvas(film, 2 * actors, without)
    with canvas.part("background"):
        draw_scenery(rng, canvas, camera, conditions.busy)
    for actor, (figure, prefix) in enumerate(zip(figures, _prefixes(actors), strict=True)):
        draw_figure(canvas, camera, figure, 2 * actor, 2 * actor + 1, prefix)
    active = np.stack([figure.track.active for figure in figures])
    whole, acting = (np.stack([canvas.matte(2 * actor + k) for actor in range(actors)]) > 0.5 for k in (0, 1))
    return Record(
        pixels=light.expose(canvas.colours, rng),
        labels=np.array(labels),
        masks=whole & acting & active[..., None, None],
        active=active,
        actor_masks=whole,
    )


@cache
def _photos(split: str) -> tuple[Image.Image, ...]:
    return load_photos(PHOTOS[split])


def _cast(
    rng: np.random.Generator, labels: tuple[int, ...], split: str, frames: int, restless: float
) -> list[Figure]:
    """Draw who acts, when, how and where."""
    moments = _moments(rng, frames, len(labels))
    narrow = len(labels) > 1
    people = [draw_identity(rng, split) for _ in labels]
    tracks = [
        draw_track(rng, LABELS[label], progress, person, narrow=narrow, restless=restless)
        for label, progress, person in zip(labels, moments, people, strict=True)
    ]
    place = _side_by_side if narrow else _anywhere
    spots = place(rng, [reach(*pair) for pair in zip(people, tracks, strict=True)])
    return [Figure(*who, *spot) for who, spot in zip(zip(people, tracks, strict=True), spots, strict=True)]


def _moments(rng: np.random.Generator, frames: int, actors: int) -> list[np.ndarray]:
    """Draw when each action happens; two of them share at least a quarter of the clip."""
    while True:
        moments = [draw_progress(rng, frames) for _ in range(actors)]
        shared = np.all([(progress > 0) & (progress < 1) for progress in moments], axis=0)
        if 4 * shared.sum() >= frames:
            return moments


_Spot = tuple[np.ndarray, float]


def _anywhere(rng: np.random.Generator, reaches: list[tuple[float, float]]) -> list[_Spot]:
    """Place one actor where the room for gestures is, in the same way whatever the actor does."""
    scale = rng.uniform(0.23, 0.32)
    room = min(1.55 * scale, 0.5)
    height = max(rng.uniform(0.48, 0.60), 1.7 * scale)
    return [(np.array([rng.uniform(room, 1 - room), height]), scale)]


def _side_by_side(rng: np.random.Generator, reaches: list[tuple[float, float]]) -> list[_Spot]:
    """Place two actors with a gap between all that the left one and all that the right one reaches."""
    edge, gap = 0.03, 0.02
    widths = np.sum(reaches, axis=1)
    scale = min(rng.uniform(0.19, 0.24), (1 - 2 * edge - gap) / widths.sum())
    spare = 1 - 2 * edge - gap - scale * widths.sum()
    parts = spare * np.diff(np.sort(rng.uniform(0, 1, 2)), prepend=0)
    left = edge + parts[0] + scale * reaches[0][0]
    right = left + scale * reaches[0][1] + gap + parts[1] + scale * reaches[1][0]
    heights = rng.uniform(0.46, 0.58, 2)
    return [(np.array([x, y]), scale) for x, y in ((left, heights[0]), (right, heights[1]))]
