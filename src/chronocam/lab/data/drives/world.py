"""Drives through rendered rooms and streets, with exact depth, poses, intrinsics and masks."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from PIL import Image

from chronocam.errors import InputError, suggest
from chronocam.lab.data.drives.caster import CameraView, Sight, cast, look, whole
from chronocam.lab.data.drives.path import CameraPath, camera_matrix, draw_path
from chronocam.lab.data.drives.scenes import TEXTURES, Mover, Scene, draw_mover, draw_scene
from chronocam.lab.data.drives.textures import PLAIN, Atlas, draw_atlas, halve
from chronocam.lab.data.gestures.world import PHOTOS
from chronocam.lab.data.parts import Part
from chronocam.lab.data.photos import load_photos
from chronocam.media.drives.record import Drive

SCENES = ("room", "street")

SMALLEST = 32
"""Smallest height and width of a picture, in pixels."""

SMALLEST_PART = 0.01
"""Share of the view that a thing must take to be a part."""

_CHANCES = {"moving": 0.3, "plain": 0.7, "exposure": 0.2}


@dataclass(frozen=True)
class DriveOptions:
    """The options of a drive, as `drive` explains them; what they are checked for is in `_check`."""

    seed: int
    split: str
    frames: int
    size: tuple[int, int]
    scene: str | None
    moving: bool | None
    plain: bool | None
    exposure: bool | None


def drives(
    count: int,
    *,
    seed: int = 0,
    split: str = "test",
    frames: int = 5,
    size: tuple[int, int] = (64, 208),
    scene: str | None = None,
    moving: bool | None = None,
    plain: bool | None = None,
    exposure: bool | None = None,
) -> Iterator[Drive]:
    """Yield the first `count` drives, rendered one at a time; see `drive`. Raises InputError like it.

    Example:
        >>> [drive.name for drive in cc.data.drives.drives(2, frames=2, size=(32, 48))]
        ['test-0-00000', 'test-0-00001']
    """
    return rendered(count, DriveOptions(seed, split, frames, size, scene, moving, plain, exposure))


def rendered(count: int, options: DriveOptions) -> Iterator[Drive]:
    """Yield the first `count` drives with these options."""
    _least("count", count, 1)
    for index in range(count):
        yield _drive(index, options)


def drive(
    index: int,
    *,
    seed: int = 0,
    split: str = "test",
    frames: int = 5,
    size: tuple[int, int] = (64, 208),
    scene: str | None = None,
    moving: bool | None = None,
    plain: bool | None = None,
    exposure: bool | None = None,
) -> Drive:
    """Render drive number `index` through a room or a street.

    Every surface shows a crop of one of scikit-image's photographs; splits `"train"`, `"validation"` and
    `"test"` share none. The camera goes 12 to 28 cm a frame in rooms (also backward and sideways), 30 to 65
    cm in streets, turns by up to 2.2 degrees a frame and shakes a little. The world is the first camera, in
    metres. Depth is exact and sampled at the pixels' centres; the sky's is 0. A pixel is the mean of 2 x 2
    rays.

    size: height and width.
    scene: `room` or `street`; None draws one.
    moving: whether a box moves by itself (None: in 30 % of the drives).
    plain: whether one wall has no texture (None: in 70 %).
    exposure: whether brightness and contrast change from frame to frame (None: in 20 %).

    A drive depends on its arguments alone, and the switches change nothing else in it. Raises `InputError`
    for an argument out of range, and `ChronocamError` where scikit-image is not installed.

    Example:
        >>> drive = cc.data.drives.drive(3, frames=2, size=(32, 48), scene="street")
        >>> drive.pixels.shape, drive.depth.shape, drive.poses.shape
        ((2, 32, 48, 3), (2, 32, 48), (2, 4, 4))
    """
    return _drive(index, DriveOptions(seed, split, frames, size, scene, moving, plain, exposure))


def parts(
    index: int,
    *,
    seed: int = 0,
    split: str = "test",
    frames: int = 2,
    size: tuple[int, int] = (64, 208),
    scene: str | None = None,
) -> tuple[Drive, tuple[Part, ...]]:
    """Return drive number `index`, and the same drive with the texture of each thing left out.

    Things are walls and houses, the floor, and whatever stands on it; without its texture a thing has one
    colour, and nothing on it shows how the camera moves. Those are left out that take less than 1 % of the
    view. Raises `InputError` and `ChronocamError` as `drive`.

    Example:
        >>> whole, parts = cc.data.drives.parts(3, size=(32, 48))
        >>> parts[0].pixels.shape == whole.pixels.shape, len(parts) > 2
        (True, True)
    """
    options = DriveOptions(seed, split, frames, size, scene, None, None, None)
    stage, name = _stage(index, options)
    whole = stage.drive(name)
    seen = np.append(stage.scene.thing, -1)[np.stack([sight.index for sight in stage.centres])]
    shares = {int(thing): float((seen == thing).mean()) for thing in np.unique(seen[seen >= 0])}
    things = [thing for thing, share in shares.items() if share >= SMALLEST_PART]
    return whole, tuple(Part(f"thing {t}", stage.pixels(stage.scene.thing == t)) for t in things)


def _drive(index: int, options: DriveOptions) -> Drive:
    stage, name = _stage(index, options)
    return stage.drive(name)


def _stage(index: int, options: DriveOptions) -> tuple[_Stage, str]:
    """Return everything that is filmed in a drive, and the drive's name."""
    _check(index, options)
    rng = np.random.default_rng([options.seed, tuple(PHOTOS).index(options.split), index])
    # Everything is drawn whether it is asked for or not: so a switch changes nothing else in the drive.
    kind = SCENES[int(rng.integers(len(SCENES)))]
    draws = (rng.random(len(_CHANCES)) < list(_CHANCES.values())).tolist()
    settings = (options.moving, options.plain, options.exposure)
    switches = [draw if switch is None else switch for draw, switch in zip(draws, settings, strict=True)]
    name = f"{options.split}-{options.seed}-{index:05d}"
    return _staged(rng, options.scene or kind, options, switches), name


def _check(index: int, options: DriveOptions) -> None:
    split, scene = options.split, options.scene
    if split not in PHOTOS:
        known = ", ".join(f"`{name}`" for name in PHOTOS)
        raise InputError(f"no split `{split}`, expected one of {known}{suggest(split, list(PHOTOS))}")
    if scene is not None and scene not in SCENES:
        hint = suggest(scene, list(SCENES))
        raise InputError(f"no scene `{scene}`, expected `room`, `street` or None{hint}")
    for name, value, least in (("index", index, 0), ("seed", options.seed, 0), ("frames", options.frames, 2)):
        _least(name, value, least)
    if min(options.size) < SMALLEST:
        problem = f"size is {options.size}, expected height and width of at least {SMALLEST}"
        raise InputError(f"{problem}; pass size=(64, 208)")


def _least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} is {value}, expected at least {least}; pass {name}={least} or more")


@dataclass(frozen=True)
class _Stage:
    """What a drive is filmed of.

    bare: rectangles without texture. centres: what the middle of each pixel meets, frame by frame.
    light: random numbers of the exposure, which changes or not.
    """

    path: CameraPath
    scene: Scene
    atlas: Atlas
    intrinsics: Float64[np.ndarray, "3 3"]
    views: list[CameraView]
    centres: list[Sight]
    bare: Bool[np.ndarray, " quad"]
    size: tuple[int, int]
    light: np.random.Generator
    exposure: bool

    def pixels(self, plain: Bool[np.ndarray, " quad"]) -> UInt8[np.ndarray, "time height width 3"]:
        """Return the frames, some more rectangles without texture."""
        scene = replace(self.scene, texture=np.where(self.bare | plain, PLAIN, self.scene.texture))
        colours = [
            _paint(scene, self.atlas, view, pose @ _ray(self.intrinsics), self.size)
            for view, pose in zip(self.views, self.path.poses, strict=True)
        ]
        return _expose(deepcopy(self.light), colours, self.exposure)

    def drive(self, name: str) -> Drive:
        """Return the drive with its truth."""
        return Drive(
            pixels=self.pixels(np.zeros_like(self.bare)),
            intrinsics=self.intrinsics,
            poses=np.linalg.inv(self.path.poses[0]) @ self.path.poses,
            depth=np.stack([_depth(sight) for sight in self.centres]),
            moving=np.stack([whole(self.scene.mover, sight) for sight in self.centres]),
            plain=np.stack([whole(self.bare, sight) for sight in self.centres]),
            name=name,
        )


def _staged(rng: np.random.Generator, kind: str, options: DriveOptions, switches: list[bool]) -> _Stage:
    moving, plain, exposure = switches
    size = options.size
    # One generator for each part: what one of them draws leaves the others as they are.
    ways, things, paints, walls, light = rng.spawn(5)
    path = draw_path(ways, options.frames, kind)
    mover = draw_mover(ways, path, kind)
    scene = draw_scene(things, path, mover, kind, moving)
    atlas = draw_atlas(paints, _photos(options.split), TEXTURES)
    intrinsics = camera_matrix(*size)
    views = _views(scene, path, mover, intrinsics)
    centres = [cast(view, np.arange(size[1]), np.arange(size[0])) for view in views]
    bare = _bare(walls, scene, views, size) if plain else np.zeros(len(scene.wall), bool)
    return _Stage(path, scene, atlas, intrinsics, views, centres, bare, size, light, exposure)


@cache
def _photos(split: str) -> tuple[Image.Image, ...]:
    return load_photos(PHOTOS[split])


def _views(
    scene: Scene, path: CameraPath, mover: Mover, intrinsics: Float64[np.ndarray, "3 3"]
) -> list[CameraView]:
    shifts = np.zeros((len(path.poses), 3))
    shifts[:, [0, 2]] = mover.track - mover.track[0]
    quads = (
        replace(scene.quads, origin=scene.quads.origin + scene.mover[:, None] * shift) for shift in shifts
    )
    return [look(placed, pose, intrinsics) for placed, pose in zip(quads, path.poses, strict=True)]


def _bare(
    rng: np.random.Generator, scene: Scene, views: list[CameraView], size: tuple[int, int]
) -> Bool[np.ndarray, " quad"]:
    """Draw the wall without texture: one that is well in view, but does not fill it; the mover hides nothing.

    Where no wall is such, it is the smallest of those that take 2 % of the view, or the largest of all.
    """
    # Photometry cannot tell the depth of a plain wall: it must be visible, but only in a part of the view.
    ends = (views[0], views[-1])
    still = (replace(view, low=np.where(scene.mover[:, None], np.inf, view.low)) for view in ends)
    sights = [cast(view, np.arange(0, size[1], 2), np.arange(0, size[0], 2)) for view in still]
    walls_seen = np.append(scene.wall, -1)[np.stack([sight.index for sight in sights])]
    walls = np.unique(scene.wall[scene.wall >= 0])
    shares = np.array([(walls_seen == wall).mean() for wall in walls])
    fit = walls[(shares > 0.06) & (shares < 0.35)]
    chosen = rng.choice(fit) if len(fit) else walls[np.where(shares >= 0.02, shares, 2 - shares).argmin()]
    return np.asarray(scene.wall == chosen)


def _depth(sight: Sight) -> Float32[np.ndarray, "height width"]:
    near = sight.nearness
    return np.divide(1, near, out=np.zeros_like(near), where=near > 0)


def _ray(intrinsics: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "4 3"]:
    """Return what makes a direction (x, y, z, 0) of a pixel (x, y, 1)."""
    return np.concatenate([np.linalg.inv(intrinsics), np.zeros((1, 3))])


def _paint(
    scene: Scene, atlas: Atlas, view: CameraView, ray: Float64[np.ndarray, "4 3"], size: tuple[int, int]
) -> Float32[np.ndarray, "height width 3"]:
    """Return a frame's colours, about 0 to 1."""
    ys, xs = ((np.arange(2 * length) / 2 - 0.25).astype(np.float32) for length in size)
    sight = cast(view, xs, ys)
    u, v, level = _texels(scene, view, sight, xs, ys)
    colours = atlas.sample(np.append(scene.texture, PLAIN)[sight.index.ravel()], u, v, level)
    colours *= np.append(scene.tint, np.ones((1, 3)), 0).astype(np.float32).take(sight.index.ravel(), 0)
    colours = colours.reshape(*sight.index.shape, 3)
    if (sight.index < 0).any():
        np.copyto(colours, _sky(scene, ray, xs, ys), where=(sight.index < 0)[..., None])
    return halve(colours)


def _texels(
    scene: Scene,
    view: CameraView,
    sight: Sight,
    xs: Float32[np.ndarray, " width"],
    ys: Float32[np.ndarray, " height"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places in the texture, in texels, and the level of the pyramid.

    There a texel takes two pixels: what is finer would not survive bilinear sampling from one frame to
    another.
    """
    # u/z, v/z and 1/z are affine in the pixel, so u and v need one division; their derivatives, by the
    # quotient rule, say how many texels a pixel covers.
    size, offset = scene.texels[:, 0, :, None], scene.texels[:, 1, :, None]
    near = view.planes[:, 2:]
    table = np.concatenate([view.planes[:, :2] * size + near * offset, near], 1).reshape(-1, 9)
    table = np.append(table, np.zeros((1, 9)), 0).astype(np.float32).T
    index = sight.index.astype(np.intp)
    ux, uy, u1, vx, vy, v1, wx, wy, _ = (column.take(index, mode="wrap") for column in table)
    x, y = xs, ys[:, None]
    z = 1 / np.maximum(sight.nearness, np.float32(1e-6))
    u, v = (ux * x + uy * y + u1) * z, (vx * x + vy * y + v1) * z
    ux, vx = (ux - u * wx) * z, (vx - v * wx) * z
    uy, vy = (uy - u * wy) * z, (vy - v * wy) * z
    area = np.abs(ux * vy - uy * vx)
    longest = np.maximum(ux * ux + vx * vx, uy * uy + vy * vy)
    level = 0.5 * np.log2(2 * np.maximum(np.maximum(area, longest / 4), np.float32(1e-6)))
    return u.ravel(), v.ravel(), level.ravel()


def _sky(
    scene: Scene,
    ray: Float64[np.ndarray, "4 3"],
    xs: Float[np.ndarray, " width"],
    ys: Float[np.ndarray, " height"],
) -> Float32[np.ndarray, "height width 3"]:
    """Return colours that depend on the direction alone, paler towards the horizon."""
    x, y, z = (axis[0] * xs + (axis[1] * ys[:, None] + axis[2]) for axis in ray[:3])
    height = np.clip(-y / np.sqrt(x * x + y * y + z * z), 0, 0.6)[..., None] / 0.6
    return np.asarray(scene.sky[0] + height * (scene.sky[1] - scene.sky[0]), np.float32)


def _expose(
    rng: np.random.Generator, colours: list[np.ndarray], changes: bool
) -> UInt8[np.ndarray, "time height width 3"]:
    """Round to 8 bits, after a gain and a bias of each frame where they change."""
    frames = np.stack(colours)
    if changes:
        gain, bias = np.exp(rng.normal(0, 0.18, len(frames))), rng.normal(0, 0.03, len(frames))
        frames = frames * gain[:, None, None, None] + bias[:, None, None, None]
    return np.round(255 * np.clip(frames, 0, 1)).astype(np.uint8)
