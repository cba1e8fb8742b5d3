"""`PATH.h5@ARCHITECTURE`: weights alone of Keras, and checkpoints of TensorFlow, into a network of Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from chronocam.errors import first_line
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need, resolve, sources

_VALUE: Final = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What ends the name of an array in a checkpoint."""


def _load(request: ModelRequest) -> Parts:
    path = request.file()
    keras = need("keras", "keras")
    source, inner = resolve(request.names[1])
    if source.build is None:
        forms = ", ".join(source.form for source in sources() if source.build is not None)
        raise request.error(f"`{inner.text}` is not an architecture", f"expected one of {forms}")
    model, recipe, labels = source.build(inner)
    if not isinstance(model, keras.Model):
        raise request.error(
            f"`{inner.text}` is not a network of Keras", "expected keras:NAME, or a factory that returns one"
        )
    try:
        if path.suffix == ".index":
            _fill(model, _arrays(path), "")
        else:
            model.load_weights(path)
    except Exception as error:  # a damaged file, other layers, or shapes that differ
        raise request.error(
            f"the weights do not fit ({first_line(error)})",
            "build the network as it was trained, and with keras.Input as its first layer",
        ) from error
    return model, recipe, labels


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint by the names of the objects that held them; no code is run."""
    reader = need("tensorflow", "tensorflow").train.load_checkpoint(str(path.with_suffix("")))
    names = reader.get_variable_to_shape_map()
    return {
        name.removesuffix(_VALUE): np.asarray(reader.get_tensor(name))
        for name in names
        if name.endswith(_VALUE) and "optimizer" not in name
    }


def _fill(model: Model, arrays: dict[str, np.ndarray], prefix: str) -> None:
    """Set the weights of a model; a checkpoint counts its layers with weights, and those of models in it."""
    layers = [layer for layer in model.layers if layer.weights]
    for number, layer in enumerate(layers):
        own = f"{prefix}layer_with_weights-{number}/"
        if getattr(layer, "layers", None):
            _fill(layer, arrays, own)
        else:
            layer.set_weights([_array_of(variable, arrays, own) for variable in layer.weights])


def _array_of(variable: Any, arrays: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    way = next((way for way in ("forward", "backward") if f"/{way}_" in variable.path), "")
    found = [
        array
        for name, array in arrays.items()
        if name.startswith(prefix) and name.rpartition("/")[2] == variable.name and f"/{way}" in f"/{name}"
    ]
    if len(found) != 1 or found[0].shape != tuple(variable.shape):
        shapes = [array.shape for array in found]
        raise ValueError(f"{variable.path} {tuple(variable.shape)} has {shapes} under `{prefix}`")
    return found[0]


SOURCE = ModelSource(
    "PATH.h5|.keras|.index@ARCHITECTURE",
    rf"({PATH}\.(?:keras|h5|hdf5|index))@(.+)",
    _load,
    about="weights of Keras, or a checkpoint of TensorFlow, in an architecture",
)
