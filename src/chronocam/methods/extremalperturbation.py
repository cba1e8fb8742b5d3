"""Extremal perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float

from chronocam.errors import POSITIVE, InputError, LayerError, check_real, check_whole
from chronocam.maps.arrays import like, namespace, to_numpy
from chronocam.maps.blur import blurred
from chronocam.maps.resample import axis_matrix, half_pixel_centers
from chronocam.masks.replacements import STILL, check, still_of
from chronocam.methods._adam import Adam
from chronocam.methods._base import Maps, Method
from chronocam.types import INPUT, Array, Change, Need, View

SIGMA = 1 / 21
"""Standard deviation by which a mask is smoothed, as a share of the longest side."""

BLUR = 0.09
"""Standard deviation of the strongest blur, as a share of the longest side: 20 pixels of 224."""

LEVELS = 8
"""Strengths of blur, between which the mask chooses at each place."""

START = 0.9
"""The area shown at the first step."""

EDGE = 0.2
"""The temperature of the sigmoid at last, where it is 1 at the first step: edges get steeper."""

SETTLED = 0.6
"""The share of the steps in which the area shrinks to the one asked for; the others move it about."""

Mask: TypeAlias = np.ndarray  # (batch, *cells)
Laid: TypeAlias = np.ndarray  # (batch, *grid)


@dataclass(kw_only=True, eq=False)
class ExtremalPerturbation(Method):
    """The part of the input, of a given area, that keeps the score highest: a smooth mask, learned.

    m maximises S(x̃) among all smooth masks whose mean is `area`. x̃ shows the input as it is where m
    is 1, and the more blurred the nearer m is to 0. m = σ((g * θ − τ) / T): a Gaussian g makes it
    smooth, and τ is where its mean is the area at every step, so that no penalty has to. The area
    begins at 0.9 and shrinks, and T falls from 1 to 0.2, which leaves a mask of almost 0 and 1. In a
    clip all frames share the area.

    area: the share of the input that is shown, of a clip's frames together.
    baseline: what comes in the place of the rest: the `"blur"` above; each channel's `"mean"`, `"zero"`, or
        an array shaped like one input or broadcasting to it, which m mixes in.
    steps: how often Adam updates θ, each a pass per target.
    lr: Adam's step size.
    sigma: standard deviation of g in pixels; None is 1/21 of the longest side.
    drift: the same in frames of a clip; 0 lets each frame's mask move freely.

    The map is m on cells of σ pixels, a frame of a clip by itself. A finding says where no mask of this area
    keeps half of what the score falls by when all is hidden.

    Raises LayerError for a layer.
    Source: Fong et al. 2019 (arXiv:1910.08485), eq. 3; clips Li et al. 2021 (arXiv:2005.00375).

    Example:
    >>> cc.ExtremalPerturbation(model, area=0.2, steps=5).explain(images, "dog").maps.shape
    (2, 1, 21, 21)
    """

    area: float = 0.1
    baseline: Any = "blur"
    steps: int = 100
    lr: float = 0.3
    sigma: float | None = None
    drift: float = 1.0
    name: ClassVar[str] = "extremalperturbation"
    needs: ClassVar[tuple[Need, ...]] = (Need(at_input=True),)
    default_layer: ClassVar[str | None] = INPUT
    maps_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.conv_layer not in (None, INPUT):
            raise LayerError("extremalperturbation masks the input; leave conv_layer out")
        check_real("area", self.area, "a share of the input, such as 0.1", least=POSITIVE)
        if self.area >= START:
            raise InputError(f"area is {self.area}; expected a share of the input below {START}, such as 0.1")
        check(self.baseline, STILL)
        check_whole("steps", self.steps, "at least one")
        check_real("lr", self.lr, "a positive step, such as 0.3", least=POSITIVE)
        check_real("drift", self.drift, "a number of frames, 0 for none", least=0)
        if self.sigma is not None:
            check_real("sigma", self.sigma, "at least one pixel", least=1)
        super().__post_init__()

    def maps(self, view: View) -> Maps:
        """Learn one mask per sample and target, and say where none is good."""
        x = view.captures[0].activations
        if view.by_feature:
            raise InputError(
                "extremalperturbation learns masks that are smooth in space; inputs are sequences of "
                f"{x.shape[2]} steps and {x.shape[3]} features: take KernelSHAP, or cc.sequence"
            )
        smooth = _Smooth(tuple(map(int, x.shape[2:])), self.sigma, self.drift)
        blurs = _blurs(x) if isinstance(self.baseline, str) and self.baseline == "blur" else None
        levels = _Levels([*(blurs or [still_of(x, self.baseline, view.laid)]), x])
        masks = [self._learn(view, target, smooth, levels) for target in range(view.targets)]
        shown = [levels.shown(smooth.laid(mask)) for mask in masks]
        whole, none, *kept = to_numpy(view.scores(_always(view, [x, levels.arrays[0], *shown])))
        self._remark(view, whole - none, np.stack([kept[k][:, k] for k in range(len(kept))], axis=1) - none)
        return namespace(x).stack([like(mask, x) for mask in masks], axis=1)

    def _learn(self, view: View, target: int, smooth: _Smooth, levels: _Levels) -> Mask:
        """Return the mask after `steps` of Adam, while its area shrinks and its edges get steeper."""
        theta = np.zeros((view.captures[0].activations.shape[0], *smooth.cells))
        adam = Adam(self.lr)
        for step in range(self.steps):
            share = min(1.0, step / (SETTLED * self.steps))
            edge = EDGE**share
            mask = of_area(smooth.blur(theta) / edge, START ** (1 - share) * self.area**share)
            laid = smooth.laid(mask)
            (capture,) = view.again(*_always(view, [levels.shown(laid)]))
            rise = smooth.gathered(levels.slope(capture.gradients[:, target], laid))
            theta = theta + adam.step(smooth.pull(of_area_slope(rise, mask) / edge))
        return of_area(smooth.blur(theta) / EDGE, self.area)

    def _remark(self, view: View, falls: np.ndarray, kept: np.ndarray) -> None:
        poor = (falls > 0) & (kept < 0.5 * falls)
        if poor.any():
            least = (kept[poor] / falls[poor]).min()
            view.note(
                f"{int(poor.sum())} of {poor.size} masks keep less than half of what the score falls by "
                f"when all is hidden (the least {max(least, 0):.0%}): it needs more than {self.area:.0%} "
                "of the input; try a larger area="
            )


def _blurs(x: Array) -> list[Array]:
    """Return the input from the strongest blur to almost sharp."""
    strongest = BLUR * max(x.shape[2:])
    return [blurred(x, strongest * (1 - i / (LEVELS - 1))) for i in range(LEVELS - 1)]


class _Levels:
    """The input from hidden to sharp, as a mask of 0…1 chooses at each place, and how that changes."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = arrays
        self._last = len(arrays) - 1

    def shown(self, mask: Laid) -> Array:
        """Return the input under the mask, between the two levels nearest to it at each place."""
        at = mask * self._last
        shares = [np.clip(1 - np.abs(at - i), 0, 1) for i in range(len(self.arrays))]
        return sum(like(s[:, None], level) * level for s, level in zip(shares, self.arrays, strict=True))

    def slope(self, gradients: Array, mask: Laid) -> np.ndarray:
        """Return ∂S/∂mask, given ∂S/∂x̃: what the next sharper level adds."""
        xp = namespace(gradients)
        below = np.minimum(np.floor(mask * self._last), self._last - 1)
        slopes = [
            like((below == i).astype(float), gradients) * xp.sum(gradients * (sharper - level), axis=1)
            for i, (level, sharper) in enumerate(pairwise(self.arrays))
        ]
        return to_numpy(sum(slopes)).astype(np.float64) * self._last


class _Smooth:
    """_Smooth masks on cells of σ pixels, of a clip one per frame, and the same on the input's grid."""

    def __init__(self, grid: Sequence[int], sigma: float | None, drift: float) -> None:
        lead, plane = tuple(grid[:-2]), tuple(grid[-2:])
        side = SIGMA * max(plane) if sigma is None else sigma
        sides = [max(1, round(n / max(1.0, side))) for n in plane]
        self.cells = (*lead, *sides)
        self._blurs = [_gaussian(n, drift) for n in lead]
        self._blurs += [_gaussian(s, side * s / n) for s, n in zip(sides, plane, strict=True)]
        self._lays = [np.eye(n) for n in lead]
        self._lays += [axis_matrix(half_pixel_centers(s, n), n) for s, n in zip(sides, plane, strict=True)]

    def blur(self, theta: Mask) -> Mask:
        """Return θ smoothed along each axis."""
        return _along_axes(theta, self._blurs)

    def pull(self, slope: Mask) -> Mask:
        """Return the slope in θ, given that in θ smoothed."""
        return _along_axes(slope, [blur.T for blur in self._blurs])

    def laid(self, mask: Mask) -> Laid:
        """Return the mask on the input's grid, linear between cells."""
        return _along_axes(mask, self._lays)

    def gathered(self, slope: Laid) -> Mask:
        """Return the slope in the mask on cells, given that on the input's grid."""
        return _along_axes(slope, [lay.T for lay in self._lays])


def of_area(field: Mask, area: float) -> Mask:
    """Return σ(field − τ), with τ where the mean of each sample is `area`, found by halving."""
    axes = tuple(range(1, field.ndim))
    low, high = field.min(axis=axes, keepdims=True) - 20, field.max(axis=axes, keepdims=True) + 20
    for _ in range(40):
        middle = (low + high) / 2
        wide = _sigmoid(field - middle).mean(axis=axes, keepdims=True) > area
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return _sigmoid(field - (low + high) / 2)


def of_area_slope(slope: Mask, mask: Mask) -> Mask:
    """Return the slope in the field, given that in its mask: τ moves so that the area stays."""
    axes = tuple(range(1, mask.ndim))
    steep = mask * (1 - mask) + 1e-12
    shift = (slope * steep).sum(axis=axes, keepdims=True) / steep.sum(axis=axes, keepdims=True)
    return steep * (slope - shift)


def _along_axes(array: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    for axis, matrix in enumerate(matrices, 1):
        array = np.moveaxis(np.moveaxis(array, axis, -1) @ matrix.T, -1, axis)
    return array


def _gaussian(n: int, sigma: float) -> Float[np.ndarray, "n n"]:
    """Return what smooths n values, whose rows sum to 1."""
    if sigma == 0:
        return np.eye(n)
    weights = np.exp(-0.5 * ((np.arange(n)[:, None] - np.arange(n)) / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _sigmoid(field: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(field / 2))


def _always(view: View, inputs: Sequence[Array]) -> list[Change]:
    """Return changes that put each of these in the place of the explained input."""
    return [view.on_main(partial(_replaced, values)) for values in inputs]


def _replaced(values: Array, x: Array) -> Array:
    return values
