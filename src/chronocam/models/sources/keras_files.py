"""`PATH.keras` and `PATH.h5`: networks that Keras saved, on any backend."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile, ZipFile

import numpy as np

from chronocam.errors import first_line
from chronocam.media.preprocess import Preprocess
from chronocam.models.recipes import FROM_0_TO_1
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need

_SCALES: Final = ("Rescaling", "Normalization")


def _load(request: ModelRequest) -> Parts:
    path = request.file()
    saving = need("keras.saving", "keras")
    classes = _classes(_config(path, request))
    if "Lambda" in classes:
        request.insist_on_trust("a Lambda layer in it can run any code", "replace it by a layer of Keras")
    try:
        model = saving.load_model(path, compile=False, safe_mode=not request.trust)
    except Exception as error:  # a damaged file, a class that is not known here, code that may not run
        todo = (
            "expected a model that Keras saved; custom layers need keras.saving.register_keras_serializable"
        )
        raise request.error(f"cannot be loaded ({first_line(error)})", todo) from error
    return model, _preprocess(model, classes, request), None


def _config(path: Path, request: ModelRequest) -> Any:
    """Return what a file says that the model is made of."""
    try:
        if path.suffix == ".keras":
            with ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        with need("h5py", "keras").File(path) as file:
            text = file.attrs["model_config"]
            return json.loads(text.decode() if isinstance(text, bytes) else text)
    except (OSError, BadZipFile, KeyError, ValueError) as error:
        todo = "expected what model.save wrote; weights alone have no layers"
        raise request.error(f"is not a saved model ({first_line(error)})", todo) from error


def _classes(config: object) -> set[str]:
    """Return the names of all classes in a saved model."""
    if isinstance(config, dict):
        own = {config["class_name"]} if isinstance(config.get("class_name"), str) else set()
        return own.union(*map(_classes, config.values()))
    return set().union(*map(_classes, config)) if isinstance(config, list) else set()


def _normalises_pixels(model: Model) -> bool:
    """Say whether a batch normalisation comes first that has seen values as large as those of pixels."""
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    if not layers or type(layers[0]).__name__ != "BatchNormalization":
        return False
    return float(np.abs(layers[0].get_weights()[-2]).max()) > 2  # the mean, before the variance


def _preprocess(model: Model, classes: Collection[str], request: ModelRequest) -> Preprocess | None:
    """Return the usual recipe for the input's size; None for a model of sequences `(time, feature)`."""
    shape = model.input_shape
    if isinstance(shape, tuple) and len(shape) == 3:
        return None
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise request.error(
            f"takes inputs of shape {shape}, neither one picture nor features (time, feature)",
            "load it with keras.saving.load_model, and give explain() arrays",
        )
    recipe = usual_recipe(model, shape, classes)
    if recipe is None:
        raise request.error(
            f"takes inputs of shape {shape}, no pictures of 1 or 3 channels",
            "load it with keras.saving.load_model, and give arrays",
        )
    return recipe


def usual_recipe(model: Model, shape: Sequence[int | None], classes: Collection[str]) -> Preprocess | None:
    """Return the usual recipe for pictures: values up to 1, or to 255 where the model rescales them.

    shape: of its inputs. classes: the names of those of its layers.
    None for other than 1 or 3 channels.
    """
    formats = [layer.data_format for layer in model.layers if getattr(layer, "data_format", None)]
    first = formats[:1] == ["channels_first"]
    channels, *sides = (shape[1], *shape[2:]) if first else (shape[3], *shape[1:3])
    if channels not in (1, 3):
        return None
    rescales = not set(_SCALES).isdisjoint(classes) or _normalises_pixels(model)
    height, width = (224 if side is None else side for side in sides)
    return Preprocess(
        resize=(height, width),
        crop=None,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        scale=1.0 if rescales else 1 / 255,
        channels="first" if first else "last",
        assumption=None if rescales else FROM_0_TO_1,
    )


SOURCE = ModelSource(
    "PATH.keras|.h5", rf"({PATH}\.(?:keras|h5|hdf5))", _load, about="a network that Keras saved"
)
