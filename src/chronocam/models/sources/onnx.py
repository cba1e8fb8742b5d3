"""`PATH.onnx`: a network for onnxruntime; with its layers where a copy in PyTorch gives the same outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from chronocam.errors import ChronocamError, ModelError, first_line
from chronocam.models.boxes import Port, box, recipe_for
from chronocam.models.recipes import Shape
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need
from chronocam.types import BlackBox

_TOLERANCE: Final = 1e-4
"""By how much a copy's outputs may differ, as a share of the largest of them, or of 1."""

_OPSETS: Final = (17, 13)
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
    shape = tuple(_FREE if side is None else side for side in ports[0].shape[1:])
    if recipe is not None and None in ports[0].shape[1:]:
        shape = _shape_made(recipe)
    try:
        if len(ports) > 1:
            raise ModelError(f"it has {len(ports)} inputs")
        return _copied(path, hidden, shape, ports[0]), recipe, None
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


def _copied(path: Path, hidden: BlackBox, shape: Shape, port: Port) -> Model:
    """Return a copy in PyTorch; raises ModelError where its outputs differ from those of onnxruntime."""
    torch = need("torch", "torch")
    onnx, onnx2torch = need("onnx", "onnx"), need("onnx2torch", "onnx")
    need("onnx.version_converter", "onnx")
    if port.dtype != np.float32:
        raise ModelError(f"it takes {port.dtype}")
    proto = onnx.load(str(path))
    _rename(proto.graph)
    _free_batch(proto.graph, onnx)
    inputs = np.random.default_rng(0).random((2, *shape), np.float32) * 2 - 1
    wanted = hidden.function(inputs)
    rights = list(wanted.values()) if isinstance(wanted, dict) else [wanted]
    problem: Exception | None = None
    for copy in _readings(proto, onnx):
        try:
            model = onnx2torch.convert(copy).eval()
            with torch.no_grad():
                found = model(torch.from_numpy(inputs))
            _compare(
                [one.numpy() for one in (found if isinstance(found, (list, tuple)) else [found])], rights
            )
            return model
        except Exception as error:  # whatever the converter raises for operations that it does not know
            problem = problem if isinstance(problem, ModelError) else error
    raise problem or ModelError("it has no version")


def _readings(proto: Any, onnx: Any) -> Iterator[Any]:
    """Yield a graph as it is, and in versions that the converter knows; outputs tell whether that was right.

    First translated by ONNX, which does not know how for every operation; then merely read by older rules.
    """
    own = next((one for one in proto.opset_import if one.domain in ("", "ai.onnx")), None)
    yield proto
    older = [] if own is None else [version for version in _OPSETS if version < own.version]
    for version in older:
        with suppress(Exception):  # whatever it raises for operations without a translation
            yield onnx.version_converter.convert_version(proto, version)
    for version in older:
        cast("Any", own).version = version
        yield proto


def _compare(found: list[np.ndarray], rights: list[np.ndarray]) -> None:
    """Raise ModelError, with the figure, where outputs of a copy differ."""
    for own, right in zip(found, rights, strict=True):
        if own.shape != right.shape:
            raise ModelError(f"a copy by onnx2torch returns {own.shape} in the place of {right.shape}")
        apart = float(np.abs(own - right).max() / max(1.0, np.abs(right).max()))
        if not apart <= _TOLERANCE:
            raise ModelError(
                f"outputs of a copy by onnx2torch are {apart:.2g} apart, more than {_TOLERANCE:g}"
            )


def _rename(graph: Any) -> None:
    """Give nodes names that are names in Python: the copy's code is written with them."""
    for number, node in enumerate(graph.node):
        name = re.sub(r"\W+", "_", node.name, flags=re.ASCII).strip("_")
        node.name = name if name and not name[0].isdigit() else f"{node.op_type}_{number}_{name}".rstrip("_")
        node.name = re.sub(r"\W+", "_", node.name, flags=re.ASCII)
        node.domain = "" if node.domain == "ai.onnx" else node.domain


def _free_batch(graph: Any, onnx: Any) -> None:
    """Let a network that was exported for one input take several: what is reshaped to 1 row keeps its rows.

    Whether that is right is seen where the copy's outputs for two inputs are compared.
    """
    entry = graph.input[0].type.tensor_type.shape.dim
    if entry[0].dim_value != 1:
        return
    for value in (graph.input[0], *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape" and len(node.input) > 1}
    constants = [one for one in graph.initializer if one.name in shapes]
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in shapes:
            constants.extend(one.t for one in node.attribute if one.name == "value")
    for one in constants:
        sizes = onnx.numpy_helper.to_array(one).copy()
        if sizes.size > 1 and sizes[0] == 1:
            sizes[0] = 0
            one.CopyFrom(onnx.numpy_helper.from_array(sizes, one.name))


SOURCE = ModelSource(
    "PATH.onnx",
    rf"({PATH}\.onnx)",
    _load,
    about="a network for onnxruntime, with layers where PyTorch copies it",
)
