"""`FOLDER/saved_model.pb`, or the folder: what TensorFlow or Keras exported, as a black box."""

from __future__ import annotations

from typing import Final

import numpy as np

from chronocam.errors import first_line
from chronocam.models.boxes import Port, box, recipe_for
from chronocam.models.specs import PATH, ModelRequest, ModelSource, Parts, need

_HIDES: Final = "a SavedModel shows no layers: for those save the Keras model as .keras or .h5"


def _load(request: ModelRequest) -> Parts:
    folder = request.file().parent
    request.insist_on_trust(
        "a SavedModel is a program, which may read and write files", "give a .keras, .h5 or .tflite file"
    )
    tensorflow = need("tensorflow", "tensorflow")
    try:
        model = tensorflow.saved_model.load(str(folder))
        names = list(model.signatures)
        signature = model.signatures["serving_default" if "serving_default" in names else names[0]]
    except Exception as error:  # a damaged file, or operations that TensorFlow does not have
        todo = "expected a folder with a signature, as model.export or tf.saved_model.save writes it"
        raise request.error(f"cannot be read ({first_line(error)})", todo) from error
    specs = signature.structured_input_signature[1]
    ports = [
        Port(name, tuple(spec.shape), np.dtype(spec.dtype.as_numpy_dtype)) for name, spec in specs.items()
    ]

    def run(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        # The signature keeps its model alive only as long as something holds that.
        assert model is not None
        named = {port.name: tensorflow.constant(array) for port, array in zip(ports, arrays, strict=True)}
        return {name: np.asarray(value) for name, value in signature(**named).items()}

    def takes(shape: tuple[int, ...]) -> bool:
        try:
            run([np.zeros((1, *shape), ports[0].dtype)])
        except Exception:
            return False
        return True

    return box(run, ports, _HIDES), recipe_for(ports[0], takes), None


SOURCE = ModelSource(
    "FOLDER/saved_model.pb",
    rf"({PATH}saved_model\.pb)",
    _load,
    about="what TensorFlow exported, as a black box; a program: needs --trust",
)
