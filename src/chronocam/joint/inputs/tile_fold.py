"""Pictures that a vision-language model takes as tiles, looked at as the pictures that they were cut from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any, ClassVar, Final

from chronocam.errors import InputError
from chronocam.layouts.patch_rows import Cut
from chronocam.maps.arrays import namespace, to_numpy
from chronocam.types import Array, Inputs

_NAME: Final = "pixel_values"
_MASK: Final = "pixel_attention_mask"
_AXES: Final = 5  # of `(sample, picture, channel, height, width)`
_TILE: Final = re.compile(r"<row_(\d+)_col_(\d+)>")
THUMBNAIL: Final = "thumbnail"
"""What the whole picture is called, which such a model sees beside its tiles: an input of its own."""


@dataclass(frozen=True)
class TileFold:
    """How a model takes pictures: `(sample, tile, channel, height, width)`, the tiles row by row.

    size: `(height, width)` of a tile. grid: rows and columns of tiles.
    before, after: how often the whole picture, made as small as a tile, comes before and after them: once at
        most.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    before: int = 0
    after: int = 0
    channel_axis: ClassVar[int] = 1

    def __call__(self, inputs: Inputs) -> Inputs:
        """Return pictures as the model takes them."""
        (rows, columns), (height, width), x = self.grid, self.size, inputs[_NAME]
        if len(x.shape) == _AXES:
            return inputs
        xp, (samples, channels) = namespace(x), x.shape[:2]
        apart = xp.reshape(x, (samples, channels, rows, height, columns, width))
        apart = xp.permute_dims(apart, (0, 2, 4, 1, 3, 5))
        tiles = xp.reshape(apart, (samples, rows * columns, channels, height, width))
        if self.before or self.after:
            whole = inputs[THUMBNAIL][:, None]
            tiles = xp.concat([whole, tiles] if self.before else [tiles, whole], axis=1)
        others = {name: value for name, value in inputs.items() if name != THUMBNAIL}
        return {**others, _NAME: tiles}

    def undo(self, inputs: Inputs) -> Inputs:
        """Return tiles as pictures, `(sample, channel, height, width)`; pictures as they are."""
        x = inputs[_NAME]
        if len(x.shape) != _AXES:
            return inputs
        xp, (rows, columns), (height, width) = namespace(x), self.grid, self.size
        last = self.before + rows * columns
        apart = xp.reshape(x[:, self.before : last], (x.shape[0], rows, columns, x.shape[2], height, width))
        beside = xp.permute_dims(apart, (0, 3, 1, 4, 2, 5))
        pictures = {_NAME: xp.reshape(beside, (x.shape[0], x.shape[2], rows * height, columns * width))}
        if self.before or self.after:
            pictures[THUMBNAIL] = x[:, 0 if self.before else last]
        given: dict[str, Array] = {}
        for name, value in inputs.items():
            given |= pictures if name == _NAME else {name: value}
        if _MASK in given:  # of pictures that fill up a batch, none is left
            given[_MASK] = given[_MASK][:, : last + self.after]
        return given

    def cut(self, entry: tuple[Any, ...] | None) -> Cut | None:
        """Return which rows of the vision tower are of an input: of its tiles, or of the whole picture.

        None where the model sees one picture of each sample, as others do.
        """
        tiles = prod(self.grid)
        if entry == (THUMBNAIL,):
            return (1, 1), tiles * self.after, tiles * self.before
        return None if tiles == 1 else (self.grid, self.before, self.after)


def pictures_in(model: Any, inputs: Inputs) -> int | None:
    """Return how many pictures, or tiles of one, a model takes for each prompt; None for other inputs."""
    named = isinstance(inputs, Mapping) and {_NAME, "input_ids"} <= {*inputs}
    if not named or _token(model) is None:
        return None
    shape, prompts = (tuple(getattr(inputs[name], "shape", ())) for name in (_NAME, "input_ids"))
    if len(shape) >= _AXES:
        return prod(shape[1:-3])
    several = len(shape) == _AXES - 1 and len(prompts) == 2 and shape[0] > prompts[0]
    return shape[0] // prompts[0] if several else None


def _token(model: Any) -> int | None:
    """Return the token that stands in a prompt for a picture; None for models without one."""
    config = getattr(model, "config", None)
    either = (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
    return next((token for token in either if token is not None), None)


def tile_fold_of(model: Any, inputs: Inputs, pictures: int) -> TileFold:
    """Return how a model takes the tiles of pictures, so many for each prompt.

    Raises InputError where nothing says how they lie, and for pictures that are cut in different ways.
    """
    x, tokenizer = inputs[_NAME], getattr(model, "tokenizer", None)
    size = int(x.shape[-2]), int(x.shape[-1])
    resolutions = getattr(model.config, "image_grid_pinpoints", None)
    cuts: set[Cut | None] = {None}
    if len(x.shape) == _AXES and pictures == 1:
        cuts = {((1, 1), 0, 0)}
    elif len(x.shape) == _AXES and resolutions is not None and "image_sizes" in inputs:
        wholes = [_resolution(one, resolutions) for one in to_numpy(inputs["image_sizes"]).tolist()]
        cuts = {((height // size[0], width // size[1]), 1, 0) for height, width in wholes}
    elif len(x.shape) == _AXES and tokenizer is not None:
        cuts = {_said(row, _token(model), tokenizer) for row in to_numpy(inputs["input_ids"]).tolist()}
    each = sorted(cut for cut in cuts if cut is not None)
    if len(each) < len(cuts) or any(prod(grid) + before + after > pictures for grid, before, after in each):
        raise InputError(
            f"`{_NAME}` {tuple(x.shape)} holds {pictures} pictures for each prompt, and nothing says how "
            "they lie: set model.tokenizer, where the prompt names the tiles (<row_1_col_1>), make one "
            "picture (do_image_splitting=False, crop_to_patches=False), or say frames= of a clip"
        )
    if len(each) > 1:
        shown = ", ".join(f"{rows} × {columns}" for (rows, columns), _, _ in each[:3])
        raise InputError(f"the pictures are cut into {shown} tiles; explain those of one number at a time")
    return TileFold(size, *each[0])


def _resolution(size: Sequence[int], resolutions: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the resolution `(height, width)` that shows most of a picture, and of several the least.

    That is how the processors of LLaVA-NeXT and LLaVA-OneVision choose.
    """
    height, width = size

    def shown(one: Sequence[int]) -> tuple[int, int]:
        scale = min(one[0] / height, one[1] / width)
        pixels = min(int(height * scale) * int(width * scale), height * width)
        return pixels, pixels - one[0] * one[1]

    return max(resolutions, key=shown)


def _said(ids: Sequence[int], token: int | None, tokenizer: Any) -> Cut | None:
    """Return how the picture of a prompt is cut, as the names of its tiles say; None where they do not.

    So it is with Idefics3 and SmolVLM, whose tiles are `<row_1_col_1>` and so on; the whole comes last.
    """
    places: list[tuple[int, int] | None] = []
    before = ""
    for pictured, group in groupby(ids, lambda one: one == token):
        if pictured:
            names = _TILE.findall(before)
            places.append((int(names[-1][0]), int(names[-1][1])) if names else None)
        else:
            before = tokenizer.decode(list(group))
    tiles = [place for place in places if place is not None]
    rows, columns = max((r for r, _ in tiles), default=0), max((c for _, c in tiles), default=0)
    every: list[tuple[int, int] | None] = [(r + 1, c + 1) for r in range(rows) for c in range(columns)]
    after = len(places) - len(tiles)
    return ((rows, columns), 0, after) if tiles and after < 2 and places == every + [None] * after else None
