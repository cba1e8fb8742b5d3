"""`PATH.keras` and `PATH.h5`: networks that Keras saved, on any backend."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from zipfile import BadZipFile, ZipFile, is_zipfile

from chronocam.errors import MediaError, ModelError, first_line, printable
from chronocam.jsonable import LONGEST, Json, parse_json
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess
from chronocam.models.archives import is_plain
from chronocam.models.keras_old import (
    OLD_CLASSES,
    OPERATIONS,
    first_input,
    functions,
    layers_in,
    modern,
)
from chronocam.models.keras_old_weights import of_theano, regroup
from chronocam.models.recipes import classes_in, recipe_of, usual_recipe
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need
from chronocam.models.wants import Recipe

_FRAMES: Final = 16
_OF_THEANO: Final = (
    "kernels are taken to be Theano's, which mirrored them, since the channels come first (a guess): the "
    "file does not say; was it TensorFlow, say so: h5py.File({path!r}, 'r+').attrs['backend'] = 'tensorflow'"
)
_DAMAGED: Final = (OSError, BadZipFile, KeyError, ValueError, RuntimeError, NotImplementedError, zlib.error)
"""What is raised for archives and HDF5 that are damaged, encrypted or packed in ways that are not known."""


def _load(request: ModelRequest) -> Parts:
    path = request.file()
    saving = need("keras.saving", "keras")
    is_plain(path, request)
    config, version = _config(path, request)
    given = dict(request.custom_objects)
    lambdas = list(_lambdas(config))
    if wanting := [name for name in lambdas if name not in given]:
        functions = ", ".join(f'"{name}": …' for name in wanting)
        request.insist_on_trust(
            f"its Lambda layer `{wanting[0]}` can run any code",
            f"give its function by name: custom_objects={{{functions}}}",
        )
    try:
        objects = {**_functions(given), **_named(given)}
        with saving.custom_object_scope(objects), _readable(path, config, version, given) as file:
            model = saving.load_model(file, compile=False, safe_mode=not request.trust)
    except ModelError as error:
        raise request.error(f"of Keras {version} cannot be read: {error}", _by_hand(path)) from error
    except Exception as error:  # a damaged file, a class that is not known here, code that may not run
        raise _refusal(path, config, version, request, error) from error
    recipe = _preprocess(model, classes_in(model), request)
    return model, _mirrored(path, config, version, recipe), None


def _mirrored(path: Path, config: Json, version: str, recipe: Recipe | None) -> Recipe | None:
    """Return a recipe that tells where the kernels are taken to be Theano's without a word about it."""
    if not isinstance(recipe, Preprocess) or not version.startswith("1"):
        return recipe
    with need("h5py", "keras").File(path) as file:
        if "backend" in file.attrs or not of_theano(file, config, version):
            return recipe
    told = _OF_THEANO.format(path=str(path))
    return replace(recipe, assumption=f"{recipe.assumption}; {told}" if recipe.assumption else told)


def _lambdas(config: object) -> Iterator[str]:
    """Yield the name of every Lambda layer, an empty one where it has none."""
    if isinstance(config, dict):
        inner = config.get("config")
        if config.get("class_name") == "Lambda":
            yield str(inner.get("name", "")) if isinstance(inner, dict) else ""
    parts = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    for one in parts:
        yield from _lambdas(one)


def _refusal(path: Path, config: Json, version: str, request: ModelRequest, error: Exception) -> ModelError:
    """Return why a file is not loaded: the class that it needs, or the last line of what Keras says."""
    problem = f"a model of Keras {version} cannot be loaded"
    operations = [one["config"].get("name") for one in layers_in(config) if one["class_name"] in OPERATIONS]
    if wanting := [name for name in operations if name not in request.custom_objects]:
        named = ", ".join(f'"{name}": …' for name in wanting)
        return request.error(
            f"{problem}, since it calls functions of TensorFlow",
            f"give each by name, as a function of its input: custom_objects={{{named}}} in cc.models.load",
        )
    missing = [name for name in _foreign(config) if name not in request.custom_objects]
    if missing:
        named = ", ".join(f'"{name}": {name}' for name in missing)
        kinds = ", ".join(f"`{name}`" for name in missing)
        return request.error(
            f"{problem}, since {kinds} is not a layer of Keras 3",
            f"give its class: custom_objects={{{named}}} in cc.models.load, or use a python: factory",
        )
    return request.error(f"{problem} ({_cause(error)})", _by_hand(path))


def _by_hand(path: Path) -> str:
    return f"build the model in a python: factory and model.load_weights({str(path)!r})"


def _cause(error: Exception) -> str:
    """Return the line that says what is wrong, which Keras puts last, behind the configs of all layers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Exception encountered" in line or line.startswith("Could not")]
    return printable(
        (told or lines or [type(error).__name__])[-1].rpartition("Exception encountered: ")[2], 300
    )


def _foreign(config: Json) -> list[str]:
    """Return the classes of layers that Keras does not have, as the file names them."""
    layers, models = need("keras.layers", "keras"), {"Functional", "Sequential", "Model"}
    names = dict.fromkeys(layer["class_name"] for layer in layers_in(config))
    return [
        name
        for name in names
        if not hasattr(layers, name) and name not in models | OLD_CLASSES | {*OPERATIONS}
    ]


@contextmanager
def _readable(path: Path, config: Json, version: str, given: Mapping[str, Any]) -> Iterator[Path]:
    """Give a file that Keras 3 reads: the file itself, or a copy whose config is said as Keras 3 says it."""
    old = version.partition(".")[0] in ("", "0", "1", "2")
    said = modern(config, version) if old else config
    said = _by_name(said, given)
    suffix = ".keras" if is_zipfile(path) else ".h5"  # Keras 2 wrote the latter under any name
    if said == config and path.suffix == suffix:
        yield path
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder) / f"model{suffix}"
        if suffix == ".keras":
            with ZipFile(path) as before, ZipFile(copy, "w") as after:
                for name in before.namelist():
                    after.writestr(name, json.dumps(said) if name == "config.json" else before.read(name))
        else:
            shutil.copyfile(path, copy)
            with need("h5py", "keras").File(copy, "r+") as file:
                file.attrs["model_config"] = json.dumps(said)
                if old:
                    regroup(file, config, version)
        yield copy


def _by_name(value: Any, given: Mapping[str, Any]) -> Any:
    """Return a config whose Lambda layers with a function of the caller are of a class of their own."""
    if isinstance(value, list):
        return [_by_name(one, given) for one in value]
    if not isinstance(value, dict):
        return value
    config = value.get("config")
    functions = ("Lambda", *OPERATIONS)
    if value.get("class_name") in functions and isinstance(config, dict) and config.get("name") in given:
        own = {"name": config["name"]}
        if value["class_name"] != "Lambda":  # what else it is called with is the function's own affair
            value = {**value, "inbound_nodes": [[[*first_input(value["inbound_nodes"])[:3], {}]]]}
        return {
            **value,
            "module": None,
            "class_name": _own(own["name"]),
            "registered_name": _own(own["name"]),
            "config": own,
        }
    return {key: _by_name(one, given) for key, one in value.items()}


def _own(name: str) -> str:
    return f"Lambda_{name}"


def _functions(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return classes of layers for the functions that the caller gives, and what old files need."""
    kind = need("keras.layers", "keras").Lambda
    plain = {name: one for name, one in given.items() if not isinstance(one, type)}
    made = {
        _own(name): type(_own(name), (kind,), {"from_config": _maker(kind, function)})
        for name, function in plain.items()
    }
    return {**made, **functions()}


def _maker(kind: Any, function: Any) -> Any:
    return classmethod(lambda cls, config, **_: kind(function, name=config["name"]))


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return classes under the names that files have: their own, and with the package that registers them."""
    return {**given, **{f"Custom>{name}": value for name, value in given.items()}}


def _config(path: Path, request: ModelRequest) -> tuple[Json, str]:
    """Return what a file says that the model is made of, and the version of Keras that saved it."""
    try:
        if is_zipfile(path):
            with ZipFile(path) as archive:
                told = _said(archive, "metadata.json") if "metadata.json" in archive.namelist() else {}
                return _said(archive, "config.json"), str(told.get("keras_version", "3"))
        with need("h5py", "keras").File(path) as file:
            version = file.attrs.get(
                "keras_version", file.get("model_weights", file).attrs.get("keras_version", "")
            )
            return _object(_text(file.attrs["model_config"])), _text(version)
    except (*_DAMAGED, MediaError) as error:
        todo = (
            "expected what model.save wrote; weights alone have no layers, so name their architecture: "
            f"{path}@keras:NAME or {path}@python:module:factory"
        )
        raise request.error(f"is not a saved model ({first_line(error)})", todo) from error


def _said(archive: ZipFile, name: str) -> Json:
    """Return what JSON in an archive says. Raises MediaError for more than JSON may have."""
    with archive.open(name) as file:
        return _object(file.read(LONGEST + 1).decode())


def _object(text: str) -> Json:
    value = parse_json(text)
    if not isinstance(value, dict):
        raise MediaError(f"its JSON is a {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _preprocess(
    model: Model, classes: Collection[str], request: ModelRequest
) -> Preprocess | ClipPreprocess | None:
    """Return the usual recipe for the input's size; None for a model of sequences `(time, feature)`."""
    shape = getattr(model, "input_shape", None)  # classes of one's own say none
    if shape is None:
        return recipe_of(model, request)
    if isinstance(shape, tuple) and len(shape) == 3:
        return None
    if isinstance(shape, tuple) and len(shape) == 5 and shape[4] in (1, 3):
        frame = usual_recipe(model, (shape[0], *shape[2:]), classes)
        return frame and ClipPreprocess(replace(frame, channels="last"), shape[1] or _FRAMES, "time channel")
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise request.error(
            f"takes inputs of shape {shape}, neither a picture, a clip nor features (time, feature)",
            "load it with keras.saving.load_model, and give explain() arrays",
        )
    recipe = usual_recipe(model, shape, classes)
    if recipe is None:
        raise request.error(
            f"takes inputs of shape {shape}, no pictures of 1 or 3 channels",
            "load it with keras.saving.load_model, and give arrays",
        )
    return recipe


SOURCE = ModelSource(
    "PATH.keras|.h5", rf"({PATH}\.(?:keras|h5|hdf5))", _load, about="a network that Keras saved"
)
