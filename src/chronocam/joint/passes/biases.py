"""What the layers of a network add to a score by themselves: their biases times ∂score/∂output, on grids."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from chronocam.engines import Recording
from chronocam.errors import LayoutError
from chronocam.joint.look.look import Look
from chronocam.maps.arrays import grid_axes, namespace, widen
from chronocam.types import Array


def bias_terms(look: Look, recording: Recording, columns: slice) -> tuple[Array, ...]:
    """Return the terms of all layers on which the score depends; see `Capture.biases`.

    Where a layout drops some of what a layer returned (a class token), what that adds is a term of its own.
    """
    terms: list[Array] = []
    for layer, adds in look.biases().items():
        pairs = zip(recording.gradients.get(layer, ()), recording.activations[layer], strict=False)
        calls = [widen(gradient[columns] * adds(output)) for gradient, output in pairs]
        for some in _together(look, layer, calls):
            terms += _placed(look, layer, some)
    return tuple(terms)


def _together(look: Look, layer: str, calls: Sequence[Array]) -> list[Sequence[Array]]:
    """Return the calls of a layer one by one, or at once where they are the steps of a clip."""
    if len(calls) < 2:
        return [[call] for call in calls]
    try:
        layout = look.layout(layer, tuple(calls[-1].shape[1:]), len(calls), None, "time")
    except LayoutError:
        layout = None
    return [calls] if getattr(layout, "takes_all_calls", False) else [[call] for call in calls]


def _placed(look: Look, layer: str, calls: Sequence[Array]) -> list[Array]:
    """Return the term of some calls `(target, *output)` on their grid, and what is left of it."""
    xp, targets = namespace(calls[0]), range(calls[0].shape[0])
    rows = [xp.reshape(call, (len(targets), look.shape[0], -1)) for call in calls]
    flat = xp.moveaxis(xp.concat(rows, axis=2), 0, 1)
    try:
        each = [look.on_grid(layer, [call[k] for call in calls], None, "time") for k in targets]
    except LayoutError:
        return [flat]
    term = xp.stack(each, axis=1)
    if prod(term.shape) == prod(flat.shape):
        return [term]
    left = xp.sum(flat, axis=2) - xp.sum(term, axis=grid_axes(term, 2))
    return [term, left[:, :, None]]
