"""Superpixels: pieces of a picture with about one colour; of a clip, supervoxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from chronocam.errors import InputError
from chronocam.masks.regions.base import Regions, Spread, numbers_of

_COUNT = 50
_COMPACTNESS = 0.1
"""How much place counts beside colours of 0 to 1; 10 is usual beside those of Lab, of 0 to 100."""


@dataclass(frozen=True)
class Labelled:
    """Regions by their number at each place, of each sample its own."""

    labels: Int[np.ndarray, batch * grid]
    count: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the values on the grid."""
        whole = np.broadcast_to(values, (len(self.labels), *values.shape[1:]))
        return np.stack([one[:, own] for one, own in zip(whole, self.labels, strict=True)])


class Superpixels(Regions):
    """SLIC superpixels of each sample, of colour and place.

    Source: Achanta et al. 2012, as in scikit-image, whose segments they are.
    """

    name = "superpixels"

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> Spread:
        """Return the superpixels, which are always the same."""
        try:
            from skimage.segmentation import slic
        except ImportError:
            raise InputError(
                'regions="superpixels" needs scikit-image (pip install scikit-image); or choose cells'
            ) from None
        if x.ndim < 4 or self.by_feature:
            raise InputError(f"inputs have a grid of {x.shape[2:]}; superpixels are of pictures")
        check_finite(x)
        (count,) = numbers_of("cells", _COUNT if self.pieces is None else self.pieces, ["superpixels"])
        options = {"channel_axis": -1, "start_label": 0, "convert2lab": False, "compactness": _COMPACTNESS}
        labels = [slic(_scaled(one), count, **options) for one in x]
        return Labelled(np.stack(labels), int(max(one.max() for one in labels)) + 1)


def check_finite(x: np.ndarray) -> None:
    """Raise InputError for values that are not colours."""
    if not np.isfinite(x).all():
        raise InputError("inputs hold NaN or infinity, which have no colour; choose cells, or mend them")


def _scaled(x: np.ndarray) -> np.ndarray:
    low, high = x.min(), x.max()
    return np.moveaxis((x - low) / (high - low or 1.0), 0, -1).astype(np.float64)
