"""How inputs are prepared for a network that comes without a word about it: as it takes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np

from chronocam.media.clips.preprocess import AXES, ClipPreprocess
from chronocam.media.preprocess import Preprocess, imagenet
from chronocam.models.specs import ModelRequest

Shape: TypeAlias = tuple[int, ...]
"""For one sample, without a batch axis."""

DECLARED: Final = "(model, Preprocess, labels), of clips (model, ClipPreprocess, labels),"
"""What a factory returns of a network that wants its inputs otherwise."""

FROM_0_TO_1: Final = (
    "pictures are scaled to 0…1, which is assumed (a guess): nothing says what the model was trained with; "
    'for another range give preprocess={"range": (-1, 1)} (--range=-1..1), or say it in a chronocam.json '
    "beside the file, or in a python: factory that returns (model, Preprocess, labels)"
)
_SCALES: Final = ("Rescaling", "Normalization")
_SIDES: Final = (224, 32, 64, 96, 112, 128, 192, 256, 299)
_LENGTHS: Final = ((16, 8, 32), (112, 224, 64))
"""Frames and sides of clips."""


def recipe_of(model: object, request: ModelRequest) -> Preprocess | ClipPreprocess:
    """Return how pictures or clips are prepared for a bare model, by what it takes without an error.

    Raises ModelError for a network of 3D convolutions that takes no clip.
    """
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    if keras is not None and isinstance(model, keras.Model):
        return _of_keras(model) or imagenet()
    if torch is None or not isinstance(model, torch.nn.Module):
        return imagenet()
    stem = next((p for p in model.parameters() if p.ndim >= 4), None)
    channels = 3 if stem is None else int(stem.shape[1])
    if channels not in (1, 3):
        return imagenet()
    with _trials(model) as takes:
        if stem is None or stem.ndim == 4:
            known = picture_recipe(takes, channels) or _clips(takes, ("time channel",), channels)
            return known or imagenet(channels=channels)
        clips = _clips(takes, AXES, channels)
    if clips is None and request.sized:
        side = _LENGTHS[1][0]
        return ClipPreprocess(imagenet(side, side, channels), _LENGTHS[0][0], AXES[0])
    if clips is None:
        todo = f"say --size, --frames and --axes, or return {DECLARED} from the factory"
        raise request.error("fails on clips of the usual sizes", todo)
    return clips


def picture_recipe(takes: Callable[[Shape], bool], channels: int = 3) -> Preprocess | None:
    """Return the recipe for the first of the usual sizes of square pictures that a model takes.

    takes: whether it takes an input of this shape. None where it takes none.
    """
    sides = (side for side in _SIDES if takes((channels, side, side)))
    return next((imagenet(side, side, channels) for side in sides), None)


def clip_recipe(model: object) -> ClipPreprocess | None:
    """Return how clips are prepared for a bare module that takes clips frames first, else None."""
    with _trials(model) as takes:
        return _clips(takes, ("time channel",))


def _clips(takes: Callable[[Shape], bool], orders: Sequence[str], channels: int = 3) -> ClipPreprocess | None:
    for frames, side, axes in product(*_LENGTHS, orders):
        clip = (channels, frames) if axes == "channel time" else (frames, channels)
        if takes((*clip, side, side)):
            return ClipPreprocess(imagenet(side, side, channels), frames, axes)
    return None


@contextmanager
def _trials(model: Any) -> Iterator[Callable[[Shape], bool]]:
    """Give what says whether a module runs on zeros of a shape; the module is left as it was found."""
    import torch

    like = next(model.parameters(), torch.zeros(()))
    modes = [(module, module.training) for module in model.modules()]

    def takes(shape: Shape) -> bool:
        try:
            with torch.no_grad():
                model(torch.zeros((1, *shape), dtype=like.dtype, device=like.device))
        except Exception:
            return False
        return True

    try:
        model.eval()
        yield takes
    finally:
        for module, training in modes:
            module.training = training


def _of_keras(model: Any) -> Preprocess | None:
    """Return how pictures are prepared for a bare Keras model: of the size that it says, or else runs on."""
    shape = getattr(model, "input_shape", None) or (None, None, None, 3)  # classes of one's own say none
    if not isinstance(shape, tuple) or len(shape) != 4:
        return None
    if None in shape[1:]:
        free = [tuple(side if n is None else n for n in shape[1:]) for side in _SIDES]
        shape = next(((1, *one) for one in free if _runs(model, (1, *one))), (1, *free[0]))
    return usual_recipe(model, shape, classes_in(model))


def usual_recipe(model: Any, shape: Sequence[int | None], classes: Collection[str]) -> Preprocess | None:
    """Return the usual recipe for pictures: values up to 1, or to 255 where the model rescales them.

    shape: of its inputs. classes: the names of those of its layers.
    None for other than 1 or 3 channels.
    """
    formats = [layer.data_format for layer in model.layers if getattr(layer, "data_format", None)]
    first = formats[:1] == ["channels_first"]
    channels, *sides = (shape[1], *shape[2:]) if first else (shape[3], *shape[1:3])
    if channels not in (1, 3):
        return None
    rescales = not set(_SCALES).isdisjoint(classes) or _normalises_pixels(model)
    height, width = (224 if side is None else side for side in sides)
    return Preprocess(
        resize=(height, width),
        crop=None,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        scale=1.0 if rescales else 1 / 255,
        channels="first" if first else "last",
        assumption=None if rescales else FROM_0_TO_1,
    )


def _normalises_pixels(model: Any) -> bool:
    """Say whether a batch normalisation comes first that has seen values as large as those of pixels."""
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    if not layers or type(layers[0]).__name__ != "BatchNormalization":
        return False
    return float(np.abs(layers[0].get_weights()[-2]).max()) > 2  # the mean, before the variance


def _runs(model: Any, shape: tuple[int, ...]) -> bool:
    """Say whether a Keras model makes one row of zeros of this shape, `(1, …)`."""
    try:
        output = model(np.zeros(shape, np.float32), training=False)
    except Exception:
        return False
    return getattr(output, "shape", shape)[0] == 1


def classes_in(model: Any) -> set[str]:
    """Return the names of the classes of a Keras model and of all layers in it."""
    return {type(model).__name__}.union(*map(classes_in, getattr(model, "layers", ())))
