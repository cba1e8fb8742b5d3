"""Methods: pure functions from captures to maps, one file each; every file here is found and registered."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from chronocam.methods._base import METHODS, CAMMethod, GradientMethod, Method, method_named

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

globals().update({cls.__name__: cls for cls in METHODS.values()})

__all__ = ["METHODS", "CAMMethod", "GradientMethod", "Method", "method_named"]
__all__ += sorted(cls.__name__ for cls in METHODS.values())

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[Method]: ...
