"""`python:package.module:factory`: a model that the user's own code makes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, Final

from chronocam.errors import first_line
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess
from chronocam.models.recipes import DECLARED, recipe_of
from chronocam.models.specs import Loaded, ModelRequest, ModelSource, Parts

_CLASSES: Final = ("num_classes", "classes", "n_classes", "num_labels")
"""What factories call the number of classes."""


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
        return value, recipe_of(value, request), None
    if len(value) != 3 or not isinstance(value[1], (Preprocess, ClipPreprocess, NoneType)):
        raise request.error(
            f"returned a tuple of {', '.join(type(part).__name__ for part in value)}",
            f"expected a model, {DECLARED} or chronocam.models.Loaded",
        )
    model, preprocess, labels = value
    return model, preprocess, None if labels is None else tuple(labels)


def function_named(text: str) -> Callable[..., Any]:
    """Return the function of `package.module:function`, of the user's own code."""
    module, _, name = text.rpartition(":")
    with _current_folder_importable():
        return _factory(module, name, ModelRequest(text, (module, name)))


def _factory(module: str, name: str, request: ModelRequest) -> Callable[..., Any]:
    try:
        code = import_module(module)
    except (Exception, SystemExit) as error:  # not there, or it fails while it is imported
        problem = f"cannot import `{module}` ({type(error).__name__}: {first_line(error)})"
        raise request.error(problem, f"expected a module that is installed or in {Path.cwd()}") from error
    factory = getattr(code, name, None)
    if not callable(factory):
        what = f"function in `{module}` ({getattr(code, '__file__', 'built in')}) named"
        raise request.unknown(what, name, dir(code), "expected one that is there")
    return factory


def _call(factory: Callable[..., object], request: ModelRequest) -> object:
    try:
        return factory(**_counted(factory, request))
    except (Exception, SystemExit) as error:
        problem = f"the factory failed ({type(error).__name__}: {first_line(error)})"
        raise request.error(problem, "expected it to return a model when called without arguments") from error


def _counted(factory: Callable[..., object], request: ModelRequest) -> dict[str, int]:
    """Return the number of classes as the argument that a factory has for it, where one is wanted."""
    try:
        known = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # built in
        return {}
    name = next((name for name in _CLASSES if name in known), None)
    return {name: request.classes} if name is not None and request.classes is not None else {}


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
