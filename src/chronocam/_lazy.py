"""Names of a package that are imported when one is first asked for (PEP 562)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from chronocam.errors import first_line, suggest


def lazily(
    package: str,
    homes: Mapping[str, Iterable[str]] | None = None,
    modules: Mapping[str, str] | None = None,
    extras: Mapping[str, str] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of `package`.

    homes: by module, such as `.nets` of the package itself, the names that it defines.
    modules: by name, the module that is itself what the name stands for.
    extras: by name, the extra of chronocam that brings what it needs.

    Packages call this where type checkers do not look, in the `else` of `if TYPE_CHECKING`, and import the
    same names where only they do: through a `__getattr__` that they saw, every misspelt name would pass.
    """
    home = {
        name: package + module if module.startswith(".") else module
        for module, names in (homes or {}).items()
        for name in names
    }
    modules, extras = modules or {}, extras or {}

    def get(name: str) -> Any:
        if name in home:
            value: Any = getattr(_imported(name, home[name], extras.get(name)), name)
        elif name in modules:
            value = _imported(name, modules[name], extras.get(name))
        else:
            # Python itself asks for names such as `__path__`: those are not misspelt.
            spelled = re.sub("pp$", "PlusPlus", name, flags=re.IGNORECASE)  # as others call Grad-CAM++
            meant = "" if name.startswith("_") else suggest(spelled, names(), 1)
            raise AttributeError(f"module {package!r} has no attribute {name!r}{meant}")
        setattr(sys.modules[package], name, value)  # found there from now on, without this function
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home, *modules})

    return get, names


def _imported(name: str, module: str, extra: str | None) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        if extra is None:
            raise
        raise ImportError(f"{name}: {first_line(error)}; pip install 'chronocam[{extra}]'") from error
