"""Pictures and clips as inputs: made into arrays by the model's own preprocessing, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from PIL import Image

from chronocam.errors import ChronocamError, InputError, first_line
from chronocam.maps.arrays import namespace
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.clips.read import VIDEO_SUFFIXES, Clip, read_clip
from chronocam.media.files import is_file, is_folder, is_pattern
from chronocam.media.images import IMAGE_SUFFIXES, read_image
from chronocam.media.preprocess import Preprocess
from chronocam.types import Array

if TYPE_CHECKING:
    from collections.abc import Callable

Medium: TypeAlias = Image.Image | Clip | str | Path
"""One picture or clip, or where it is."""

MEDIA: Final = (Image.Image, Clip, str, Path)


def media_in(inputs: Any) -> list[Medium] | None:
    """Return the pictures and clips that inputs are, one per sample; None for anything else.

    Raises InputError for a tuple of them, which is several inputs everywhere else, and for a list that holds
    other things too.
    """
    if isinstance(inputs, MEDIA):
        return [inputs]
    if not isinstance(inputs, (list, tuple)) or not inputs:
        return None
    every = all(isinstance(one, MEDIA) for one in inputs)
    if every and isinstance(inputs, list):
        return list(inputs)
    # A text beside arrays is an option of the model and no path.
    if not every and not any(isinstance(one, (Image.Image, Clip, Path)) for one in inputs):
        return None
    kinds = ", ".join(dict.fromkeys(type(one).__name__ for one in inputs))
    raise InputError(
        f"inputs are a {type(inputs).__name__} of {kinds}; expected a list of pictures or clips, one per "
        "sample, or arrays: a model of several inputs gets a tuple of what loaded.preprocess makes of each"
    )


def prepared(media: Sequence[Medium], preprocess: Callable[[Any], Array] | None) -> Array:
    """Return the model's input `(batch, …)` of pictures and clips, as of `each_prepared`.

    Raises InputError where the inputs are of several sizes.
    """
    arrays = each_prepared(media, preprocess)
    shapes = list(dict.fromkeys(tuple(array.shape) for array in arrays))
    if len(shapes) > 1:
        raise InputError(
            f"preprocess= gives inputs of several shapes, {shapes[0]} and {shapes[1]}; explain each alone"
        )
    return namespace(arrays[0]).stack(arrays)


def each_prepared(media: Sequence[Medium], preprocess: Callable[[Any], Array] | None) -> list[Array]:
    """Return the model's input of each picture or clip, without a batch axis.

    preprocess: makes it of one of them; an image gets there as a PIL image, a video as a `Clip`.
    Raises InputError where none is known or where it fails.
    """
    return [_prepared(one, preprocess) for one in media]


def _prepared(medium: Medium, preprocess: Callable[[Any], Array] | None) -> Array:
    if preprocess is None and isinstance(medium, (str, Path)) and Path(medium).suffix.lower() == ".npy":
        raise InputError(f"{_what(medium)} is not yet the model's input: give the array, np.load(path)[None]")
    if preprocess is None:
        kind, how = ("clip", ", such as a cc.media.ClipPreprocess") if _is_clip(medium) else ("picture", "")
        raise InputError(
            f"{_what(medium)} is not yet the model's input: give preprocess={how}, or a model with its own, "
            f"as cc.GradCAM(cc.models.load(SPEC)), or the array loaded.preprocess({kind})[None]"
        )
    if not callable(preprocess):
        raise InputError(
            f"preprocess= is a {type(preprocess).__name__}; expected a function of a picture or a clip that "
            "returns an array without a batch axis, such as cc.media.Preprocess(…); a dict is for "
            "cc.models.load"
        )
    opened = opened_for(medium, preprocess)
    try:
        array = preprocess(opened)
    except ChronocamError:
        raise
    except Exception as error:  # the user's own function
        raise InputError(
            f"preprocess= fails on {_what(medium)} ({type(error).__name__}: {first_line(error)}); expected a "
            f"function of {_what(opened)} that returns an array without a batch axis"
        ) from error
    if not hasattr(array, "shape"):
        raise InputError(
            f"preprocess= made {type(array).__name__} of {_what(medium)}; expected an array, no batch axis"
        )
    return array


def opened_for(medium: Medium, preprocess: Any) -> Image.Image | Clip:
    """Return a picture or a clip, read from its file where a path is given, as the preprocessing takes it.

    Raises InputError for a clip where pictures are taken, and the other way; MediaError as the readers do.
    """
    of_clips, of_pictures = isinstance(preprocess, ClipPreprocess), isinstance(preprocess, Preprocess)
    if of_pictures and _is_clip(medium):
        raise InputError(
            f"the model takes pictures, not clips such as {_what(medium)}; give a frame of it, "
            "cc.media.read_clip(path).pixels[i], or take a model of clips"
        )
    if isinstance(medium, (str, Path)):
        if isinstance(preprocess, ClipPreprocess):
            return preprocess.read(medium)
        path = Path(medium)
        if (of_pictures and is_folder(path)) or (is_pattern(path) and not is_file(path)):
            todo = "give a list of their paths, as cc.media.find_images(path) returns it"
            raise InputError(f"`{path}` names several pictures; {todo}")
        still = of_pictures or path.suffix.lower() in IMAGE_SUFFIXES or not (is_file(path) or is_folder(path))
        return read_image(path) if still else read_clip(path)
    if of_clips and not isinstance(medium, Clip):
        raise InputError(
            "the model takes clips and the input is a picture; give a Clip or the path of a video"
        )
    return medium


def pictures_in(array: Array, preprocess: Any) -> list[Medium] | None:
    """Return the pictures of an 8-bit array with the channels last, where preprocessing makes inputs of them.

    Such an array is what a picture is read as, and never what `Preprocess` returns: that is floating-point.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or not isinstance(preprocess, Preprocess):
        return None
    if array.ndim not in (3, 4) or array.shape[-1] != 3:
        return None
    return [Image.fromarray(np.ascontiguousarray(one)) for one in (array if array.ndim == 4 else array[None])]


def _is_clip(medium: Medium) -> bool:
    """Say whether a medium is a clip, or a path that is one by its suffix and no picture."""
    if isinstance(medium, (str, Path)):
        return Path(medium).suffix.lower() in VIDEO_SUFFIXES - IMAGE_SUFFIXES
    return isinstance(medium, Clip)


def _what(medium: Medium) -> str:
    if isinstance(medium, (str, Path)):
        return f"the path `{medium}` (a {type(medium).__name__})"
    return "a Clip" if isinstance(medium, Clip) else "a PIL image"
