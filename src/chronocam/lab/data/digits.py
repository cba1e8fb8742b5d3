"""Generated scenes with two handwritten digits each: a small world that knows where they are."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw
from scipy import ndimage

from chronocam._repr import ShortRepr
from chronocam.errors import InputError, suggest
from chronocam.lab.data.parts import Part
from chronocam.lab.data.photos import crop_photo, load_module, load_photos

__all__ = ["COLOURS", "NUMBERS", "PHOTOS", "Part", "Scenes", "parts", "scenes"]

PHOTOS = {
    "train": (
        "astronaut",
        "brick",
        "camera",
        "coffee",
        "gravel",
        "hubble_deep_field",
        "immunohistochemistry",
        "moon",
        "stereo_motorcycle",
    ),
    "test": ("chelsea", "coins", "grass", "retina", "rocket"),
}
"""Names in `skimage.data` of the photographs behind the scenes of each split; none needs a download."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""What captions call the digits."""

COLOURS = {
    "red": (0.85, 0.12, 0.12),
    "yellow": (0.90, 0.80, 0.10),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.15, 0.30, 0.90),
    "purple": (0.60, 0.15, 0.75),
}
"""Inks of coloured scenes by their names, RGB in [0, 1]."""

TRAIN_SHARE = 0.75
"""Share of the samples for training: the first in the file, where samples of a hand stand together."""

SMALLEST = 48
"""Smallest scene in pixels: its digits are 11 to 18 pixels high, little more than their 8x8 samples."""

_Canvas = Float[np.ndarray, "height width 3"]
_Alpha = Float[np.ndarray, "height width"]


@dataclass(frozen=True)
class Scenes(ShortRepr):
    """Pictures, the two digits in each, and where the ink of each digit is.

    Example:
        >>> scenes = cc.data.digits.scenes(2, size=48)
        >>> scenes.images.shape, scenes.labels.shape, scenes.masks.shape
        ((2, 48, 48, 3), (2, 2), (2, 2, 48, 48))
    """

    images: UInt8[np.ndarray, "count height width 3"]
    """RGB, 0 to 255."""
    labels: Int[np.ndarray, "count 2"]
    """The two digits, 0 to 9, different where they have no colours; in no order."""
    masks: Bool[np.ndarray, "count 2 height width"]
    """True where the ink of `labels[:, k]` covers more than half of the pixel."""
    colours: Int[np.ndarray, "count 2"] | None = None
    """The inks, numbers of `COLOURS`; None where scenes are not coloured."""

    @property
    def captions(self) -> list[tuple[str, str]]:
        """What each digit is called, as "a red seven"; "a seven" where scenes are not coloured."""
        inks = [f"{name} " for name in COLOURS] if self.colours is not None else [""]
        colours = np.zeros_like(self.labels) if self.colours is None else self.colours
        names = [
            [f"a {inks[ink]}{NUMBERS[digit]}" for ink, digit in zip(*pair, strict=True)]
            for pair in zip(colours, self.labels, strict=True)
        ]
        return [(first, second) for first, second in names]


@dataclass(frozen=True)
class _World:
    """What the scenes of one split are made of."""

    glyphs: Float[np.ndarray, "sample 8 8"]
    labels: Int[np.ndarray, "sample"]
    photos: tuple[Image.Image, ...]


def scenes(
    count: int, *, seed: int = 0, split: str = "test", size: int = 96, coloured: bool = False
) -> Scenes:
    """Generate `count` pictures of `size` x `size` pixels, each with two different handwritten digits.

    The digits (scikit-learn's 8x8 samples, drawn at 23 to 37 % of the picture's side) stand on crops of
    scikit-image's photographs, among strokes and blobs that are not digits, under uneven light and noise.
    `coloured` scenes are grey but for the digits, whose inks are `COLOURS`. In a third of them, by chance,
    the digits differ in both number and ink, in a third in the ink alone, in a third in the number alone.

    Splits `"train"` and `"test"` share neither handwritten samples nor photographs. A scene depends on
    `seed`, `split`, `size`, `coloured` and its index alone, so a longer run starts with the shorter one.

    Raises `InputError` for an argument out of range, and `ChronocamError` where scikit-learn or
    scikit-image is not installed.

    Example:
        >>> scenes = cc.data.digits.scenes(3, seed=1, size=48)
        >>> bool((scenes.labels[:, 0] != scenes.labels[:, 1]).all())  # two different digits
        True
    """
    _check(count, seed, split, size)
    world = _world(split)
    stream = list(PHOTOS).index(split)
    make = _coloured if coloured else _scene
    parts = [make(np.random.default_rng((seed, stream, index)), world, size) for index in range(count)]
    return Scenes(*(np.stack(part) for part in zip(*parts, strict=True)))


def parts(
    index: int, *, seed: int = 0, split: str = "test", size: int = 96
) -> tuple[Scenes, tuple[Part, ...]]:
    """Return scene number `index` of `scenes`, alone, and the same scene without each of its parts.

    Parts are the things on the photograph in the order in which they are painted: strokes and blobs (`thing
    0`, …), then both digits, named by what they are. Raises `InputError` and `ChronocamError` as `scenes`.

    Example:
        >>> whole, parts = cc.data.digits.parts(0, size=48)
        >>> [part.name for part in parts[-2:]] == [str(label) for label in whole.labels[0]]
        True
    """
    _check(index + 1, seed, split, size)
    key, world = (seed, list(PHOTOS).index(split), index), _world(split)
    image, labels, masks = _scene(np.random.default_rng(key), world, size)
    things = _painted(np.random.default_rng(key), world, size).things
    names = [f"thing {number}" for number in range(things - 2)] + [str(label) for label in labels]
    without = [_scene(np.random.default_rng(key), world, size, number)[0] for number in range(things)]
    found = tuple(Part(name, pixels) for name, pixels in zip(names, without, strict=True))
    return Scenes(image[None], labels[None], masks[None]), found


def _check(count: int, seed: int, split: str, size: int) -> None:
    if split not in PHOTOS:
        raise InputError(f"no split `{split}`, expected `train` or `test`{suggest(split, list(PHOTOS))}")
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("size", size, SMALLEST)):
        if value < least:
            raise InputError(f"{name} is {value}, expected at least {least}; pass {name}={least} or more")


@cache
def _world(split: str) -> _World:
    samples = load_module("sklearn.datasets").load_digits()
    cut = int(TRAIN_SHARE * len(samples.target))
    part = slice(None, cut) if split == "train" else slice(cut, None)
    return _World(
        samples.images[part].astype(np.float32) / 16, samples.target[part], load_photos(PHOTOS[split])
    )


class _Painting:
    """A canvas on which one of the things may be left out.

    Colours are chosen on the whole picture, so that what is left out changes nothing else.
    """

    labels: Int[np.ndarray, "2"]
    alphas: Float[np.ndarray, "2 size size"]

    def __init__(self, canvas: _Canvas, without: int | None) -> None:
        self.canvas = canvas
        self.things = 0
        self._whole = canvas
        self._without = without

    def write(self, rng: np.random.Generator, alpha: _Alpha) -> None:
        """Cover the canvas with ink of a colour that stands out from what is under it."""
        ink = _ink(rng, self._whole, alpha)
        self._whole = _cover(self._whole, alpha, ink)
        if self.things != self._without:
            self.canvas = _cover(self.canvas, alpha, ink)
        self.things += 1


def _scene(
    rng: np.random.Generator, world: _World, size: int, without: int | None = None
) -> tuple[UInt8[np.ndarray, "size size 3"], Int[np.ndarray, "2"], Bool[np.ndarray, "2 size size"]]:
    painted = _painted(rng, world, size, without)
    return _expose(rng, painted.canvas), painted.labels, painted.alphas > 0.5


def _painted(rng: np.random.Generator, world: _World, size: int, without: int | None = None) -> _Painting:
    """Paint a scene before it is lit; thing number `without` is drawn, but not painted."""
    painting = _Painting(crop_photo(rng, world.photos, size), without)
    for _ in range(rng.integers(2, 6)):
        painting.write(rng, _distractor(rng, size))
    samples = _two_samples(rng, world.labels)
    painting.labels = world.labels[samples]
    painting.alphas = _place(rng, [_glyph(rng, world.glyphs[sample], size) for sample in samples], size)
    for alpha in painting.alphas:
        painting.write(rng, alpha)
    return painting


def _coloured(rng: np.random.Generator, world: _World, size: int) -> tuple[np.ndarray, ...]:
    """Return a grey picture with two coloured digits, the digits, their masks and their inks."""
    canvas = crop_photo(rng, world.photos, size)
    for _ in range(rng.integers(2, 6)):
        alpha = _distractor(rng, size)
        canvas = _cover(canvas, alpha, _ink(rng, canvas, alpha))
    canvas = np.repeat(canvas.mean(axis=2, keepdims=True), 3, axis=2)
    digits, inks = rng.choice(10, 2, replace=False), rng.choice(len(COLOURS), 2, replace=False)
    alike = rng.integers(3)
    digits, inks = (digits[[0, 0]] if alike == 1 else digits), (inks[[0, 0]] if alike == 2 else inks)
    samples = np.array([rng.choice(np.flatnonzero(world.labels == digit)) for digit in digits])
    alphas = _place(rng, [_glyph(rng, world.glyphs[sample], size) for sample in samples], size)
    for alpha, ink in zip(alphas, np.array(list(COLOURS.values()), np.float32)[inks], strict=True):
        shade = np.clip(ink * rng.uniform(0.8, 1.15) + rng.uniform(-0.06, 0.06, 3), 0, 1)
        canvas = _cover(canvas, alpha, shade.astype(np.float32))
    return _expose(rng, canvas), digits, alphas > 0.5, inks


def _two_samples(rng: np.random.Generator, labels: Int[np.ndarray, "sample"]) -> Int[np.ndarray, "2"]:
    """Draw two different digits, each digit equally often, and a sample of each."""
    digits = rng.choice(10, 2, replace=False)
    return np.array([rng.choice(np.flatnonzero(labels == digit)) for digit in digits])


def _distractor(rng: np.random.Generator, size: int) -> _Alpha:
    """Draw a stroke from edge to edge or a filled blob: neither can be read as a digit."""
    fine = 3 * size  # drawn three times finer, then averaged: smooth edges
    layer = Image.new("L", (fine, fine))
    draw = ImageDraw.Draw(layer)
    if rng.random() < 0.5:
        width = round(fine * rng.uniform(0.01, 0.03))
        draw.line([tuple(fine * point) for point in _stroke(rng)], 255, width)
    else:
        centre, radii = rng.uniform(0, 1, 2), rng.uniform(0.03, 0.05) * rng.uniform(1, 1.6, 2)
        draw.ellipse(tuple(fine * np.concatenate([centre - radii, centre + radii])), 255)
    return np.asarray(layer.reduce(3), np.float32) / 255


def _stroke(rng: np.random.Generator) -> Float[np.ndarray, "point 2"]:
    """Return a quadratic Bezier curve, in units of the picture, that starts and ends outside of it."""
    turn = rng.uniform(0, 2 * np.pi)
    angles = turn + np.array([0, rng.uniform(0.6, 1.4) * np.pi])
    start, end = 0.5 + 0.75 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    bend, t = rng.uniform(0.1, 0.9, 2), np.linspace(0, 1, 24)[:, None]
    curve: np.ndarray = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    return curve


def _glyph(rng: np.random.Generator, sample: Float[np.ndarray, "8 8"], size: int) -> _Alpha:
    """Draw one 8x8 sample large, turned and sheared, as ink coverage in [0, 1] cropped to the ink."""
    height = size * rng.uniform(0.23, 0.37)
    turn, shear, stretch = rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25), rng.uniform(0.85, 1.15)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    to_sample = 8 / height * np.array([[1, 0], [shear, stretch]]) @ rotation
    side = size // 2 - 1  # room for the ink of either digit beside the other, wherever that one is
    padded = np.pad(sample, 2)
    offset = (len(padded) - 1) / 2 - to_sample @ np.full(2, (side - 1) / 2)
    smooth = ndimage.affine_transform(padded, to_sample, offset, (side, side), order=3)
    alpha: np.ndarray = np.clip((smooth - rng.uniform(0.25, 0.38)) / 0.25, 0, 1)  # an edge of about a pixel
    rows, columns = (np.flatnonzero(alpha.any(axis)) for axis in (1, 0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _place(rng: np.random.Generator, glyphs: list[np.ndarray], size: int) -> Float[np.ndarray, "2 size size"]:
    """Put the two glyphs on empty layers where they do not touch."""
    alphas = np.zeros((2, size, size), np.float32)
    for alpha, glyph, (top, left) in zip(alphas, glyphs, _apart(rng, glyphs, size), strict=True):
        alpha[top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
    return alphas


def _apart(rng: np.random.Generator, glyphs: list[np.ndarray], size: int) -> Int[np.ndarray, "glyph 2"]:
    """Draw top left corners of boxes with at least two pixels between them."""
    shapes = np.array([glyph.shape for glyph in glyphs])
    while True:
        corners: np.ndarray = rng.integers(0, size - shapes, endpoint=True)
        gaps = corners[::-1] - (corners + shapes)  # from the end of each box to the start of the other
        if gaps.max() >= 2:
            return corners


def _ink(rng: np.random.Generator, canvas: _Canvas, alpha: _Alpha) -> Float[np.ndarray, "3"]:
    """Draw a colour that is lighter or darker than what it will cover."""
    under = np.tensordot(alpha, canvas, 2).mean() / max(alpha.sum(), 1e-6)
    sign = 1 if under < rng.uniform(0.35, 0.65) else -1
    tint = rng.uniform(-0.2, 0.2, 3)
    ink: np.ndarray = np.clip(under + sign * rng.uniform(0.25, 0.6) + tint - tint.mean(), 0, 1)
    return ink.astype(np.float32)


def _cover(canvas: _Canvas, alpha: _Alpha, ink: Float[np.ndarray, "3"]) -> _Canvas:
    covered: _Canvas = canvas + alpha[..., None] * (ink - canvas)
    return covered


def _expose(rng: np.random.Generator, canvas: _Canvas) -> UInt8[np.ndarray, "height width 3"]:
    """Light the canvas from one side, add sensor noise, and count in 8 bits."""
    ramp = np.linspace(-1, 1, len(canvas), dtype=np.float32)
    down, across = rng.uniform(-0.25, 0.25, 2)
    light = rng.uniform(0.8, 1.1) * (1 + down * ramp[:, None] + across * ramp)
    noise = rng.uniform(0.005, 0.05) * rng.standard_normal(canvas.shape, np.float32)
    pixels: np.ndarray = np.clip(255 * (canvas * light[..., None] + noise) + 0.5, 0, 255)
    return pixels.astype(np.uint8)
