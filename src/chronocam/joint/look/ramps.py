"""Where the cells of layers look, as noise that grows along an axis of the input shows.

With noise n over the whole input a cell moves by d = Σ_x J_x n_x, where J_x is how much it sees of place x;
with the same noise times a ramp r over one axis, which rises from −1 to 1, it moves by e = Σ_x J_x r_x n_x.
As the n_x are independent, E[d·e] / E[d²] is the mean of the ramp over what the cell sees: where it looks
along that axis. The means are taken over the channels of a cell. That costs a forward pass for the noise and
one for each axis of the input, whatever the number of cells and of layers.

The first draw moves the input itself: the pass that listed the layers has already recorded what they return
for it. It only decides clear cases. Flat regions of a picture leave ReLUs at their kinks, where outputs can
move to one side only; so what it leaves open is measured anew around noise like the input, which costs one
more pass. In fact the noise is multiplied by (1 + r) / 2, from which e follows: that never changes its sign,
so that a unit which the noise switches on stays on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from chronocam.joint.look.order import (
    CLEAR,
    IN_ORDER,
    NAMES,
    STEEP,
    along,
    correlation,
    disorder,
    follows,
    follows_within,
    is_sure,
    leans,
    looks_elsewhere,
    may_be_chance,
    mixes,
    order_in_words,
    scattered,
    strays,
    without_padding,
)
from chronocam.layouts import Layout, PatchRows, WindowRows
from chronocam.layouts.base import joined
from chronocam.maps.arrays import to_numpy

if TYPE_CHECKING:
    from chronocam.joint.look.look import Look

T = TypeVar("T")

STEP: Final = {"float16": 0.5, "bfloat16": 0.5}
"""How far the input is moved, in units of its own spread, where its precision needs more than a tenth."""

SMALL: Final = 1e-3
"""How far it is moved where the measure is to be exact, and not only the sign of it to be safe."""

ALONE: Final = 0.75
"""The slope of narrow cells, by the share of the input that they lie on, below which they may see several
places of it: n of them have 1/n, one has 0.85 and more."""

WAVES: Final = 0.2
"""How far a wave over the input spreads what cells see of it, at least, by their mean, to say anything:
it is 0.7 in the input itself, and 0 where they see more than its periods."""

DRAWS: Final = 3
"""How many draws of noise are averaged where the first leaves it open."""

Outputs = Mapping[str, Sequence[np.ndarray]]
"""What layers returned, one array per call."""


Sums = Callable[[str, Layout], tuple[np.ndarray, np.ndarray]]
"""Makes of a layer and its layout what `follows` takes."""


class Ramps:
    """How layers move with the input of one sample, for as many draws of noise as were asked for.

    The same passes serve all of the layers.

    known: what the layers return for the input as it is, from a pass before; None without one.
    """

    def __init__(self, look: Look, layers: Sequence[str], known: Outputs | None = None) -> None:
        self.look = look
        self.layers: tuple[str, ...] = tuple(layers)
        self._known = known
        self._draws = 0
        self._moves: list[_Moved] = []
        self._waved: dict[Hashable, Outputs] = {}
        self._x: np.ndarray = to_numpy(look.main).astype(np.float64)
        self._spread = float(self._x.std()) or 1.0

    @cached_property
    def _noise(self) -> np.ndarray:
        """Noise like the input."""
        x = self._x
        return x.mean() + np.random.default_rng(0).standard_normal(x.shape) * self._spread

    @cached_property
    def _base(self) -> Outputs:
        return self._outputs(self._noise)

    def draw(self) -> None:
        """Move the input once more: by noise, and by that noise under a ramp along each axis of its grid."""
        look, at_input = self.look, self._known is not None and not self._draws
        x, before = (self._x, self._known or {}) if at_input else (self._noise, self._base)
        # The second draw begins anew around noise: what the first has left open was measured at kinks.
        if self._draws == 1 and self._known is not None:
            self._moves.clear()
        self._draws += 1
        rng = np.random.default_rng(self._draws)
        step = STEP.get(str(look.main.dtype).rpartition(".")[2], 0.1)
        noise = rng.standard_normal(x.shape) * self._spread * step
        axes = [axis for axis in range(1, x.ndim) if axis != look.channel_axis]
        parts = (1,) * len(axes) if look.tiles is None else look.tiles[0]
        shares = [
            np.tile(np.linspace(0, 1, x.shape[axis] // n), n).reshape(
                [-1 if i == axis else 1 for i in range(x.ndim)]
            )
            for axis, n in zip(axes, parts, strict=True)
        ]
        after, shared = self._outputs(x + noise), [self._outputs(x + noise * share) for share in shares]
        self._moves.append(_Moved(before, after, shared, x, noise))

    def _outputs(self, x: np.ndarray) -> Outputs:
        return outputs_of(self.look.moved(x), self.layers)

    def verdict(
        self,
        layer: str,
        layout: Layout,
        draws: int = DRAWS,
        sums: Sums | None = None,
        steep: float = STEEP,
    ) -> bool | None:
        """Say whether a layer's cells, laid out like this, follow the input's places; None if it stays open.

        steep: see `follows`.

        A layout is refused after two draws at the least, so that the noise of a few channels decides nothing,
        unless so many cells say it that another draw would not change it.
        """
        if not self._draws:
            self.draw()
        while True:
            both = (sums or self._sums)(layer, layout)
            verdict = follows(*both, steep)
            if verdict and isinstance(layout, WindowRows) and not follows_within(*both, layout.windows):
                verdict = False
            if verdict and self._draws == 1 and may_be_chance(*both):
                verdict = None
            elif verdict or (verdict is False and self._draws > 1) or is_sure(verdict, *both):
                return verdict
            if self._draws >= draws:
                return verdict
            self.draw()

    def contradicts(self, layer: str, layout: Layout) -> bool:
        """Say whether a layer's cells, laid out as its kind says, do not follow the input's places.

        Slices of clips may see so much of the time that their order cannot be measured: those only contradict
        that clearly look backwards, or along another axis.
        """
        if len(self.look.grid) < 3:
            return self._contradict(layer, layout, self._of_picture)
        for draws in range(1, DRAWS):
            while self._draws < draws:
                self.draw()
            if not looks_elsewhere(*self._sums(layer, layout)):
                return self._contradict(layer, layout, self._of_frames)
        return True

    def sees_several(self, layer: str, layout: Layout) -> str | None:
        """Say, in words, which cells of a layer see several places that lie apart; None where none do.

        Parts of a picture that are stacked or added up are in order: each goes over the whole grid. But cells
        that see n such places look on 1/n as fast as they should, and a wave of n periods over the input
        moves them by their place in a part, not by their place in the whole. Where they see so much that it
        moves all of them alike, that stays open. It takes a pass where cells look on so slowly, and another
        draw before it is said: the noise of one may say so of few channels.
        """
        if self.look.tiles is not None or len(self.look.grid) > 2:
            return None
        if not self._draws:
            self.draw()
        axes: list[int] = []
        for fewer in (0.25, -0.25):  # of how many places it may be either number
            waves = self._slow(layer, layout, fewer)
            axes = [axis for axis in waves if self._waves_elsewhere(layer, layout, axis, waves)]
            if axes and self._draws < 2:
                self.draw()
                axes = [axis for axis in axes if self._waves_elsewhere(layer, layout, axis, waves)]
            if axes:
                break
        names = " and ".join(NAMES[len(self.look.grid)][axis] for axis in axes)
        stacked = "as where parts of a picture are stacked or added up"
        return f"its {names} see several places each, {stacked}" if axes else None

    def _slow(self, layer: str, layout: Layout, fewer: float) -> dict[int, _Wave]:
        """Return the axes along which cells look on as slowly as those of several places, each with its wave.

        fewer: what is taken from the number of places that the slope says, before it is rounded.
        """
        waves: dict[int, _Wave] = {}
        for axis, looks, places in along(*without_padding(*self._sums(layer, layout))):
            slope = (looks[axis] - looks[axis].mean()) @ places / (places @ places)
            if 1 / len(places) < slope < ALONE and correlation(looks[axis], places) >= IN_ORDER:
                size = self.look.grid[axis]
                low, high = (self.look.places.part(layer) or {axis: (0, size - 1)})[axis]
                wave = _Wave(round((high - low + 1) / size / slope - fewer), low, high)
                if 1 < wave.periods <= len(places) // 2:
                    waves[axis] = wave
        return waves

    def _waves_elsewhere(self, layer: str, layout: Layout, axis: int, waves: Mapping[int, _Wave]) -> bool:
        """Say whether the wave along an axis moves cells by another place than their own.

        waves: those along all axes, which are measured together.
        """
        moved, key = self._moves[-1], (self._draws, *waves.items())
        if key not in self._waved:
            noise = moved.noise
            axes = [i for i in range(1, noise.ndim) if i != self.look.channel_axis]
            for axis_of_grid, wave in waves.items():
                at = axes[axis_of_grid]
                noise = noise * wave.over(noise.shape[at]).reshape(
                    [-1 if i == at else 1 for i in range(noise.ndim)]
                )
            self._waved[key] = self._outputs(moved.x + noise)
        d, e = moves(*(_on(one[layer], layout) for one in (moved.before, moved.after, self._waved[key])))
        others = tuple(i for i in range(d.ndim) if i != axis + 1)
        squares, products = (d**2).sum(others), (d * e).sum(others)
        (moving,) = np.nonzero(squares)
        seen = products[moving] / squares[moving]
        own = [_Wave(waves[axis].periods, 0, len(moving) - 1).over(len(moving))]
        if not waves[axis].periods % 2:  # of odd ones, the middle of the input is as the middle of each part
            own.append(waves[axis].at(self._line(layer, layout, axis)[moving]))
        elsewhere = all(correlation(seen, one) < 0.5 for one in own)
        return elsewhere and bool(seen.std() > WAVES * abs(seen.mean()))

    def _line(self, layer: str, layout: Layout, axis: int) -> np.ndarray:
        """Return the places of the input at which cells look, on the line through them, that see one each.

        Cells of convolutions that pad nothing look on as slowly as those that see several, from further in.
        """
        every = {at: (looks[at], places) for at, looks, places in along(*self._sums(layer, layout))}
        looks, places = every[axis]
        slope = (looks - looks.mean()) @ places / (places @ places)
        line: np.ndarray = (1 + looks.mean() + slope * places) / 2 * (self.look.grid[axis] - 1)
        return line

    def _contradict(self, layer: str, layout: Layout, sums: Sums) -> bool:
        verdict = self.verdict(layer, layout, sums=sums, steep=CLEAR)
        wrong = verdict is False or (verdict is None and strays(*sums(layer, layout)))
        if wrong and len(self._moves) < 2 and leans(*sums(layer, layout)):
            self.draw()
            wrong = follows(*sums(layer, layout), CLEAR) is False
        return wrong

    def _of_frames(self, layer: str, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of all slices together, over rows and columns alone."""
        products, squares = self._sums(layer, layout)
        return without_padding(products[1:].sum(1), squares.sum(0))

    def _of_picture(self, layer: str, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
        return without_padding(*self._sums(layer, layout))

    def order(self, layer: str, layout: Layout) -> str:
        """Return where the cells of a layer, laid out like this, look instead, in words."""
        return order_in_words(*self._sums(layer, layout))

    def disorder(self, layer: str, layout: Layout) -> float:
        """Return by how much the order in which cells look misses that of their places: 0 to 2."""
        return disorder(*self._sums(layer, layout))

    def scatters(self, layer: str, layout: Layout) -> bool:
        """Say whether cells, each by itself, look at other places than their own.

        Whole rows and columns may look in order where cells are exchanged between them, as by windows. Noise
        scatters single cells too: it is averaged over all draws before that is said.
        """
        while scattered(*self._sums(layer, layout)):
            if self._draws >= DRAWS:
                return True
            self.draw()
        return False

    def cells(self, layer: str, layout: Layout) -> int:
        """Return how many cells a layer has, laid out like this."""
        return self._sums(layer, layout)[1].size

    def mixes(self, layer: str, layout: Layout) -> bool:
        """Say whether all cells of a layer, laid out like this, look at about the same place."""
        return mixes(*self._sums(layer, layout))

    def _sums(self, layer: str, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
        """Return Σ d·e `(axis, *grid)` and Σ d² `(*grid)` over the channels of each cell and all draws."""
        products, squares = [], []
        for moved in self._moves:
            every = [_on(one[layer], layout) for one in (moved.before, moved.after, *moved.shared)]
            d, *shared = moves(*every)
            squares.append((d**2).sum(0))
            products.append([(d * (2 * share - d)).sum(0) for share in shared])
        return self._within(layout, np.sum(products, axis=0)), self._within(layout, np.sum(squares, axis=0))

    def _within(self, layout: Layout, sums: np.ndarray) -> np.ndarray:
        """Return the sums over all tiles of a picture, where it has any."""
        if self.look.tiles is None or not isinstance(layout, PatchRows):
            return sums
        (rows, columns), *lead, (height, width) = layout.patches, *sums.shape[:-2], sums.shape[-2:]
        apart = sums.reshape(*lead, rows, height // rows, columns, width // columns)
        within: np.ndarray = apart.sum((-4, -2))
        return within


@dataclass(frozen=True)
class _Moved:
    """What layers return for an input, after noise, and after the share of it that each ramp leaves.

    x, noise: that input, and the noise.
    """

    before: Outputs
    after: Outputs
    shared: Sequence[Outputs]
    x: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class _Wave:
    """A wave between 0 and 1 of so many periods, from place `low` of the input to place `high`."""

    periods: int
    low: int
    high: int

    def over(self, places: int) -> np.ndarray:
        """Return it at each of so many places."""
        return self.at(np.arange(places))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return it at places of the input."""
        share = (places - self.low + 0.5) / (self.high - self.low + 1)
        wave: np.ndarray = (1 + np.sin(2 * np.pi * self.periods * share)) / 2
        return wave


def _on(calls: Sequence[np.ndarray], layout: Layout) -> np.ndarray:
    return np.asarray(layout(joined(list(calls), layout)))[0].astype(np.float64)


def moves(base: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Return by how much each of the others differs from the base, and zero where one of them is not finite.

    So do masks of minus infinity, which stay as they are: they say nothing of places.
    """
    finite = np.logical_and.reduce([np.isfinite(one) for one in (base, *others)])
    return [np.subtract(other, base, out=np.zeros_like(base), where=finite) for other in others]


def outputs_of(look: Look, layers: Sequence[str]) -> Outputs:
    """Return what layers return for a look's inputs, one array per call, or the one call that is named."""
    paths = {layer: layer.partition("#")[0] for layer in layers}
    every: dict[str, list[np.ndarray]] = {path: [] for path in paths.values()}
    for call in look.engine.trace(look.inputs, keep=list(every)):
        if call.path in every and call.output is not None:
            every[call.path].append(to_numpy(call.output))
    return {layer: of_call(layer, every[path]) for layer, path in paths.items()}


def of_call(layer: str, calls: Sequence[T]) -> Sequence[T]:
    """Return what belongs to the one call that a layer names, `relu#1`, or to all."""
    return [calls[int(layer.partition("#")[2])]] if "#" in layer else calls
