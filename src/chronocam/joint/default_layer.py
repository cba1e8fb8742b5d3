"""Which layer is explained where none is named: the last one that still has a usable grid, and counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from chronocam.engines import Engine, Request, Result
from chronocam.errors import LayerError, LayoutError
from chronocam.joint.inputs import first_samples, main_array
from chronocam.layouts import Site, infer, input_grid, joined
from chronocam.maps.arrays import namespace
from chronocam.types import Array, Inputs

CANDIDATES = 24  # how many layers are tried at once
ENOUGH: Final = 4  # cells along an axis that are enough at any size of the input
COMMON: Final = 32  # pixels: the cells of common classifiers, usable however few there are


class Chosen(str):
    """The path of the layer chosen, and in words why it is not the last one, where it is not."""

    why: str | None = None


@dataclass(frozen=True)
class GridLayer:
    """A layer with a grid: the type of the layer, and the grid."""

    type: str
    grid: tuple[int, ...]


def default_layer(engine: Engine, inputs: Inputs) -> Chosen:
    """Return the last layer with a usable grid that the score depends on, found with two samples of adapted inputs.

    Layers that only pass on or resample what they get are left out, and so is the model's own output. Where
    the last grid is the input's own after coarser ones (dense outputs, such as depth), the last layer on the
    coarsest grid of at least 4 cells along each axis is taken. In a vision transformer that reads its class
    token, the patch tokens after the last attention do not count, and the block before it is taken. Where no
    grid is usable (see `is_usable`), the last one is taken as it is. Raises
    LayerError where no layer has a grid.
    """
    sample = first_samples(inputs)
    layers = grid_layers(engine, sample)
    paths = list(layers)
    if not paths:
        raise LayerError("no layer of the model has a grid; name conv_layer= and layout=")
    last = _last_that_counts(engine, sample, paths)
    if last is None:
        return Chosen(paths[-1])
    within = _input_grid(engine, sample)
    best = _better(engine, sample, layers, last, within)
    block = _block_before(best, {path: layer.type for path, layer in layers.items()})
    chosen = Chosen(block if block is not None and _that_count(engine, sample, [block]) else best)
    if best != last:
        cells, others = (" × ".join(map(str, layers[path].grid)) for path in (chosen, last))
        chosen.why = (
            f"layer `{chosen}` is explained, the deepest with a usable grid: {cells} cells, where `{last}` has "
            f"{others}; conv_layer= names another"
        )
    return chosen


def _better(
    engine: Engine, inputs: Inputs, layers: Mapping[str, GridLayer], last: str, within: tuple[int, ...]
) -> str:
    """Return the layer to take instead of the last that counts, which may be that one."""
    usable = [
        path for path in list(layers)[: list(layers).index(last)] if is_usable(layers[path].grid, within)
    ]
    if not is_usable(layers[last].grid, within):
        return _last_that_counts(engine, inputs, usable) or last
    cells = {path: math.prod(layers[path].grid) for path in usable if min(layers[path].grid[-2:]) >= ENOUGH}
    coarsest = min(cells.values(), default=math.inf)
    if layers[last].grid[-2:] != within[-2:] or coarsest >= math.prod(layers[last].grid):
        return last
    return _last_that_counts(engine, inputs, [path for path in cells if cells[path] == coarsest]) or last


def is_usable(grid: tuple[int, ...], within: tuple[int, ...]) -> bool:
    """Say whether a grid can tell places in the input's grid apart, along width and height.

    Along each of them it has 4 cells or more, or cells of no more than 32 pixels (and a remainder), as common
    classifiers have: what is too coarse for a small picture is then the picture's fault and not the layer's.
    """
    axes = zip(grid[-2:], within[-2:], strict=True)
    return all(cells >= ENOUGH or size < COMMON * (cells + 1) for cells, size in axes)


def _last_that_counts(engine: Engine, inputs: Inputs, paths: Sequence[str]) -> str | None:
    for end in range(len(paths), 0, -CANDIDATES):
        counting = _that_count(engine, inputs, paths[max(0, end - CANDIDATES) : end])
        if counting:
            return counting[-1]
    return None


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


def grid_layers(engine: Engine, inputs: Inputs) -> dict[str, GridLayer]:
    """Return the layers whose output has a grid by path, in the order in which they last finish."""
    batch, within = main_array(inputs).shape[0], _input_grid(engine, inputs)
    calls = engine.trace(inputs)
    counts = Counter(call.path for call in calls)
    found: dict[str, GridLayer] = {}
    for call in calls:
        found.pop(call.path, None)
        if not call.changes:
            continue
        grid = grid_of(Site(call.path, call.shape, batch, within, counts[call.path], engine.channels_last))
        if grid:
            found[call.path] = GridLayer(call.type, grid)
    return found


def _input_grid(engine: Engine, inputs: Inputs) -> tuple[int, ...]:
    return input_grid(tuple(main_array(inputs).shape), engine.channels_last, engine.stem)


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
    batch, grid = main_array(inputs).shape[0], _input_grid(engine, inputs)

    def score(result: Result) -> Array:
        logits = result.logits()
        xp = namespace(logits)
        return xp.max(xp.reshape(logits, (logits.shape[0], -1)), axis=1)[:, None]

    found = engine.record(inputs, score, Request(paths, gradients=paths)).gradients

    def on_grid_of(path: str, calls: Sequence[Array]) -> Array:
        layout = infer(Site(path, tuple(calls[-1].shape[1:]), batch, grid, len(calls), engine.channels_last))
        return layout(joined([call[0] for call in calls], layout))

    on_grid = {path: on_grid_of(path, calls) for path, calls in found.items()}
    return [
        path for path in paths if path in on_grid and bool(namespace(on_grid[path]).any(on_grid[path] != 0))
    ]
