"""Tubes: cells of a clip's first frame that follow what moves in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import map_coordinates

from chronocam.errors import InputError
from chronocam.masks.regions.base import Regions, Spread, pieces_of
from chronocam.masks.regions.superpixels import Labelled, check_finite

_CELLS = 4


class Tubes(Regions):
    """Cells that are carried along by the optical flow of each clip.

    A place of a frame belongs to the cell of the first frame from which the flow leads to it. `pieces` cuts
    time as well: each run of frames begins anew.

    Source: the flow is Le Besnerais and Champagnat's 2005 (iterative Lucas-Kanade), as in scikit-image.
    """

    name = "tubes"

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> Spread:
        """Return the tubes, which are always the same."""
        try:
            from skimage.registration import optical_flow_ilk
        except ImportError:
            raise InputError(
                'regions="tubes" needs scikit-image (pip install scikit-image); or choose cells'
            ) from None
        grid = x.shape[2:]
        if len(grid) != 3:
            raise InputError(f'inputs have a grid of {grid}; regions="tubes" is for clips: choose cells')
        check_finite(x)
        runs, *cells = pieces_of((1, _CELLS, _CELLS) if self.pieces is None else self.pieces, grid)
        labels = [_followed(_grey(one), runs, cells, optical_flow_ilk) for one in x]
        return Labelled(np.stack(labels), runs * cells[0] * cells[1])


def _grey(clip: np.ndarray) -> Float[np.ndarray, "time height width"]:
    low, high = clip.min(), clip.max()
    return np.asarray(((clip - low) / (high - low or 1.0)).mean(axis=0), np.float32)


def _followed(
    frames: np.ndarray, runs: int, cells: list[int], flow: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Int[np.ndarray, "time height width"]:
    """Return the number of the tube of each place; flow(b, a) says where in a each place of b comes from."""
    count, sides = len(frames), np.array(frames.shape[1:])[:, None, None]
    here = np.indices(frames.shape[1:]).astype(np.float64)
    labels, source, run = [], here, -1
    for t, frame in enumerate(frames):
        if t * runs // count != run:
            run, source = t * runs // count, here
        else:
            back = here + flow(frame, frames[t - 1])
            source = np.stack([map_coordinates(axis, back, order=1, mode="nearest") for axis in source])
        row, column = (np.clip(source, 0, sides - 1) * np.reshape(cells, (2, 1, 1)) // sides).astype(int)
        labels.append((run * cells[0] + row) * cells[1] + column)
    return np.stack(labels)
