"""Links by public names: `chronocam.methods._base.CAMMethod` is `chronocam.methods.CAMMethod`."""

from functools import cache
from importlib import import_module
from typing import Any

PARTS = (
    "methods targets sequence metrics media models odometry data.digits data.gestures data.drives features "
    "render report layouts callbacks types"
)
MODULES = ("chronocam", *(f"chronocam.{part}" for part in PARTS.split()))


@cache
def public_names() -> dict[str, str]:
    """Return the public name of every class and function by the name of its definition."""
    found: dict[str, str] = {}
    for module in map(import_module, MODULES):
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if hasattr(value, "__qualname__"):
                found.setdefault(f"{value.__module__}.{value.__qualname__}", f"{module.__name__}.{name}")
    return found


def _resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    public = public_names().get(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or public is None:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], public, node, content)


def setup(app: Any) -> dict[str, bool]:
    """Resolve what Sphinx does not find."""
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True}
