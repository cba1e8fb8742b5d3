"""Batches of pictures for Keras, in an order and with changes that depend on seed, epoch and place alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import keras
import numpy as np
from jaxtyping import Float32, Int

from chronocam.errors import ChronocamError
from chronocam.lab.train.augment import Change, changed, drawn
from chronocam.lab.train.clips import ClipSource
from chronocam.lab.train.settings import ImageSettings
from chronocam.media import Preprocess

Batch: TypeAlias = tuple[
    Float32[np.ndarray, "batch *picture"], Int[np.ndarray, " batch"], Float32[np.ndarray, " batch"]
]
"""Pictures as the network takes them, the numbers of their classes, and weights: 0 does not count."""


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Pictures in batches; to learn from, they are in another order in every epoch and changed at random.

    A picture that cannot be read has the weight 0, and another one stands in its place: batches keep their
    shape, for which Keras compiles its step.

    epoch: the current epoch; set before it begins.
    """

    def __init__(
        self,
        pictures: ClipSource,
        settings: ImageSettings,
        preprocess: Preprocess,
        unread: set[str],
        learning: bool = False,
    ) -> None:
        # Without Keras' own workers: with them the first epoch repeats batches that Keras looked at.
        super().__init__()
        self.pictures = pictures
        self.settings = settings
        self.preprocess = preprocess
        self.unread = unread
        self.learning = learning
        self.epoch: int = 0

    @property
    def num_batches(self) -> int:
        """How many batches an epoch has."""
        return -(-len(self.pictures) // self.settings.batch_size)

    def __getitem__(self, index: int) -> Batch:
        """Return a batch."""
        size = self.settings.batch_size
        places = self._order()[index * size : (index + 1) * size].tolist()
        with ThreadPoolExecutor(max(1, self.settings.workers)) as pool:
            read = list(pool.map(self._picture, places, self._changes(index, len(places))))
        instead = next((one for one in read if one is not None), None)
        if instead is None:
            instead = np.zeros((*_sides(self.preprocess), 3), np.float32)
        values = np.stack([instead if one is None else one for one in read])
        labels = np.array([self.pictures.label(place) for place in places], np.int32)
        weights = np.array([one is not None for one in read], np.float32)
        return self.preprocess.normalised(values), labels, weights

    def _order(self) -> Int[np.ndarray, " picture"]:
        count = len(self.pictures)
        return self._rng(0).permutation(count) if self.learning else np.arange(count)

    def _changes(self, index: int, count: int) -> Sequence[Change | None]:
        settings = self.settings
        return (
            drawn(self._rng(1, index), count, settings.crop, settings.flip)
            if self.learning
            else [None] * count
        )

    def _rng(self, *use: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, self.epoch, *use))

    def _picture(self, place: int, change: Change | None) -> Float32[np.ndarray, "height width 3"] | None:
        """Return RGB from 0 to 255; None where the picture cannot be read."""
        try:
            pixels = self.pictures.pixels(place)
        except ChronocamError:
            self.unread.add(self.pictures.name(place))
            return None
        return pixels[0].astype(np.float32) if change is None else 255 * changed(pixels, change)[0]


def _sides(preprocess: Preprocess) -> tuple[int, int]:
    assert isinstance(preprocess.resize, tuple)
    return preprocess.resize
