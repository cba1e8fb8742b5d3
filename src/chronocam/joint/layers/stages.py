"""The stages of a network: the layers after which its grid shrinks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chronocam.engines import LayerCall, geometry_of
from chronocam.errors import LayerError
from chronocam.joint.look.look import Look
from chronocam.types import Window


def stages(look: Look, last: str) -> dict[str, tuple[Window, ...] | None]:
    """Return the last layer on each grid that is wider than the next one's, up to the layer `last`.

    Each comes with what its cells see of the one before it; see `Geometry.windows`. Layers that do not lead
    to `last` are left out. Found out once per input size.

    Raises LayerError for a layer that is not called, or without a grid.
    """
    return look.subject.once(
        ("stages", last, look.number, look.few().sizes), lambda: _stages(look.few(), last)
    )


def _stages(look: Look, last: str) -> dict[str, tuple[Window, ...] | None]:
    calls = look.engine.trace(look.inputs)
    counts = Counter(call.path for call in calls)
    latest: dict[str, LayerCall] = {}
    for call in calls[: _end(calls, last) + 1]:
        latest.pop(call.path, None)
        if call.changes or call.path == last:
            latest[call.path] = call
    grids = {
        path: grid
        for path, call in latest.items()
        if (grid := look.grid_of(path, call.shape, counts[path])) is not None
    }
    path = last.partition("#")[0]
    if path not in grids:
        raise LayerError(
            f"layer `{last}` has no grid to start from; choose one before the pooling, or leave it out"
        )
    rank = len(grids[path]) - int(look.per_frame(path, latest[path].shape, counts[path]))
    return geometry_of(look.engine).windows(look.inputs, _chosen(last, grids.pop(path), grids), rank)


def _chosen(last: str, narrow: tuple[int, ...], before: dict[str, tuple[int, ...]]) -> list[list[str]]:
    """Return the candidates of each stage, first to last.

    Walked backwards from `last`, a layer on a wider grid begins a new stage. Those before it on the same grid
    are candidates for that stage as well: which of them the signal passes through is for the engine to say. A
    layer whose grid is narrower along some axis lies in another branch.
    """
    chosen = [[last]]
    for name, grid in reversed(before.items()):
        if grid == narrow and len(chosen) > 1:
            chosen[0].insert(0, name)
        elif (
            grid != narrow
            and len(grid) == len(narrow)
            and all(wide >= cells for wide, cells in zip(grid, narrow, strict=True))
        ):
            chosen.insert(0, [name])
            narrow = grid
    return chosen


def _end(calls: Sequence[LayerCall], layer: str) -> int:
    """Return which of the calls is that of `layer`: `relu#1` names its second call, `relu` the last."""
    path, _, number = layer.partition("#")
    own = [at for at, call in enumerate(calls) if call.path == path]
    if len(own) <= int(number or 0):
        raise LayerError(f"layer `{layer}` is called {len(own)} times; choose one that the forward pass uses")
    return own[int(number) if number else -1]
