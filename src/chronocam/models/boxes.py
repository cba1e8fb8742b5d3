"""Black boxes of runtimes that show no layers: batches cut as they want them, outputs as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess, imagenet
from chronocam.models.recipes import FROM_0_TO_1, Shape, picture_recipe
from chronocam.types import BlackBox

_FRAMES: Final = 16
_COLOURS: Final = (1, 3)


@dataclass(frozen=True)
class Port:
    """An input of a runtime.

    shape: with the batch; None for a length that is free.
    dtype: of its arrays.
    step, zero: where it takes integers q that stand for step (q − zero); step 0 for others.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    step: float = 0.0
    zero: int = 0

    @property
    def last(self) -> bool:
        """Whether the channels come last."""
        return len(self.shape) > 3 and self.shape[-1] in _COLOURS and self.shape[1] not in _COLOURS

    def stored(self, array: np.ndarray) -> np.ndarray:
        """Return values as the runtime stores them."""
        if np.issubdtype(self.dtype, np.integer) and self.dtype.itemsize == 1:
            steps = array / self.step + self.zero if self.step else array
            ends = np.iinfo(self.dtype)
            array = np.clip(np.rint(steps), ends.min, ends.max)
        return np.ascontiguousarray(array, dtype=self.dtype)


def box(
    run: Callable[[list[np.ndarray]], dict[str, np.ndarray]], ports: Sequence[Port], why: str
) -> BlackBox:
    """Return a black box of what runs a batch.

    run: from one array per port to outputs by name. A batch of fixed size is cut, and filled up at its end.
    """

    def scores(*arrays: np.ndarray, **named: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        batch = list(arrays) or [named[port.name] for port in ports]
        stored = [port.stored(array) for port, array in zip(ports, batch, strict=True)]
        outputs = _in_pieces(run, stored, ports[0].shape[0])
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    return BlackBox(scores, why=why)


def _in_pieces(
    run: Callable[[list[np.ndarray]], dict[str, np.ndarray]], batch: list[np.ndarray], size: int | None
) -> dict[str, np.ndarray]:
    count = len(batch[0])
    if size is None or size == count:
        return run(batch)
    found = []
    for low in range(0, count, size):
        rows = np.minimum(np.arange(low, low + size), count - 1)
        found.append(run([array[rows] for array in batch]))
    return {name: np.concatenate([one[name] for one in found])[:count] for name in found[0]}


def recipe_for(port: Port, takes: Callable[[Shape], bool]) -> Preprocess | ClipPreprocess | None:
    """Return how pictures or clips are prepared for an input; None where it is neither.

    takes: whether the model runs on one input of this shape. Values are those of 8 bits where the input
    takes 8 bits, else they are assumed: up to 1 where the channels come last, as Keras has them, else as for
    ImageNet.
    """
    shape = port.shape
    if len(shape) == 4:
        channels = shape[-1] if port.last else shape[1]
        if channels is not None and channels not in _COLOURS:
            return None
        return _picture(port, channels or 3, shape[1:3] if port.last else shape[2:4], takes)
    if len(shape) != 5:
        return None
    if port.last:
        frame = _picture(port, shape[4] or 3, shape[2:4], takes)
        return ClipPreprocess(frame, shape[1] or _FRAMES, "time channel")
    axis = 1 if shape[1] in _COLOURS and not (shape[2] == 3 != shape[1]) else 2
    frame = _picture(port, shape[axis] or 3, shape[3:5], takes)
    return ClipPreprocess(frame, shape[3 - axis] or _FRAMES, "channel time" if axis == 1 else "time channel")


def _picture(
    port: Port, channels: int, sides: tuple[int | None, ...], takes: Callable[[Shape], bool]
) -> Preprocess:
    height, width = (224 if side is None else side for side in sides)
    free = None in sides and len(port.shape) == 4 and not port.last
    recipe = (picture_recipe(takes, channels) if free else None) or imagenet(height, width, channels)
    if not port.last and port.dtype.itemsize > 1:
        return recipe
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    plain = replace(recipe, mean=zeros, std=ones, channels="last" if port.last else "first")
    if port.last:
        plain = replace(plain, resize=(height, width), crop=None)
    if port.dtype.itemsize > 1:
        return replace(plain, assumption=FROM_0_TO_1)
    if not port.step:
        return replace(plain, scale=1.0, assumption=None)
    # The integers are the 8 bits of the picture, signed ones 128 less: so its values are known.
    zero = port.step * (port.zero + (128 if port.dtype == np.int8 else 0))
    return replace(plain, scale=port.step, mean=(zero,) * channels, assumption=None)
