"""Focus: whether the map of a class lies on the tiles of that class, in a mosaic of several pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chronocam.evaluation.case import AskMaps, Case, Changed
from chronocam.evaluation.measures.base import Asking, Measure


@dataclass(frozen=True)
class Focus(Measure):
    """The share of the map's positive values on the tiles of the class explained; 1/2 by chance.

    Pictures become a mosaic of 2 × 2 at half their size: the sample twice (where there is another sample of
    its class, that one in place of the second), and two samples of other classes, all at random places. Of
    clips, the sample and one of another class are joined in time, each at half its frames, in random order.

    Source: Arias-Duart et al. 2022 (arXiv:2109.15035), section 3.

    Example:
    >>> cc.evaluation.Focus().name
    'focus'
    """

    name: ClassVar[str] = "focus"
    title: ClassVar[str] = "focus"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    controls: ClassVar[bool] = False

    def of(self, case: Case, values: np.ndarray) -> Asking:
        """Return the share; NaN where there are no samples of other classes, and for signals."""
        rng = case.rng("focus")
        same = [x for x, index in case.others if index == case.index and x.shape == case.input.shape]
        other = [
            x
            for x, index in case.others
            if index != case.index and index is not None and x.shape == case.input.shape
        ]
        clips = values.ndim == 3
        if case.index is None or len(other) < (1 if clips else 2) or values.ndim < 2:
            return float("nan")
        drawn = [other[k] for k in rng.permutation(len(other))[:2]]
        if clips:
            mosaic, mask = _in_time(case.input, drawn[0], first=bool(rng.integers(2)))
        else:
            again = same[int(rng.integers(len(same)))] if same else case.input[..., ::-1]
            mosaic, mask = _tiled([case.input, again, *drawn], rng.permutation(4))
        maps = yield AskMaps([Changed("mosaic", lambda: mosaic)])
        positive = np.maximum(maps[0], 0)
        total = positive.sum()
        return float(positive[mask].sum() / total) if total > 0 else float("nan")


def _tiled(tiles: list[np.ndarray], places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mosaic, and where the first two of its tiles are."""
    from chronocam.maps.resample import resample

    height, width = tiles[0].shape[-2:]
    rows, columns = (height // 2, height), (width // 2, width)
    mosaic = np.array(tiles[0])
    mask = np.zeros((height, width), bool)
    for number, place in enumerate(places):
        at = (
            slice(0, rows[0]) if place < 2 else slice(*rows),
            slice(0, columns[0]) if place % 2 == 0 else slice(*columns),
        )
        size = (at[0].stop - at[0].start, at[1].stop - at[1].start)
        # Means over 2 × 2 pixels first: no pattern of the mosaic comes of pixels left out.
        mosaic[(slice(None), *at)] = np.asarray(resample(_halved(tiles[number])[None], size, "linear"))[0]
        mask[at] = number < 2
    return mosaic, mask


def _halved(x: np.ndarray) -> np.ndarray:
    even = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    return np.asarray(
        (even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]) / 4
    )


def _in_time(own: np.ndarray, other: np.ndarray, first: bool) -> tuple[np.ndarray, np.ndarray]:
    frames = own.shape[1]
    half = frames // 2
    parts = [own, other] if first else [other, own]
    joined = np.concatenate([parts[0][:, ::2][:, :half], parts[1][:, ::2][:, : frames - half]], axis=1)
    mask = np.zeros(own.shape[1:], bool)
    mask[:half] = first
    mask[half:] = not first
    return joined[:, :frames], mask
