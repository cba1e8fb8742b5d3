"""TemporalMask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float

from chronocam.errors import POSITIVE, InputError, LayerError, check_real, check_whole, suggest
from chronocam.maps.arrays import in_full_precision, like, namespace, to_numpy, widen
from chronocam.methods._adam import Adam
from chronocam.methods._base import Maps, Method
from chronocam.types import INPUT, Array, Need, View

RUN = 0.1
"""The mask above which a frame belongs to a run that is reversed."""

POINTS = 8
"""On the line to the fully perturbed clip, to measure what the perturbation takes away."""

Mask: TypeAlias = Float[np.ndarray, "batch time"]
Mixing: TypeAlias = Float[np.ndarray, "batch time time"]


@dataclass(kw_only=True, eq=False)
class TemporalMask(Method):
    """The frames that the score needs: a mask over time, learned by gradient descent on the clip itself.

    m = σ(θ), one value per frame, target and sample, minimises λ1 Σ_u m_u + λ2 Σ_u |m_u+1 − m_u| + S(x̃(m)).
    `perturbation` says what a masked frame becomes: `"freeze"`, the frame before it,
    x̃_u = (1 − m_u) x_u + m_u x̃_u−1 with x̃_0 = x_0, finds the frames whose change matters; `"reverse"`,
    x̃_u = (1 − m_u) x_u + m_u x_a+b−u within each run a…b of m > 0.1, those whose order does.

    perturbation: `"freeze"` or `"reverse"`.
    relative: measure the score in units of what perturbing all frames takes away, estimated from gradients on
        the straight line to that clip. The weights λ are for a score that falls by about 1, and logits have
        no scale of their own; the paper used the softmax probability. False takes the score as it is, which
        suits a target that is a probability.
    steps: how often Adam updates the mask.
    lr: Adam's step size.
    lambda1: weight of the mask's size.
    lambda2: weight of its total variation.

    The map is m, `(batch, target, time, 1, 1)`: its grid has one cell per frame. Each target costs `steps`
    passes through the model. A mask shows where the score's use of motion lies, not how much there is: see
    `metrics.motion_test`. The paper's search for a first mask is left out: m starts at 0.5 everywhere.

    Raises InputError for inputs that are not clips, LayerError for a layer.
    Source: Mänttäri et al. 2020 (arXiv:2002.00367), section 3.

    Example:
    >>> cc.TemporalMask(clip_model, steps=2).explain(clips, 1).maps.shape  # a value per frame
    (1, 1, 8, 1, 1)
    """

    perturbation: str = "freeze"
    relative: bool = True
    steps: int = 300
    lr: float = 0.2
    lambda1: float = 0.01
    lambda2: float = 0.02
    name: ClassVar[str] = "temporalmask"
    needs: ClassVar[tuple[Need, ...]] = (Need(at_input=True),)
    default_layer: ClassVar[str | None] = INPUT
    maps_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.conv_layer not in (None, INPUT):
            raise LayerError("temporalmask masks the frames of the input; leave conv_layer out")
        if self.perturbation not in PERTURBATIONS:
            hint = suggest(self.perturbation, list(PERTURBATIONS)) or "; choose freeze or reverse"
            raise InputError(f"no perturbation `{self.perturbation}`{hint}")
        check_whole("steps", self.steps, "at least one")
        check_real("lr", self.lr, "a positive step, such as 0.2", least=POSITIVE)
        for name in ("lambda1", "lambda2"):
            check_real(name, getattr(self, name), "a weight of at least 0")
        super().__post_init__()

    def maps(self, view: View) -> Maps:
        """Learn one mask per sample and target."""
        clip = view.captures[0].activations
        if clip.ndim != 5 or clip.shape[2] < 2:
            raise InputError(
                f"inputs have a grid of {tuple(clip.shape[2:])}; temporalmask needs clips "
                "(time, height, width) of at least 2 frames"
            )
        xp = namespace(clip)
        masks = [like(self._learn(_Mixer(view, k)), clip) for k in range(view.targets)]
        return xp.stack(masks, axis=1)[..., None, None]

    def _learn(self, mixer: _Mixer) -> Mask:
        """Return the mask after `steps` of Adam."""
        mixing, pull = PERTURBATIONS[self.perturbation]
        scale = self._scale(mixer, mixing)
        adam = Adam(self.lr)
        theta = np.zeros(mixer.shape)
        for _ in range(self.steps):
            m = _sigmoid(theta)
            # The mask is a sigmoid of θ, whose slope is m (1 − m): the chain rule's last factor.
            slope = pull(mixer.products(mixing(m)), m) * scale + _penalty_slope(m, self.lambda1, self.lambda2)
            theta = theta - adam.step(slope * m * (1 - m))
        return _sigmoid(theta)

    def _scale(self, mixer: _Mixer, mixing: Callable[[Mask], Mixing]) -> np.ndarray | float:
        """Return 1 over the fall of the score from the clip to the wholly perturbed one, per sample.

        S(x) − S(x') = ∫₀¹ ⟨∂S/∂x̃, x − x'⟩ ds along x̃ = x + s (x' − x), by the midpoint rule.
        """
        if not self.relative:
            return 1.0
        away = mixing(np.ones(mixer.shape)) - np.eye(mixer.shape[1])
        shares = (np.arange(POINTS) + 0.5) / POINTS
        falls = [-(mixer.products(np.eye(mixer.shape[1]) + s * away) * away).sum(axis=(1, 2)) for s in shares]
        fall = np.abs(np.mean(falls, axis=0))[:, None]
        return np.where(fall > 0, 1 / np.where(fall > 0, fall, 1), 0.0)


class _Mixer:
    """The score of one target, as seen by the frames: clips of mixed frames x̃_u = Σ_v W_uv x_v, and ∂S/∂W."""

    def __init__(self, view: View, target: int) -> None:
        self.view = view
        self.target = target
        self.clip = view.captures[0].activations
        self.shape = (int(self.clip.shape[0]), int(self.clip.shape[2]))

    def products(self, weights: Mixing) -> Mixing:
        """Return ∂S/∂W_uv = ⟨∂S/∂x̃_u, x_v⟩ at x̃ = W x."""
        changed: list[int] = []

        def change(x: Array) -> Array:
            axis = time_axis(x, self.clip)
            if axis is None:
                return x
            changed.append(axis)
            return _mixed(x, weights, axis)

        (capture,) = self.view.again(change)
        if not changed:
            raise InputError(
                "no input has the frames of the clip; give clips (batch, channel, time, height, width)"
            )
        return to_numpy(_inner(capture.gradients[:, self.target], self.clip)).astype(np.float64)


def time_axis(raw: Array, clip: Array) -> int | None:
    """Return the axis of time in a raw input; `clip` is the same, `(batch, channel, time, height, width)`.

    None for any other input. Where several axes fit by their sizes, the values decide.
    """
    xp = namespace(clip)
    orders = ((2, (0, 1, 2, 3, 4)), (1, (0, 2, 1, 3, 4)), (1, (0, 2, 3, 4, 1)))
    shaped = [(axis, xp.permute_dims(clip, order)) for axis, order in orders]
    fits = [(axis, array) for axis, array in shaped if tuple(array.shape) == tuple(raw.shape)]
    if len(fits) > 1:
        fits = [(axis, array) for axis, array in fits if bool(xp.all(array == widen(raw)))] or fits
    return fits[0][0] if fits else None


@in_full_precision
def _mixed(raw: Array, weights: np.ndarray, axis: int) -> Array:
    """Return the raw input with each frame a weighted sum of all."""
    xp = namespace(raw)
    frames = xp.moveaxis(raw, axis, 1)
    wide = widen(frames)
    rows = xp.reshape(wide, (*wide.shape[:2], -1))
    mixed = xp.reshape(like(weights, wide) @ rows, wide.shape)
    return xp.astype(xp.moveaxis(mixed, 1, axis), raw.dtype)


@in_full_precision
def _inner(gradients: Array, clip: Array) -> Array:
    """Return ⟨gradient of frame u, frame v⟩, `(batch, u, v)`."""
    xp = namespace(clip)
    g, x = (xp.reshape(xp.moveaxis(a, 2, 1), (a.shape[0], a.shape[2], -1)) for a in (gradients, clip))
    return g @ xp.moveaxis(x, 1, 2)


def freeze(m: Mask) -> Mixing:
    """Return W of x̃_u = (1 − m_u) x_u + m_u x̃_u−1, with x̃_0 = x_0."""
    weights = np.tile(np.eye(m.shape[1]), (len(m), 1, 1))
    for u in range(1, m.shape[1]):
        weights[:, u] = (1 - m[:, u, None]) * weights[:, u] + m[:, u, None] * weights[:, u - 1]
    return weights


def freeze_slope(products: Mixing, m: Mask) -> Mask:
    """Return ∂S/∂m from ∂S/∂W, back through the recursion: what is frozen later leans on what was before."""
    weights, unit = freeze(m), np.eye(m.shape[1])
    slope, flow = np.zeros_like(m), np.zeros_like(products[:, 0])
    for u in range(m.shape[1] - 1, 0, -1):
        flow = products[:, u] + flow
        slope[:, u] = (flow * (weights[:, u - 1] - unit[u])).sum(axis=1)
        flow = flow * m[:, u, None]
    return slope


def reverse(m: Mask) -> Mixing:
    """Return W of x̃_u = (1 − m_u) x_u + m_u x_a+b−u within each run a…b of m > 0.1."""
    unit, within = np.eye(m.shape[1]), (m * (m > RUN))[..., None]
    return (1 - within) * unit + within * unit[_mirrors(m)]


def reverse_slope(products: Mixing, m: Mask) -> Mask:
    """Return ∂S/∂m from ∂S/∂W, the runs held as they are; 0 outside of them."""
    unit = np.eye(m.shape[1])
    return (products * (unit[_mirrors(m)] - unit)).sum(axis=2)


def _mirrors(m: Mask) -> np.ndarray:
    """Return the frame that each frame is swapped with, itself outside a run."""
    mirrors = np.tile(np.arange(m.shape[1]), (len(m), 1))
    for row, inside in zip(mirrors, m > RUN, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]])))
        for start, stop in edges.reshape(-1, 2):
            row[start:stop] = row[start:stop][::-1].copy()
    return mirrors


PERTURBATIONS: dict[str, tuple[Callable[[Mask], Mixing], Callable[[Mixing, Mask], Mask]]] = {
    "freeze": (freeze, freeze_slope),
    "reverse": (reverse, reverse_slope),
}
"""By name: from a mask to how frames are mixed, and from ∂S/∂W back to ∂S/∂m."""


def _penalty_slope(m: Mask, lambda1: float, lambda2: float) -> Mask:
    """Return the slope of λ1 Σ m + λ2 Σ |m_u+1 − m_u|."""
    sign = np.sign(np.diff(m, axis=1))
    return lambda1 + lambda2 * (np.pad(sign, ((0, 0), (1, 0))) - np.pad(sign, ((0, 0), (0, 1))))


def _sigmoid(theta: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(theta / 2))
