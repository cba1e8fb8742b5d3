"""`PATH.tflite`: a network of LiteRT, once TensorFlow Lite, as a black box."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, Final
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np

from chronocam.errors import first_line
from chronocam.media.preprocess import Preprocess
from chronocam.models.boxes import Port, box, recipe_for
from chronocam.models.flatbuffers import Table
from chronocam.models.recipes import Shape
from chronocam.models.specs import PATH, ModelRequest, ModelSource, Parts, need
from chronocam.models.wants import Recipe

_HIDES: Final = "a .tflite file shows no layers and has no gradients: for those give the Keras model"
_BUFFERS, _METADATA, _GRAPHS, _INPUTS, _UNITS, _NORMALISES = 4, 6, 3, 2, 4, 1
"""Numbers of fields in the tables of models and of their metadata, and the kind of a step that normalises."""

_LONGEST: Final = 10_000_000  # letters of labels


def _load(request: ModelRequest) -> Parts:
    path = request.file()
    litert = need("ai_edge_litert.interpreter", "tflite")
    try:
        interpreter = litert.Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
    except Exception as error:  # a damaged file, or operations that the runtime does not have
        raise request.error(f"cannot be read ({first_line(error)})", "expected a .tflite file") from error
    run = _Runner(interpreter)
    recipe = recipe_for(run.ports[0], run.takes)
    return box(run, run.ports, _HIDES), _normalised(recipe, path), _labels(path)


class _Runner:
    """Runs batches, and resizes the network's inputs where their size is free."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._inputs = interpreter.get_input_details()
        self._names = _output_names(interpreter)
        self._lock = Lock()  # an interpreter holds one batch at a time
        self.ports = [_port(one) for one in self._inputs]

    def __call__(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            return self._run(self._interpreter, arrays)

    def _run(self, interpreter: Any, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        for detail, port, array in zip(self._inputs, self.ports, arrays, strict=True):
            if None in port.shape:
                interpreter.resize_tensor_input(detail["index"], array.shape)
        interpreter.allocate_tensors()
        for detail, array in zip(self._inputs, arrays, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        outputs = interpreter.get_output_details()
        order = (
            sorted(outputs, key=lambda one: list(self._names).index(one["index"])) if self._names else outputs
        )
        return {self._names.get(one["index"], one["name"]): _real(one, interpreter) for one in order}

    def takes(self, shape: Shape) -> bool:
        """Say whether the network runs on zeros of a shape."""
        port = self.ports[0]
        try:
            self([np.zeros((port.shape[0] or 1, *shape), port.dtype)])
        except (ValueError, RuntimeError):
            return False
        return True


def _output_names(interpreter: Any) -> dict[int, str]:
    """Return the names of the outputs in the order of the model, by index; none where it has no signature."""
    if len(interpreter.get_signature_list()) != 1:
        return {}
    details = interpreter.get_signature_runner().get_output_details()
    named = {detail["index"]: name for name, detail in sorted(details.items())}
    return named if len(named) == len(interpreter.get_output_details()) else {}


def _port(detail: dict[str, Any]) -> Port:
    shape = tuple(None if side == -1 else int(side) for side in detail["shape_signature"])
    step, zero = detail["quantization"]
    name = detail["name"].removeprefix("serving_default_").rpartition(":")[0] or detail["name"]
    return Port(name, shape, np.dtype(detail["dtype"]), float(step), int(zero))


def _real(detail: dict[str, Any], interpreter: Any) -> np.ndarray:
    """Return an output as numbers, which integers stand for."""
    values = interpreter.get_tensor(detail["index"])
    step, zero = detail["quantization"]
    return np.asarray((values.astype(np.float32) - zero) * step, np.float32) if step else values


def _normalised(recipe: Recipe | None, path: Path) -> Recipe | None:
    """Return a recipe with the values that the file's metadata say: (pixel - mean) / std."""
    if not isinstance(recipe, Preprocess):
        return recipe
    try:
        mean, std = _normalisation(path.read_bytes())
    except (struct.error, OSError):
        return recipe
    count = len(recipe.mean)
    if not {len(mean), len(std)} <= {1, count} or min(std) <= 0:
        return recipe
    mean, std = (values * count if len(values) == 1 else values for values in (mean, std))
    return replace(recipe, scale=1.0, mean=mean, std=std, assumption=None)


def _normalisation(buffer: bytes) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of the first input, as the metadata of LiteRT have them, of values from 0 to 255.

    Raises struct.error where there are none.
    """
    model = Table.root(buffer)
    for entry in model.tables(_METADATA):
        if entry.text(0) != "TFLITE_METADATA":
            continue
        metadata = Table.root(model.tables(_BUFFERS)[entry.value(1)].content(0))
        inputs = [one for graph in metadata.tables(_GRAPHS) for one in graph.tables(_INPUTS)]
        for unit in inputs[0].tables(_UNITS) if inputs else []:
            options = unit.table(1)
            if unit.value(0, "B") == _NORMALISES and options is not None:
                return options.floats(0), options.floats(1)
    raise struct.error("no normalisation")


def _labels(path: Path) -> tuple[str, ...] | None:
    """Return the labels that are packed into a file with metadata, which is an archive as well."""
    if not is_zipfile(path):
        return None
    try:
        with ZipFile(path) as archive:
            texts = [one for one in archive.infolist() if one.filename.endswith(".txt")]
            if len(texts) != 1 or texts[0].file_size > _LONGEST:
                return None
            return tuple(archive.read(texts[0]).decode("utf-8").splitlines())
    except (BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return None


SOURCE = ModelSource("PATH.tflite", rf"({PATH}\.tflite)", _load, about="a network of LiteRT, as a black box")
