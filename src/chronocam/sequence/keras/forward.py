"""One pass of a Keras model over features, its layers going through what a method wants of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from chronocam.engines.keras.layers import Wrap, frames_at_once, intercepted, own_errors
from chronocam.engines.keras.program import call_model, gate_of, main_output, noting_logits
from chronocam.errors import ChronocamError, InputError, first_line
from chronocam.types import Array


@dataclass(frozen=True)
class Passed:
    """What a model returned, its logits, and the gate after them, where there is one."""

    raw: Any
    logits: Array
    gate: str | None


def forward(
    model: Any,
    nodes: Mapping[str, Any],
    points: Array,
    others: Sequence[Any],
    wrap: Callable[[str, Any], Wrap | None],
    gated: Callable[[Array], Array] = lambda output: output,
) -> Passed:
    """Run a model over points `(point, time, feature)`.

    others: what it takes besides, for one point or for all. wrap: what each node's call goes through. gated:
        what is
    done to the outputs of gates.
    """
    gates: dict[str, list[tuple[Any, Any]]] = {}
    wraps: dict[str, list[Wrap]] = {}
    for path, node in nodes.items():
        name = gate_of(node)
        around = [
            frames_at_once if type(node) is keras.layers.TimeDistributed else None,
            wrap(path, node),
            None if name is None else noting_logits(gates.setdefault(name, []), gated),
        ]
        wraps[path] = [one for one in around if one is not None]
    with own_errors(), intercepted({path: around for path, around in wraps.items() if around}, nodes):
        raw = _called(model, points, others)
    main = main_output(raw)
    seen = [(before, name) for name, pairs in gates.items() for after, before in pairs if after is main]
    logits, gate = seen[-1] if seen else (main, None)
    if logits.shape[0] != points.shape[0]:
        raise InputError(
            f"features {tuple(points.shape)} give outputs {tuple(logits.shape)}; expected one row for each of the "
            f"{points.shape[0]} samples"
        )
    return Passed(raw, keras.ops.cast(logits, "float32") if "float16" in str(logits.dtype) else logits, gate)


def repeated_to(rows: int, x: Any) -> Array:
    """Return what is given for one row as a tensor of so many rows."""
    x = keras.ops.convert_to_tensor(x)
    return x if x.shape[0] == rows else keras.ops.repeat(x, rows, axis=0)


def _called(model: Any, points: Array, others: Sequence[Any]) -> Any:
    repeated = [repeated_to(points.shape[0], x) for x in others]
    try:
        with keras.StatelessScope():  # what the model remembers stays as it is
            return call_model(model, (points, *repeated) if repeated else points)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        if isinstance(error, ChronocamError):
            raise
        raise InputError(
            f"the model fails on features of shape {tuple(points.shape)} ({first_line(error)}); expected (batch, time, "
            "feature): check their number and order"
        ) from error
