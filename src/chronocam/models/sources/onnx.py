"""`PATH.onnx`: a network for onnxruntime; with its layers where a copy in PyTorch gives the same outputs."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from chronocam.errors import ChronocamError, first_line
from chronocam.models.boxes import Port, box, recipe_for
from chronocam.models.onnx_copies import copied
from chronocam.models.recipes import Shape
from chronocam.models.specs import PATH, ModelRequest, ModelSource, Parts, need

_FREE: Final = 64  # stands in for a length that is free and no side of a picture
_TYPES: Final = {
    "float": "f4",
    "float16": "f2",
    "double": "f8",
    "uint8": "u1",
    "int8": "i1",
    "int32": "i4",
    "int64": "i8",
}


def _load(request: ModelRequest) -> Parts:
    path = request.file()
    runtime = need("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a damaged file, or operations that the runtime does not have
        raise request.error(f"cannot be read ({first_line(error)})", "expected an .onnx file") from error
    ports = [_port(one) for one in session.get_inputs()]
    names = [one.name for one in session.get_outputs()]

    def run(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        feeds = {port.name: array for port, array in zip(ports, arrays, strict=True)}
        return dict(zip(names, map(np.asarray, session.run(names, feeds)), strict=True))

    def takes(shape: Shape) -> bool:
        try:
            run([np.zeros((ports[0].shape[0] or 1, *shape), ports[0].dtype)])
        except Exception:
            return False
        return True

    recipe = recipe_for(ports[0], takes)
    hidden = box(run, ports, "")
    shapes = [tuple(_FREE if side is None else side for side in port.shape[1:]) for port in ports]
    if recipe is not None and None in ports[0].shape[1:]:
        shapes[0] = _shape_made(recipe)
    try:
        return copied(path, hidden, dict(zip(ports, shapes, strict=True))), recipe, None
    except Exception as error:  # whatever the converter raises for operations that it does not know
        why = error if isinstance(error, ChronocamError) else f"onnx2torch fails ({first_line(error)})"
        hidden.why = f"this ONNX file's layers are not at hand, since {why}"
        return hidden, recipe, None


def _port(entry: Any) -> Port:
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in entry.shape)
    kind = re.sub(r"tensor\((\w+)\)", r"\1", entry.type)
    return Port(entry.name, shape, np.dtype(_TYPES.get(kind, "f4")))


def _shape_made(recipe: Any) -> Shape:
    """Return the shape of what a recipe makes."""
    from PIL import Image

    frames = getattr(recipe, "frames", None)
    if frames is None:
        return tuple(recipe(Image.new("RGB", (64, 64))).shape)
    return tuple(recipe(np.zeros((frames, 64, 64, 3), np.uint8)).shape)


SOURCE = ModelSource(
    "PATH.onnx",
    rf"({PATH}\.onnx)",
    _load,
    about="a network for onnxruntime, with layers where PyTorch copies it",
)
