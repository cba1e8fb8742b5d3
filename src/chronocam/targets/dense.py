"""Targets of dense outputs: segmentation, depth, heat maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np

from chronocam.errors import TargetError
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.targets.classes import same_for_all
from chronocam.types import Array, Outputs, Scored, Target, TargetInfo


@dataclass(frozen=True)
class Region(Target):
    """The mean of a dense output over a mask or a box, or its value at a pixel.

    The output is `(batch, channel, height, width)`, or has its channels last where the model does (Keras).

    where: a boolean mask `(height, width)` on the output's own grid; a box `(x0, y0, x1, y1)` in its pixels,
        the upper corner exclusive; or a pixel `(x, y)`.
    channel: which channel; None is for outputs `(batch, height, width)` or with a single channel.

    Example:
    >>> depth = nn.Conv2d(3, 1, 3)
    >>> maps = cc.HiResCAM(depth, "input").explain(images, cc.targets.Region((4, 4, 12, 12))).maps
    >>> maps.shape, bool((maps[..., :4, :] == 0).all())
    ((2, 1, 32, 32), True)
    """

    where: Array
    channel: SupportsIndex | None = None
    signed = True

    def __call__(self, outputs: Outputs) -> Scored:
        """Return the mean over the region.

        Raises TargetError for a mask, box, pixel or channel that does not fit.
        """
        dense = self._channel(outputs.logits, outputs.channels_last)
        name, mask = self._marked(tuple(dense.shape[1:]))
        weights = like(mask / mask.sum(), dense)
        xp = namespace(dense)
        values = xp.sum(dense * weights, axis=tuple(range(1, dense.ndim)))
        if self.channel is None:
            return same_for_all(values, TargetInfo(name))
        channel = int(self.channel)
        return same_for_all(values, TargetInfo(f"{name} of {outputs.label(channel)}", channel))

    def _channel(self, dense: Array, channels_last: bool) -> Array:
        if channels_last and dense.ndim == 4:
            dense = namespace(dense).permute_dims(dense, (0, 3, 1, 2))
        shape = tuple(dense.shape)
        if dense.ndim == 3 and self.channel is None:
            return dense
        if dense.ndim != 4:
            raise TargetError(
                f"outputs have shape {shape}; expected dense outputs (batch, channel, height, width)"
            )
        if self.channel is None and shape[1] != 1:
            raise TargetError(f"the outputs have {shape[1]} channels; say which: Region(…, channel=0)")
        channel = int(self.channel or 0)
        if not 0 <= channel < shape[1]:
            raise TargetError(f"no channel {channel}; the outputs have {shape[1]}, 0 to {shape[1] - 1}")
        return dense[:, channel]

    def _marked(self, grid: tuple[int, ...]) -> tuple[str, np.ndarray]:
        """Return what the region is called, and its mask."""
        where = to_numpy(self.where) if hasattr(self.where, "shape") else np.asarray(self.where)
        # A mask over a signal of two or four places would look like a pixel or a box, but for its dtype.
        if where.shape in ((2,), (4,)) and where.dtype != bool:
            corners = tuple(int(v) for v in where)
            name = f"pixel {corners}" if len(corners) == 2 else "region"
            return name, _box(corners, grid)
        if where.shape != grid:
            raise TargetError(f"the mask has shape {where.shape}; expected that of the outputs, {grid}")
        if not where.any():
            raise TargetError("the mask is empty; mark at least one pixel")
        return "region", where.astype(bool).astype(float)


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
