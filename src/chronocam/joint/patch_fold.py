"""Pictures and clips that a model takes as rows of patches, without a batch axis: looked at as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chronocam.errors import InputError
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.types import Array, Inputs

_PAIRS: Final = (("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw"))


@dataclass(frozen=True)
class PatchFold:
    """How a model takes pictures of so many patches: as rows `(picture·patch, value)`.

    name: of the input. grid: `(time, height, width)` in patches. merge: how many patches of each side become
    one later; such blocks of them follow each other.
    """

    name: str
    grid: tuple[int, int, int]
    merge: int
    channel_axis: int = 1

    def __call__(self, inputs: Inputs) -> Inputs:
        """Return pictures as the model takes them."""
        return {name: self._rows(x) if name == self.name else x for name, x in inputs.items()}

    def undo(self, inputs: Inputs) -> Inputs:
        """Return rows as pictures of patches, `(picture, value, height, width)`; others as they are."""
        return {name: self._pictures(x) if name == self.name else x for name, x in inputs.items()}

    def _rows(self, x: Array) -> Array:
        if len(x.shape) == 2:
            return x
        xp, (time, height, width), m = namespace(x), self.grid, self.merge
        blocks = xp.reshape(x, (x.shape[0], x.shape[1], time, height // m, m, width // m, m))
        return xp.reshape(xp.permute_dims(blocks, (0, 2, 3, 5, 4, 6, 1)), (-1, x.shape[1]))

    def _pictures(self, x: Array) -> Array:
        if len(x.shape) != 2:
            return x
        xp, (time, height, width), m = namespace(x), self.grid, self.merge
        blocks = xp.reshape(x, (-1, time, height // m, width // m, m, m, x.shape[1]))
        whole = xp.permute_dims(blocks, (0, 6, 1, 2, 4, 3, 5))
        axes = (height, width) if time == 1 else self.grid
        return xp.reshape(whole, (whole.shape[0], x.shape[1], *axes))


def patch_fold_of(model: Any, inputs: Inputs) -> PatchFold | None:
    """Return how a model takes rows of patches; None for other inputs. InputError for unequal grids."""
    pairs = [(name, grids) for name, grids in _PAIRS if isinstance(inputs, Mapping) and grids in inputs]
    pairs = [(name, grids) for name, grids in pairs if len(getattr(inputs.get(name), "shape", ())) == 2]
    if not pairs:
        return None
    name, key = pairs[0]
    grids = {tuple(int(n) for n in grid) for grid in to_numpy(inputs[key])}
    if len(grids) > 1 or len(pairs) > 1:
        shown = ", ".join(" × ".join(map(str, grid)) for grid in sorted(grids)[:3])
        raise InputError(
            f"the pictures have grids of {shown} patches; explain those of one size at a time, pictures and "
            "clips apart"
        )
    vision = getattr(getattr(model, "config", None), "vision_config", None)
    time, height, width = grids.pop()
    return PatchFold(name, (time, height, width), getattr(vision, "spatial_merge_size", 1))
