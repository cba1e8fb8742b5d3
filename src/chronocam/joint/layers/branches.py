"""Which layers are in a branch: another way leads past them, from their own grid to the score.

What a residual connection adds up, the queries, keys and values of attention, and the patches beside a class
token hold only a part of what a network made of each place; where the branches meet, it is whole again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from copy import copy
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Final

from chronocam.joint.inputs.batches import is_floating
from chronocam.maps.arrays import apart, namespace
from chronocam.types import Array

if TYPE_CHECKING:
    from chronocam.engines import LayerCall
    from chronocam.joint.look.look import Look

BEGINNING: Final = 8
"""Channels or tokens of the first sample, at which a gradient is looked at before the rest."""


class Branches:
    """Says which layers are in a branch.

    calls: of all layers in one pass, with gradients. own: those that depend on the main input; ids have no
        gradient, so that ways begin where they are looked up.
    """

    def __init__(self, look: Look, calls: Sequence[LayerCall], own: Sequence[LayerCall]) -> None:
        counts = Counter(call.path for call in calls)
        self.calls = calls
        self._sources = {-1 - look.number}
        if not is_floating(look.main):
            looked_up = {id(call) for call in own if call.type == "Embedding"}
            self._sources |= {at for at, call in enumerate(calls) if id(call) in looked_up}
        self._samples = look.shape[0]
        self._grids = [look.grid_of(call.path, call.shape, counts[call.path]) for call in calls]
        # Where the score does not depend on an output, no way leads through it, whatever it is joined with.
        self._silent = {
            at for at, call in enumerate(calls) if call.gradient is None or is_zero(call.gradient)
        }

    def past(self, joint: Collection[str]) -> Branches:
        """Return the branches of a model without these layers, so that no way leads through them."""
        rest = copy(self)
        rest._silent = self._silent | {at for at, call in enumerate(self.calls) if call.path in joint}
        return rest

    def __call__(self, path: str, grid: tuple[int, ...]) -> bool:
        """Say whether a way leads around all calls of a layer; never where the engine knows no ways."""
        own, on_grid = self._calls_of(path, grid)
        return way_around(self.calls, own | self._silent, on_grid, self._sources)

    def beside(self, path: str) -> bool:
        """Say whether a way leads around all calls of a layer, through layers on whatever grids."""
        own, _ = self._calls_of(path, ())
        on_grids = {at for at, grid in enumerate(self._grids) if grid is not None}
        return way_around(self.calls, own | self._silent, on_grids, self._sources)

    def leads_on(self, path: str, around: Collection[str]) -> bool:
        """Say whether a way leads from a layer to the score around others."""
        reached = {at for at, call in enumerate(self.calls) if call.path == path and path not in around}
        for at, call in enumerate(self.calls):
            if call.path not in around and not reached.isdisjoint(call.parents or ()):
                reached.add(at)
        return any(self.calls[at].scored for at in reached)

    def depth(self, path: str) -> int:
        """Return how many calls the longest way from the input to a layer leads through."""
        return max(self._depths[at] for at, call in enumerate(self.calls) if call.path == path)

    @cached_property
    def _depths(self) -> list[int]:
        depths: list[int] = []
        for call in self.calls:
            depths.append(1 + max((depths[at] for at in call.parents or () if at >= 0), default=0))
        return depths

    def is_trunk(self, path: str, grid: tuple[int, ...], ends: Collection[str]) -> bool:
        """Say whether some of the `ends` come later on the grid, and every way to them leads through a layer.

        Ways that leave the grid before, as to the class token of another branch, are not asked for.
        """
        own, on_grid = self._calls_of(path, grid)
        later = {at for at in on_grid if at > max(own) and self.calls[at].path in ends}
        return bool(later) and not way_around(self.calls, own | self._silent, on_grid, self._sources, later)

    def _calls_of(self, path: str, grid: tuple[int, ...]) -> tuple[set[int], set[int]]:
        """Return the numbers of a layer's calls, and of all calls on its grid."""
        own = {at for at, call in enumerate(self.calls) if call.path == path}
        # Of the same rank: 16 states beside features of 4 × 4 cells only happen to be as many.
        rank, rows = len(self.calls[max(own)].shape), self._samples * prod(grid)
        on_grid = {
            at
            for at, call in enumerate(self.calls)
            if (self._grids[at] == grid and len(call.shape) == rank)
            or (rows > self._samples and len(call.shape) == 4 and call.shape[0] == rows)  # patches as rows
        }
        return own, on_grid


def way_around(
    calls: Sequence[LayerCall],
    off: Collection[int],
    on_grid: Collection[int],
    sources: Collection[int],
    ends: Collection[int] | None = None,
) -> bool:
    """Say whether a way leads from the input to the score through a layer on a grid, around other layers.

    calls: of all layers in one pass. off: the numbers of those that it must not lead through. on_grid: of
        those on the grid. sources: the input's number among parents, or those of calls that look its ids up.
        ends: of calls that it may lead to instead.
    """
    before, after = {*sources} - {*off}, set[int]()  # what is reached before, and after, a layer on the grid
    for at, call in enumerate(calls):
        if at in off or call.parents is None:
            continue
        if not after.isdisjoint(call.parents):
            after.add(at)
        if not before.isdisjoint(call.parents):
            (after if at in on_grid else before).add(at)
    return any(calls[at].scored for at in after) if ends is None else not after.isdisjoint(ends)


def is_zero(gradient: Array) -> bool:
    """Say whether a gradient is zero everywhere."""
    # Most gradients are not, and show it at once. What stands for many cells is looked at once.
    gradient = apart(gradient)
    if 0 not in gradient.shape and bool(gradient[(0,) * gradient.ndim] != 0):
        return False
    parts = (gradient[:1, :BEGINNING], gradient) if gradient.ndim > 1 else (gradient,)
    return not any(bool(namespace(part).any(part != 0)) for part in parts)
