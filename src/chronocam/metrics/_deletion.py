"""Insertion and deletion: how fast the score changes when cells come or go in the order of the map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from chronocam._repr import ShortRepr
from chronocam.errors import InputError, suggest
from chronocam.metrics.checks import Floats, finite, flat
from chronocam.metrics.scoring import Score, scored

BASELINES = ("blur", "mean", "black", "freeze")
BLUR = 0.1  # standard deviation of the blur, as a share of each side


@dataclass(frozen=True, eq=False)
class Curve(ShortRepr):
    """Scores along the way.

    shares: `(point,)`, how much was changed, from 0 to 1.
    scores: `(batch, point)`.

    Example:
    >>> curve = cc.metrics.Curve(np.array([0.0, 0.5, 1.0]), np.array([[1.0, 0.2, 0.0]]))
    >>> curve.area.round(2)
    array([0.35])
    """

    shares: Float[np.ndarray, " point"]
    scores: Float[np.ndarray, "batch point"]

    @property
    def area(self) -> Float[np.ndarray, " batch"]:
        """The area under each sample's curve, by trapezoids: a weighted mean of its scores."""
        return ((self.scores[:, 1:] + self.scores[:, :-1]) / 2) @ np.diff(self.shares)


def deletion(
    score: Score,
    inputs: Floats,
    maps: Floats,
    *,
    channels: int = 1,
    baseline: str | float | np.ndarray = "blur",
    steps: int = 20,
    seed: int = 0,
) -> Curve:
    """Return the score while the most relevant cells give way to a baseline. A low area is good.

    score: takes inputs `(batch, …)` and returns `(batch,)`; always called with the whole batch in its order.
    inputs: `(batch, …)`, images or clips, with `channels` the axis of their channels: 1 for `(batch, channel,
        time, height, width)`, 2 for `(batch, time, channel, height, width)`.
    maps: what the cells are is what the maps have axes for. `(batch, height, width)`: pixels, those of a clip
        through all of its frames; `(batch, time)`: frames (see `frame_importance`); `(batch, time, height,
        width)`: cells of space and time. All at the size of the inputs. Ties are broken at random from
        `seed`.
    baseline: `"blur"` (Gaussian over height and width, a tenth of each side), `"mean"` (of each sample's
        channel), `"black"` (each sample's and channel's lowest value), or values that broadcast to the
        inputs; `"freeze"`, for frames only, shows the last frame that is left instead, and the first frame
        before there is one.
    steps: how many equal shares; fewer where there are fewer cells.

    Raises InputError for maps that fit no axes, an unknown baseline, and scores of another shape.
    Source: Petsiuk et al. 2018 (arXiv:1806.07421), section 3.2.

    Example:
    >>> inputs = np.array([[[[0.0, 4.0], [2.0, 1.0]]]])
    >>> def score(x):
    ...     return x.sum(axis=(1, 2, 3))
    >>> cc.metrics.deletion(score, inputs, inputs[:, 0], baseline=0, steps=4).scores
    array([[7., 3., 1., 0., 0.]])
    """
    cells = Cells(inputs, maps, channels, seed)
    return _curve(score, cells, baseline, lambda count: cells.rank >= count, steps)


def insertion(
    score: Score,
    inputs: Floats,
    maps: Floats,
    *,
    channels: int = 1,
    baseline: str | float | np.ndarray = "blur",
    steps: int = 20,
    seed: int = 0,
) -> Curve:
    """Return the score while the most relevant cells come to a baseline. A high area is good.

    Arguments and errors as in `deletion`.

    Example:
    >>> inputs = np.array([[[[0.0, 4.0], [2.0, 1.0]]]])
    >>> def score(x):
    ...     return x.sum(axis=(1, 2, 3))
    >>> cc.metrics.insertion(score, inputs, inputs[:, 0], baseline=0, steps=4).scores
    array([[0., 4., 6., 7., 7.]])
    """
    cells = Cells(inputs, maps, channels, seed)
    return _curve(score, cells, baseline, lambda count: cells.rank < count, steps)


Removal = Callable[[np.ndarray], np.ndarray]
"""Takes which cells stay, `(batch, cell)`, and returns inputs without the others."""


def _curve(
    score: Score,
    cells: Cells,
    baseline: str | float | np.ndarray,
    staying: Callable[[int], np.ndarray],
    steps: int,
) -> Curve:
    removal, counts = cells.without(baseline), cells.counts(steps)
    scores = [scored(score, removal(staying(int(n)))) for n in counts]
    return Curve(counts / cells.total, np.stack(scores, axis=1))


class Cells:
    """The cells that a map orders, and the inputs without some of them."""

    def __init__(self, inputs: np.ndarray, maps: np.ndarray, channels: int, seed: int) -> None:
        if inputs.ndim < 3 or not 0 < channels % inputs.ndim < inputs.ndim:
            raise InputError(
                f"inputs have shape {inputs.shape} and channels={channels}; expected (batch, …, channel, …)"
            )
        self.inputs: np.ndarray = inputs
        self.channels: int = channels % inputs.ndim
        self.grid: tuple[int, ...] = tuple(axis for axis in range(1, inputs.ndim) if axis != self.channels)
        self.axes: tuple[int, ...] = self._axes(maps.shape)
        self.shape: tuple[int, ...] = tuple(
            n if axis in (0, *self.axes) else 1 for axis, n in enumerate(inputs.shape)
        )
        values = flat(finite(maps, maps.ndim - 1), maps.ndim - 1)
        # Sorted by value from the largest, and by a draw where values are equal: flat regions (a ReLU's
        # zeros) would else go row by row. `rank` is the place of each cell in that order.
        ties = np.broadcast_to(np.random.default_rng(seed).random(values.shape[1:]), values.shape)
        order = np.lexsort((ties, -values), axis=-1)
        self.rank: np.ndarray = np.argsort(order, axis=-1)
        self.total: int = values.shape[-1]

    def _axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the axes of the inputs that the maps are for."""
        choices = [self.grid] if len(self.grid) < 3 else [self.grid, self.grid[-2:], self.grid[:1]]
        shapes = [tuple(self.inputs.shape[axis] for axis in (0, *axes)) for axes in choices]
        if shape not in shapes:
            raise InputError(
                f"maps have shape {shape}; expected {' or '.join(map(str, shapes))} for these inputs"
            )
        return choices[shapes.index(shape)]

    def counts(self, steps: int) -> np.ndarray:
        """Return how many cells are changed at each of so many equal steps, from none to all."""
        if steps < 1:
            raise InputError(f"steps is {steps}; expected at least one")
        return np.unique(np.round(np.linspace(0, self.total, steps + 1)).astype(int))

    def without(self, baseline: str | float | np.ndarray) -> Removal:
        """Return how cells are taken away."""
        if isinstance(baseline, str) and baseline == "freeze":
            return self._frozen()
        other = self._baseline(baseline)
        return lambda stays: np.where(stays.reshape(self.shape), self.inputs, other)

    def _frozen(self) -> Removal:
        if len(self.grid) != 3 or self.axes != self.grid[:1]:
            raise InputError(
                "baseline `freeze` is for frames of a clip; give maps (batch, time), or another baseline"
            )

        def freeze(stays: np.ndarray) -> np.ndarray:
            # The running maximum of the numbers of the frames that stay is the last one of them so far.
            frames = np.maximum.accumulate(np.where(stays, np.arange(self.total), 0), axis=1)
            return np.take_along_axis(self.inputs, frames.reshape(self.shape), axis=self.grid[0])

        return freeze

    def _baseline(self, baseline: str | float | np.ndarray) -> np.ndarray:
        if not isinstance(baseline, str):
            try:
                return np.broadcast_to(np.asarray(baseline, dtype=self.inputs.dtype), self.inputs.shape)
            except ValueError as error:
                raise InputError(
                    f"baseline has shape {np.shape(baseline)}; expected one that broadcasts to "
                    f"{self.inputs.shape}"
                ) from error
        if baseline == "mean":
            return self.inputs.mean(axis=self.grid, keepdims=True, dtype=np.float64).astype(self.inputs.dtype)
        if baseline == "black":
            return self.inputs.min(axis=self.grid, keepdims=True)
        if baseline == "blur":
            return self._blurred()
        hint = suggest(baseline, list(BASELINES)) or f"; choose one of {', '.join(BASELINES)}, or give values"
        raise InputError(f"no baseline `{baseline}`{hint}")

    def _blurred(self) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        sigma = [BLUR * n if axis in self.grid[-2:] else 0.0 for axis, n in enumerate(self.inputs.shape)]
        # SciPy has no half precision.
        exact = self.inputs.astype(np.promote_types(self.inputs.dtype, np.float32))
        return np.asarray(gaussian_filter(exact, sigma)).astype(self.inputs.dtype)
