"""Pictures in and out: every file becomes upright 8-bit RGB, or a one-line error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageOps

from chronocam.errors import MediaError, first_line
from chronocam.media.files import (
    absent,
    contents,
    expanded,
    is_file,
    is_folder,
    matches,
    nothing_named,
    replace_file,
)
from chronocam.media.limits import check_picture

_T = TypeVar("_T")

WRITABLE: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What `write_image` knows."""

IMAGE_SUFFIXES: Final = {*WRITABLE, ".avif", ".jfif", ".jp2", ".jpe", ".pbm", ".pgm", ".pnm", ".ppm", ".tga"}
"""What counts as a picture when a folder or a pattern is searched."""

_OPAQUE: Final = {".bmp", ".jpeg", ".jpg"}
_PART: Final = 2**20  # pixels that are scaled at once
_SHAPES: Final = "(height, width), (height, width, 3) or (height, width, 4)"


def read_image(path: str | Path) -> Image.Image:
    """Read a picture as it is meant to be seen: upright, RGB, 8 bits per channel.

    The EXIF orientation is applied, transparency is laid on white, deeper pictures are scaled to 8 bits, and
    of an animation the first frame is taken. Raises MediaError for a file that cannot be read as a picture,
    and for more than 67 million pixels, which are not decoded.

    Example:
    >>> cc.media.write_image("grey.png", np.full((4, 6), 100, np.uint8))
    >>> image = cc.media.read_image("grey.png")
    >>> image.size, image.mode
    ((6, 4), 'RGB')
    """
    return _read(path, _to_rgb)


def read_mask(path: str | Path) -> Bool[np.ndarray, "height width"]:
    """Return where a picture is not black, upright; see `as_mask`. Raises MediaError as `read_image` does."""
    return _read(path, as_mask)


def as_mask(image: Image.Image) -> Bool[np.ndarray, "height width"]:
    """Return where a picture is not black; of one that is transparent in parts, where it is not transparent.

    Values of deep pictures are not scaled: in a mask, 1 of 65,535 is as much as any other.
    """
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < alpha.max():
            return alpha > 0
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image) > 0
    return np.asarray(np.asarray(image.convert("RGB")).any(axis=-1))


def _read(path: str | Path, of: Callable[[Image.Image], _T]) -> _T:
    """Return what a function makes of an upright picture that is open."""
    path = Path(path)
    if not is_file(path):
        raise MediaError(f"`{path}` {absent(path)}; expected a picture file, check the path")
    try:
        with Image.open(path) as image:
            check_picture(path, *image.size)
            return of(ImageOps.exif_transpose(image))
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"`{path}`: {first_line(error)}; expected a smaller picture") from error
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error
        todo = "expected a whole file of a format that Pillow knows, convert or fetch it again"
        raise MediaError(f"`{path}` cannot be read as a picture ({first_line(error)}); {todo}") from error


def as_image(picture: Image.Image | np.ndarray | str | Path) -> Image.Image:
    """Return a picture as a PIL image: read where a path is given, see `read_image` and `write_image`."""
    if isinstance(picture, (str, Path)):
        return read_image(picture)
    return picture if isinstance(picture, Image.Image) else _from_array(picture)


def write_image(path: str | Path, picture: Image.Image | np.ndarray) -> None:
    """Write a picture, complete or not at all: a file that was there stays until the new one is whole.

    path: its suffix decides the format.
    picture: a PIL image, or uint8 `(height, width)`, `(height, width, 3)` or `(height, width, 4)`;
        transparency is laid on white where the format has none.

    Raises MediaError for another
    suffix or shape, or where the file cannot be written.

    Example:
    >>> cc.media.write_image("red.png", np.array([[[255, 0, 0]]], np.uint8))
    >>> cc.media.read_image("red.png").getpixel((0, 0))
    (255, 0, 0)
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise MediaError(f"`{path}`: cannot write `{suffix}` pictures; expected one of {', '.join(WRITABLE)}")
    image = as_image(picture)
    if suffix in _OPAQUE:
        image = _to_rgb(image)
    replace_file(path, image.save)


def find_images(args: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the files that `args` name, in order and each once.

    args: one argument or several, each a file, a folder (its pictures, sorted, not those of its folders) or a
        glob pattern (quoted ones too; pictures only).

    Raises MediaError for an argument that names nothing.

    Example:
    >>> for name in ("b.png", "a.png"):
    ...     cc.media.write_image(f"pets/{name}", np.zeros((4, 4), np.uint8))
    >>> [path.name for path in cc.media.find_images("pets")]
    ['a.png', 'b.png']
    """
    several = [args] if isinstance(args, (str, Path)) else args
    return list(dict.fromkeys(path for arg in several for path in _expand(expanded(arg))))


def _expand(arg: Path) -> list[Path]:
    if is_file(arg):
        return [arg]
    candidates = contents(arg) if is_folder(arg) else matches(arg)
    if paths := sorted(path for path in candidates if _is_picture(path)):
        return paths
    if is_folder(arg):
        raise MediaError(f"no pictures in `{arg}`; expected files such as {', '.join(WRITABLE)}")
    raise nothing_named(arg, "a picture, a folder of pictures or a pattern such as `*.jpg`")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and is_file(path)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _to_8_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    paper = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(paper, layer).convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit or float grey so that full scale becomes 255."""
    stored = np.asarray(image)
    grey = np.empty(stored.shape, np.uint8)
    # A few rows at a time, since the whole picture in double precision would take gigabytes.
    step = max(1, _PART // image.width)
    parts = [slice(start, start + step) for start in range(0, image.height, step)]
    peak = max(float(_finite(stored[rows]).max()) for rows in parts)
    for rows in parts:
        grey[rows] = np.round(_finite(stored[rows]) * (255 / _full_scale(image.mode, peak)))
    return Image.fromarray(grey)


def _finite(values: np.ndarray) -> np.ndarray:
    """Return values in double precision, with zero for what is negative or no number."""
    return np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0).clip(0)


def _full_scale(mode: str, peak: float) -> float:
    """Return the value of white: the smallest scale usual for the mode that holds `peak`, or `peak`."""
    usual = (1.0, 255.0, 65535.0) if mode == "F" else (65535.0,)
    return next((scale for scale in usual if peak <= scale), peak)


def _from_array(array: np.ndarray) -> Image.Image:
    drawable = isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.size > 0
    if not drawable or array.ndim < 2 or array.shape[2:] not in ((), (3,), (4,)):
        shaped = hasattr(array, "shape")
        what = f"an array of {array.dtype} {tuple(array.shape)}" if shaped else f"a {type(array).__name__}"
        raise MediaError(f"{what} is not a picture; expected uint8 {_SHAPES}, or a PIL image")
    return Image.fromarray(array)
