"""What a drive is: frames of one moving camera, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from chronocam._repr import ShortRepr


@dataclass(frozen=True, eq=False)
class Drive(ShortRepr):
    """Frames of one moving camera, and what is known about the motion and the scene.

    The centre of the pixel in row 0 and column 0 is at (x, y) = (0, 0). Camera axes: x right, y down, z
    forward.

    Example:
        >>> drive = cc.data.drives.drive(3, frames=2, size=(32, 48))
        >>> len(drive), drive.pixels.dtype, drive.intrinsics.shape
        (2, dtype('uint8'), (3, 3))
    """

    pixels: UInt8[np.ndarray, "time height width 3"]
    """RGB, 0 to 255."""
    intrinsics: Float64[np.ndarray, "3 3"]
    """For every frame: pixel = intrinsics @ point / z."""
    poses: Float64[np.ndarray, "time 4 4"] | None = None
    """Camera to world."""
    depth: Float32[np.ndarray, "time height width"] | None = None
    """Along z, at the pixels' centres, in the unit of the poses; 0 = unknown or infinite."""
    moving: Bool[np.ndarray, "time height width"] | None = None
    """Where an object is seen that moves by itself."""
    plain: Bool[np.ndarray, "time height width"] | None = None
    """Where a wall without texture is seen."""
    name: str = ""

    def __len__(self) -> int:
        return len(self.pixels)
