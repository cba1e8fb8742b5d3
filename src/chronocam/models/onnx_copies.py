"""A copy of an ONNX network in PyTorch, whose layers are seen; taken where its outputs are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from chronocam.errors import ModelError
from chronocam.models.boxes import Port
from chronocam.models.recipes import Shape
from chronocam.models.specs import Model, need
from chronocam.types import BlackBox

_TOLERANCE: Final = 1e-4
"""By how much a copy's outputs may differ, as a share of the largest of them, or of 1."""

_OPSETS: Final = (17, 13)
_UNKNOWN: Final = re.compile(r"Converter is not implemented .*operation_type='(\w+)'")


def copied(path: Path, hidden: BlackBox, shapes: Mapping[Port, Shape]) -> Model:
    """Return a copy in PyTorch of a network that onnxruntime runs.

    hidden: the network as onnxruntime runs it. shapes: of one sample, by input.
    Raises ModelError where outputs for two random inputs differ, or an operation has no counterpart.
    """
    torch = need("torch", "torch")
    onnx, onnx2torch = need("onnx", "onnx"), need("onnx2torch", "onnx")
    need("onnx.version_converter", "onnx")
    rng = np.random.default_rng(0)
    inputs = [_sample(rng, port, shape) for port, shape in shapes.items()]
    wanted = hidden.function(*inputs)
    rights = list(wanted.values()) if isinstance(wanted, dict) else [wanted]
    proto = onnx.load(str(path))
    _rename(proto.graph)
    _free_batch(proto, onnx)
    _without_constants(proto.graph, onnx)
    problem: Exception | None = None
    for reading in _readings(proto, onnx):
        try:
            model = onnx2torch.convert(_own(reading)).eval()
            with torch.no_grad():
                found = model(*map(torch.from_numpy, inputs))
            outputs = found if isinstance(found, (list, tuple)) else [found]
            _compare([one.numpy() for one in outputs], rights)
            return model
        except Exception as error:  # whatever the converter raises for operations that it does not know
            problem = problem if isinstance(problem, ModelError) else error
    raise _worded(problem) if problem else ModelError("it has no version")


def _sample(rng: np.random.Generator, port: Port, shape: Shape) -> np.ndarray:
    """Return two random inputs: real numbers, of which pixels are whole ones."""
    if port.dtype == np.uint8:
        return rng.integers(0, 256, (2, *shape)).astype(np.float32)
    if port.dtype != np.float32:
        raise ModelError(f"its input `{port.name}` takes {port.dtype}")
    return rng.random((2, *shape), np.float32) * 2 - 1


def _worded(error: Exception) -> Exception:
    """Return an error that names the operation which the converter does not know."""
    unknown = _UNKNOWN.search(str(error))
    return ModelError(f"onnx2torch has no `{unknown[1]}`") if unknown else error


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
    _axes_as_options(proto.graph, onnx)
    for version in older:
        cast("Any", own).version = version
        yield proto


def _own(proto: Any) -> Any:
    """Return a copy of a graph whose nodes that onnx2torch lacks are those of `onnx_nodes`."""
    from chronocam.models.onnx_nodes import CONVERTERS, DOMAIN, RECURRENT, register

    register()
    copy = type(proto)()
    copy.CopyFrom(proto)
    copy.opset_import.add(domain=DOMAIN, version=1)
    for node in copy.graph.node:
        if node.op_type in CONVERTERS and not node.domain:
            node.domain = DOMAIN
    for node in [one for one in copy.graph.node if one.op_type in RECURRENT]:
        _join_directions(node, copy.graph)
    return copy


def _join_directions(node: Any, graph: Any) -> None:
    """Let a recurrent node return `(time, batch, feature)` where just that is made of what it returns.

    Steps with an axis of directions look like pictures. Whether the nodes that are left out did no more is
    seen where the copy's outputs are compared.
    """
    followers: list[Any] = []
    while len(followers) < 2 and not (followers and followers[-1].op_type in ("Squeeze", "Reshape")):
        value = followers[-1].output[0] if followers else node.output[0]
        takers = [one for one in graph.node if value in one.input]
        if len(takers) != 1 or value in {one.name for one in graph.output}:
            return
        followers += takers
    if [one.op_type for one in followers] in (["Squeeze"], ["Transpose", "Reshape"]):
        node.output[0] = followers[-1].output[0]
        node.attribute.add(name="joined", type=2, i=1)
        for one in followers:
            graph.node.remove(one)


def _compare(found: list[np.ndarray], rights: list[np.ndarray]) -> None:
    """Raise ModelError, with the figure, where outputs of a copy differ."""
    if len(found) != len(rights):
        raise ModelError(f"a copy by onnx2torch has {len(found)} outputs in the place of {len(rights)}")
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


def _free_batch(proto: Any, onnx: Any) -> None:
    """Let a network that was exported for a batch of one size take any: what is reshaped keeps its rows.

    Whether the rows of what is reshaped are the batch's is seen where the copy's outputs are compared.
    """
    graph = proto.graph
    weights = {one.name for one in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if not inputs[0].type.tensor_type.shape.dim[0].dim_value:
        return
    shapes, stored = _shapes(proto, onnx), _stored(graph, onnx)
    for node in graph.node:
        sizes = stored.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        shape = shapes.get(node.output[0], [])
        if sizes is not None and sizes.size and sizes[0] > 0 and shape and all(shape):
            node.input[1] = f"{node.output[0]}_sizes"
            free = np.array([-1, *shape[1:]], np.int64)
            graph.initializer.append(onnx.numpy_helper.from_array(free, node.input[1]))
    for value in (*inputs, *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]


def _stored(graph: Any, onnx: Any) -> dict[str, np.ndarray]:
    """Return every array of a graph, by name."""
    constants = [node for node in graph.node if node.op_type == "Constant"]
    tensors = {one.name: one for one in graph.initializer} | {
        node.output[0]: one.t for node in constants for one in node.attribute if one.name == "value"
    }
    return {name: onnx.numpy_helper.to_array(tensor) for name, tensor in tensors.items()}


def _shapes(proto: Any, onnx: Any) -> dict[str, list[int]]:
    """Return the shape of every value that has one, 0 for a length that is free."""
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }


def _without_constants(graph: Any, onnx: Any) -> None:
    """Put weights in the place of the integers that stand for them."""
    stored = _stored(graph, onnx)
    for node in [one for one in graph.node if one.op_type == "DequantizeLinear"]:
        if not all(name in stored for name in node.input):
            continue
        whole, step, *zeros = (stored[name] for name in node.input)
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
        ends = [-1] + [1] * (whole.ndim - 1 - axis % whole.ndim) if step.size > 1 else []
        shift = zeros[0].astype(np.float32).reshape(ends) if zeros else 0
        real = (whole.astype(np.float32) - shift) * step.reshape(ends)
        graph.initializer.append(onnx.numpy_helper.from_array(real.astype(np.float32), node.output[0]))
        graph.node.remove(node)


def _axes_as_options(graph: Any, onnx: Any) -> None:
    """Let reductions have their axes as they had them before version 18: as an attribute."""
    stored = _stored(graph, onnx)
    for node in graph.node:
        axes = stored.get(node.input[1]) if len(node.input) == 2 else None
        if axes is not None and re.fullmatch(r"Reduce(?!Sum$)\w+", node.op_type):
            node.attribute.append(onnx.helper.make_attribute("axes", axes.tolist()))
            del node.input[1]
