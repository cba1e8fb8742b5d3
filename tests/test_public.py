"""What is public is listed, what is listed is reachable, and no name stands for two things."""

import importlib.util
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules, walk_packages
from types import ModuleType
from typing import Any

import pytest

import chronocam as cc

ROOT = Path(cc.__file__).parent


def public_modules(module: ModuleType = cc) -> Iterator[ModuleType]:
    yield module
    for name in getattr(module, "__all__", ()):
        if isinstance(inner := getattr(module, name), ModuleType):
            yield from public_modules(inner)


def ours(thing: Any) -> bool:
    """Say whether a value was defined in chronocam: not what a module imports to work with, or a module."""
    return not isinstance(thing, ModuleType) and str(getattr(thing, "__module__", "")).startswith("chronocam")


PUBLIC = pytest.mark.parametrize("module", [pytest.param(m, id=m.__name__) for m in public_modules()])


@PUBLIC
def test_what_is_listed_is_what_is_reachable(module: ModuleType) -> None:
    listed = getattr(module, "__all__", [])
    assert len(listed) == len(set(listed))
    assert all(getattr(module, name) is not None for name in listed)
    assert set(listed) <= set(dir(module)), "dir() leaves out names that are imported later"
    package = hasattr(module, "__path__")  # its names are for others; a plain module's helpers are its own
    reachable = {name for name, thing in vars(module).items() if not name.startswith("_") and ours(thing)}
    if package:
        assert reachable <= set(listed), f"reachable and not listed: {sorted(reachable - set(listed))}"


@PUBLIC
def test_a_misspelt_name_is_refused(module: ModuleType) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'GradCan'"):
        module.GradCan  # noqa: B018


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GradCam", "GradCAM"),
        ("gradcam", "GradCAM"),
        ("explian", "explain"),
        ("GradCAMpp", "GradCAMPlusPlus"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'; did you mean `{meant}`"):
        getattr(cc, name)


def test_names_that_once_leaked_are_private() -> None:
    for name in ("METHODS", "Method", "CAMMethod", "method_named", "view", "stages", "scoring"):
        assert not hasattr(cc, name), name


@pytest.mark.parametrize(
    ("package", "base"), [("methods", "Method"), ("sequence", "SequenceMethod")], ids=["maps", "relevance"]
)
def test_every_method_of_a_folder_is_imported_by_name(package: str, base: str) -> None:
    module = import_module(f"chronocam.{package}")
    listed = {thing for thing in map(module.__dict__.get, module.__all__) if isinstance(thing, type)}
    for inner in iter_modules(module.__path__):
        if inner.ispkg:  # the frameworks' own rooms
            continue
        name = f"{module.__name__}.{inner.name}"
        here = [
            thing for thing in vars(import_module(name)).values() if getattr(thing, "__module__", "") == name
        ]
        methods = [cls for cls in here if isinstance(cls, type) and issubclass(cls, getattr(module, base))]
        named = [cls for cls in methods if "name" in vars(cls)]
        assert set(named) <= listed, f"{module.__name__} does not import what {inner.name}.py defines"
        if package == "methods":
            assert all(getattr(cc, cls.__name__) is cls for cls in named)
            assert {cls.__name__ for cls in named} <= set(cc.__all__)
    assert set(module.METHODS.values()) <= listed


def test_methods_are_listed_and_not_written_to() -> None:
    for methods in (cc.methods.METHODS, cc.sequence.METHODS):
        with pytest.raises(TypeError):
            methods["mine"] = cc.GradCAM  # type: ignore[index]


def test_a_method_is_registered_by_being_defined_and_taken_out_by_its_name() -> None:
    class Mine(cc.GradCAM):
        name = "mine"

    assert cc.methods.METHODS["mine"] is Mine
    assert cc.methods.unregister("mine") is Mine
    assert "mine" not in cc.methods.METHODS
    with pytest.raises(cc.errors.InputError, match="no method `mine`"):
        cc.methods.unregister("mine")


def packages() -> list[str]:
    return ["chronocam", *(m.name for m in walk_packages([str(ROOT)], "chronocam.") if m.ispkg)]


@pytest.mark.parametrize("name", packages())
def test_no_module_hides_behind_a_name(name: str) -> None:
    """`import chronocam.x.y as m` gives the module y, and never a function or class of the same name."""
    package = import_module(name)
    listed = {listed: getattr(package, listed) for listed in getattr(package, "__all__", ())}
    for module in iter_modules(package.__path__):
        thing = {**vars(package), **listed}.get(module.name)
        assert thing is None or isinstance(thing, ModuleType), f"{name}.{module.name} is {thing}"


@PUBLIC
def test_no_public_name_is_the_path_of_another_module(module: ModuleType) -> None:
    if hasattr(module, "__path__"):
        for name in getattr(module, "__all__", ()):
            if not isinstance(getattr(module, name), ModuleType):
                assert importlib.util.find_spec(f"{module.__name__}.{name}") is None


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from chronocam import _lazy

    def fails(name: str) -> ModuleType:
        raise ImportError(f"No module named {name!r}\nand more")

    monkeypatch.setattr(_lazy, "import_module", fails)
    get, names = _lazy.lazily(
        "chronocam", modules={"worlds": "chronocam.lab.worlds"}, extras={"worlds": "train"}
    )
    line = r"worlds: No module named 'chronocam.lab.worlds'; pip install 'chronocam\[train\]'$"
    with pytest.raises(ImportError, match=line):
        get("worlds")
    assert "worlds" in names()


def test_a_network_without_its_framework_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cc.models, "CNNLSTM", raising=False)
    monkeypatch.setitem(sys.modules, "chronocam.models.cnn_lstm", None)  # as if what it imports were missing
    with pytest.raises(ImportError, match=r"^CNNLSTM: .*; pip install 'chronocam\[torch\]'$"):
        cc.models.CNNLSTM  # noqa: B018


def test_options_by_position_are_refused_with_their_names() -> None:
    line = r"^GradCAM takes the model and conv_layer by position, and 5 arguments were given; .*batch_size="
    with pytest.raises(TypeError, match=line):
        cc.GradCAM(object(), -1, 16, None, -3)
