"""Which layer is explained where none is named: the last one that still has a grid, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chronocam.engines import Engine
from chronocam.errors import LayerError, LayoutError
from chronocam.inputs import first_samples, main_array
from chronocam.layouts import Site, infer, input_grid, joined
from chronocam.maps.arrays import namespace
from chronocam.types import Array, Inputs

CANDIDATES = 24  # how many layers are tried at once


def default_layer(engine: Engine, inputs: Inputs) -> str:
    """Return the last layer with a grid that the score depends on, found with two samples of adapted inputs.

    Layers that only pass on or resample what they get are left out, and so is the model's own output. In a
    vision transformer that reads its class token, the patch tokens after the last attention do not count, and the
    block before it is taken. Raises LayerError where no layer has a grid.
    """
    sample = first_samples(inputs)
    types = grid_layers(engine, sample)
    paths = list(types)
    if not paths:
        raise LayerError("no layer of the model has a grid; name conv_layer= and layout=")
    for end in range(len(paths), 0, -CANDIDATES):
        counting = _that_count(engine, sample, paths[max(0, end - CANDIDATES) : end])
        if counting:
            block = _block_before(counting[-1], types)
            return block if block is not None and _that_count(engine, sample, [block]) else counting[-1]
    return paths[-1]


def _block_before(layer: str, types: Mapping[str, str]) -> str | None:
    """Return the block before the one that `layer` lies inside: the last of the same type beside it, or None.

    Where `layer` is the last that counts, what its block adds it to does not: `layer` is in a branch.
    """
    parts = layer.split(".")
    order = list(types)
    for end in range(len(parts) - 1, 0, -1):
        inside, beside = ".".join(parts[:end]), ".".join(parts[: end - 1])
        before = [
            path
            for path in order[: order.index(layer)]
            if types[path] == types.get(inside) and path.rpartition(".")[0] == beside
        ]
        if before:
            return before[-1]
    return None


def grid_layers(engine: Engine, inputs: Inputs) -> dict[str, str]:
    """Return path and type of the layers whose output has a grid, in the order in which they last finish."""
    array = main_array(inputs)
    grid = input_grid(tuple(array.shape), engine.channels_last, engine.stem)
    calls = engine.trace(inputs)
    counts = Counter(call.path for call in calls)
    found: dict[str, str] = {}
    for call in calls:
        found.pop(call.path, None)
        if call.changes and grid_of(Site(call.path, call.shape, array.shape[0], grid, counts[call.path])):
            found[call.path] = call.type
    return found


def grid_of(site: Site) -> tuple[int, ...] | None:
    """Return the grid of a layer's output, or None where it has none."""
    try:
        layout = infer(site)
    except LayoutError:
        return None
    calls = [np.broadcast_to(np.float32(0), site.shape)] * site.calls
    return tuple(layout(joined(calls, layout)).shape[2:])


def _that_count(engine: Engine, inputs: Inputs, paths: Sequence[str]) -> list[str]:
    """Return those of `paths` where the gradient of the largest output is not zero on the grid."""
    array = main_array(inputs)
    grid = input_grid(tuple(array.shape), engine.channels_last, engine.stem)

    def score(raw: Any, read: Callable[[], Array]) -> Array:
        logits = read()
        xp = namespace(logits)
        return xp.max(xp.reshape(logits, (logits.shape[0], -1)), axis=1)[:, None]

    found = engine.record(inputs, score, paths, gradients=paths).gradients

    def on_grid_of(path: str, calls: Sequence[Array]) -> Array:
        layout = infer(Site(path, tuple(calls[-1].shape[1:]), array.shape[0], grid, len(calls)))
        return layout(joined([call[0] for call in calls], layout))

    on_grid = {path: on_grid_of(path, calls) for path, calls in found.items()}
    return [path for path in paths if path in on_grid and bool(namespace(on_grid[path]).any(on_grid[path] != 0))]
