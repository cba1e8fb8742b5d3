"""What layers see of the input, and where their cells lie in it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronocam.engines import Sight
from chronocam.joint.inputs.batches import first_samples
from chronocam.joint.look.placement import looks_in_time, steps_of_causal
from chronocam.maps.resample import half_pixel_centers
from chronocam.types import INPUT, Window

if TYPE_CHECKING:
    from chronocam.joint.look.look import Look


@dataclass(frozen=True, eq=False)
class Places:
    """What the layers of a model see of the inputs of a look; each is found out once.

    look: whose facts are kept with its model.
    """

    look: Look

    def centers(self, layer: str, grid: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
        """Return where the cells of a layer lie in the input, per axis; found out once per input size.

        Along an axis on which cells see the input from border to border they tile it evenly. Slices of a
        causal network that see more frames than there are lie where they look most.
        """
        return self.look.subject.once(
            ("centers", layer, grid, self.look.number, self.look.sizes), lambda: self._centers(layer, grid)
        )

    def _centers(self, layer: str, grid: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
        inputs = first_samples(self.look.inputs, 2, self.look.shared)
        measured = self.look.subject.geometry.centers(inputs, layer, grid)
        axes = zip(measured, grid, self.look.grid[-len(grid) :], strict=True)
        centers = [half_pixel_centers(n, size) if axis is None else axis for axis, n, size in axes]
        if len(grid) == 3:
            past = self.past(layer)
            if measured[0] is None or (past is not None and past.high - past.low >= self.look.grid[0]):
                centers[0] = looks_in_time(self.look.one, layer, grid[0])
        return tuple(centers)

    def causal_centers(self, layer: str, grid: tuple[int, ...]) -> tuple[tuple[float, ...], ...] | None:
        """Return where the cells of a causal network lie: each step or slice where it looks, back in time.

        Rows and columns tile the input evenly. None for other networks; found out once per input size.
        """
        past, look = self.past(layer), self.look
        if past is None:
            return None
        if len(grid) == 1:
            key = "steps", layer, grid, look.number, look.size_of_one
            return (look.subject.once(key, lambda: steps_of_causal(look.one, layer, grid[0], past)),)
        even = [half_pixel_centers(n, size) for n, size in zip(grid, self.look.grid, strict=True)]
        return self.centers(layer, grid)[0], *even[1:]

    def unpadded_centers(self, layer: str, grid: tuple[int, ...]) -> tuple[tuple[float, ...], ...] | None:
        """Return where the cells lie of a layer whose windows in time are not padded, or not enough.

        Steps and slices lie in the middle of what they see, which then is as far from the first place as from
        the last; rows and columns of clips tile the input evenly. None where cells that do so along all axes
        are at most half a cell aside, as behind padded convolutions.
        """
        field = self.field(layer)
        if field is None or len(field) != len(grid):
            return None
        even = tuple(half_pixel_centers(n, size) for n, size in zip(grid, self.look.grid, strict=True))
        in_time = 1 if len(grid) == 3 else len(grid)
        axes = zip(_middles(field, grid), even, self.look.grid, field, strict=True)
        centers = (
            *(_unpadded(*one[:3], one[3].stride) for one in list(axes)[:in_time]),
            *even[in_time:],
        )
        return None if centers == even else centers

    def past(self, layer: str) -> Window | None:
        """Return which frames a causal layer sees: its slices' own and more before; None for other layers."""
        field = self.field(layer)
        if field is None:
            return None
        stride, low, high = field[0]
        # As far back as ahead is how a padded stride lies: its slices only begin at their centre.
        return field[0] if -low > high and high < stride else None

    def field(self, layer: str) -> tuple[Window, ...] | None:
        """Return what the cells of a layer see of the input, per axis; None where that is not known."""
        return self.sight(layer).field

    def sight(self, layer: str) -> Sight:
        """Return what a layer sees of the input; found out once per layer.

        And once per input size, where the network may move places or leave some out.
        """
        size, key = self.look.size_of_one, self._sight_key(layer)

        def find() -> Sight:
            return self.look.subject.geometry.sight(self.look.one.inputs, layer, len(self.look.grid))

        shape, first = self.look.subject.once(key, lambda: (size, find()))
        if first.keeps_places or shape == size:
            return first
        return self.look.subject.once((*key, size), find)

    def remember(self, layer: str, sight: Sight) -> None:
        """Take what a layer sees from a pass that was run for another purpose."""
        size = self.look.size_of_one
        shape, _ = self.look.subject.once(self._sight_key(layer), lambda: (size, sight))
        if shape != size:
            self.look.subject.once((*self._sight_key(layer), size), lambda: sight)

    def _sight_key(self, layer: str) -> tuple[Hashable, ...]:
        return "sight", layer, self.look.number

    def moves(self, layer: str) -> bool:
        """Say whether the model, called plainly, may move places before a layer."""
        if self.look.call is not None or layer == INPUT or not self.look.subject.geometry.may_move:
            return False
        path = layer.partition("#")[0]
        keep = [call.keeps_places for call in self.look.one.known_calls() if call.path == path]
        return not (all(keep) if keep and None not in keep else self.sight(layer).keeps_places)

    def part(self, layer: str) -> tuple[tuple[int, int], ...] | None:
        """Return the first and last place that a layer sees, per axis; None where it sees all."""
        extent = self.sight(layer).extent if self.moves(layer) else None
        if extent is None or len(extent) != len(self.look.shape) - 1:
            return None
        own = [one for axis, one in enumerate(extent, start=1) if axis != self.look.channel_axis]
        return (
            None if all(one == (0, n - 1) for one, n in zip(own, self.look.grid, strict=True)) else tuple(own)
        )

    def part_centers(self, layer: str, grid: tuple[int, ...]) -> tuple[tuple[float, ...], ...] | None:
        """Return where the cells of a layer lie that sees a part of the input: they tile that part evenly.

        None where it sees all of it, but for less than a cell, as strides leave out.
        """
        part = self.part(layer)
        if part is None or len(part) != len(grid):
            return self._padded_centers(layer, grid)
        each = list(zip(part, grid, self.look.grid, strict=True))
        if all((size - (high - low + 1)) * n < high - low + 1 for (low, high), n, size in each):
            return None
        return tuple(
            tuple(low + at for at in half_pixel_centers(n, high - low + 1)) for (low, high), n, _ in each
        )

    def padding(self, layer: str, grid: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return how many cells along each axis of a layer lie in what the model puts around its input.

        None where none do, or where that is not known.
        """
        known = self.look.call is None and layer != INPUT and self.look.subject.geometry.may_move
        field = self.sight(layer).field if known else None
        if field is None or len(field) != len(grid):
            return None
        beyond = []
        for (stride, _, _), at, size in zip(field, _middles(field, grid), self.look.grid, strict=True):
            more = (len(at) - 1) * stride >= size  # else they only look aside, as back in time
            beyond.append(sum(more and not -0.5 - stride / 2 < c < size - 0.5 + stride / 2 for c in at))
        return tuple(beyond) if any(beyond) else None

    def _padded_centers(self, layer: str, grid: tuple[int, ...]) -> tuple[tuple[float, ...], ...] | None:
        """Return where cells lie of which some see nothing but padding: the others have their true places."""
        beyond = self.padding(layer, grid)
        if beyond is None:
            return None
        even = (half_pixel_centers(n, size) for n, size in zip(grid, self.look.grid, strict=True))
        middles = _middles(self.sight(layer).field or (), grid)
        return tuple(true if n else at for n, true, at in zip(beyond, middles, even, strict=True))

    def frame_centers(self, layer: str, rows: int) -> tuple[float, ...]:
        """Return at which frame each row of a layer with folded frames looks; once per input size."""
        return self.look.subject.once(
            ("frame centers", layer, rows, self.look.number, self.look.sizes),
            lambda: self.look.subject.geometry.frame_centers(
                first_samples(self.look.inputs, 1, self.look.shared), layer, rows, self.look.frame_axis
            ),
        )


def _middles(field: Sequence[Window], grid: Sequence[int]) -> list[tuple[float, ...]]:
    """Return the middle of what each cell sees, per axis."""
    return [
        tuple((w.low + w.high) / 2 + w.stride * i for i in range(n)) for w, n in zip(field, grid, strict=True)
    ]


def _unpadded(
    middles: tuple[float, ...], even: tuple[float, ...], size: int, stride: float
) -> tuple[float, ...]:
    """Return where cells lie along an axis: in the middle of what they see where that is clearly elsewhere.

    As far from the first place as from the last, else the axis is not the one that the field tells of.
    """
    before, behind = middles[0], size - 1 - middles[-1]
    centred = min(before, behind) >= 0 and abs(before - behind) <= stride
    aside = max(abs(middle - at) for middle, at in zip(middles, even, strict=True))
    return middles if centred and aside > stride / 2 else even
