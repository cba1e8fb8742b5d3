"""`chronocam:NAME`: networks that installed packages offer, those that come with chronocam among them.

A package offers one as an entry point, in its pyproject.toml:

    [project.entry-points."chronocam.models"]
    my-network = "my_package.networks:my_network"

`my_network()` returns a model, `(model, preprocess, labels)` or a `Loaded`. Where it takes `weights=False`,
and then returns the architecture alone, `PATH.safetensors@chronocam:my-network` can fill it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from chronocam.errors import ChronocamError, ModelError, first_line
from chronocam.models.sources.python import parts_of
from chronocam.models.specs import ModelRequest, ModelSource, Parts, broken, package_of

MODELS: Final = "chronocam.models"
"""The entry points under which packages offer networks."""


def offers() -> dict[str, EntryPoint]:
    """Return the entry point behind each name; no package can take over a name of chronocam's own."""
    points = sorted(entry_points(group=MODELS), key=lambda point: package_of(point) == "chronocam")
    return {point.name: point for point in points}


def _load(request: ModelRequest) -> Parts:
    return _called(_factory(request), request)


def _build(request: ModelRequest) -> Parts:
    factory = _factory(request)
    if "weights" not in inspect.signature(factory).parameters:
        raise request.error("is offered with its weights only", "leave out the file of weights")
    return _called(partial(factory, weights=False), request)


def _factory(request: ModelRequest) -> Callable[..., object]:
    (name,) = request.names
    known = offers()
    if name not in known:
        expected = ", ".join(f"chronocam:{other}" for other in known)
        raise request.unknown("bundled network", name, list(known), f"expected one of {expected}")
    try:
        factory: Callable[..., object] = known[name].load()
    except ChronocamError:
        raise
    except Exception as error:  # another package's code: whatever it raises while it is imported
        raise ModelError(broken(known[name], error)) from error
    return factory


def _called(factory: Callable[[], object], request: ModelRequest) -> Parts:
    try:
        value = factory()
    except ChronocamError:  # one line already: a library that is missing, for example
        raise
    except Exception as error:
        problem = f"fails to build ({type(error).__name__}: {first_line(error)})"
        raise request.error(problem, "the package that offers it has a fault") from error
    return parts_of(value, request)


SOURCE = ModelSource(
    "chronocam:NAME",
    r"chronocam:(.+)",
    _load,
    _build,
    offers,
    about="networks that are installed with packages",
)
