"""Inputs as a Keras model takes them: the arrays of its backend, in the shapes that it was made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from chronocam.engines.keras.backend import Backend
from chronocam.errors import InputError
from chronocam.types import Array, Inputs


def adapted(model: keras.Model, backend: Backend, inputs: Inputs) -> Inputs:
    """Return inputs in the backend's own arrays, as the model takes them; see `KerasEngine.adapt`."""
    taken = dict(inputs) if isinstance(inputs, Mapping) else inputs
    specs = dict(enumerate(getattr(model, "inputs", None) or ()))
    flat = keras.tree.flatten(taken)
    if isinstance(taken, Mapping) and specs:
        return _by_name(model, backend, taken)
    if len(specs) not in (0, len(flat)):
        raise InputError(
            f"got {len(flat)} inputs; the model takes {len(specs)}: give a tuple or dict of them"
        )
    if isinstance(taken, Mapping):
        return {name: _adapted(backend, x, None) for name, x in taken.items()}
    if isinstance(taken, (tuple, list)):
        return tuple(_adapted(backend, x, specs.get(i)) for i, x in enumerate(taken))
    return _adapted(backend, taken, specs.get(0))


def _by_name(model: keras.Model, backend: Backend, inputs: Mapping[str, Any]) -> Inputs:
    """Return inputs in a dict, as `adapted` does: by the model's own keys, or the names of its inputs."""
    own = model.input
    specs = own if isinstance(own, Mapping) else {spec.name: spec for spec in model.inputs}
    if set(inputs) != set(specs):
        names, others = (", ".join(f"`{name}`" for name in some) for some in (specs, inputs))
        raise InputError(f"inputs are by the names {others}; expected {names}")
    return {name: _adapted(backend, x, specs[name]) for name, x in inputs.items()}


def _adapted(backend: Backend, x: Array, spec: Any) -> Any:
    values = backend.values(x)
    kind = "f" if "float" in str(values.dtype) else getattr(values.dtype, "kind", "i")
    if kind not in "fiub":
        raise InputError(f"inputs have dtype {values.dtype}; expected numbers")
    if spec is not None:
        _refuse_misfit(tuple(values.shape), tuple(spec.shape))
        # Pixels as integers become floats where the model takes floats; numbers of tokens stay integers.
        kind = "f" if "float" in str(spec.dtype) else kind
    if kind == "f":
        dtype = keras.config.floatx()
        values = values.astype(dtype) if isinstance(values, np.ndarray) else keras.ops.cast(values, dtype)
    return backend.tensor(values)


def _refuse_misfit(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    """Raise InputError where an input does not have the shape that the model was made for, batch aside."""
    expected = (None, *expected[1:])
    if len(shape) == len(expected) and all(e in (None, n) for n, e in zip(shape, expected, strict=True)):
        return
    if len(shape) == len(expected) - 1 and expected[-1] == 1:  # Keras adds the axis itself
        return
    sizes = ", ".join(["batch", *("any" if n is None else str(n) for n in expected[1:])])
    unbatched = len(shape) == len(expected) - 1 and all(
        e in (None, n) for n, e in zip(shape, expected[1:], strict=True)
    )
    if unbatched:
        todo = "give inputs[None], or dataset.batch(32)"
    elif len(shape) == len(expected) > 2 and shape[1] == expected[-1] != shape[-1]:
        order = (0, *range(2, len(shape)), 1)
        todo = f"inputs look channels-first: give inputs.transpose({', '.join(map(str, order))})"
    elif len(shape) == len(expected) and shape[-1] == 1 and expected[-1] is not None:
        todo = f"repeat the channel, np.repeat(inputs, {expected[-1]}, -1)"
    elif len(shape) == len(expected) and (shape[-1], expected[-1]) == (4, 3):
        todo = "drop the alpha channel, inputs[..., :3]"
    elif len(shape) == len(expected) and (shape[-1], expected[-1]) == (3, 1):
        todo = "make the inputs grey, inputs.mean(-1, keepdims=True)"
    else:
        todo = "resize the inputs, or build the model for them"
    raise InputError(f"inputs have shape {shape}; expected ({sizes}): {todo}")
