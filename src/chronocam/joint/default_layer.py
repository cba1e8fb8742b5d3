"""Which layer is explained where none is named: the last one that still has a usable grid, and counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chronocam.engines import LayerCall, Request, Result
from chronocam.errors import LayerError
from chronocam.joint.look import Look
from chronocam.maps.arrays import namespace
from chronocam.types import Array

CANDIDATES = 24  # how many layers are tried at once
ENOUGH: Final = 4  # cells along an axis that are enough at any size of the input
COMMON: Final = 32  # pixels: the cells of common classifiers, usable however few there are


class Chosen(str):
    """The path of the layer that is explained.

    why: in words, where it is not the last one that the score depends on.
    """

    why: str | None = None


@dataclass(frozen=True)
class TracedLayer:
    """A layer as one forward pass showed it: its type, the shape of its output, and its grid, if it has one.

    changes: False for layers that only pass on, drop or resample what they get, and for the model's output.
    """

    type: str
    shape: tuple[int, ...]
    grid: tuple[int, ...] | None
    changes: bool


def traced_layers(look: Look) -> dict[str, TracedLayer]:
    """Return the layers by path, in the order in which they last finish."""
    calls = look.engine.trace(look.inputs)
    counts = Counter(call.path for call in calls)
    last: dict[str, LayerCall] = {}
    for call in reversed(calls):
        last.setdefault(call.path, call)
    return {
        path: TracedLayer(call.type, call.shape, look.grid_of(path, call.shape, counts[path]), call.changes)
        for path, call in reversed(last.items())
    }


def default_layer(look: Look) -> Chosen:
    """Return the last layer with a usable grid that the score depends on, found with two samples.

    Layers that only pass on or resample what they get are left out, and so is the model's own output. Where
    the last grid is the input's own after coarser ones (dense outputs, such as depth), the last layer on the
    coarsest grid of at least 4 cells along each axis is taken. In a vision transformer that reads its class
    token, the patch tokens after the last attention do not count, and the block before it is taken. Where no
    grid is usable (see `is_usable`), the last one is taken as it is. Raises
    LayerError where no layer has a grid.
    """
    look = look.few()
    layers = {path: layer for path, layer in traced_layers(look).items() if layer.changes and layer.grid}
    grids = {path: layer.grid for path, layer in layers.items() if layer.grid}
    paths = list(grids)
    if not paths:
        raise LayerError("no layer of the model has a grid; name conv_layer= and layout=")
    last = _last_that_counts(look, paths)
    if last is None:
        return Chosen(paths[-1])
    best = _better(look, grids, last)
    block = _block_before(best, {path: layer.type for path, layer in layers.items()})
    chosen = Chosen(block if block is not None and _that_count(look, [block]) else best)
    if best != last:
        cells, others = (" × ".join(map(str, grids[path])) for path in (chosen, last))
        chosen.why = (
            f"layer `{chosen}` is explained, the deepest with a usable grid: {cells} cells, where `{last}` "
            f"has {others}; conv_layer= names another"
        )
    return chosen


def _better(look: Look, grids: Mapping[str, tuple[int, ...]], last: str) -> str:
    """Return the layer to take instead of the last that counts, which may be that one.

    Two things make another one better. A last grid too coarse to tell places apart gives way to the deepest
    that is not. And a last grid as fine as the input's, which a decoder has reached again, says no more than
    the input itself: there the coarsest grid in between holds what the network made of the picture.
    """
    within, before = look.grid, list(grids)[: list(grids).index(last)]
    usable = [path for path in before if is_usable(grids[path], within)]
    if not is_usable(grids[last], within):
        return _last_that_counts(look, usable) or last
    cells = {path: math.prod(grids[path]) for path in usable if min(grids[path][-2:]) >= ENOUGH}
    coarsest = min(cells.values(), default=math.inf)
    if grids[last][-2:] != within[-2:] or coarsest >= math.prod(grids[last]):
        return last
    return _last_that_counts(look, [path for path in cells if cells[path] == coarsest]) or last


def is_usable(grid: tuple[int, ...], within: tuple[int, ...]) -> bool:
    """Say whether a grid can tell places in the input's grid apart, along width and height.

    Along each of them it has 4 cells or more, or cells of no more than 32 pixels (and a remainder), as common
    classifiers have: what is too coarse for a small picture is then the picture's fault and not the layer's.
    """
    axes = zip(grid[-2:], within[-2:], strict=True)
    return all(cells >= ENOUGH or size < COMMON * (cells + 1) for cells, size in axes)


def _last_that_counts(look: Look, paths: Sequence[str]) -> str | None:
    # From the end: one of the last layers usually counts, and a pass keeps the gradients of all it tries.
    for end in range(len(paths), 0, -CANDIDATES):
        counting = _that_count(look, paths[max(0, end - CANDIDATES) : end])
        if counting:
            return counting[-1]
    return None


def _block_before(layer: str, types: Mapping[str, str]) -> str | None:
    """Return the block before the one that `layer` lies inside: the last of the same type beside it, or None.

    Where `layer` is the last that counts, what its block adds it to does not: `layer` is in a branch.
    """
    # From the innermost block that `layer` lies in outwards: blocks of a kind stand beside each other in a
    # list, so the last of its siblings that finished before it is the block whose output its block got.
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


def _that_count(look: Look, paths: Sequence[str]) -> list[str]:
    """Return those of `paths` where the gradient of the largest output is not zero on the grid."""

    def score(result: Result) -> Array:
        logits = result.logits()
        xp = namespace(logits)
        return xp.max(xp.reshape(logits, (logits.shape[0], -1)), axis=1)[:, None]

    gradients = look.engine.record(look.inputs, score, Request(paths, gradients=paths)).gradients
    # The order of tokens is left open: where their gradients are zero, they are so in any order.
    on_grid = {
        path: look.on_grid(path, [call[0] for call in calls], order="time")
        for path, calls in gradients.items()
    }
    return [
        path for path in paths if path in on_grid and bool(namespace(on_grid[path]).any(on_grid[path] != 0))
    ]
