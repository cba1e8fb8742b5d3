"""chronocam: where and when a vision model looked.

import chronocam as cc

explanation = cc.GradCAM(model).explain(images)      # Explanation: maps, scores, targets, diagnostics
explanation.save("map.png", images)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chronocam import (
    errors,
    features,
    layouts,
    media,
    methods,
    metrics,
    models,
    odometry,
    render,
    report,
    sequence,
    targets,
)
from chronocam._explain import explain
from chronocam.explanation import Explanation, load
from chronocam.methods import *  # noqa: F403  # every registered method, by its class name

__version__ = "0.1.0"
__all__ = [
    "Explanation",
    "data",  # noqa: F405
    "errors",
    "explain",
    "features",
    "layouts",
    "load",
    "media",
    "methods",
    "metrics",
    "models",
    "odometry",
    "render",
    "report",
    "sequence",
    "targets",
]
__all__ += [cls.__name__ for cls in methods.METHODS.values()]

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[methods.Method]: ...

else:

    def __getattr__(name: str) -> Any:
        if name == "data":  # generated worlds, wanted by few
            return import_module("chronocam.data")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
