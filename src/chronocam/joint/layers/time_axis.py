"""Which axis of a signal is time, where no layer's kind says it: the one that the cells of layers follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from chronocam.errors import LayerError, LayoutError
from chronocam.joint.look.look import Look

_OTHER: Final = {1: 2, 2: 1}

Choose = Callable[[Look], str]
"""Returns the layer that is explained. Raises LayerError, or LayoutError, where none can be."""


def channels_of(look: Look, choose: Choose) -> int | None:
    """Return the axis of inputs `(batch, …, …)` that is not time; None where the layers do not say it.

    It is the one that lets a later layer be explained. A network that embeds the whole series of each
    variable has layers over variables alone, and one that cuts each series into patches ends in layers over
    patches.
    """
    usual = look.channel_axis or 1
    depths = {axis: _depth(replace(look, channels=axis), choose) for axis in (usual, _OTHER[usual])}
    best = max(depths, key=lambda axis: depths[axis])
    return best if len(set(depths.values())) > 1 else None


def _depth(look: Look, choose: Choose) -> int:
    """Return how late the layer comes that is explained, by its number in a pass; −1 without any."""
    try:
        layer = choose(look)
        if look.settled(layer).remark is not None:
            return -1
    except (LayerError, LayoutError):
        return -1
    path = layer.partition("#")[0]
    return max(at for at, call in enumerate(look.one.calls()) if call.path == path)
