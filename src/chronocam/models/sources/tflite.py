"""`PATH.tflite`: a network of LiteRT, once TensorFlow Lite, as a black box."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any, Final
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np

from chronocam.errors import first_line
from chronocam.models.boxes import Port, box, recipe_for
from chronocam.models.recipes import Shape
from chronocam.models.specs import PATH, ModelRequest, ModelSource, Parts, need

_HIDES: Final = "a .tflite file shows no layers and has no gradients: for those give the Keras model"
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
    return box(run, run.ports, _HIDES), recipe_for(run.ports[0], run.takes), _labels(path)


class _Runner:
    """Runs batches, and resizes the network's inputs where their size is free."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._inputs = interpreter.get_input_details()
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
        return {one["name"]: _real(one, interpreter) for one in interpreter.get_output_details()}

    def takes(self, shape: Shape) -> bool:
        """Say whether the network runs on zeros of a shape."""
        port = self.ports[0]
        try:
            self([np.zeros((port.shape[0] or 1, *shape), port.dtype)])
        except (ValueError, RuntimeError):
            return False
        return True


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
