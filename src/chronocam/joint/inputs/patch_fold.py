"""Pictures and clips that a model takes as rows of patches, looked at as pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from chronocam.errors import InputError
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.types import Array, Inputs

_FILLED: Final = ("pixel_values", "spatial_shapes")
_NUMBERED: Final = "flattened_patches"
_PACKED: Final = (("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw"))


@dataclass(frozen=True)
class PatchFold(ABC):
    """How a model takes pictures: as rows, one for each patch. name: of the input that holds them."""

    name: str
    channel_axis: ClassVar[int] = 1

    def __call__(self, inputs: Inputs) -> Inputs:
        """Return pictures as the model takes them."""
        return {name: self._rows(x) if name == self.name else x for name, x in inputs.items()}

    def undo(self, inputs: Inputs) -> Inputs:
        """Return rows as pictures of patches, `(picture, value, height, width)`; others as they are."""
        return {name: self._pictures(x) if name == self.name else x for name, x in inputs.items()}

    @abstractmethod
    def _rows(self, x: Array) -> Array:
        """Return pictures as rows; rows as they are."""

    @abstractmethod
    def _pictures(self, x: Array) -> Array:
        """Return rows as pictures; pictures as they are."""


@dataclass(frozen=True)
class PackedFold(PatchFold):
    """Rows of all pictures in one axis: `(picture·patch, value)`, as Qwen2-VL takes them.

    grid: `(time, height, width)` in patches. merge: how many patches of each side become one later; such
        blocks of them follow each other.
    """

    grid: tuple[int, int, int]
    merge: int

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


@dataclass(frozen=True)
class FilledFold(PatchFold):
    """Rows of each picture, padded to one length: `(picture, patch, value)`, as SigLIP 2 takes them.

    grid: `(height, width)` in patches. length: how many rows each picture has, padding included.
    """

    grid: tuple[int, int]
    length: int

    def _rows(self, x: Array) -> Array:
        if len(x.shape) == 3:
            return x
        xp, (height, width) = namespace(x), self.grid
        rows = xp.matrix_transpose(xp.reshape(x, (x.shape[0], x.shape[1], height * width)))
        padding = xp.zeros_like(rows[:, :1])
        return xp.concat([rows, *[padding] * (self.length - height * width)], axis=1)

    def _pictures(self, x: Array) -> Array:
        if len(x.shape) != 3:
            return x
        xp, (height, width) = namespace(x), self.grid
        rows = xp.matrix_transpose(x[:, : height * width])
        return xp.reshape(rows, (x.shape[0], x.shape[2], height, width))


@dataclass(frozen=True)
class NumberedFold(FilledFold):
    """Rows that begin with the number of their row and of their column, from 1, as Pix2Struct takes them."""

    def _rows(self, x: Array) -> Array:
        if len(x.shape) == 3:
            return x
        places = _numbers(self.grid, self.length)
        numbers = like(np.broadcast_to(places, (x.shape[0], *places.shape)), x)
        return namespace(x).concat([numbers, super()._rows(x)], axis=2)

    def _pictures(self, x: Array) -> Array:
        return super()._pictures(x[:, :, 2:]) if len(x.shape) == 3 else x


def _numbers(grid: tuple[int, int], length: int) -> np.ndarray:
    """Return the numbers `(patch, 2)` of row and column, row by row; 0 for what fills up."""
    places = np.zeros((length, 2), np.float32)
    places[: grid[0] * grid[1]] = 1 + np.indices(grid).reshape(2, -1).T
    return places


def patch_fold_of(model: Any, inputs: Inputs) -> PatchFold | None:
    """Return how a model takes rows of patches; None for other inputs.

    Raises InputError for pictures of different sizes, and for pictures together with clips.
    """
    if not isinstance(inputs, Mapping):
        return None
    if len(getattr(inputs.get(_FILLED[0]), "shape", ())) == 3:
        sizes = inputs.get(_FILLED[1])
        return None if sizes is None else _filled(inputs[_FILLED[0]], sizes)
    if len(getattr(inputs.get(_NUMBERED), "shape", ())) == 3:
        return _numbered(inputs[_NUMBERED])
    pairs = [(name, grids) for name, grids in _PACKED if grids in inputs]
    pairs = [(name, grids) for name, grids in pairs if len(getattr(inputs.get(name), "shape", ())) == 2]
    if not pairs:
        return None
    name, key = pairs[0]
    time, height, width = _of_one_size(inputs[key])
    if len(pairs) > 1:
        raise InputError("there are pictures and clips; explain those of one size at a time, each apart")
    vision = getattr(getattr(model, "config", None), "vision_config", None)
    return PackedFold(name, (time, height, width), getattr(vision, "spatial_merge_size", 1))


def _filled(rows: Array, sizes: Array) -> FilledFold:
    height, width = _of_one_size(sizes)
    return FilledFold(_FILLED[0], (height, width), int(rows.shape[1]))


def _numbered(rows: Array) -> NumberedFold | None:
    places = to_numpy(rows[:, :, :2])
    height, width = _of_one_size(places.max(axis=1))
    length = int(rows.shape[1])
    whole = height * width <= length and (places == _numbers((height, width), length)).all()
    return NumberedFold(_NUMBERED, (height, width), length) if whole else None


def _of_one_size(sizes: Array) -> tuple[int, ...]:
    """Return the one grid of all pictures. Raises InputError for several."""
    grids = {tuple(int(n) for n in grid) for grid in to_numpy(sizes)}
    if len(grids) > 1:
        shown = ", ".join(" × ".join(map(str, grid)) for grid in sorted(grids)[:3])
        raise InputError(
            f"the pictures have grids of {shown} patches; explain those of one size at a time, pictures and "
            "clips apart"
        )
    return grids.pop()
