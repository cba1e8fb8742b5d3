"""Clips whose frames a model takes as pictures, rows of a batch or channels: looked at as clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chronocam.engines import Result
from chronocam.errors import InputError
from chronocam.joint.inputs.batches import arrays_of, map_arrays
from chronocam.maps.arrays import namespace
from chronocam.targets.returned import arrays_in
from chronocam.types import Array, Inputs

if TYPE_CHECKING:
    from chronocam.engines import Engine
    from chronocam.joint.look.subject import Subject

_AXES: Final = 4  # of frames in a batch, or of pictures with the frames of a clip in their channels


@dataclass(frozen=True)
class Fold:
    """How a model takes clips `(batch, time, …)`: as an array of pictures.

    frames: how many each clip has.
    stacked: whether they are the channels of one picture, `(batch, time·channel, …)`, one frame after the
        other; else they are rows, `(batch·time, channel, …)`.
    channels_last: whether the pictures have their channels last.
    """

    frames: int
    stacked: bool
    channels_last: bool

    @property
    def channel_axis(self) -> int:
        """Which axis of a clip the channels are on."""
        return 4 if self.channels_last else 2

    def __call__(self, inputs: Inputs) -> Inputs:
        """Return clips as the model takes them."""
        return map_arrays(self._folded, inputs)

    def undo(self, inputs: Inputs) -> Inputs:
        """Return clips of what the model takes; what are clips already is left as it is."""
        return map_arrays(self._clips, inputs)

    def _folded(self, x: Array) -> Array:
        if len(x.shape) != _AXES + 1:
            return x
        xp, (batch, time, *picture) = namespace(x), x.shape
        if not self.stacked:
            return xp.reshape(x, (batch * time, *picture))
        if self.channels_last:
            return xp.reshape(xp.moveaxis(x, 1, 3), (batch, *picture[:2], time * picture[2]))
        return xp.reshape(x, (batch, time * picture[0], *picture[1:]))

    def _clips(self, x: Array) -> Array:
        if len(x.shape) != _AXES:
            return x
        xp, frames = namespace(x), self.frames
        if not self.stacked:
            return xp.reshape(x, (x.shape[0] // frames, frames, *x.shape[1:]))
        batch, *picture = x.shape
        if self.channels_last:
            clips = xp.reshape(x, (batch, *picture[:2], frames, picture[2] // frames))
            return xp.moveaxis(clips, 3, 1)
        return xp.reshape(x, (batch, frames, picture[0] // frames, *picture[1:]))


def fold_of(subject: Subject, inputs: Inputs, frames: int) -> Fold:
    """Return how a model takes clips of so many frames, by the shapes of inputs.

    Where they may be rows as well as channels, the model is run on as many pictures as a clip has frames: one
    row comes out of it where they were frames of one clip.
    Raises InputError for inputs that hold no whole number of clips.
    """
    engine = subject.engine
    last = engine.channels_last
    every = tuple(tuple(x.shape) for x in arrays_of(inputs))
    pictures = [shape for shape in every if len(shape) == _AXES]
    clips = [shape for shape in every if len(shape) == _AXES + 1]
    wrong = next((shape for shape in clips if shape[1] != frames), None)
    if wrong is not None or not (pictures or clips):
        axes = "height, width, channel" if last else "channel, height, width"
        raise InputError(
            f"frames={frames} is for clips given as (batch·time, {axes}), or stacked in the channels; "
            f"inputs have shape {wrong or every[0] if every else ()}"
        )
    channels = [shape[-1 if last else 1] for shape in pictures]
    rows = all(shape[0] % frames == 0 for shape in pictures)
    stacked = bool(pictures) and all(n % frames == 0 for n in channels)
    if not (rows or stacked):
        raise InputError(
            f"frames={frames} divides neither the {pictures[0][0]} rows of inputs {pictures[0]} nor their "
            f"{channels[0]} channels; give whole clips, one after the other"
        )
    if rows and stacked:
        stacked = not subject.once(("frames in one row", every), lambda: _one_row(engine, inputs, frames))
    stem = engine.stem
    if stacked and stem is not None and (stem.rank, stem.channels) == (2, channels[0]):
        raise InputError(
            f"the first convolution takes all {channels[0]} channels at once, so that its maps have no time: "
            "leave frames= out"
        )
    return Fold(frames, stacked, last)


def _one_row(engine: Engine, inputs: Inputs, rows: int) -> bool:
    """Say whether a model makes one row of scores of so many pictures."""
    counts: list[int] = []

    def score(result: Result) -> Array:
        first = arrays_in(result.raw)[0]
        counts.append(first.shape[0] if len(first.shape) else 1)
        return namespace(first).reshape(first, (counts[-1], -1))[:, :1]

    few = map_arrays(lambda x: x[:rows] if len(x.shape) == _AXES else x, inputs)
    engine.scores(engine.adapt(few), score)
    return counts[-1] == 1
