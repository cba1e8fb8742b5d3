"""`load("torchvision:resnet50")`: a model, how it wants its pictures, and what its outputs are called.

Where models come from is one file each in `sources/`, found by being there; an installed package adds another
by registering a `ModelSource` as an entry point of the group `chronocam.sources`.
"""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

from chronocam._repr import ShortRepr
from chronocam.errors import MediaError, ModelError, first_line, suggest
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.files import contents, expanded, is_file, is_folder
from chronocam.media.preprocess import Preprocess
from chronocam.models.kinds import FILES, TORCH, fault_of

PATH: Final = r"(?!\w\w+:).+"
"""Matches a path and not `prefix:…`; a drive is one letter."""

SOURCES: Final = "chronocam.sources"
"""The entry points under which packages register a `ModelSource`."""

_KNOWN: Final = {
    ".pb": "a frozen graph of TensorFlow 1",
    ".mlmodel": "a Core ML model",
    ".mlpackage": "a Core ML model",
    ".engine": "a TensorRT engine",
    ".plan": "a TensorRT engine",
    ".caffemodel": "a Caffe model",
    ".params": "an MXNet or Paddle model",
    ".pdmodel": "a Paddle model",
    ".weights": "a Darknet model",
    ".xml": "an OpenVINO model",
    ".joblib": "a pickled object, which is code",
    ".mar": "an archive for TorchServe",
    ".npz": "an archive of arrays, without a network",
    ".npy": "an array, without a network",
    ".msgpack": "weights of Flax, without a network",
    ".yaml": "settings, without a network",
    ".yml": "settings, without a network",
    ".gguf": "a language model of GGML",
}
"""What files are that no source reads."""

Model: TypeAlias = Any
"""A network of PyTorch or Keras, neither of which is imported for its type."""

Parts: TypeAlias = tuple[Model, Preprocess | ClipPreprocess | None, tuple[str, ...] | None]
"""What a source gives: model, preprocessing, labels."""


@dataclass(frozen=True)
class Loaded(ShortRepr):
    """A model in eval mode, its preprocessing, its labels where it has any, and the spec that named it.

    preprocess: `ClipPreprocess` where the model takes clips, None where it takes features `(time, feature)`.

    Example:
        >>> loaded = cc.models.Loaded(model, None, ("cat", "dog", "bird"))
        >>> loaded.labels[1]
        'dog'
    """

    model: Model
    preprocess: Preprocess | ClipPreprocess | None
    labels: tuple[str, ...] | None
    spec: str = ""


@dataclass(frozen=True)
class ModelRequest:
    """A spec as its source sees it.

    text: the whole spec.
    names: the groups of the source's pattern.
    trust: whether files may run code.
    classes: how many outputs an architecture shall have; None for its own number.
    custom_objects: classes of layers and functions of Lambda layers, by the name in the file.
    sized: whether the caller says of what size inputs are.
    """

    text: str
    names: tuple[str, ...]
    trust: bool = False
    classes: int | None = None
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    sized: bool = False

    def error(self, problem: str, todo: str) -> ModelError:
        """Return the one line that says what is wrong with this spec, and what to do."""
        return ModelError(f"`{self.text}`: {problem}; {todo}")

    def unknown(self, what: str, name: str, known: list[str], where: str) -> ModelError:
        """Return the error for a name that is not among the known ones: the closest, or where to look."""
        return self.error(f"no {what} `{name}`", suggest(name, known).removeprefix("; ") or where)

    def file(self) -> Path:
        """Return the path that the spec begins with.

        Raises ModelError where there is no such file, and where it is not a model, or one of another kind.
        """
        path = expanded(self.names[0])
        if not is_file(path):
            raise self.error(f"there is no file `{path}`", "check the path")
        if fault := fault_of(path):
            raise self.error(*fault)
        return path

    def insist_on_trust(self, why: str, instead: str) -> None:
        """Raise ModelError unless the caller trusts the file."""
        if not self.trust:
            raise self.untrusted(why, instead)

    def untrusted(self, why: str, instead: str) -> ModelError:
        """Return the error for a file that has to be trusted: why, and what would do without."""
        return self.error(why, f"{instead}, or pass trust=True (--trust) if you know who made the file")


@dataclass(frozen=True)
class ModelSource:
    """One place where models come from.

    form: how messages show it.
    pattern: what its specs match in full; its groups become `ModelRequest.names`.
    load: gives the model with its weights.
    build: gives the architecture alone, where that makes sense.
    names: what may stand for NAME in the form, where that is a short list.
    about: what it is, in a few words.
    catalogue: what may stand for NAME where that is a long list; it may import the library.
    """

    form: str
    pattern: str
    load: Callable[[ModelRequest], Parts]
    build: Callable[[ModelRequest], Parts] | None = None
    names: Callable[[], Iterable[str]] | None = None
    about: str = ""
    catalogue: Callable[[], Iterable[str]] | None = None

    def listed(self) -> str:
        """Return the form, with the names that may stand in it."""
        return self.form.replace("NAME", "|".join(self.names())) if self.names else self.form

    def specs(self) -> list[str]:
        """Return every spec that can be listed; none where the library is not there to ask."""
        names = self.names or self.catalogue
        try:
            return [self.form.replace("NAME", name) for name in names()] if names else []
        except Exception:  # the library may be missing, or fail in any way while it is imported
            return []


def resolve(spec: str) -> tuple[ModelSource, ModelRequest]:
    """Return the source that `spec` belongs to, and the request to put to it."""
    for source in _own_sources():
        if match := re.fullmatch(source.pattern, spec, re.IGNORECASE):
            return source, ModelRequest(spec, match.groups())
    # Sources of other packages are loaded only now: a broken one cannot spoil a spec that works without it.
    others, problems = _other_sources()
    for source in others:
        if match := re.fullmatch(source.pattern, spec, re.IGNORECASE):
            return source, ModelRequest(spec, match.groups())
    if code := re.fullmatch(r"(?:\./)?([\w/]+)\.py(?::(\w+))?", spec):
        module, name = code[1].replace("/", "."), code[2] or "FACTORY"
        raise ModelError(
            f"`{spec}` is code; name the function in it that returns a model: python:{module}:{name}"
        )
    if module := re.fullmatch(r"python:([\w.]+):?", spec):
        todo = f"name the function in it that returns a model: python:{module[1]}:FACTORY"
        raise ModelError(f"`{spec}` names a module; {todo}")
    if reason := _KNOWN.get(Path(spec).suffix.lower()):
        todo = "export it to ONNX, or give a python:package.module:factory, which may return cc.blackbox(f)"
        raise ModelError(f"`{spec}` is {reason}, which chronocam does not read; {todo}")
    name, at, _ = spec.partition("@")
    if name and is_file(path := expanded(name)):
        kind = "the file is of an unknown kind", f"expected one of {', '.join(FILES)}"
        whole = "the file is a whole network, which needs no architecture", f"give it as {name}"
        problem, todo = fault_of(path) or (whole if at and path.suffix.lower() in FILES else kind)
        raise ModelError(f"`{spec}`: {problem}; {todo}")
    forms = ", ".join(source.listed() for source in (*_own_sources(), *others))
    hints = "".join(f"; {problem}" for problem in problems)
    meant = _nearest(spec)
    expected = f"{' Expected' if meant else '; expected'} one of: {forms}"
    raise ModelError(f"unknown model spec `{spec}`{meant}{expected}{hints}")


def within(spec: str) -> str:
    """Return the spec of what is in a folder: SavedModel, network of Hugging Face, weights; others as is."""
    name, at, architecture = spec.partition("@")
    if not is_folder(name):
        return spec
    folder = Path(name)
    weights = _weights_within(folder)
    if at and weights is not None:
        return f"{weights}@{architecture}"
    if is_file(folder / "saved_model.pb"):
        return f"{spec.rstrip('/')}/saved_model.pb"
    if is_file(folder / "config.json"):
        return f"timm:local-dir:{spec}" if _is_of_timm(folder / "config.json") else f"hf:{spec}"
    if weights is not None:
        return str(weights)
    todo = "expected saved_model.pb, config.json as Hugging Face writes it, or one file of weights"
    raise ModelError(f"`{spec}` is a folder that holds no model; {todo}")


def _is_of_timm(config: Path) -> bool:
    try:
        names = json.loads(config.read_text(encoding="utf-8")).keys()
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
    return "architecture" in names and "model_type" not in names


def _weights_within(folder: Path) -> Path | None:
    """Return the file of weights in a folder: of a usual name, or the only one there is."""
    names = [
        f"{stem}{end}" for stem in ("model.safetensors", "pytorch_model.bin") for end in (".index.json", "")
    ]
    if usual := next((folder / name for name in names if is_file(folder / name)), None):
        return usual
    try:
        files = [
            path for path in contents(folder) if path.suffix.lower() in (".safetensors", ".index", *TORCH)
        ]
    except MediaError:
        return None
    return files[0] if len(files) == 1 else None


def _nearest(text: str) -> str:
    """Return `; did you mean …?` for a name without its source, or slightly wrong; or an empty string."""
    name = text.rpartition(":")[2].lower()
    if not name or Path(name).suffix:
        return ""
    # Backwards, so that of networks that both have, torchvision's come before timm's; but first what is
    # installed with packages, which needs no library to ask.
    nearest_first = list(reversed(_own_sources()))
    nearest_first.sort(key=lambda source: source.names is None)
    known = []
    for source in nearest_first:
        specs = {spec.rpartition(":")[2].lower(): spec for spec in source.specs()}
        if name in specs:
            return f"; did you mean `{specs[name]}`?"
        known.append(specs)
    for specs in known:
        if close := get_close_matches(name, specs, n=2, cutoff=0.8):
            return f"; did you mean {' or '.join(f'`{specs[one]}`' for one in close)}?"
    return ""


def sources() -> tuple[ModelSource, ...]:
    """Return every source: the `SOURCE` of the modules in `sources/`, then those that packages register."""
    return _own_sources() + _other_sources()[0]


@cache
def _own_sources() -> tuple[ModelSource, ...]:
    from chronocam.models import sources as package

    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(import_module(f"{package.__name__}.{name}").SOURCE for name in names)


def _other_sources() -> tuple[tuple[ModelSource, ...], list[str]]:
    """Return the sources among the entry points of `SOURCES`, and one line for each that fails to load."""
    others: list[ModelSource] = []
    problems: list[str] = []
    for point in entry_points(group=SOURCES):
        try:
            source = point.load()
        except Exception as error:  # another package's code: whatever it raises while it is imported
            problems.append(broken(point, error))
            continue
        if isinstance(source, ModelSource):
            others.append(source)
        else:
            problems.append(
                f"`{point.value}` of {package_of(point)} is a {type(source).__name__}, not a ModelSource"
            )
    return tuple(others), problems


def package_of(point: EntryPoint) -> str:
    """Return the name of the package that registers an entry point."""
    return point.dist.name if point.dist else "an unnamed package"


def broken(point: EntryPoint, error: Exception) -> str:
    """Return one line about an entry point that fails to load: whose it is, why, and what to install."""
    package = package_of(point)
    install = f"{package}[{','.join(point.extras)}]" if point.extras else package
    problem = f"`{point.name}` of {package} cannot be imported ({type(error).__name__}: {first_line(error)})"
    return f"{problem}; pip install '{install}' again, with what it needs"


def need(module: str, extra: str) -> ModuleType:
    """Import a library that an extra brings; raises ModelError with the line that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        install = f"pip install 'chronocam[{extra}]'"
        raise ModelError(f"this spec needs {module} ({first_line(error)}); {install}") from error
