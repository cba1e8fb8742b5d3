"""Random changes of training clips and pictures, drawn apart from the arrays that they are made to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from chronocam.maps.resample import axis_matrix, half_pixel_centers


@dataclass(frozen=True)
class Change:
    """How one clip is cut, mirrored and lit, all of its frames in the same way.

    share: share of the sides that is kept and enlarged to the whole.
    place: where that part is, down and across, from 0 to 1.
    mirrored: whether left and right are exchanged.
    light, contrast: gains of the mean and of the differences from it.
    """

    share: float
    place: Sequence[float]
    mirrored: bool
    light: float
    contrast: float

    def window(self, clip: Any) -> Any:
        """Return the part of a clip `(time, height, width, 3)` to enlarge, in any framework."""
        spans = []
        for side, where in zip(clip.shape[1:3], self.place, strict=True):
            length = max(1, round(side * self.share))
            start = int(where * (side - length + 1))
            spans.append(slice(start, start + length))
        return clip[:, spans[0], spans[1]]


def drawn(rng: np.random.Generator, count: int, crop: float, flip: bool) -> list[Change]:
    """Draw changes; crop: smallest share of the sides that is kept; flip: mirror half of the clips."""
    columns = (rng.uniform(low, high, count).tolist() for low, high in ((crop, 1), (0.8, 1.2), (0.8, 1.2)))
    places, mirrored = rng.random((count, 2)).tolist(), (flip & (rng.random(count) < 0.5)).tolist()
    return [
        Change(share, at, m, light, c)
        for share, light, c, at, m in zip(*columns, places, mirrored, strict=True)
    ]


def changed(
    clip: UInt8[np.ndarray, "time height width 3"], change: Change
) -> Float32[np.ndarray, "time height width 3"]:
    """Return a clip in [0, 1] with a change, enlarged bilinearly.

    `batches.made_of` does the same in PyTorch.
    """
    window = change.window(clip)
    enlarged = (window[:, :, ::-1] if change.mirrored else window).astype(np.float32)
    for axis, size in ((1, clip.shape[1]), (2, clip.shape[2])):
        matrix = axis_matrix(half_pixel_centers(enlarged.shape[axis], size), size).astype(np.float32)
        enlarged = np.moveaxis(np.tensordot(matrix, enlarged, axes=((1,), (axis,))), 0, axis)
    mean = enlarged.mean()
    return np.clip(
        (enlarged - mean) * (change.contrast / 255) + mean * (change.light / 255), 0, 1, dtype=np.float32
    )
