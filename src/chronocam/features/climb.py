"""Gradient ascent over inputs, kept smooth and small, in NumPy: the engine gives the gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError

Look = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Returns, for inputs `(channel, *input)`, their activations `(channel,)` and the gradients of these."""

_NOISE = 0.1  # of the start, in units of the input
_LOWEST = 4.0  # frequency, in cycles over the input, below which all are treated alike


@dataclass(frozen=True)
class Climb:
    """How inputs are changed; see `activation_maximisation`.

    axis: of the channels; None where inputs have none.
    low, high: what the inputs stay between; None for anything.
    """

    axis: int | None
    steps: int
    rate: float
    jitter: int
    spectrum: float
    variation: float
    norm: float
    seed: int
    low: Any
    high: Any

    def __post_init__(self) -> None:
        least = {"steps": 1, "jitter": 0, "spectrum": 0, "variation": 0, "norm": 0, "seed": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in least and not value >= least[field.name]:
                raise InputError(f"{field.name} is {value}, expected at least {least[field.name]}")
        if not self.rate > 0:
            raise InputError(f"rate is {self.rate}, expected more than 0; the usual is the default")
        if self.rate * (8 * self.variation + self.norm) >= 2:
            weights = f"rate {self.rate} with variation {self.variation} and norm {self.norm}"
            raise InputError(
                f"{weights} overshoots; expected rate · (8 · variation + norm) below 2, choose a lower rate"
            )

    def run(self, shape: tuple[int, ...], look: Look) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs that were reached, and their activations before each step and at the end."""
        rng = np.random.default_rng(self.seed)
        noise = rng.normal(0, _NOISE, shape[1:]).astype(np.float32)
        z = np.repeat(noise[None], shape[0], axis=0)  # every channel sets out from the same place
        axes, curve = self._axes(len(shape)), []
        for _ in range(self.steps):
            shift = tuple(rng.integers(-self.jitter, self.jitter + 1, len(axes)).tolist())
            values, gradient = look(np.roll(z, shift, axes))
            curve.append(values)
            z = self._stepped(z, np.roll(gradient, tuple(-by for by in shift), axes), axes)
        curve.append(look(z)[0])
        return z, np.stack(curve, axis=1)

    def _axes(self, rank: int) -> tuple[int, ...]:
        """Return the last two axes of the grid, or its only one."""
        return tuple(axis for axis in range(1, rank) if axis != self.axis)[-2:]

    def _stepped(self, z: np.ndarray, gradient: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        upwards = unit(coarser(gradient, self.spectrum, axes))
        moved = z + self.rate * (upwards + self.variation * laplacian(z, axes) - self.norm * z)
        kept = moved if self.low is None else np.clip(moved, self.low, self.high)
        return kept.astype(np.float32)


def unit(gradient: Float[np.ndarray, " channel *input"]) -> Float[np.ndarray, " channel *input"]:
    """Return gradients divided by their root mean square over each input; 0 stays 0."""
    axes = tuple(range(1, gradient.ndim))
    size = np.sqrt(np.mean(np.square(gradient, dtype=np.float64), axis=axes, keepdims=True))
    return (gradient / np.where(size > 0, size, 1)).astype(np.float32)


def coarser(
    values: Float[np.ndarray, "*shape"], power: float, axes: tuple[int, ...]
) -> Float[np.ndarray, "*shape"]:
    """Return values whose Fourier coefficients along `axes` are divided by their frequency to a power.

    Frequencies are in cycles over the input; those below 4 count as 4, or else the mean colour would outrun
    all.
    """
    if power == 0:
        return values
    square: Any = 0.0
    for axis in axes:
        sides = [1] * values.ndim
        sides[axis] = values.shape[axis]
        square = square + np.square(np.fft.fftfreq(values.shape[axis]) * values.shape[axis]).reshape(sides)
    # The power spectrum of natural pictures falls with the square of the frequency, amplitudes with the first
    # power; a gradient is white by comparison.
    gain = np.maximum(np.sqrt(square), _LOWEST) ** -float(power)
    return np.fft.ifftn(np.fft.fftn(values, axes=axes) * gain, axes=axes).real.astype(np.float32)


def laplacian(z: Float[np.ndarray, "*shape"], axes: tuple[int, ...]) -> Float[np.ndarray, "*shape"]:
    """Return Σ (neighbour − z) along `axes`, which is −∂V/∂z of V = ½ Σ (difference of neighbours)²."""
    total = np.zeros_like(z)
    for axis in axes:
        change = np.diff(z, axis=axis)
        before, after = [(0, 0)] * z.ndim, [(0, 0)] * z.ndim
        before[axis], after[axis] = (1, 0), (0, 1)
        total += np.pad(change, after) - np.pad(change, before)
    return total
