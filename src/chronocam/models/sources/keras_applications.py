"""`keras:NAME`: the networks of keras.applications."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from chronocam.errors import first_line
from chronocam.media.preprocess import Preprocess
from chronocam.models.specs import Model, ModelRequest, ModelSource, Parts, need

_CLASSES: Final = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"


def _load(request: ModelRequest) -> Parts:
    builder = builder_of(request)
    try:
        model = builder(weights="imagenet")
    except Exception as error:  # whatever Keras raises without a network
        (name,) = request.names
        raise request.error(
            f"could not fetch the weights of {name} ({first_line(error)})",
            "fetch them once online, into ~/.keras/models, or save the model elsewhere and give PATH.keras",
        ) from error
    return model, recipe(builder, model), _labels()


def _build(request: ModelRequest) -> Parts:
    builder = builder_of(request)
    model = builder(weights=None)
    return model, recipe(builder, model), None


def builder_of(request: ModelRequest) -> Callable[..., Model]:
    """Return the function that builds a network. Raises ModelError for an unknown name."""
    applications = need("keras.applications", "keras")
    known = [
        name for name, value in vars(applications).items() if inspect.isfunction(value) and name[:1].isupper()
    ]
    (name,) = request.names
    if name not in known:
        raise request.unknown(
            "network in keras.applications", name, known, f"choose one of {', '.join(known)}"
        )
    builder: Callable[..., Model] = getattr(applications, name)
    return builder


def _names() -> list[str]:
    """Return the names of all networks, read from the file that lists them: Keras may start TensorFlow."""
    home = find_spec("keras")
    if home is None or home.origin is None:
        return []
    text = (Path(home.origin).parent / "applications" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r"import ([A-Z]\w+) as", text)


def recipe(builder: Callable[..., Model], model: Model) -> Preprocess:
    """Return the preprocessing of a network: resized as a whole, and what its own `preprocess_input` does.

    That is y_c = a_c x_p(c) + b_c, p(c) the same colour or the colours reversed, read from its values at four
    pixels.
    """
    prepare = import_module(builder.__module__).preprocess_input
    formats = [layer.data_format for layer in model.layers if getattr(layer, "data_format", None)]
    first = formats[:1] == ["channels_first"]
    pixels = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype(np.float32)[:, None, None]
    values = np.asarray(prepare(pixels.copy(), data_format="channels_last"), np.float64)[:, 0, 0]
    slopes = (values[1:] - values[0]) / 255
    order = np.abs(slopes).argmax(axis=0)
    a = slopes[order, [0, 1, 2]]
    return Preprocess(
        resize=tuple(model.input_shape[2:4] if first else model.input_shape[1:3]),
        crop=None,
        mean=tuple(float(v) for v in -values[0] / a),
        std=tuple(float(v) for v in 1 / a),
        scale=1.0,
        channels="first" if first else "last",
        order="bgr" if order[0] == 2 else "rgb",
    )


def _labels() -> tuple[str, ...] | None:
    """Return ImageNet's labels as Keras has them; None where they cannot be fetched."""
    utils = need("keras.utils", "keras")
    try:
        path = utils.get_file("imagenet_class_index.json", _CLASSES, cache_subdir="models")
        classes = json.loads(Path(path).read_text(encoding="utf-8"))
    except Exception:  # whatever Keras raises without a network, or a damaged file
        return None
    return tuple(classes[str(i)][1].replace("_", " ") for i in range(len(classes)))


SOURCE = ModelSource(
    "keras:NAME", r"keras:(.+)", _load, _build, about="networks of keras.applications", catalogue=_names
)
