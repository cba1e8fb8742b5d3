"""Does it use motion? The score of clips whose frames are shuffled, reversed or frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from chronocam._repr import ShortRepr
from chronocam.errors import InputError
from chronocam.metrics.checks import Floats
from chronocam.metrics.intervals import Interval, bootstrap
from chronocam.metrics.scoring import Score, scored

FEWEST = 5
"""Clips for a verdict: all scores of fewer fall by chance more than one time in twenty (2⁻⁵ is 3 %)."""

_ROUNDING = 1e-5  # of the largest score


@dataclass(frozen=True, eq=False)
class Motion(ShortRepr):
    """Scores `(batch,)` of clips as they are and with their frames changed.

    as_is: the clips themselves.
    shuffled: the mean over several random orders of the frames.
    backwards: the frames in reverse.
    frozen: every frame replaced by the middle one.

    Example:
    >>> ones = np.ones(6)
    >>> cc.metrics.Motion(ones, 0.5 * ones, 0.5 * ones, 0 * ones).verdict()
    'the order of frames matters: the score falls by shuffled 0.500 [0.500, 0.500], ...'
    """

    as_is: Float[np.ndarray, " batch"]
    shuffled: Float[np.ndarray, " batch"]
    backwards: Float[np.ndarray, " batch"]
    frozen: Float[np.ndarray, " batch"]

    @property
    def drops(self) -> dict[str, Float[np.ndarray, " batch"]]:
        """By how much each change lowers each clip's score."""
        changes = {"shuffled": self.shuffled, "backwards": self.backwards, "frozen": self.frozen}
        return {name: self.as_is - score for name, score in changes.items()}

    def intervals(self, confidence: float = 0.95) -> dict[str, Interval]:
        """Return the mean of each drop with its bootstrap interval."""
        return {name: bootstrap(drop, confidence) for name, drop in self.drops.items()}

    def verdict(self, confidence: float = 0.95) -> str:
        """Return one line: how much of the score goes with the frames' order and change, and what follows.

        Only a drop whose whole bootstrap interval lies above 0, and above the scores' rounding, counts, and
        nothing follows from fewer than 5 clips. A change also makes clips unlike any that the model was
        trained on, so a drop shows that it notices, not that it understands.
        """
        falls, least = self.intervals(confidence), _ROUNDING * float(np.abs(self.as_is).max())
        if len(self.as_is) < FEWEST:
            what = f"fewer than {FEWEST} clips prove nothing"
        elif max(falls["shuffled"].low, falls["backwards"].low) > least:
            what = "the order of frames matters"
        elif falls["frozen"].low > least:
            what = "several frames matter, their order does not show"
        else:
            what = "no sign that motion is used"
        listed = ", ".join(f"{name} {interval}" for name, interval in falls.items())
        return f"{what}: the score falls by {listed} ({len(self.as_is)} clips, {confidence:.0%} intervals)"


def motion_test(score: Score, clips: Floats, time_axis: int, seed: int = 0, shuffles: int = 4) -> Motion:
    """Score clips `(batch, …)` as they are, with shuffled, reversed and frozen frames.

    score: from clips to `(batch,)`; always called with the whole batch in its order.
    time_axis: the axis of the frames: 2 for `(batch, channel, time, …)`, 1 for `(batch, time, channel, …)`.
    shuffles: how many random orders, the same for all clips and never the clips' own, are averaged.

    Raises InputError where `time_axis` is the batch's, does not exist or has fewer than two frames, and for
    scores of another shape.

    Example:
    >>> def score(x):
    ...     return np.diff(x, axis=1).mean(axis=(1, 2))  # rises with time
    >>> cc.metrics.motion_test(score, np.arange(8.0).reshape(1, 8, 1), time_axis=1).backwards
    array([-1.])
    """
    if not -clips.ndim < time_axis < clips.ndim or time_axis == 0:
        raise InputError(
            f"time_axis is {time_axis}; clips have shape {clips.shape}: expected the axis of their frames"
        )
    frames = clips.shape[time_axis]
    if frames < 2:
        raise InputError(
            f"clips have {frames} frame(s) along axis {time_axis}; expected at least two, to compare"
        )
    if shuffles < 1:
        raise InputError(f"shuffles is {shuffles}; expected at least one")
    still = np.arange(frames)
    rng = np.random.default_rng(seed)

    def with_frames(order: np.ndarray) -> np.ndarray:
        return scored(score, np.take(clips, order, axis=time_axis))

    return Motion(
        with_frames(still),
        np.mean([with_frames(_another(still, rng.permutation)) for _ in range(shuffles)], axis=0),
        with_frames(still[::-1]),
        with_frames(np.full(frames, frames // 2)),
    )


def _another(order: np.ndarray, permutation: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return a random order that is not `order`."""
    while np.array_equal(shuffled := permutation(order), order):
        pass
    return shuffled
