"""Targets of dense outputs: segmentation, depth, heat maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, SupportsIndex

import numpy as np

from chronocam.errors import ModelError, TargetError
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.targets.classes import same_for_all
from chronocam.targets.labels import find_label
from chronocam.targets.returned import arrays_in
from chronocam.types import Array, BoxInfo, Outputs, Scored, Target, TargetInfo

_PREDICTED: Final = "predicted"
_PEAK: Final = "peak"
_MASK_FEATURES: Final = "model.pixel_level_module.decoder.mask_projection"


@dataclass(frozen=True)
class Region(Target):
    """The mean of a dense output over a mask or a box, or its value at a pixel.

    The output is `(batch, channel, *grid)`, with the channels last where the model has them so (Keras). The
    grid is `(height, width)`, or that of signals, volumes and clips; steps may come before the channels.

    where: a boolean mask of the output's grid, or of a finer one, such as the input's: there each of the
        output's cells counts by the share of it that the mask covers. One mask for all samples, or one for
        each, `(samples, *grid)` or `(samples, 1, *grid)`. For pictures also a box `(x0, y0, x1, y1)` in the
        output's pixels, the upper corner exclusive, or a pixel `(x, y)`.
    channel: which channel, by index or label; None is for outputs `(batch, *grid)` or with a single channel.
        A label of two, where there is a single channel, is that side of it, as for one logit.

    Example:
    >>> depth = nn.Conv2d(3, 1, 3)
    >>> maps = cc.HiResCAM(depth, "input").explain(images, cc.targets.Region((4, 4, 12, 12))).maps
    >>> maps.shape, bool((maps[..., :4, :] == 0).all())
    ((2, 1, 32, 32), True)
    """

    where: Array
    channel: SupportsIndex | str | None = None
    signed = True

    @classmethod
    def predicted(cls, channel: SupportsIndex | str) -> Region:
        """Return the region that the model gives to a class, by index or label, in each sample.

        That is where its channel is the largest. A single channel is one logit of two classes: class 1 is
        where it is above 0 (above 0.5 where all of it lies between 0 and 1), class 0 elsewhere. A sample in
        which it is nowhere has no map, and a finding says so.

        Example:
        >>> cc.targets.Region.predicted("person").channel
        'person'
        """
        return cls(_PREDICTED, channel)

    @classmethod
    def peak(cls, channel: SupportsIndex | str | None = None) -> Region:
        """Return the place where a channel is highest in each sample, as that of a keypoint's heat map is.

        Example:
        >>> heat_maps = nn.Conv2d(3, 5, 3)
        >>> str(cc.HiResCAM(heat_maps, "input").explain(images, cc.targets.Region.peak(2)).targets[0][0])
        'peak of class 2'
        """
        return cls(_PEAK, channel)

    has_place = True

    def of_model(self, model: Any, size: tuple[int, ...], samples: int | None) -> Region:
        """Return the region on the layer that a model of masks of queries takes its masks from."""
        modules = model.named_modules() if hasattr(model, "named_modules") else ()
        return _OfQueries(self.where, self.channel) if _MASK_FEATURES in dict(modules) else self

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the mean over the region. Raises TargetError for what does not fit the outputs."""
        dense = _channels_first(_dense(outputs), outputs.channels_last)
        if isinstance(self.where, str):
            if self.where not in (_PREDICTED, _PEAK):
                raise TargetError(
                    f"`{self.where}` is not a region; give a mask or a box, or Region.predicted(…)"
                )
            dense = dense[:, None] if dense.ndim == 3 else dense
        elif self.channel is not None and dense.ndim == 3:
            dense = self._of_signal(dense, outputs.channels_last)
        index, sign = self._index(dense, outputs)
        one = dense if index is None else dense[:, index]
        if isinstance(self.where, str) and self.where == _PEAK:
            name, masks = _PEAK, _highest(to_numpy(one))
        elif isinstance(self.where, str):
            choosing = _choosing(outputs, dense)
            name, masks = _PREDICTED, _largest(choosing, index or 0, sign, outputs.gate is None)
        else:
            name, masks = self._marked(tuple(one.shape[1:]), outputs)
        sizes = masks.reshape(len(masks), -1).sum(axis=1)
        weights = masks / np.maximum(sizes, 1e-12).reshape(-1, *(1,) * (masks.ndim - 1))
        values = sign * namespace(one).sum(one * like(weights, one), axis=tuple(range(1, one.ndim)))
        if self.channel is None or index is None:
            return same_for_all(values, TargetInfo(name))
        class_index = int(sign > 0) if self._has_sides(dense, outputs) else index
        label = outputs.label(class_index)
        info = TargetInfo(f"{name} {label}" if name == _PREDICTED else f"{name} of {label}", class_index)
        nowhere = BoxInfo(f"nothing predicted as {label}")
        anywhere = np.broadcast_to(sizes > 0, tuple(values.shape))
        return Scored(values[:, None], tuple((info if one else nowhere,) for one in anywhere))

    def _of_signal(self, dense: Array, channels_last: bool) -> Array:
        """Return outputs of a signal as `(batch, channel, step)`; the mask says where steps come first."""
        steps = _array(self.where).shape[-1:]
        first = channels_last or (steps == dense.shape[1:2] and steps != dense.shape[2:])
        return namespace(dense).matrix_transpose(dense) if first else dense

    def _has_sides(self, dense: Array, outputs: Outputs) -> bool:
        """Say whether a single channel is one logit of the two classes of which one is asked for."""
        labels = outputs.labels
        if dense.shape[1] != 1 or (labels is not None and len(labels) == 1):
            return False
        return isinstance(self.where, str) or (isinstance(self.channel, str) and len(labels or ()) == 2)

    def _index(self, dense: Array, outputs: Outputs) -> tuple[int | None, int]:
        """Return which channel is meant, None for outputs without channels, and with which sign."""
        shape, channel = tuple(dense.shape), self.channel
        if channel is None and (len(shape) == 3 or self._is_volume(shape, outputs)):
            return None, +1  # (batch, *grid)
        if len(shape) not in (3, 4, 5):
            raise TargetError(
                f"outputs have shape {shape}; expected dense outputs (batch, channel, height, width)"
            )
        if channel is None:
            if shape[1] != 1:
                raise TargetError(f"the outputs have {shape[1]} channels; say which: Region(…, channel=0)")
            return 0, +1
        if isinstance(channel, str):
            if outputs.labels is None:
                raise TargetError(
                    f"the model carries no labels to find `{channel}` in; give the channel, or set "
                    "model.labels"
                )
            channel = find_label(outputs.labels, channel)
        sides, channel = self._has_sides(dense, outputs), int(channel)
        count = 2 if sides else shape[1]
        if not 0 <= channel < count:
            raise TargetError(f"no channel {channel}; the outputs have {count}, 0 to {count - 1}")
        return (0, +1 if channel else -1) if sides else (channel, +1)

    def _is_volume(self, shape: tuple[int, ...], outputs: Outputs) -> bool:
        """Say whether outputs `(batch, depth, height, width)` have no channels, as masks of volumes show."""
        if len(shape) != 4 or shape[1] == 1 or isinstance(self.where, str):
            return False
        where = _array(self.where).shape
        return len(where) == 4 or (len(where) == 3 and where[0] == shape[1] > outputs.least)

    def _marked(self, grid: tuple[int, ...], outputs: Outputs) -> tuple[str, np.ndarray]:
        """Return what the region is called, and its masks, of each sample or one for all, `(…, *grid)`."""
        where = _array(self.where)
        if where.ndim == len(grid) + 2 and where.shape[1] == 1:  # as loaders of masks give them
            where = where[:, 0]
        # A mask over a signal of two or four places would look like a pixel or a box, but for its dtype.
        if where.shape in ((2,), (4,)) and where.dtype != bool:
            corners = tuple(int(v) for v in where)
            name = f"pixel {corners}" if len(corners) == 2 else "region"
            if len(grid) != 2:
                raise TargetError(f"the outputs' grid is {grid}; give a mask, since boxes are of pictures")
            return name, _box(corners, grid)[None]
        masks = (outputs.own(where, "the mask") if where.ndim == len(grid) + 1 else where[None]).astype(bool)
        if masks.shape[1:] != grid and not _is_finer(masks.shape[1:], grid):
            raise TargetError(
                f"the mask has shape {where.shape}; expected that of the outputs, {grid}, or a finer one of "
                "the same picture"
            )
        blank = [i for i, mask in enumerate(masks) if not mask.any()]
        if blank:
            which = f" of sample {_number(outputs, blank[0])}" if len(masks) > 1 else ""
            raise TargetError(f"the mask{which} is empty; mark at least one pixel")
        return "region", np.stack([_shares(mask.astype(float), grid) for mask in masks])


class _OfQueries(Region):
    """A region of MaskFormer or Mask2Former, whose masks are queries times the last features of pixels."""

    layer = _MASK_FEATURES


def _array(where: Array) -> np.ndarray:
    return to_numpy(where) if hasattr(where, "shape") else np.asarray(where)


def _number(outputs: Outputs, i: int) -> int:
    """Return the number of the batch's sample `i` among those of the call."""
    rows = outputs.rows
    return int(rows.start + i if isinstance(rows, slice) else rows[i])


def of_queries(raw: Any) -> Array | None:
    """Return Σ_q p_q(class) σ(mask_q) at every pixel, of models that give masks of queries; None for others.

    That is what MaskFormer and Mask2Former make a semantic segmentation of.
    """
    classes, masks = (getattr(raw, f"{name}_queries_logits", None) for name in ("class", "masks"))
    if classes is None or masks is None:
        return None
    xp = namespace(masks)
    away = xp.exp(classes - xp.max(classes, axis=-1, keepdims=True))
    shares = (away / xp.sum(away, axis=-1, keepdims=True))[..., :-1]  # the last says that nothing is there
    batch, queries, *grid = masks.shape
    covered = xp.reshape(1 / (1 + xp.exp(-masks)), (batch, queries, -1))
    return xp.reshape(xp.matmul(xp.permute_dims(shares, (0, 2, 1)), covered), (batch, -1, *grid))


def _dense(outputs: Outputs) -> Array:
    """Return the dense output: the main one, or of several the only one that is dense."""
    queries = of_queries(outputs.raw)
    if queries is not None:
        return queries
    try:
        return outputs.logits
    except (ModelError, TargetError):
        arrays = arrays_in(outputs.raw)
        dense = [array for array in arrays if len(array.shape) >= 3]
        if len(dense) == 1:
            return dense[0]
        if outputs.batch == len(arrays) == 1 and len(arrays[0].shape) == 2:  # of outputs that were squeezed
            return arrays[0][None]
        raise


def _choosing(outputs: Outputs, dense: Array) -> np.ndarray:
    """Return the dense outputs by which classes are chosen, `(batch, channel, *grid)`."""
    if of_queries(outputs.raw) is not None:
        return to_numpy(dense)
    try:
        choosing = _channels_first(to_numpy(outputs.choosing), outputs.channels_last)
    except (ModelError, TargetError):
        return to_numpy(dense)
    return choosing.reshape(dense.shape)


def _channels_first(dense: Array, channels_last: bool) -> Array:
    if channels_last and dense.ndim in (4, 5):
        order = (0, dense.ndim - 1, *range(1, dense.ndim - 1))
        return namespace(dense).permute_dims(dense, order)
    return dense


def _largest(dense: np.ndarray, channel: int, sign: int, returned: bool) -> np.ndarray:
    """Return the masks of where a channel is the largest, which may be nowhere.

    returned: whether `dense` is what the model returned, which may be probabilities, and not before a gate.
    """
    if dense.shape[1] == 1:
        above = dense[:, 0] > (0.5 if returned and dense.min() >= 0 and dense.max() <= 1 else 0)
        masks = above if sign > 0 else ~above
    else:
        masks = dense.argmax(axis=1) == channel
    return np.asarray(masks, float)


def _highest(values: np.ndarray) -> np.ndarray:
    """Return masks of the place with the largest value of each sample, `(batch, *grid)`."""
    flat = values.reshape(len(values), -1)
    marks = np.arange(flat.shape[1]) == flat.argmax(axis=1)[:, None]
    return marks.reshape(values.shape).astype(float)


def _is_finer(shape: tuple[int, ...], grid: tuple[int, ...]) -> bool:
    """Say whether a mask has more pixels than the grid: as many times more along height and width."""
    if len(shape) != len(grid) or any(n < cells for n, cells in zip(shape, grid, strict=True)):
        return False
    times = max(n / cells for n, cells in zip(shape[-2:], grid[-2:], strict=True))
    return all(abs(n / times - cells) < 1 for n, cells in zip(shape[-2:], grid[-2:], strict=True))


def _shares(mask: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Return the share of each cell of the grid that the mask covers."""
    for axis, cells in enumerate(grid):
        size = mask.shape[axis]
        if size == cells:
            continue
        edges = np.arange(cells + 1) * size / cells
        low = np.maximum(edges[:-1, None], np.arange(size))
        high = np.minimum(edges[1:, None], np.arange(1, size + 1))
        covered = np.clip(high - low, 0, None) * cells / size
        mask = np.moveaxis(np.tensordot(covered, mask, axes=(1, axis)), 0, axis)
    return mask


def _box(corners: tuple[int, ...], grid: tuple[int, ...]) -> np.ndarray:
    """Return the mask of a box, or of a pixel."""
    x0, y0 = corners[:2]
    x1, y1 = corners[2:] or (x0 + 1, y0 + 1)
    if not (0 <= x0 < x1 <= grid[1] and 0 <= y0 < y1 <= grid[0]):
        kind = "pixel" if len(corners) == 2 else "box"
        raise TargetError(f"{kind} {corners} is not within the outputs' {grid[1]} × {grid[0]} pixels")
    mask = np.zeros(grid)
    mask[y0:y1, x0:x1] = 1
    return mask
