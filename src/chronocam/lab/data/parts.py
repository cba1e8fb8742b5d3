"""A rendered scene with one of its parts left out, so that what the part is worth to a network is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from chronocam._repr import ShortRepr


@dataclass(frozen=True)
class Part(ShortRepr):
    """A scene without one of its parts; everything else is drawn as it was.

    name: of the part that is missing. pixels: RGB, 0 to 255, shaped like those of the whole scene.

    Example:
        >>> whole, parts = cc.data.gestures.parts(2, frames=8, size=48)
        >>> [part.name for part in parts][-2:], parts[0].pixels.shape
        (['right hand', 'background'], (8, 48, 48, 3))
    """

    name: str
    pixels: UInt8[np.ndarray, "*grid 3"]

    def where(self, whole: UInt8[np.ndarray, "*grid 3"]) -> Bool[np.ndarray, "*grid"]:
        """Return where the part is seen in the whole scene: where a pixel changes without it."""
        return np.asarray((self.pixels != whole).any(axis=-1))
