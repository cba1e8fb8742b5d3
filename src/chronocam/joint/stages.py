"""The stages of a network: the layers after which its grid shrinks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chronocam.engines import Engine
from chronocam.engines.base import LayerCall
from chronocam.errors import LayerError
from chronocam.joint.default_layer import grid_of
from chronocam.joint.inputs import first_samples, main_array
from chronocam.layouts import Site, infer, input_grid
from chronocam.types import Inputs, Window


def stages(engine: Engine, inputs: Inputs, last: str) -> dict[str, tuple[Window, ...] | None]:
    """Return the last layer on each grid that is wider than the next one's, from the input to the layer `last`.

    Each comes with what its cells see of the one before it; see `Engine.windows`. Layers that do not lead to
    `last` are left out. Raises LayerError for a layer that is not called, or without a grid.
    """
    sample = first_samples(inputs)
    array, calls = main_array(sample), engine.trace(sample)
    within, counts = (
        input_grid(tuple(array.shape), engine.channels_last, engine.stem),
        Counter(c.path for c in calls),
    )
    sites: dict[str, Site] = {}
    for call in calls[: _end(calls, last) + 1]:
        sites.pop(call.path, None)
        if call.changes or call.path == last:
            times = counts[call.path]
            sites[call.path] = Site(
                call.path, call.shape, array.shape[0], within, times, engine.channels_last
            )
    path = last.partition("#")[0]
    grids = {name: grid for name, site in sites.items() if (grid := grid_of(site)) is not None}
    if path not in grids:
        raise LayerError(
            f"layer `{last}` has no grid to start from; choose one before the pooling, or leave it out"
        )
    narrow, chosen = grids.pop(path), [[last]]
    rank = len(narrow) - int(infer(sites[path]).per_frame)
    for name, grid in reversed(grids.items()):
        if grid == narrow and len(chosen) > 1:
            chosen[0].insert(0, name)
        elif (
            grid != narrow
            and len(grid) == len(narrow)
            and all(a >= b for a, b in zip(grid, narrow, strict=True))
        ):
            chosen.insert(0, [name])
            narrow = grid
    return engine.windows(sample, chosen, rank)


def _end(calls: Sequence[LayerCall], layer: str) -> int:
    """Return which of the calls is that of `layer` (`relu#1`: its second call), the last one where none is named."""
    path, _, number = layer.partition("#")
    own = [at for at, call in enumerate(calls) if call.path == path]
    if len(own) <= int(number or 0):
        raise LayerError(f"layer `{layer}` is called {len(own)} times; choose one that the forward pass uses")
    return own[int(number) if number else -1]
