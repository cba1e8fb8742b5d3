"""Where the cells of a layer lie in the input: worked out once for all looks at inputs of the same shapes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from chronocam.joint.layers.default_layer import Chosen
from chronocam.joint.look.look import Look
from chronocam.joint.passes.diagnose import of_field, of_grid, of_padding, of_part, of_past, of_unpadded
from chronocam.joint.passes.levels import Known, tiled
from chronocam.joint.recipe import Recipe
from chronocam.layouts import Bands
from chronocam.layouts.base import joined
from chronocam.types import INPUT, Array, Finding, Window
from chronocam.types.findings import note

T = TypeVar("T")

Centers: TypeAlias = tuple[tuple[float, ...], ...]
"""Per axis of the grid, where the cells lie in the input."""


class Bearings:
    """Where the cells of a layer lie in the input, as one method asks for it.

    This hangs on shapes, on the model and on the method's options, and on no value. So it serves all looks at
    inputs of these shapes, and each question takes the look at hand.

    shape, calls: what the layer returned, and in how many calls. known: what an adapter knows of its grid.

    Attributes: layout puts what it returned on the grid, and stated is what a user or an adapter says of it.
    per_frame says whether the layer saw the frames of clips one by one, by_frame whether the method gets each
    time slice as a sample of its own. notes are remarks on what the layer returned.

    """

    def __init__(
        self, look: Look, recipe: Recipe, layer: str, known: Known, shape: tuple[int, ...], calls: int
    ) -> None:
        self._recipe = recipe
        self._layer = layer
        self._extent = known.extent
        self.stated: Any = recipe.layout or known.layout
        self.layout: Callable[[Array], Array] = look.layout(layer, shape, calls, self.stated)
        self.per_frame: bool = getattr(self.layout, "per_frame", False)
        self.by_frame: bool = self._takes_frames(look)
        self.notes: tuple[str, ...] = tuple(self._notes(look, calls))
        self.grid: tuple[int, ...] = ()
        self._answers: dict[Hashable, Any] = {}

    def on_grid(self, calls: Sequence[Array]) -> Array:
        """Return what the layer returned, one array per call, as `(batch, channel, *grid)`."""
        placed = self.layout(joined(calls, self.layout))
        self.grid = tuple(placed.shape[2:])
        return placed

    def centers(self, look: Look) -> Centers | None:
        """Return where the cells lie in the input; None where they tile it evenly."""
        return self._once("centers", lambda: self._centers(look))

    def windows(self, look: Look) -> tuple[Window, ...] | None:
        """Return what the cells of a layer that was chosen see of the input; None where that is not known.

        A layer that was named is not asked for: that would cost a pass.
        """
        if not isinstance(self._layer, Chosen) or self._recipe.maps_input or look.call is not None:
            return None
        return self._once("windows", lambda: look.places.field(self._layer))

    def remarks(self, look: Look, alone: bool) -> tuple[Finding, ...]:
        """Return what the layer's grid cannot tell, and where slices are laid if it is explained alone."""
        return self._once(("remarks", alone), lambda: tuple(self._remarks(look, alone)))

    def _once(self, question: Hashable, find: Callable[[], T]) -> T:
        if question not in self._answers:
            self._answers[question] = find()
        answer: T = self._answers[question]
        return answer

    def _takes_frames(self, look: Look) -> bool:
        if not hasattr(self._recipe, "pool") or look.clips is None:
            return False
        pool = self._recipe.pool
        one_by_one = self.per_frame or look.engine.frame_wise(self._layer)
        return one_by_one if pool is None else pool == "frame"

    def _notes(self, look: Look, calls: int) -> Iterator[str]:
        layer = self._layer
        if calls > 1 and not getattr(self.layout, "takes_all_calls", False):
            yield (
                f"layer `{layer}` is called {calls} times; its last call is explained "
                f"(`{layer}#0` is the first)"
            )
        if self.stated is None and layer != INPUT:
            yield from look.remarks(layer)
            if isinstance(self.layout, Bands):
                yield (
                    f"layer `{layer}` has bands beside its steps, as of a spectrum that the model makes of "
                    "its input: the map is over time, of all bands together"
                )

    def _centers(self, look: Look) -> Centers | None:
        layer, grid = self._layer, self.grid
        if layer == INPUT:
            return None
        if self._extent is not None and self._recipe.align == "half_pixel":
            return tiled(grid, self._extent)
        if self._recipe.align == "half_pixel":
            causal = look.places.causal_centers(layer, grid) if self._in_time(look) else None
            of_signals = self._in_time(look) or self._in_plane(look)
            unpadded = look.places.unpadded_centers(layer, grid) if of_signals else None
            return causal or self._part_centers(look) or unpadded
        if not self.per_frame:
            return look.places.centers(layer, grid)
        times: tuple[float, ...] = tuple(map(float, range(grid[0])))
        if grid[0] < look.grid[0]:  # thinned out before the 2D network
            times = look.places.frame_centers(layer, grid[0])
        return times, *look.places.centers(layer, grid[1:])

    def _part_centers(self, look: Look) -> Centers | None:
        """Return where the cells lie of a layer that sees a part of the input; None where it sees all."""
        stated = self.per_frame or self.stated is not None
        return None if stated else look.places.part_centers(self._layer, self.grid)

    def _in_time(self, look: Look) -> bool:
        """Say whether the layer has steps or slices of which the model, called plainly, tells their sight."""
        rank = len(self.grid)
        return rank == len(look.grid) and rank in (1, 3) and look.call is None and not self.per_frame

    def _in_plane(self, look: Look) -> bool:
        """Say whether the layer is of signals without channels, side by side as rows or columns."""
        plane = len(look.grid) == 2 and look.channel_axis is None and self.stated is None
        return plane and len(self.grid) == 2 and look.call is None

    def _remarks(self, look: Look, alone: bool) -> Iterator[Finding]:
        layer, grid = self._layer, self.grid
        if layer == INPUT or self._recipe.maps_input:
            return
        yield from of_grid(layer, grid, look.grid)
        yield from of_field(layer, self.windows(look), look.grid)
        if self._extent is not None or self._recipe.align != "half_pixel":
            return
        if self._part_centers(look) is not None:
            yield from of_part(layer, look.places.part(layer) or (), look.grid)
            yield from of_padding(layer, look.places.padding(layer, grid) or (), grid)
        elif alone and (centers := self.centers(look)) is not None:
            if look.places.past(layer) is not None:
                yield note(of_past(layer, len(grid)))
            else:
                yield from of_unpadded(layer, centers, look.grid)
