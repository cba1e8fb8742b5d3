"""What the methods have in common that mask the input and read the score: no gradient, no layer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from chronocam.errors import POSITIVE, LayerError, check_real, check_whole
from chronocam.maps.arrays import like, to_numpy
from chronocam.masks.designs import Effects, Score
from chronocam.masks.looks import Looks
from chronocam.masks.regions import regions_of
from chronocam.masks.regions.base import Pieces, Spread
from chronocam.masks.replacements import Fill, check, fill_of, fill_of_features
from chronocam.methods._base import EvidenceMethod, Maps
from chronocam.types import INPUT, Array, Need, View

_ALL_OF = 12  # regions at most: all 4,096 masks of them are scored, of more some are
_ULPS = 4  # of the largest score: by so much sums may differ that are made in another order

_log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class InputMasks(EvidenceMethod):
    """Masks on the input: scores alone are read, so that any model will do (see `cc.blackbox`).

    baseline: what is seen where the input is hidden: the input's `"blur"`, each channel's `"mean"`, `"noise"`
        (ROAD's noisy linear imputation from what is around), `"zero"`, for clips and sequences `"freeze"`
        (what was last seen), or an array shaped like one input or broadcasting to it.
    seed: of what is drawn, the same for all samples of a batch.

    Example:
    >>> cc.Occlusion(model, baseline="mean").explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    baseline: Any = "blur"
    seed: int = 0
    needs: ClassVar[tuple[Need, ...]] = (Need(at_input=True, gradients=False),)
    default_layer: ClassVar[str | None] = INPUT
    maps_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.conv_layer not in (None, INPUT):
            raise LayerError(f"{self.name} masks the input; leave conv_layer out")
        check(self.baseline)
        check_whole("seed", self.seed, "a whole number from 0", least=0)
        super().__post_init__()

    def filled(self, view: View) -> Fill:
        """Return what shows the input through a mask."""
        x, rng = view.captures[0].activations, np.random.default_rng(self.seed)
        if not view.by_feature or not isinstance(self.baseline, str):
            return fill_of(x, self.baseline, view.laid, rng)
        return fill_of_features(x, lambda rows: fill_of(rows, self.baseline, view.laid, rng))

    def without_rounding(self, view: View, maps: np.ndarray, rounding: np.ndarray | float) -> np.ndarray:
        """Return maps with zeros where nothing but rounding moved a score, and say it."""
        idle = np.abs(maps).max(axis=tuple(range(2, maps.ndim))) <= rounding
        if idle.any():
            unmoved = f"{int(idle.sum())} of {idle.size} scores"
            view.note(f"{unmoved} stay the same whatever is hidden; try another baseline=")
        maps[idle] = 0
        return maps


def rounding(scores: np.ndarray) -> np.ndarray:
    """Return how far scores `(mask, batch, target)` may differ and mean nothing, `(batch, target)`."""
    return _ULPS * np.finfo(scores.dtype).eps * np.abs(scores).max(axis=0).astype(np.float64)


class Scorer:
    """Scores `(mask, batch, target)` of masks that show the regions marked 1.

    rounding: `(batch, target)`, which differences of scores that size may be and mean nothing.
    """

    def __init__(self, view: View, fill: Fill) -> None:
        self.view = view
        self.fill = fill
        self.rounding: np.ndarray | float = 0.0

    def __call__(self, spread: Spread, shown: np.ndarray) -> np.ndarray:
        """Return the scores."""
        changes = (self.view.on_main(partial(_masked, self.fill, spread, marks)) for marks in shown)
        scores = to_numpy(self.view.scores(changes))
        self.rounding = np.fmax(self.rounding, rounding(scores))
        return scores.astype(np.float64)


def _masked(fill: Fill, spread: Spread, marks: np.ndarray, x: Array) -> Array:
    return fill(spread(marks[None, None]))


@dataclass(kw_only=True, eq=False)
class MaskMethod(InputMasks):
    """A map from many masks, with an interval for each of its cells, until it is known well enough.

    regions: what is hidden together: `"grid"`, RISE's smooth random cells; `"cells"`, `"superpixels"` (needs
        scikit-image; of clips supervoxels), of clips `"frames"`, and `"tubes"` that follow what moves (needs
        scikit-image). Of sequences `(batch, time, feature)` cells are of steps and features; `"features"` are
        hidden at all times, and `"frames"` are whole steps.
    cells: into how many pieces each axis is cut, a number or one per axis; of superpixels about how many.
        None is 7 × 7 of a picture or a sequence, 4 × 4 × 4 of a clip, 16 of a signal, 50 superpixels, every
        frame and feature, 4 × 4 tubes.
    until: stop when the half-width of every cell's 95 % interval is at most this share of the map's range;
        None goes on to the budget.
    budget: at most so many forward passes of each sample.

    `Explanation.interval` holds the half-widths. They hold at each cell by itself, however often they were
    looked at before. A finding says where the budget ended the search.

    Example:
    >>> explanation = cc.RISE(model, budget=400).explain(images, "dog")
    >>> explanation.interval.shape == explanation.maps.shape
    True
    """

    regions: str = "cells"
    cells: Pieces = None
    until: float | None = 0.1
    budget: int = 2000

    def __post_init__(self) -> None:
        regions_of(self.regions, self.cells)  # raises for an unknown kind
        if self.until is not None:
            expected = "a share of the map's range up to 1, such as 0.1"
            check_real("until", self.until, expected, least=POSITIVE, most=1)
        check_whole("budget", self.budget, "at least 6 forward passes", least=6)
        super().__post_init__()

    def maps(self, view: View) -> Maps:
        """Add blocks of masks until the map is known, and tell the view the interval."""
        x = view.captures[0].activations
        inputs, rng = to_numpy(x), np.random.default_rng(self.seed)
        kind = regions_of(self.regions, self.cells, view.by_feature)
        passes, score = 0, Scorer(view, self.filled(view))
        looks: Looks | None = None
        while True:
            spread = kind.draw(inputs, rng)
            effects, cost = self.block(partial(score, spread), spread.count, rng)
            if looks is None:
                rise = None if self.exact(spread.count) else self.rise(partial(score, spread), spread.count)
                passes = 0 if rise is None else 2
                looks = Looks(self.until, self.budget // cost, rise)
            looks.rounding = score.rounding
            looks.add(spread(effects), effects.sum(axis=-1), cost)
            passes += cost
            looked, known = looks.looks, looks.enough()
            if looks.looks > looked:
                _log.info(
                    "%s: every cell known to ±%.2g of the map's range after %d forward passes",
                    self.name,
                    looks.reached,
                    passes,
                )
            if known or passes + cost > self.budget or self.exact(spread.count):
                break
        exact = self.exact(spread.count)
        view.interval = like(np.zeros_like(looks.mean) if exact else looks.interval(), x)
        if not exact:
            self._remark(view, looks.reached, passes)
        return like(self.without_rounding(view, looks.mean, score.rounding), x)

    def _remark(self, view: View, reached: float, passes: int) -> None:
        """Note where the budget ended the search before the map was known."""
        if np.isinf(reached):
            how_far = "too few for intervals"
        elif self.until is not None and reached > self.until:
            reaching = f"intervals up to ±{reached:.2g} of the map's range"
            how_far = f"with {reaching}, where until={self.until} asks for less"
        else:
            return
        view.note(f"stopped after {passes} forward passes, {how_far}; raise budget=")

    def block(self, score: Score, regions: int, rng: np.random.Generator) -> tuple[Effects, int]:
        """Return an estimate of each region's number, and how many forward passes it took."""
        raise NotImplementedError(f"{type(self).__name__} must define block(score, regions, rng)")

    def rise(self, score: Score, regions: int) -> np.ndarray | None:
        """Return the rise of the score from nothing shown to all, where blocks need not add up to it."""
        return None

    def exact(self, regions: int) -> bool:
        """Say whether one block is of all masks there are: they fit into the budget, and are not too many."""
        return regions <= _ALL_OF and 2**regions <= self.budget

    def pairs(self, regions: int, most: int, others: int = 0) -> int:
        """Return how many pairs of masks a block has for a regression: `most`, or what allows three blocks.

        Of fewer pairs than regions a regression is wrong by the same in each block, which no interval shows:
        where three blocks leave too few, there are fewer blocks.

        others: how many more masks a block has.
        """
        third, whole = ((budget - others) // 2 for budget in (self.budget // 3, self.budget))
        return max(1, min(most, max(third, min(regions + regions // 4, whole))))
