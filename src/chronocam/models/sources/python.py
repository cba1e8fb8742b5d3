"""`python:package.module:factory`: a model that the user's own code makes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np

from chronocam.errors import first_line
from chronocam.media.clips.preprocess import AXES, ClipPreprocess
from chronocam.media.preprocess import Preprocess, imagenet
from chronocam.models.specs import Loaded, ModelRequest, ModelSource, Parts

_SIDES: Final = (224, 32, 64, 96, 112, 128, 192, 256, 299)
_DECLARED: Final = "(model, Preprocess, labels), of clips (model, ClipPreprocess, labels),"


def _load(request: ModelRequest) -> Parts:
    """Call the factory; it returns a model, `(model, preprocess, labels)` or a `Loaded`."""
    module, name = request.names
    with _current_folder_importable():
        return parts_of(_call(_factory(module, name, request), request), request)


def parts_of(value: object, request: ModelRequest) -> Parts:
    """Return what a factory made as model, preprocessing and labels.

    A bare network of clips is given clips as it takes them, any other bare model ImageNet's recipe.
    """
    if isinstance(value, Loaded):
        return value.model, value.preprocess, value.labels
    if not isinstance(value, tuple):
        return value, _recipe(value, request), None
    if len(value) != 3 or not isinstance(value[1], (Preprocess, ClipPreprocess)):
        raise request.error(
            f"returned a tuple of {', '.join(type(part).__name__ for part in value)}",
            f"expected a model, {_DECLARED} or chronocam.models.Loaded",
        )
    model, preprocess, labels = value
    return model, preprocess, None if labels is None else tuple(labels)


def _recipe(model: object, request: ModelRequest) -> Preprocess | ClipPreprocess:
    """Return how pictures or clips are prepared for a bare model, by what it takes without an error.

    Raises ModelError for a network of 3D convolutions that takes no clip.
    """
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    if keras is not None and isinstance(model, keras.Model):
        return _of_keras(model) or imagenet()
    if torch is None or not isinstance(model, torch.nn.Module):
        return imagenet()
    convolutions = (m for m in model.modules() if isinstance(m, torch.nn.modules.conv._ConvNd))
    stem = next(convolutions, None)
    if stem is None or stem.weight.ndim < 4 or stem.in_channels != 3:
        return imagenet()
    solid = stem.weight.ndim == 5
    for side in () if solid else _SIDES:
        if _takes(model, (1, 3, side, side)):
            return imagenet(side, side)
    if not solid:
        return imagenet()
    clips = clip_recipe(model, AXES)
    if clips is None:
        raise request.error("fails on clips of the usual sizes", f"return {_DECLARED} from the factory")
    return clips


def _of_keras(model: Any) -> Preprocess | None:
    """Return how pictures are prepared for a bare Keras model: of the size that it says, or else runs on."""
    from chronocam.models.sources.keras_files import usual_recipe

    shape = getattr(model, "input_shape", None) or (None, None, None, 3)  # classes of one's own say none
    if not isinstance(shape, tuple) or len(shape) != 4:
        return None
    if None in shape[1:]:
        free = [tuple(side if n is None else n for n in shape[1:]) for side in _SIDES]
        shape = next(((1, *one) for one in free if _runs(model, (1, *one))), (1, *free[0]))
    return usual_recipe(model, shape, _classes_in(model))


def _runs(model: Any, shape: tuple[int, ...]) -> bool:
    """Say whether a Keras model makes one row of zeros of this shape, `(1, …)`."""
    try:
        output = model(np.zeros(shape, np.float32), training=False)
    except Exception:
        return False
    return getattr(output, "shape", shape)[0] == 1


def _classes_in(model: Any) -> set[str]:
    return {type(model).__name__}.union(*map(_classes_in, getattr(model, "layers", ())))


def clip_recipe(model: object, orders: Sequence[str] = ("time channel",)) -> ClipPreprocess | None:
    """Return how clips are prepared for a bare module that takes clips in one of these orders, else None."""
    for frames, side, axes in product((16, 8, 32), (112, 224, 64), orders):
        clip = (3, frames) if axes == "channel time" else (frames, 3)
        if _takes(model, (1, *clip, side, side)):
            return ClipPreprocess(imagenet(side, side), frames, axes)
    return None


def _takes(model: Any, shape: tuple[int, ...]) -> bool:
    """Say whether a module runs on zeros of this shape; it is left as it was found."""
    import torch

    like = next(model.parameters())
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            model(torch.zeros(shape, dtype=like.dtype, device=like.device))
    except Exception:
        return False
    finally:
        for module, training in modes:
            module.training = training
    return True


def _factory(module: str, name: str, request: ModelRequest) -> Callable[[], object]:
    try:
        code = import_module(module)
    except (Exception, SystemExit) as error:  # not there, or it fails while it is imported
        problem = f"cannot import `{module}` ({type(error).__name__}: {first_line(error)})"
        raise request.error(problem, f"expected a module that is installed or in {Path.cwd()}") from error
    factory = getattr(code, name, None)
    if not callable(factory):
        what = f"function in `{module}` ({getattr(code, '__file__', 'built in')}) named"
        raise request.unknown(what, name, dir(code), "expected one that returns a model")
    return factory


def _call(factory: Callable[[], object], request: ModelRequest) -> object:
    try:
        return factory()
    except (Exception, SystemExit) as error:
        problem = f"the factory failed ({type(error).__name__}: {first_line(error)})"
        raise request.error(problem, "expected it to return a model when called without arguments") from error


# Last, so that a torch.py or json.py that lies here never stands in for what is installed.
@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    added = [] if folder in sys.path else [folder]
    sys.path.extend(added)
    try:
        yield
    finally:
        if added and folder in sys.path:  # the factory may have changed it
            sys.path.remove(folder)


SOURCE = ModelSource(
    "python:package.module:factory",
    r"python:([\w.]+):(\w+)",
    _load,
    _load,
    about="what your own function returns: a model, or (model, preprocess, labels)",
)
